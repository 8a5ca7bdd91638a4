"""What layers do with wrong arguments: the contract's table, row by row."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers_layers import KINDS, assert_all_same, build, inputs, states_of

import pyrnn

pytestmark = pytest.mark.usefixtures("each_backend")

STATEFUL = [kind for kind in KINDS if not kind.startswith("lstm")]


def refuses(error: type[Exception], message: str, call: Any, *arguments: Any) -> None:
    """Raises, and the message begins as given."""
    with pytest.raises(error, match="^" + re.escape(message)):
        call(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size: expected at least 1, got 0"),
        ({"hidden_size": -1}, ValueError, "hidden_size: expected at least 1, got -1"),
        ({"hidden_size": 2.5}, TypeError, "hidden_size: expected an integer, got float"),
        ({"num_layers": 0}, ValueError, "num_layers: expected at least 1, got 0"),
        ({"dropout": 1.5}, ValueError, "dropout: expected a number between 0 and 1, got 1.5"),
        ({"dropout": -0.1}, ValueError, "dropout: "),
        ({"dropout": float("nan")}, ValueError, "dropout: "),
        ({"dropout": "much"}, TypeError, "dropout: expected a number, got str"),
        ({"dtype": "float16"}, TypeError, "dtype: expected float32 or float64, got 'float16'"),
        ({"dtype": "int32"}, TypeError, "dtype: "),
        ({"dtype": "no such"}, TypeError, "dtype: "),
        ({"rng": "seed"}, TypeError, "rng: expected None, an int or a Generator, got str"),
        ({"rng": True}, TypeError, "rng: "),
        ({"rng": -1}, ValueError, "rng: expected a seed of at least 0, got -1"),
        ({"init": "zeros"}, ValueError, "init: expected one of uniform, orthogonal, got 'zeros'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("cls", [pyrnn.RNN, pyrnn.GRU, pyrnn.LSTM])
def test_constructor(
    cls: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        cls(**({"input_size": 3, "hidden_size": 4} | options))


def test_constructor_of_one_cell() -> None:
    for error, message, call in (
        (
            ValueError,
            "nonlinearity: expected a name or (name, alpha, beta) out of tanh, sigmoid, relu,",
            lambda: pyrnn.RNN(3, 4, nonlinearity="swish"),
        ),
        (
            ValueError,
            "proj_size: expected less than hidden_size = 4, got 4",
            lambda: pyrnn.LSTM(3, 4, proj_size=4),
        ),
        (
            ValueError,
            "forget_bias: expected None with bias=False",
            lambda: pyrnn.LSTM(3, 4, bias=False, forget_bias=1.0),
        ),
        (ValueError, "forget_bias: ", lambda: pyrnn.LSTM(3, 4, forget_bias=float("nan"))),
    ):
        refuses(error, message, call)


def test_constructor_beyond_all_memory() -> None:
    for size in (2**31, 2**40, 2**62):
        with pytest.raises((ValueError, MemoryError)):
            pyrnn.LSTM(2, size, dtype="float64")


@pytest.mark.parametrize("kind", KINDS)
def test_x(kind: str) -> None:
    layer = build(kind, dtype="float32", num_layers=2)
    wanted = "x: expected shape (T, B, I) or (T, I) with I = 3, got "
    refuses(ValueError, wanted + "(5, 2, 4)", layer, np.zeros((5, 2, 4), "f4"))
    refuses(ValueError, wanted + "(3,)", layer, np.zeros(3, "f4"))
    refuses(ValueError, wanted + "()", layer, np.zeros((), "f4"))
    refuses(ValueError, wanted + "(5, 2, 1, 3)", layer, np.zeros((5, 2, 1, 3), "f4"))
    refuses(
        ValueError,
        "x: expected tokens of shape (T, B) or (T,), got",
        layer,
        np.zeros((5, 2, 3), int),
    )
    refuses(ValueError, "x: expected tokens of shape (T, B) or (T,), got ()", layer, 3)
    turned = build(kind, dtype="float32", batch_first=True)
    refuses(ValueError, "x: expected shape (B, T, I) or (T, I)", turned, np.zeros((5, 2, 4), "f4"))
    wanted = "x: expected float32 or integer tokens, got "
    for dtype in ("float64", "float16", "complex64", "bool", "object", "longdouble"):
        refuses(TypeError, wanted + np.dtype(dtype).name, layer, np.zeros((5, 2, 3), dtype))
    refuses(TypeError, wanted + "float64", layer, [[1.0, 2.0, 3.0]])
    for token in (-1, 3, 2**40):
        tokens = np.zeros((5, 2), np.int64)
        tokens[4, 1] = token
        for call in (layer, layer.forward):
            with pytest.raises(IndexError, match=r"^x: expected tokens in 0\.\."):
                call(tokens)


@pytest.mark.parametrize("argument", ["state", "dstate"])
@pytest.mark.parametrize("kind", STATEFUL)
def test_one_state(kind: str, argument: str) -> None:
    layer = build(kind, num_layers=2)
    x, state = inputs(layer)
    alone = inputs(layer, unbatched=True)[0]

    def call(x: Any, state: Any) -> Any:
        if argument == "state":
            return layer(x, state)
        return layer.backward(layer.forward(x)[2], None, state)

    wanted = f"{argument}: expected shape (L·S, B, H) = (2, 2, 4), got "
    refuses(ValueError, wanted + "(2, 4)", call, x, state[0])
    refuses(ValueError, wanted + "(1, 2, 4)", call, x, state[:1])
    refuses(ValueError, wanted + "(2, 1, 4)", call, x, state[:, :1])
    refuses(ValueError, wanted + "(2, 2, 3)", call, x, state[..., :3])
    refuses(ValueError, wanted + "(2, 2, 2, 4)", call, x, (state, state))
    wanted = f"{argument}: expected shape (L·S, H) = (2, 4), got "
    refuses(ValueError, wanted + "(2, 2, 4)", call, alone, state)
    wanted = f"{argument}: expected float64, got "
    refuses(TypeError, wanted + "float32", call, x, state.astype("f4"))
    refuses(TypeError, wanted + "int64", call, x, state.astype(int))
    refuses(TypeError, wanted + "object", call, x, np.full((2, 2, 4), None))


@pytest.mark.parametrize("argument", ["state", "dstate"])
def test_two_states(argument: str) -> None:
    layer = build("lstm", num_layers=2)
    x, (h, c) = inputs(layer)

    def call(state: Any) -> Any:
        if argument == "state":
            return layer(x, state)
        return layer.backward(layer.forward(x)[2], None, state)

    wanted = f"{argument}: expected a tuple (h, c), got "
    refuses(ValueError, wanted + "ndarray", call, h)
    refuses(ValueError, wanted + "tuple of 1", call, (h,))
    refuses(ValueError, wanted + "list of 3", call, [h, c, c])
    wanted = "expected shape (L·S, B, H) = (2, 2, 4), got "
    refuses(ValueError, f"{argument}[0]: {wanted}(1, 2, 4)", call, (h[:1], c))
    refuses(ValueError, f"{argument}[1]: {wanted}(2, 2, 3)", call, (h, c[..., 1:]))
    refuses(TypeError, f"{argument}[1]: expected float64, got float32", call, (h, c.astype("f4")))
    if argument == "state":
        refuses(TypeError, "state[1]: expected float64, got object", call, (h, None))


@pytest.mark.parametrize("kind", KINDS)
def test_lengths(kind: str) -> None:
    layer = build(kind, num_layers=2, bidirectional=True)
    x, state = inputs(layer)
    for lengths in ([1], [1, 2, 3], [[1, 2]], 3, [-1, 2], [0, 6]):
        for call in (layer, layer.forward):
            refuses(ValueError, "lengths: ", call, x, state, lengths)
    refuses(TypeError, "lengths: ", layer, x, state, [1.0, 2.0])
    alone, one = inputs(layer, unbatched=True)
    refuses(ValueError, "lengths: ", layer, alone, one, [1, 2])
    refuses(ValueError, "lengths: ", layer, alone, one, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_dy(kind: str) -> None:
    layer = build(kind, bidirectional=True)
    x, _ = inputs(layer)
    y, _, tape = layer.forward(x)
    refuses(
        ValueError,
        "dy: expected shape (T, B, S·H) = (5, 2, 8), got (5, 2, 4)",
        layer.backward,
        tape,
        y[..., :4],
    )
    refuses(ValueError, "dy: expected shape", layer.backward, tape, y[:4])
    refuses(TypeError, "dy: expected float64, got float32", layer.backward, tape, y.astype("f4"))
    turned = build(kind, batch_first=True)
    tape = turned.forward(inputs(turned)[0])[2]
    message = "dy: expected shape (B, T, S·H) = (2, 5, 4), got (5, 2, 4)"
    refuses(ValueError, message, turned.backward, tape, np.zeros((5, 2, 4)))
    tape = turned.forward(inputs(turned, unbatched=True)[0])[2]
    message = "dy: expected shape (T, S·H) = (5, 4), got (5, 3)"
    refuses(ValueError, message, turned.backward, tape, np.zeros((5, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_tapes_of_others(kind: str) -> None:
    layer = build(kind)
    x, _ = inputs(layer)
    y, _, tape = layer.forward(x)
    twin, single = build(kind), build(kind, dtype="float32")
    head = pyrnn.Linear(4, 2, dtype="float64")
    for other in (twin, single, *(build(k) for k in KINDS if k != kind)):
        foreign = other.forward(x.astype(other.dtype))[2]
        refuses(ValueError, f"tape: expected one of this {layer!r}", layer.backward, foreign, y)
    refuses(ValueError, "tape: ", layer.backward, head.forward(y)[1], y)
    refuses(ValueError, "tape: ", head.backward, tape, y)
    for bad in (None, y, tape.tapes[0], "tape"):
        refuses(TypeError, "tape: expected the tape of forward, got", layer.backward, bad, y)
        refuses(TypeError, "tape: expected the tape of forward, got", head.backward, bad, y)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_put_in_place_of_others(kind: str) -> None:
    for name, bad, error in (
        ("weight_hh_l1", np.zeros((4, 4)), ValueError),
        ("weight_hh_l1", np.zeros((4, 4), "f4"), TypeError),
        ("weight_ih_l0", np.zeros((16, 2)), ValueError),
        ("bias_hh_l0", np.zeros(5), ValueError),
        ("bias_ih_l1", np.zeros((16, 1)), ValueError),
        ("weight_ih_l0", None, TypeError),
    ):
        layer = build(kind, num_layers=2)
        x, state = inputs(layer)
        if error is ValueError and bad is not None and bad.shape == layer.params[name].shape:
            continue
        layer.params[name] = bad
        with pytest.raises(error):
            layer(x, state)
    layer = build(kind)
    del layer.params["weight_hh_l0"]
    with pytest.raises(KeyError, match="weight_hh_l0"):
        layer(x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_passes(kind: str, value: float) -> None:
    layer = build(kind, num_layers=2, bidirectional=True, dropout=0.5)
    x, state = inputs(layer, 4, 2)
    clean, _ = layer(x, state)
    x[2, 1, 0] = value
    y, last, tape = layer.forward(x, state)
    grads = layer.backward(tape, y, last)
    assert grads.x.shape == x.shape
    # The other row does not notice.
    assert_all_same(layer(x, state)[0][:, 0], clean[:, 0])
    if np.isnan(value):
        assert np.isnan(layer(x, state)[0][:, 1]).any()
        assert all(np.isnan(s[:, 1]).any() for s in states_of(last))
