"""One to many: a digit image to its spelled name, character by character.

The image is the state ahead of the first step, h_0 = W x + b. Each step takes the character before
and gives the scores of the next, until the end: "" -> s, s -> e, e -> v, ...
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from _common import (
    Array,
    Gradients,
    Result,
    arguments,
    greedy,
    named,
    nearest_mean,
    padded,
    read_digits,
    report,
    split,
    train,
)

import pyrnn

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
BOUNDARY = 0  # the token ahead of a name and after it
LETTERS = sorted(set("".join(NAMES)))
TOKENS = [[LETTERS.index(letter) + 1 for letter in name] for name in NAMES]


def main(argv: Sequence[str] | None = None) -> Result:
    args = arguments(__doc__, argv, epochs=30, batch_size=32, hidden=64, lr=0.01)
    images, digits = read_digits(args.data)
    train_rows, test_rows = split(len(images), args, held_out=0.25)

    symbols = len(LETTERS) + 1
    encoder = pyrnn.Linear(64, args.hidden, rng=args.seed)
    decoder = pyrnn.GRU(symbols, args.hidden, rng=args.seed)
    head = pyrnn.Linear(args.hidden, symbols, rng=args.seed)

    # Teacher forcing: in training the character before is the right one, not the decoder's own.
    inputs, lengths = padded([[BOUNDARY, *name] for name in TOKENS])  # (T, 10), (10)
    targets, _ = padded([[*name, BOUNDARY] for name in TOKENS])

    def loss_and_grads(rows: Array) -> Gradients:
        of_row = digits[rows]
        h0, encoder_tape = encoder.forward(images[rows])
        y, _, tape = decoder.forward(inputs[:, of_row], h0[None], lengths[of_row])
        logits, head_tape = head.forward(y)
        mask = np.arange(len(inputs))[:, None] < lengths[of_row]
        loss, dlogits = pyrnn.softmax_cross_entropy(logits, targets[:, of_row], mask)
        head_grads = head.backward(head_tape, dlogits)
        grads = decoder.backward(tape, head_grads.x)
        encoder_grads = encoder.backward(encoder_tape, grads.state[0])
        return loss, named(
            encoder=encoder_grads.params, decoder=grads.params, head=head_grads.params
        )

    params = named(encoder=encoder.params, decoder=decoder.params, head=head.params)
    losses = train(loss_and_grads, params, train_rows, args)

    start = np.full(len(test_rows), BOUNDARY)
    state = encoder(images[test_rows])[None]
    found = greedy(decoder, head, state, start, BOUNDARY, most=len(inputs))
    score = float(
        np.mean(
            [TOKENS[digit] == name for digit, name in zip(digits[test_rows], found, strict=True)]
        )
    )
    for digit, name in list(zip(digits[test_rows], found, strict=True))[:5]:
        print(NAMES[digit], "->", "".join(LETTERS[token - 1] for token in name))

    guesses = nearest_mean(images[train_rows], digits[train_rows], images[test_rows])
    baseline = float(np.mean(guesses == digits[test_rows]))
    return report("names spelled right", score, "name of the nearest mean image", baseline, losses)


if __name__ == "__main__":
    main()
