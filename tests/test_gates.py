"""Statistics of the gates on a tape: of one made by hand, and of tapes that hold sums."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers_layers import build, inputs, states_of

import pyrnn
from pyrnn.gates import gate_names
from pyrnn.reference.cells import CELLS
from pyrnn.variants import NUM_GATES


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_has_names_for_its_gates(cell: str) -> None:
    assert len(set(gate_names(cell))) == NUM_GATES[cell]


def test_saturation_of_a_tape_by_hand() -> None:
    layer = pyrnn.LSTM(1, 2, dtype="float64", rng=0)
    _, _, tape = layer.forward(np.zeros((2, 2, 1)), lengths=[2, 1])
    (one,) = tape.tapes
    gates = np.full((2, 2, 8), 0.5)
    gates[:, 0] = [  # i i f f g g o o
        [0.04, 0.96, 0.06, 0.94, -0.96, 0.96, 0.00, 0.50],
        [0.01, 0.50, 0.01, 0.50, -0.94, 0.94, 1.00, 0.50],
    ]
    gates[1, 1] = np.nan  # padding
    gates[0, 1] = [0.5, 0.99, 0.5, 0.5, 0.04, 0.0, 0.5, 0.5]
    by_hand = replace(tape, tapes=(replace(one, gates=gates),))
    i, f, g, o = pyrnn.gate_statistics(by_hand)
    assert [s.name for s in (i, f, g, o)] == [f"{gate}, layer 0" for gate in "ifgo"]
    thirds = np.arange(4) / 3
    for gate, lows, highs in (
        (i, thirds[[2, 0]], thirds[[0, 2]]),
        (f, thirds[[1, 0]], thirds[[0, 0]]),
        (g, thirds[[1, 0]], thirds[[0, 1]]),
        (o, thirds[[1, 0]], thirds[[1, 0]]),
    ):
        np.testing.assert_array_equal(gate.lows, lows, gate.name)
        np.testing.assert_array_equal(gate.highs, highs, gate.name)
        assert (gate.low, gate.high) == (lows.mean(), highs.mean())
    np.testing.assert_allclose(i.means, [0.55 / 3, 2.45 / 3])
    assert i.mean == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("lstm", {"gate_activation": "hard_sigmoid", "activation": "softsign"}),
        ("lstm", {"clip": 0.4, "coupled": True}),
        ("gru", {"activation": ("scaled_tanh", 2.0, 0.7), "num_layers": 2, "bidirectional": True}),
        ("gru_reset_before", {"gate_activation": ("affine", 0.3, 0.1)}),
        ("rnn_relu", {}),
        ("rnn_tanh", {"nonlinearity": ("elu", 0.5)}),
    ],
)
def test_tapes_of_sums_are_opened(kind: str, options: dict[str, Any]) -> None:
    """The gates of a step, computed here from its sums."""
    layer = build(kind, **options)
    x, state = inputs(layer, 1, 6)
    _, _, tape = layer.forward(9 * x, state)
    found_gates = pyrnn.gate_statistics(tape)
    assert len(found_gates) == len(gate_names(tape.tapes[0].cell)) * layer._parts
    h0 = states_of(state)[0][0]
    p = layer.params
    sums = (
        9 * x[0] @ p["weight_ih_l0"].T
        + p["bias_ih_l0"]
        + h0 @ p["weight_hh_l0"].T
        + p["bias_hh_l0"]
    )
    clip = layer.clip or np.inf
    first = np.clip(sums[:, : layer.hidden_size], -clip, clip)
    activation = getattr(layer, "gate_activation", getattr(layer, "nonlinearity", None))
    name, *numbers = (activation,) if isinstance(activation, str) else activation
    value = {
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "hard_sigmoid": lambda a: np.clip(0.2 * a + 0.5, 0, 1),
        "affine": lambda a: numbers[0] * a + numbers[1],
        "relu": lambda a: np.maximum(a, 0),
        "elu": lambda a: np.where(a < 0, numbers[0] * np.expm1(np.minimum(a, 0)), a),
    }[name](first)
    lows = {
        "sigmoid": value < 0.05,
        "hard_sigmoid": value < 0.05,
        "affine": value < -np.inf,
        "relu": value == 0,
        "elu": value < -0.5 + 0.025,
    }[name]
    np.testing.assert_allclose(found_gates[0].means, value.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found_gates[0].lows, lows.mean(axis=0))
    assert lows.any() or name in ("affine", "sigmoid")


def test_statistics_refuse_other_tapes_and_say_nan_of_nothing() -> None:
    layer = build("gru", num_layers=2)
    x, _ = inputs(layer)
    with pytest.raises(ValueError, match=r"tape: expected one with gates, got .*checkpoint"):
        pyrnn.gate_statistics(layer.forward(x, checkpoint=2)[2])
    with pytest.raises(TypeError, match="tape: expected that of a recurrent layer, got Tape"):
        pyrnn.gate_statistics(layer.forward(x)[2].tapes[0])
    nothing = pyrnn.gate_statistics(layer.forward(x, lengths=[0, 0])[2])
    assert all(np.isnan([s.mean, s.low, s.high]).all() for s in nothing)
    assert [s.name for s in nothing] == [f"{g}, layer {k}" for k in range(2) for g in "rzn"]
