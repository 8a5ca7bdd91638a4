"""The linear layer."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
from helpers_layers import assert_all_same, assert_gradient
from tolerances import assert_close, assert_same_bits

import pyrnn

pytestmark = pytest.mark.usefixtures("each_backend")

SHAPES = ((), (1,), (7,), (5, 3), (2, 3, 4), (0,), (3, 0), (300,))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (17, 33), (64, 100)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients(
    dtype: str, shape: tuple[int, ...], sizes: tuple[int, int], bias: bool
) -> None:
    layer = pyrnn.Linear(*sizes, bias, dtype=dtype, rng=0)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(*shape, sizes[0])).astype(dtype)
    dy = rng.normal(size=(*shape, sizes[1])).astype(dtype)
    y, tape = layer.forward(x)
    grads = layer.backward(tape, dy)
    assert_same_bits(layer(x), y)
    weight = layer.params["weight"].astype("f8")
    want = x.astype("f8") @ weight.T + (layer.params["bias"].astype("f8") if bias else 0)
    assert_close(y, want, dtype, "y")
    assert_close(grads.x, dy.astype("f8") @ weight, dtype, "dx")
    rows, drows = x.reshape(-1, sizes[0]).astype("f8"), dy.reshape(-1, sizes[1]).astype("f8")
    assert_close(grads.params["weight"], drows.T @ rows, dtype, "dweight")
    if bias:
        assert_close(grads.params["bias"], drows.sum(axis=0), dtype, "dbias")
    assert list(grads.params) == list(layer.params)


def test_gradients_by_differences() -> None:
    layer = pyrnn.Linear(3, 4, dtype="float64", rng=0)
    x, dy = np.random.default_rng(1).normal(size=(2, 5, 3)), np.ones((2, 5, 4))
    dy[0, 1] = [1, -2, 3, 0.5]
    _, tape = layer.forward(x)
    grads = layer.backward(tape, dy)
    for name, array in layer.params.items():
        assert_gradient(lambda: float((layer(x) * dy).sum()), array, grads.params[name], name)
    assert_gradient(lambda: float((layer(x) * dy).sum()), x, grads.x, "x")


@pytest.mark.usefixtures("threads_whatever_the_load")
def test_threads_do_not_change_a_bit() -> None:
    layer = pyrnn.Linear(65, 97, rng=0)
    x = np.random.default_rng(1).normal(size=(211, 65)).astype("f4")
    results = []
    for threads in (1, 2, 3, 4):
        pyrnn.set_num_threads(threads)
        y, tape = layer.forward(x)
        grads = layer.backward(tape, y)
        results.append((y, grads.x, grads.params))
    for other in results[1:]:
        assert_all_same(other, results[0])


def test_layouts() -> None:
    layer = pyrnn.Linear(4, 3, dtype="float64", rng=0)
    x = np.random.default_rng(1).normal(size=(5, 2, 4))
    y, tape = layer.forward(x)
    want = layer.backward(tape, y)
    for change in (
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        lambda a: np.asfortranarray(a),
        lambda a: a.astype(a.dtype.newbyteorder()),
        lambda a: a.tolist(),
    ):
        y_2, tape_2 = layer.forward(change(x))
        assert_same_bits(y_2, y)
        got = layer.backward(tape_2, change(y))
        assert_all_same((got.x, got.params), (want.x, want.params))
    layer.params["weight"] = np.asfortranarray(layer.params["weight"])
    assert_same_bits(layer(x), y)


def test_parameters_in_place_and_copies() -> None:
    layer = pyrnn.Linear(3, 2, rng=0)
    x = np.ones((4, 3), "f4")
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same_bits(twin(x), layer(x))
    layer(x)
    layer.params["weight"][...] = 1
    layer.params["bias"][...] = 2
    assert (layer(x) == 5).all()
    assert (twin(x) != 5).all()


def test_start() -> None:
    layer = pyrnn.Linear(100, 50, rng=0)
    assert np.abs(layer.params["weight"]).max() <= 0.1
    assert np.abs(layer.params["weight"]).max() > 0.099
    assert 0.08 < np.abs(layer.params["bias"]).max() <= 0.1
    assert_all_same(pyrnn.Linear(100, 50, rng=0).params, layer.params)


def refuses(error: type[Exception], message: str, call: Any, *arguments: Any) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        call(*arguments)


def test_errors() -> None:
    layer = pyrnn.Linear(3, 2)
    x = np.zeros((5, 3), "f4")
    y, tape = layer.forward(x)
    wanted = "x: expected shape (..., in_features) = (..., 3), got "
    refuses(ValueError, wanted + "(5, 4)", layer, np.zeros((5, 4), "f4"))
    refuses(ValueError, wanted + "()", layer, np.float32(1))
    refuses(TypeError, "x: expected float32, got float64", layer, x.astype("f8"))
    refuses(TypeError, "x: expected float32, got int64", layer, x.astype("i8"))
    wanted = "dy: expected shape (..., out_features) = (5, 2), got "
    refuses(ValueError, wanted + "(5, 3)", layer.backward, tape, x)
    refuses(ValueError, wanted + "(10,)", layer.backward, tape, y.ravel())
    refuses(TypeError, "dy: expected float32, got float64", layer.backward, tape, y.astype("f8"))
    refuses(ValueError, "in_features: ", pyrnn.Linear, 0, 3)
    refuses(ValueError, "out_features: ", pyrnn.Linear, 3, 0)
    refuses(TypeError, "dtype: ", lambda: pyrnn.Linear(3, 3, dtype="float16"))
    for name, bad, error in (
        ("weight", np.zeros((3, 2), "f4"), ValueError),
        ("weight", np.zeros((2, 3)), TypeError),
        ("bias", np.zeros(3, "f4"), ValueError),
    ):
        broken = pyrnn.Linear(3, 2)
        broken.params[name] = bad
        refuses(error, f"{name}: expected", broken, x)


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_passes() -> None:
    layer = pyrnn.Linear(3, 2, rng=0)
    x = np.ones((4, 3), "f4")
    x[1, 0], x[2, 2] = np.nan, np.inf
    y, tape = layer.forward(x)
    assert np.isfinite(y).all(axis=1).tolist() == [True, False, False, True]
    assert np.isnan(y[1]).all()
    assert np.isinf(y[2]).all()
    assert np.isnan(layer.backward(tape, y).params["weight"]).any()
