"""Auto-completion: text and vocabulary, the n-gram yardstick, the beam search."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pyrnn.autocomplete.beam import Completion, Endings, Stepper, search
from pyrnn.autocomplete.corpus import (
    MIN_CHARS,
    Vocabulary,
    join_topics,
    language_reference,
    read_texts,
    split,
)
from pyrnn.autocomplete.errors import InputError
from pyrnn.autocomplete.ngram import NgramModel

# Text


def test_reference_text_repeats_no_paragraph() -> None:
    text = language_reference()
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    assert len(text) > 200_000
    assert len(set(paragraphs)) == len(paragraphs)


def test_paragraph_that_a_topic_includes_indented_is_dropped() -> None:
    topics = {
        "with": "The with\nstatement.\n\nMore.\n",
        "all": "Intro\n \n  The with\n  statement.",
    }
    assert join_topics(topics) == "Intro\n\n  The with\n  statement.\n\nMore.\n"


def test_split_loses_and_repeats_nothing() -> None:
    text = language_reference()
    training, held_out = split(text)
    assert training + held_out == text
    assert training.endswith("\n")
    assert 0.09 < len(held_out) / len(text) < 0.11
    assert split(text) == (training, held_out)


@pytest.mark.parametrize(
    ("text", "held_out"),
    [
        ("x" * 1000, 100),  # no line end at all
        ("x" * 889 + "\n" + "x" * 110, 110),  # one just before nine tenths
        ("x" * 909 + "\n" + "x" * 90, 90),  # one just after
        ("x" * 889 + "\n" + "x" * 14 + "\n" + "x" * 95, 95),  # the nearer one
        ("x" * 600 + "\n" + "x" * 399, 100),  # too far off
        ("x" * 899 + "\n" + "x" * 100, 100),
        ("x" * (MIN_CHARS - 1) + "\n", MIN_CHARS // 10),
    ],
)
def test_split_cuts_at_the_nearest_line_end(text: str, held_out: int) -> None:
    assert [len(part) for part in split(text)] == [len(text) - held_out, held_out]


def test_text_too_short() -> None:
    with pytest.raises(InputError, match=f"^text: expected at least {MIN_CHARS} characters, got 9"):
        split("too short")


def test_files_are_joined_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffone\r\ntwo".encode())
    (tmp_path / "b").write_bytes(b"drei\n")
    assert read_texts([tmp_path / "b", tmp_path / "a"]) == "drei\none\ntwo\n"


@pytest.mark.parametrize("known", ["banana", "naïve 𝄞 clef", "\n\t ~"])
def test_encode_agrees_with_a_dictionary(known: str) -> None:
    vocabulary = Vocabulary.of(known)
    ids = {c: i for i, c in enumerate(sorted(set(known)), 1)}
    text = "a banana, naïve\x00 𝄞\U0010ffff\ud800\n"
    encoded = vocabulary.encode(text)
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [ids.get(c, 0) for c in text]
    assert vocabulary.decode(vocabulary.encode(known).tolist()) == known
    assert len(vocabulary) == len(ids) + 1


def test_unknown_character_of_a_prefix_is_named() -> None:
    with pytest.raises(InputError, match=r"^prefix 'b\\tä': the character 'ä' \(U\+00E4\)"):
        Vocabulary.of("b\t").encode_known("b\tä")


# n-gram


def test_ngram_by_hand() -> None:
    # 0 1 0 1 0 2 1: bigrams 01 and 10 twice, 02 and 21 once. Too few for estimates of D, so that
    # D = 1/2, 1, 3/2. A unigram counts its left neighbours: 0 has one (1), 1 two (0 and 2), 2 one.
    model = NgramModel(np.array([0, 1, 0, 1, 0, 2, 1]), 4, order=2)
    unigram = np.array([1 - 0.5, 2 - 1.0, 1 - 0.5, 0.0]) / 4 + (0.5 + 1.0 + 0.5) / 4 / 4
    assert_allclose(model.distribution(np.array([], int)), unigram, rtol=1e-14)
    after_0 = np.array([0.0, 2 - 1.0, 1 - 0.5, 0.0]) / 3 + (1.0 + 0.5) / 3 * unigram
    assert_allclose(model.distribution(np.array([3, 0])), after_0, rtol=1e-14)
    after_1 = np.array([2 - 1.0, 0.0, 0.0, 0.0]) / 2 + 1.0 / 2 * unigram
    assert_allclose(model.distribution(np.array([1])), after_1, rtol=1e-14)
    assert_allclose(model.distribution(np.array([3])), unigram, rtol=1e-14)  # never seen


def test_ngram_discounts_by_hand() -> None:
    # Unigrams of order 1 with 4, 2, 1 and 1 symbols that occur 1, 2, 3 and 4 times.
    ids = np.repeat(np.arange(8), [1, 1, 1, 1, 2, 2, 3, 4])
    y = 4 / (4 + 2 * 2)
    d1, d2, d3 = 1 - 2 * y * 2 / 4, 2 - 3 * y * 1 / 2, 3 - 4 * y * 1 / 1
    total = 15
    share = np.array([1 - d1] * 4 + [2 - d2] * 2 + [3 - d3, 4 - d3, 0.0]) / total
    gamma = (4 * d1 + 2 * d2 + 2 * d3) / total
    model = NgramModel(ids, 9, order=1)
    assert_allclose(model.distribution(np.array([], int)), share + gamma / 9, rtol=1e-14)


@pytest.fixture(scope="module")
def reference_ids() -> tuple[np.ndarray, np.ndarray, int]:
    training, held_out = split(language_reference())
    vocabulary = Vocabulary.of(training)
    return vocabulary.encode(training), vocabulary.encode(held_out), len(vocabulary)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_ngram_probabilities_sum_to_one(
    order: int, reference_ids: tuple[np.ndarray, np.ndarray, int]
) -> None:
    training, held_out, size = reference_ids
    model = NgramModel(training, size, order)
    contexts = [held_out[i : i + 6] for i in range(0, 3000, 61)]
    contexts += [training[:k] for k in range(6)] + [np.zeros(5, int), training[-5:]]
    for context in contexts:
        p = model.distribution(context)
        assert p.min() > 0.0
        assert abs(p.sum() - 1.0) < 1e-12


def test_ngram_sequence_agrees_with_distributions(
    reference_ids: tuple[np.ndarray, np.ndarray, int],
) -> None:
    training, held_out, size = reference_ids
    model = NgramModel(training[:20_000], size)
    ids = np.concatenate([held_out[:200], [0, 0, 1]])
    p = [model.distribution(ids[:i])[ids[i]] for i in range(len(ids))]
    assert_allclose(model.probabilities(ids), p, rtol=1e-13)


def test_longer_context_predicts_better(
    reference_ids: tuple[np.ndarray, np.ndarray, int],
) -> None:
    training, held_out, size = reference_ids
    bits = [
        -np.log2(NgramModel(training, size, order).probabilities(held_out)).mean()
        for order in range(1, 6)
    ]
    assert bits == sorted(bits, reverse=True)
    assert 1.5 < bits[-1] < 2.3


@pytest.mark.parametrize("length", [0, 1, 2, 4])
def test_ngram_of_hardly_any_text(length: int) -> None:
    model = NgramModel(np.zeros(length, int), 3)
    assert_allclose(model.distribution(np.zeros(9, int)).sum(), 1.0, rtol=1e-12)
    assert (model.probabilities(np.array([0, 1, 2, 0])) > 0.0).all()
    assert len(model.probabilities(np.zeros(0, int))) == 0


@pytest.mark.parametrize(
    ("ids", "size", "order", "message"),
    [
        ([0], 2, 0, "order: expected at least 1, got 0"),
        ([0], 2**13, 5, "vocabulary_size, order: "),
        ([0, 2], 2, 2, "ids: expected 0..1, got 0..2"),
        ([-1, 0], 2, 2, "ids: expected 0..1, got -1..0"),
    ],
)
def test_ngram_checks(ids: list[int], size: int, order: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        NgramModel(np.array(ids), size, order)


# Beam search, over a model whose probabilities depend on all symbols so far

_SIZE = 5
_WORD = np.array([False, False, True, True, False])  # unknown, newline, a, b, space
_LINE = np.array([False, True, False, False, False])


def _log_probs(text: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng([len(text), *text])
    logits = 2.0 * rng.standard_normal(_SIZE)
    return np.asarray(logits - np.log(np.exp(logits).sum()))


def _step(
    symbols: np.ndarray, texts: list[tuple[int, ...]]
) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    texts = [(*text, int(symbol)) for text, symbol in zip(texts, symbols, strict=True)]
    return np.array([_log_probs(text) for text in texts]), texts


_MODEL = Stepper(_step, lambda texts, rows: [texts[i] for i in rows])


def _run(prefix: tuple[int, ...], endings: Endings, count: int, width: int) -> list[Completion]:
    return search(
        _MODEL, np.array(prefix, int), _log_probs(prefix), [prefix], endings,
        count=count, width=width,
    )  # fmt: skip


def _all_completions(prefix: tuple[int, ...], endings: Endings) -> dict[tuple[int, ...], float]:
    """Every completion and its probability, by walking all texts of up to the limit."""
    found: dict[tuple[int, ...], float] = {}
    for length in range(endings.max_length + 1):
        for symbols in itertools.product(range(_SIZE), repeat=length):
            log_p, words, open_ = 0.0, 0, True
            text = prefix
            for symbol in (*symbols, None):
                in_word = bool(text) and bool(_WORD[text[-1]])
                p = np.exp(_log_probs(text))
                ends = _LINE.copy()
                if in_word and words + 1 == endings.words:
                    ends |= ~_WORD
                if symbol is None:
                    break
                open_ = open_ and not ends[symbol]
                words += in_word and not _WORD[symbol]
                log_p += np.log(p[symbol])
                text = (*text, symbol)
            if open_:
                at_limit = length == endings.max_length
                found[symbols] = np.exp(log_p) * (1.0 if at_limit else p[ends].sum())
    return found


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("prefix", [(2,), (4,), ()])
def test_beam_search_agrees_with_brute_force(prefix: tuple[int, ...], words: int) -> None:
    endings = Endings(_WORD, _LINE, words, max_length=4)
    everything = _all_completions(prefix, endings)
    assert abs(sum(everything.values()) - 1.0) < 1e-12  # they exclude one another
    allowed = {s: p for s, p in everything.items() if s and Vocabulary.UNKNOWN not in s and p > 0}
    best = sorted(allowed, key=lambda s: -allowed[s])
    for count in (1, 5, len(best), len(best) + 3):
        found = _run(prefix, endings, count, width=_SIZE**4)
        assert [c.symbols for c in found] == best[:count]
        assert_allclose([c.probability for c in found], [allowed[s] for s in best[:count]])


def test_narrow_beam_gives_true_probabilities_in_order() -> None:
    endings = Endings(_WORD, _LINE, 2, max_length=4)
    everything = _all_completions((2,), endings)
    found = _run((2,), endings, 5, width=3)
    assert len(found) == 5
    assert_allclose([c.probability for c in found], [everything[c.symbols] for c in found])
    assert [c.probability for c in found] == sorted((c.probability for c in found), reverse=True)


def test_endings_of_a_vocabulary() -> None:
    vocabulary = Vocabulary.of("a_9é \n.")
    endings = Endings.of(vocabulary, words=1, max_length=7)
    ids = vocabulary.encode("a_9é \n.")
    assert endings.in_word[ids].tolist() == [True] * 4 + [False] * 3
    assert endings.line_end[ids].tolist() == [False] * 5 + [True, False]
    assert not endings.in_word[Vocabulary.UNKNOWN]
    assert (endings.words, endings.max_length) == (1, 7)
