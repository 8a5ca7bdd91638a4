"""The loss of a classifier, and clipping of gradients."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers_layers import assert_gradient
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close, assert_same_bits

import pyrnn
from pyrnn import clip_grad_norm, softmax_cross_entropy

Array = npt.NDArray[Any]


def problem(
    shape: tuple[int, ...], classes: int, dtype: str = "float64", scale: float = 3.0
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(7)
    logits = (scale * rng.normal(size=(*shape, classes))).astype(dtype)
    return logits, np.asarray(rng.integers(0, classes, shape)), np.asarray(rng.random(shape) < 0.6)


def by_formula(logits: Array, targets: Array, mask: Array) -> tuple[float, Array]:
    """Entry by entry with the mathematics of the standard library."""
    total, gradient, count = 0.0, np.zeros(logits.shape), int(mask.sum())
    for index in np.ndindex(targets.shape):
        if not mask[index]:
            continue
        row = [float(v) for v in logits[index]]
        largest = max(row)
        weights = [math.exp(v - largest) for v in row]
        whole = math.fsum(weights)
        total += math.log(whole) + largest - row[targets[index]]
        for k, weight in enumerate(weights):
            gradient[index][k] = (weight / whole - (k == targets[index])) / count
    return total / count, gradient


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("shape", [(), (1,), (9,), (4, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy(dtype: str, shape: tuple[int, ...], masked: bool) -> None:
    logits, targets, mask = problem(shape, 6, dtype)
    if not masked or not mask.any():
        mask = np.ones(shape, bool)
    want, gradient = by_formula(logits, targets, mask)
    loss, dlogits = softmax_cross_entropy(logits, targets, mask if masked else None)
    assert type(loss) is float
    assert abs(loss - want) <= (1e-6 if dtype == "float32" else 1e-13) * abs(want)
    assert_close(dlogits, gradient, dtype, "dlogits")
    assert not dlogits[~mask].any()


def test_cross_entropy_gradient_by_differences() -> None:
    logits, targets, mask = problem((3, 4), 5)
    for given_mask in (None, mask):
        _, dlogits = softmax_cross_entropy(logits, targets, given_mask)

        def loss(given_mask: Array | None = given_mask) -> float:
            return softmax_cross_entropy(logits, targets, given_mask)[0]

        assert_gradient(loss, logits, dlogits, "logits")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e4, 3e38])
def test_cross_entropy_of_large_scores(size: float, dtype: str) -> None:
    logits = np.array([[size, 0.0, -size], [-size, -size, -size]], dtype)
    loss, dlogits = softmax_cross_entropy(logits, np.array([0, 1]))
    assert loss == pytest.approx(math.log(3) / 2, rel=1e-6)
    np.testing.assert_allclose(dlogits, [[0.0, 0.0, 0.0], [1 / 6, -1 / 3, 1 / 6]], rtol=1e-6)
    loss, _ = softmax_cross_entropy(logits[:1], np.array([1]))
    assert loss == pytest.approx(size, rel=1e-6)


@pytest.mark.filterwarnings("error")
def test_cross_entropy_of_infinite_scores() -> None:
    logits = np.array([[0.0, -np.inf, 0.0]])
    loss, dlogits = softmax_cross_entropy(logits, [0])
    assert loss == pytest.approx(math.log(2))
    np.testing.assert_allclose(dlogits, [[-0.5, 0, 0.5]])
    assert softmax_cross_entropy(logits, [1])[0] == math.inf
    for row in ([np.inf, 0.0], [np.nan, 0.0], [-np.inf, -np.inf]):
        assert math.isnan(softmax_cross_entropy(np.array([row]), [0])[0])


@pytest.mark.filterwarnings("error")
def test_what_is_masked_counts_for_nothing() -> None:
    logits, targets, mask = problem((4, 5), 3, "float32")
    want = softmax_cross_entropy(logits, targets, mask)
    spoilt, wild = logits.copy(), targets.copy()
    spoilt[~mask], wild[~mask] = np.nan, -(10**6)
    loss, dlogits = softmax_cross_entropy(spoilt, wild, mask)
    assert loss == want[0]
    assert_same_bits(dlogits, want[1])
    # As if only the others had been given.
    loss, dlogits = softmax_cross_entropy(logits[mask], targets[mask])
    assert loss == want[0]
    assert_same_bits(dlogits, want[1][mask])


@pytest.mark.filterwarnings("error")
def test_nothing_to_average() -> None:
    logits, targets, mask = problem((4, 5), 3, "float32")
    loss, dlogits = softmax_cross_entropy(logits * np.nan, targets - 99, mask & False)
    assert loss == 0.0
    assert_same_bits(dlogits, np.zeros_like(logits))
    for shape in ((0, 3), (5, 0, 3), (0, 0)):
        loss, dlogits = softmax_cross_entropy(np.zeros(shape), np.zeros(shape[:-1], int))
        assert loss == 0.0
        assert dlogits.shape == shape
    assert softmax_cross_entropy(np.zeros((0, 3)), [], [])[0] == 0.0


def test_cross_entropy_leaves_its_arguments_alone() -> None:
    logits, targets, mask = problem((4, 5), 3)
    arrays = (logits, targets, mask)
    before = [a.copy() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    _, dlogits = softmax_cross_entropy(*arrays)
    assert dlogits.flags.writeable
    for array, old in zip(arrays, before, strict=True):
        assert_same_bits(array, old)
    _, swapped = softmax_cross_entropy(logits.astype(">f8"), targets.astype(">i4"), mask)
    assert_same_bits(swapped, dlogits)
    strided = np.repeat(logits, 2, axis=-1)[..., ::2]
    assert_same_bits(softmax_cross_entropy(strided, targets.astype("u1"), mask)[1], dlogits)


def test_the_mean_is_summed_in_float64() -> None:
    logits = np.zeros((2**18, 2), "float32")
    loss, _ = softmax_cross_entropy(logits, np.zeros(2**18, int))
    assert loss == pytest.approx(math.log(2), rel=1e-12)


def refuses(error: type[Exception], message: str, call: Any, *arguments: Any) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        call(*arguments)


def test_cross_entropy_errors() -> None:
    logits, targets, mask = problem((4, 5), 3)
    call = softmax_cross_entropy
    refuses(TypeError, "logits: expected float32 or float64, got int64", call, targets, targets)
    refuses(TypeError, "logits: ", call, logits.astype("f2"), targets)
    refuses(ValueError, "logits: expected shape (..., K), got ()", call, np.float64(1), 0)
    refuses(TypeError, "targets: expected integers, got float64", call, logits, targets * 1.0)
    refuses(TypeError, "targets: expected integers, got bool", call, logits, mask)
    refuses(ValueError, "targets: expected shape (4, 5)", call, logits, targets[:3])
    refuses(ValueError, "targets: expected shape (4, 5)", call, logits, logits.astype(int))
    refuses(TypeError, "mask: expected booleans, got int64", call, logits, targets, targets)
    refuses(ValueError, "mask: expected shape (4, 5)", call, logits, targets, mask[0])
    for wrong in (-1, 3, 10**12):
        bad = targets.copy()
        bad[2, 1] = wrong
        refuses(IndexError, f"targets: expected 0..K-1 = 0..2, got {wrong}", call, logits, bad)
    refuses(IndexError, "targets: ", call, np.zeros((2, 0)), [0, 0])


# Clipping.


def gradients(dtype: str = "float32") -> dict[str, Array]:
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=size).astype(dtype) for name, size in (("a", (5, 7)), ("b", 9))}


def norm_of(grads: dict[str, Array]) -> float:
    return math.sqrt(math.fsum(float(v) ** 2 for a in grads.values() for v in a.ravel()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping(dtype: str) -> None:
    grads = gradients(dtype)
    before, norm = {n: a.copy() for n, a in grads.items()}, norm_of(grads)
    assert clip_grad_norm(grads, 2 * norm) == pytest.approx(norm, rel=1e-12)
    for name, array in grads.items():
        assert_same_bits(array, before[name])
    assert clip_grad_norm(grads, 0.5) == pytest.approx(norm, rel=1e-12)
    assert norm_of(grads) == pytest.approx(0.5, rel=1e-6)
    for name, array in grads.items():
        assert_close(array, before[name] * (0.5 / norm), dtype, name)
    assert clip_grad_norm(grads, math.inf) == pytest.approx(0.5, rel=1e-6)
    clip_grad_norm(grads, 0.0)
    assert norm_of(grads) == 0.0
    assert clip_grad_norm(grads, 1.0) == 0.0


def test_every_form_of_gradients_together() -> None:
    layer, head = pyrnn.GRU(2, 3, rng=0), pyrnn.Linear(3, 2, rng=0)
    y, _, tape = layer.forward(np.ones((4, 1, 2), "f4"))
    _, head_tape = head.forward(y)
    of_layer, of_head = layer.backward(tape, y), head.backward(head_tape, np.ones((4, 1, 2), "f4"))
    norm = norm_of({**of_layer.params, **of_head.params})
    x = of_layer.x
    assert x is not None
    x_before = x.copy()
    for form in (
        [of_layer, of_head],
        (of_layer.params, of_head.params),
        {"layer": of_layer, "head": of_head.params},
        (array for grads in (of_layer, of_head) for array in grads.params.values()),
    ):
        assert clip_grad_norm(form, math.inf) == pytest.approx(norm, rel=1e-12)
    clip_grad_norm([of_layer, of_head], norm / 4)
    assert norm_of({**of_layer.params, **of_head.params}) == pytest.approx(norm / 4, rel=1e-5)
    assert_same_bits(x, x_before)
    assert clip_grad_norm(np.full(4, 2.0), 9.0) == 4.0
    assert clip_grad_norm([], 9.0) == 0.0
    strided = np.full((4, 4), 2.0)[:, ::2]
    assert clip_grad_norm(strided, 1.0) == pytest.approx(32**0.5)
    assert np.linalg.norm(strided) == pytest.approx(1.0)


@pytest.mark.filterwarnings("error")
@given(st.sampled_from(["float32", "float64"]), st.integers(-300, 300))
def test_the_norm_neither_overflows_nor_vanishes(dtype: str, exponent: int) -> None:
    if dtype == "float32":
        exponent = exponent // 8
    scale = 10.0**exponent
    grads = {"a": np.full(50, 3 * scale, dtype), "b": np.full(50, 4 * scale, dtype)}
    want = math.hypot(float(grads["a"][0]), float(grads["b"][0])) * math.sqrt(50)
    assert clip_grad_norm(grads, 2.0) == pytest.approx(want, rel=1e-12)
    if want > 2:
        assert norm_of(grads) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.filterwarnings("error")
def test_a_finite_gradient_whose_norm_overflows_is_clipped() -> None:
    grads = [np.full(100, 1e308), np.full(100, -1e308)]
    assert clip_grad_norm(grads, 1.0) == math.inf
    np.testing.assert_allclose(grads[0], 200**-0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_is_said(dtype: str, value: float) -> None:
    grads = gradients(dtype)
    grads["b"][4] = value
    before = {n: a.copy() for n, a in grads.items()}
    with pytest.warns(RuntimeWarning, match=r"grads\['b'\] is not finite") as caught:
        norm = clip_grad_norm(grads, 1.0)
    assert caught[0].filename == __file__
    assert not math.isfinite(norm)
    with pytest.raises(FloatingPointError, match=r"grads\['b'\] is not finite"):
        clip_grad_norm(grads, 1.0, error_if_nonfinite=True)
    for name, array in grads.items():
        assert_same_bits(array, before[name])
    grads["a"][0, 0] = np.nan
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        clip_grad_norm([grads], 1.0)
    assert "grads[0]['a']" in str(seen[0].message)


def test_clipping_errors() -> None:
    grads = gradients()
    before = {n: a.copy() for n, a in grads.items()}
    for bad in (-1.0, float("nan")):
        refuses(ValueError, "max_norm: expected a number at least 0", clip_grad_norm, grads, bad)
    refuses(TypeError, "max_norm: ", clip_grad_norm, grads, "1")
    refuses(TypeError, "grads[2]: expected an array", clip_grad_norm, [*grads.values(), 3.0], 0.1)
    refuses(TypeError, "grads: expected an array", clip_grad_norm, "gradients", 0.1)
    integers = grads | {"c": np.ones(3, int)}
    refuses(TypeError, "grads['c']: expected float32 or", clip_grad_norm, integers, 0.1)
    frozen = np.ones(3, "f4")
    frozen.flags.writeable = False
    message = "grads['c']: expected a writable array"
    refuses(ValueError, message, clip_grad_norm, grads | {"c": frozen}, 0.1)
    for name, array in grads.items():
        assert_same_bits(array, before[name])
