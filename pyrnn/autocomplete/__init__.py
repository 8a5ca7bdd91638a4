"""The main job: a character language model that completes prefixes as a search box does.

:mod:`.corpus` text and vocabulary -> :mod:`.training` by truncated BPTT, beside :mod:`.ngram`
-> :mod:`.model` -> :mod:`.beam` search -> :mod:`.cli`, the command ``pyrnn autocomplete``.
"""
