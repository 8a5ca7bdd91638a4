"""Zoneout and recurrent dropout as the layers use them: in training alone, drawn from their rng."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_layers import assert_all_same
from tolerances import assert_close

import pyrnn

KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "rnn": (pyrnn.RNN, {"zoneout": 0.3}),
    "gru": (pyrnn.GRU, {"zoneout": 0.3}),
    "gru_reset_before": (pyrnn.GRU, {"zoneout": 0.3, "reset_after": False}),
    "mgu": (pyrnn.MGU, {"zoneout": 0.3}),
    "lstm": (pyrnn.LSTM, {"zoneout": (0.2, 0.4)}),
    "lstm_projection": (pyrnn.LSTM, {"zoneout": (0.2, 0.4), "proj_size": 5}),
}


def build(kind: str, **options: Any) -> Any:
    cls, fixed = KINDS[kind]
    chosen = {"dtype": "float64", "rng": 0, "recurrent_dropout": 0.4} | fixed | options
    return cls(3, 9, num_layers=2, bidirectional=True, dropout=0.2, **chosen)


def sequence(seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=(7, 5, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_inference_draws_nothing(kind: str) -> None:
    layer, x = build(kind), sequence()
    once, again = layer(x), layer(x)
    assert_all_same(once, again)
    # The expectation of zoneout is a blend; of dropout, nothing.
    without = build(kind, recurrent_dropout=0.0)
    assert_all_same(without(x), once)
    plain = build(kind, recurrent_dropout=0.0, zoneout=0.0)
    assert np.abs(plain(x)[0] - once[0]).max() > 1e-3
    assert_all_same(layer.freeze("float64")(x), once)


@pytest.mark.parametrize("kind", KINDS)
def test_training_draws_anew_each_time_and_the_same_from_one_seed(kind: str) -> None:
    x = sequence()
    layer, twin = build(kind), build(kind)
    runs = [layer.forward(x)[0] for _ in range(2)]
    assert np.abs(runs[0] - runs[1]).max() > 1e-3
    for want in runs:
        assert_all_same(twin.forward(x)[0], want)


@pytest.mark.parametrize("checkpoint", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_and_reference_draw_the_same(kind: str, checkpoint: int | None) -> None:
    x, lengths = sequence(), [7, 0, 3, 5, 7]
    results = []
    for backend in ("kernels", "reference"):
        layer = build(kind)
        with pyrnn.backend(backend):
            y, _, tape = layer.forward(x, None, lengths, checkpoint=checkpoint)
            grads = layer.backward(tape, np.cos(y))
        results.append({"y": y, "dx": grads.x, **grads.params})
    for name, want in results[1].items():
        assert_close(results[0][name], want, "float64", name)


def test_layers_and_directions_have_masks_of_their_own() -> None:
    """Zoneout of 1/2 on states that only the masks tell apart."""
    layer = pyrnn.RNN(
        1, 64, num_layers=2, bidirectional=True, nonlinearity="identity", zoneout=0.5, rng=0,
        dtype="float64",
    )  # fmt: skip
    for name, array in layer.params.items():
        array[...] = 1.0 if name.startswith("bias_ih") else 0.0
    _, h, _ = layer.forward(np.zeros((1, 4, 1)))
    kept = h == 0.0  # 1 where the fresh state was taken
    assert set(np.unique(h)) == {0.0, 1.0}
    assert abs(kept.mean() - 0.5) < 0.1
    for a in range(4):
        for b in range(a):
            assert 0.3 < (kept[a] == kept[b]).mean() < 0.7


def test_shares_of_a_large_draw() -> None:
    layer = pyrnn.RNN(
        1, 500, nonlinearity="identity", zoneout=0.3, recurrent_dropout=0.2, rng=3, bias=False
    )
    for name, array in layer.params.items():
        array[...] = np.eye(500) if name.startswith("weight_hh") else 1.0
    # From h = 0 and x = 1 a unit is 0 while it is kept, then counts what it was given.
    y, _, _ = layer.forward(np.ones((1, 200, 1), "f4"))
    assert abs((y == 0).mean() - 0.3) < 4 * (0.3 * 0.7 / y.size) ** 0.5
    dropped = pyrnn.RNN(1, 500, nonlinearity="identity", recurrent_dropout=0.2, rng=3, bias=False)
    dropped.load_state_dict(layer.state_dict())
    y, _, _ = dropped.forward(np.zeros((2, 200, 1), "f4"), np.ones((1, 200, 500), "f4"))
    values, counts = np.unique(y[0], return_counts=True)
    np.testing.assert_allclose(values, [0, 1.25], rtol=1e-6)
    assert abs(counts[0] / y[0].size - 0.2) < 4 * (0.2 * 0.8 / y[0].size) ** 0.5
    # One mask a sequence: what is dropped once stays so.
    np.testing.assert_array_equal(y[1] == 0, y[0] == 0)
