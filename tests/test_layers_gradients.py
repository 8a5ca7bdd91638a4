"""Gradients of layers against central differences in float64, every entry of every array."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from helpers_layers import SMOOTH_KINDS, assert_gradient, build, inputs, states_of

import pyrnn

LENGTHS = np.array([3, 0, 4])

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"num_layers": 3},
    "bidirectional": {"bidirectional": True},
    "no bias": {"num_layers": 2, "bias": False},
    "all": {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.4},
}
WAYS = ("plain", "lengths", "tokens", "unbatched", "tokens unbatched", "tokens lengths")
# Every form with x as it is, and every way with everything on.
CASES = [(kind, form, "plain") for kind in SMOOTH_KINDS for form in FORMS] + [
    (kind, "all", way) for kind in SMOOTH_KINDS for way in WAYS[1:]
]
# Of y and of the final states; only the LSTM has a second one.
SOME = (("dy",), ("d0",), ("d1",), ("dy", "d1"), ("d0", "d1"))


def check(layer: Any, x: Any, state: Any, lengths: Any, given: tuple[str, ...]) -> None:
    """Of a random weighting of y and the final state, as far as they are given."""
    fresh = copy.deepcopy(layer.rng.bit_generator.state)

    def run() -> Any:
        layer.rng.bit_generator.state = fresh  # the same dropout masks each time
        return layer.forward(x, state, lengths)

    y, last, tape = run()
    rng = np.random.default_rng(8)
    dy = rng.normal(size=y.shape)
    drawn = [rng.normal(size=s.shape) for s in states_of(last)]
    dlast = [d if f"d{k}" in given else None for k, d in enumerate(drawn)]

    def loss() -> float:
        y, last, _ = run()
        total = float((y * dy).sum()) if "dy" in given else 0.0
        parts = zip(states_of(last), dlast, strict=True)
        return total + sum(float((s * d).sum()) for s, d in parts if d is not None)

    dstate = tuple(dlast) if isinstance(layer, pyrnn.LSTM) else dlast[0]
    grads = layer.backward(tape, dy if "dy" in given else None, dstate)
    assert list(grads.params) == list(layer.params)
    for name, array in layer.params.items():
        assert_gradient(loss, array, grads.params[name], name)
    for k, (array, gradient) in enumerate(
        zip(states_of(state), states_of(grads.state), strict=True)
    ):
        assert_gradient(loss, array, gradient, f"state {k}")
    if x.dtype.kind == "f":
        assert_gradient(loss, x, grads.x, "x")
    else:
        assert grads.x is None


@pytest.mark.parametrize(("kind", "form", "way"), CASES)
def test_every_gradient(kind: str, form: str, way: str) -> None:
    layer = build(kind, **FORMS[form])
    x, state = inputs(layer, 4, 3, tokens="tokens" in way, unbatched="unbatched" in way)
    lengths = LENGTHS if "lengths" in way else None
    check(layer, x, state, lengths, ("dy", "d0", "d1"))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (kind, given)
        for kind in SMOOTH_KINDS
        for given in SOME
        if kind.startswith("lstm") or "d1" not in given
    ],
    ids=str,
)
def test_with_some_of_the_incoming_gradients(kind: str, given: tuple[str, ...]) -> None:
    layer = build(kind, num_layers=2)
    x, state = inputs(layer, 3, 2)
    check(layer, x, state, None, given)
