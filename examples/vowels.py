"""Many to one, with unequal lengths: the speaker of a vowel, from 7 to 29 frames of 12 numbers.

x_1 .. x_T -> h_T -> class. With ``lengths`` the final state of each row is that of its own last
frame, and no gradient comes from the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _common import (
    Array,
    Gradients,
    Result,
    Source,
    arguments,
    fetch,
    named,
    nearest_mean,
    report,
    train,
)

import pyrnn

VOWELS = Source(
    "aeon==1.6.0",
    "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    "wheel",
    (
        "aeon/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts",
        "aeon/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts",
    ),
)


def read(path: Path) -> tuple[list[Array], Array]:
    """Sequences (T, 12) of unequal T, and the speaker of each, 0..8."""
    lines = path.read_text().partition("@data")[2].split()
    fields = [line.split(":") for line in lines]
    frames = [np.array([row.split(",") for row in rows], np.float32).T for *rows, _ in fields]
    return frames, np.array([int(speaker) - 1 for *_, speaker in fields])


def side_by_side(frames: Sequence[Array]) -> tuple[Array, Array]:
    """x (T, B, 12), padded with what must never be read, and lengths (B)."""
    lengths = np.array([len(one) for one in frames])
    x = np.full((lengths.max(), len(frames), 12), np.nan, np.float32)
    for b, one in enumerate(frames):
        x[: len(one), b] = one
    return x, lengths


def main(argv: Sequence[str] | None = None) -> Result:
    args = arguments(__doc__, argv, epochs=60, batch_size=16, hidden=64, lr=0.01)
    (frames, speakers), (test_frames, test_speakers) = map(read, fetch(VOWELS, args.data))
    rows = np.arange(len(frames))[: args.limit]

    layer = pyrnn.LSTM(12, args.hidden, rng=args.seed, forget_bias=1.0)
    head = pyrnn.Linear(args.hidden, 9, rng=args.seed)

    def loss_and_grads(rows: Array) -> Gradients:
        x, lengths = side_by_side([frames[row] for row in rows])
        _, (h_n, _), tape = layer.forward(x, lengths=lengths)  # h_n (1, B, H)
        logits, head_tape = head.forward(h_n[0])
        loss, dlogits = pyrnn.softmax_cross_entropy(logits, speakers[rows])
        head_grads = head.backward(head_tape, dlogits)
        grads = layer.backward(tape, dstate=(head_grads.x[None], None))
        return loss, named(layer=grads.params, head=head_grads.params)

    losses = train(loss_and_grads, named(layer=layer.params, head=head.params), rows, args)

    x, lengths = side_by_side(test_frames)
    _, (h_n, _) = layer(x, lengths=lengths)
    score = float(np.mean(head(h_n[0]).argmax(axis=1) == test_speakers))

    # The mean frame forgets the order.
    means, test_means = (
        np.stack([one.mean(axis=0) for one in part]) for part in (frames, test_frames)
    )
    guesses = nearest_mean(means[rows], speakers[rows], test_means)
    baseline = float(np.mean(guesses == test_speakers))
    return report("accuracy", score, "nearest mean frame", baseline, losses)


if __name__ == "__main__":
    main()
