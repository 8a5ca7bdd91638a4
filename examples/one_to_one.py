"""One to one: a digit image to its class, by a network that takes a single step.

x_1 -> h_1 -> class. With T = 1 and no state ahead of it an Elman network is a plain network with
one hidden layer: W_hh has nothing to multiply.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from _common import (
    Array,
    Gradients,
    Result,
    arguments,
    named,
    nearest_mean,
    read_digits,
    report,
    split,
    train,
)

import pyrnn


def main(argv: Sequence[str] | None = None) -> Result:
    args = arguments(__doc__, argv, epochs=30, batch_size=32, hidden=64, lr=0.01)
    images, digits = read_digits(args.data)
    train_rows, test_rows = split(len(images), args, held_out=0.25)

    layer = pyrnn.RNN(64, args.hidden, rng=args.seed)
    head = pyrnn.Linear(args.hidden, 10, rng=args.seed)

    def loss_and_grads(rows: Array) -> Gradients:
        y, _, tape = layer.forward(images[None, rows])  # (1, B, 64) -> (1, B, H)
        logits, head_tape = head.forward(y[0])
        loss, dlogits = pyrnn.softmax_cross_entropy(logits, digits[rows])
        head_grads = head.backward(head_tape, dlogits)
        layer_grads = layer.backward(tape, head_grads.x[None])
        return loss, named(layer=layer_grads.params, head=head_grads.params)

    losses = train(loss_and_grads, named(layer=layer.params, head=head.params), train_rows, args)

    y, _ = layer(images[None, test_rows])
    score = float(np.mean(head(y[0]).argmax(axis=1) == digits[test_rows]))

    p = layer.params
    plain = np.tanh(images[test_rows] @ p["weight_ih_l0"].T + p["bias_ih_l0"] + p["bias_hh_l0"])
    print(f"largest difference from a plain hidden layer: {np.abs(y[0] - plain).max():.1e}")

    guesses = nearest_mean(images[train_rows], digits[train_rows], images[test_rows])
    baseline = float(np.mean(guesses == digits[test_rows]))
    return report("accuracy", score, "nearest mean image", baseline, losses)


if __name__ == "__main__":
    main()
