"""The first array and step with a NaN or an infinity, planted at known places."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from helpers_diagnostics import LAYERS, given, made
from helpers_layers import build, inputs

import pyrnn
from pyrnn.diagnostics import NotFinite


def found(layer: Any, x: Any, *args: Any, **keywords: Any) -> NotFinite:
    with pytest.raises(NotFinite) as raised:
        pyrnn.check_finite(layer, x, *args, **keywords)
    return raised.value


@pytest.mark.parametrize("name", LAYERS)
def test_finite_layers_pass(name: str) -> None:
    layer = made(name)
    x, state, dy, dstate = given(layer)
    x[3:, 1], dy[3:, 1] = np.nan, np.inf
    pyrnn.check_finite(layer, x, dy, state=state, lengths=[5, 3], dstate=dstate)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_was_given_is_named(value: float) -> None:
    layer = build("lstm", num_layers=2, bidirectional=True)
    x, (h, c) = inputs(layer)
    plant = x.copy()
    plant[3, 1, 2] = value
    error = found(layer, plant)
    assert (error.array, error.step, error.index) == ("x", 3, (1, 2))
    assert error.value == value or np.isnan(value)
    assert f"x: {value} at step 3, index (1, 2)" == str(error)
    plant = c.copy()
    plant[3, 0, 1] = value
    error = found(layer, x, state=(h, plant))
    assert (error.array, error.step) == ("initial c of layer 1 reverse", None)
    layer.params["weight_hh_l1"][2, 1] = value
    error = found(layer, x)
    assert (error.array, error.step, error.index) == ("weight_hh_l1", None, (2, 1))


def linear(factor: float, **options: Any) -> Any:
    """h_t = factor * h_{t-1} + x_t, in float32: up to 3.4e38."""
    layer = pyrnn.RNN(1, 1, nonlinearity="identity", bias=False, rng=0, **options)
    for name, array in layer.params.items():
        array[...] = factor if "hh" in name else 1.0
    return layer


def test_the_step_at_which_a_state_overflows_is_named() -> None:
    x = np.zeros((9, 2, 1), "float32")
    x[2, 1] = 1.0  # then 1e10, 1e20, 1e30 and, at step 6, infinity
    error = found(linear(1e10), x)
    assert (error.array, error.step, error.index) == ("gate h of layer 0", 6, (1, 0))
    both = linear(1e10, bidirectional=True)
    both.params["weight_hh_l0"][...] = 0.0
    x[7, 0] = 1.0  # backwards 1e10 at step 6, infinite at step 3
    error = found(both, x)
    assert (error.array, error.step, error.index) == ("gate h of layer 0 reverse", 3, (0, 0))
    deep = linear(1e10, num_layers=2)
    deep.params["weight_hh_l0"][...] = 0.0
    # Row 1 ends ahead of its infinity.
    pyrnn.check_finite(deep, x, lengths=[9, 6], dstate=np.zeros((2, 2, 1), "float32"))
    assert found(deep, x).array == "gate h of layer 1"
    assert found(deep, x).step == 6


def test_a_cell_that_overflows_is_named() -> None:
    layer = pyrnn.LSTM(1, 1, activation="identity", gate_activation="identity", rng=0)
    for array in layer.params.values():
        array[...] = 0
    layer.params["bias_ih_l0"][...] = 2e19  # i * g is 4e38
    error = found(layer, np.zeros((3, 1, 1), "float32"))
    assert (error.array, error.step) == ("c of layer 0", 0)


def test_a_gradient_that_overflows_is_named() -> None:
    x = np.zeros((9, 1, 1), "float32")
    error = found(linear(1e10), x)  # 1, 1e10, 1e20, 1e30 and, at step 4, infinity
    assert (error.array, error.step) == ("gradient of h of layer 0", 4)
    both = linear(1e10, bidirectional=True)
    both.params["weight_hh_l0"][...] = 0.0
    error = found(both, x)
    assert (error.array, error.step) == ("gradient of h of layer 0 reverse", 4)
    dy = np.zeros((9, 1, 1), "float32")
    dy[5] = np.nan
    error = found(linear(0.5), x, dy)
    assert (error.array, error.step) == ("dy", 5)
    error = found(linear(0.5), x, dstate=np.full((1, 1, 1), -np.inf, "float32"))
    assert (error.array, error.step) == ("gradient of the final h of layer 0", None)


def test_the_gradient_of_a_parameter_is_named() -> None:
    x = np.full((9, 1, 1), 1e30, "float32")
    dy = np.full((9, 1, 1), 1e8, "float32")  # a product of 1e38 a step, that has a sum of 3.4 steps
    error = found(linear(0.0), x, dy)
    assert (error.array, error.step) == ("gradient of weight_ih_l0", 5)
    layer = linear(0.0)
    layer.params["weight_ih_l0"][...] = 1e31
    error = found(layer, np.zeros_like(x), dy)
    assert (error.array, error.step) == ("gradient of the input of layer 0", 8)


def test_not_finite_is_a_floating_point_error() -> None:
    error = NotFinite("x", 3, (1, 2), np.inf)
    assert isinstance(error, FloatingPointError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
