"""vmap over any of the arrays, within and around derivatives; JAX's loops; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_ops import Case, make
from tolerances import assert_close

import pyrnn

jax = pytest.importorskip("jax", reason="needs JAX, which is not installed")

import jax.numpy as jnp  # noqa: E402

import pyrnn.jax  # noqa: E402

N = 4
PROBLEM = make(Case("lstm", "float32", 6, 3, 5, 7))
ARRAYS = {name: jnp.asarray(a) for name, a in PROBLEM.arrays.items()}
LENGTHS = jnp.array([6, 2, 4])
MAPPED: dict[str, tuple[str, ...]] = {
    "x": ("x",),
    "states": ("h0", "c0"),
    "rows": ("x", "h0", "lengths"),
    "lengths": ("lengths",),
    "weights": ("w_hh",),
    "x and weights": ("x", "w_ih", "b_hh"),
}


def spread(array: Any) -> Any:
    """N arrays in place of one, each another."""
    if array.dtype.kind == "i":
        return jnp.stack([jnp.roll(array, k) for k in range(N)])
    return jnp.stack([array * (1 + 0.1 * k) for k in range(N)])


def call(arrays: dict[str, Any]) -> Any:
    return pyrnn.jax.lstm(**arrays)


def loss(arrays: dict[str, Any]) -> Any:
    y, h_n, c_n = call(arrays)
    return jnp.sum(jnp.sin(y)) + jnp.sum(h_n * c_n)


def floats(arrays: dict[str, Any]) -> Any:
    """The loss as a function of what has a gradient."""
    rest = {k: v for k, v in arrays.items() if k == "lengths"}
    return lambda given: loss(given | rest), {k: v for k, v in arrays.items() if k != "lengths"}


def gradient(arrays: dict[str, Any]) -> Any:
    function, given = floats(arrays)
    return jax.grad(function)(given)


def assert_equal(got: Any, want: Any) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert_close(np.asarray(a), np.asarray(b), "float32")


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("function", [call, gradient], ids=["values", "gradients"])
@pytest.mark.parametrize("mapped", MAPPED)
def test_vmap_is_a_loop(mapped: str, function: Any, jit: bool) -> None:
    arrays = ARRAYS | {"lengths": LENGTHS}
    names = MAPPED[mapped]
    batched = {k: spread(v) if k in names else v for k, v in arrays.items()}
    over = jax.vmap(function, in_axes=({k: 0 if k in names else None for k in arrays},))
    got = (jax.jit(over) if jit else over)(batched)
    want = [function({k: v[n] if k in names else v for k, v in batched.items()}) for n in range(N)]
    assert_equal(got, jax.tree.map(lambda *parts: jnp.stack(parts), *want))


def test_vmap_over_another_axis() -> None:
    """The axis of the batch itself: single sequences (T, I), all in one call to the kernels."""
    w = {k: v for k, v in ARRAYS.items() if k.startswith(("w", "b"))}

    def single(x: Any, h0: Any, length: Any) -> Any:
        return pyrnn.jax.lstm(x, h0, None, **w, lengths=length)

    got = jax.vmap(single, in_axes=(1, 0, 0), out_axes=(1, 0, 0))(
        ARRAYS["x"], ARRAYS["h0"], LENGTHS
    )
    want = pyrnn.jax.lstm(ARRAYS["x"], ARRAYS["h0"], None, **w, lengths=LENGTHS)
    assert_equal(got, want)


@pytest.mark.parametrize("mapped", ["x", "rows", "weights"])
def test_gradient_of_a_vmap(mapped: str) -> None:
    """Of a parameter that all share, the sum."""
    arrays = ARRAYS | {"lengths": LENGTHS}
    names = MAPPED[mapped]
    batched = {k: spread(v) if k in names else v for k, v in arrays.items()}
    rest = {k: v for k, v in batched.items() if k == "lengths"}
    given = {k: v for k, v in batched.items() if k != "lengths"}
    axes = ({k: 0 if k in names else None for k in arrays},)

    def total(given: Any) -> Any:
        return jax.vmap(loss, in_axes=axes)(given | rest).sum()

    def by_hand(given: Any) -> Any:
        every = given | rest
        return sum(loss({k: v[n] if k in names else v for k, v in every.items()}) for n in range(N))

    assert_equal(jax.jit(jax.grad(total))(given), jax.grad(by_hand)(given))


def test_vmap_of_vmap() -> None:
    x = jnp.stack([spread(ARRAYS["x"]), spread(ARRAYS["x"] - 1)])
    h0 = spread(ARRAYS["h0"])

    def one(x: Any, h0: Any) -> Any:
        return gradient(ARRAYS | {"x": x, "h0": h0})

    got = jax.vmap(jax.vmap(one), in_axes=(0, None))(x, h0)
    want = [[one(x[i, n], h0[n]) for n in range(N)] for i in range(2)]
    stacked = [jax.tree.map(lambda *parts: jnp.stack(parts), *row) for row in want]
    assert_equal(got, jax.tree.map(lambda *parts: jnp.stack(parts), *stacked))


def test_jacobian() -> None:
    """Which maps over the incoming gradient alone."""
    w = ARRAYS["w_hh"]
    got = jax.jacrev(lambda w: call(ARRAYS | {"w_hh": w})[1][0])(w)
    want = [jax.grad(lambda w, k=k: call(ARRAYS | {"w_hh": w})[1][0, k])(w) for k in range(7)]
    assert_equal(got, jnp.stack(want))


def test_within_a_loop_of_jax() -> None:
    def step(state: Any, x: Any) -> Any:
        h, c = state
        y, h, c = call(ARRAYS | {"x": x, "h0": h, "c0": c})
        return (h, c), y

    chunks = ARRAYS["x"].reshape(3, 2, 3, 5)
    (h, c), y = jax.jit(lambda: jax.lax.scan(step, (ARRAYS["h0"], ARRAYS["c0"]), chunks))()
    want = call(ARRAYS)
    assert_equal((y.reshape(6, 3, 7), h, c), want)


def test_rematerialised() -> None:
    function, given = floats(ARRAYS)
    assert_equal(jax.grad(jax.checkpoint(function))(given), jax.grad(function)(given))


@pytest.mark.parametrize("family", ["rnn", "gru", "lstm"])
def test_second_derivatives_are_refused(family: str) -> None:
    cell = {"rnn": "rnn_tanh"}.get(family, family)
    arrays = {k: jnp.asarray(v) for k, v in make(Case(cell, "float32", 3, 2, 3, 4)).arrays.items()}

    def first(x: Any) -> Any:
        call = getattr(pyrnn.jax, family)
        return jnp.sum(jax.grad(lambda x: call(**(arrays | {"x": x}))[0].sum())(x) ** 2)

    with pytest.raises(NotImplementedError, match=f"pyrnn.jax.{family}: expected first"):
        jax.grad(first)(arrays["x"])
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: call(ARRAYS | {"x": x}), (ARRAYS["x"],), (ARRAYS["x"],))
