"""``pyrnn.jax`` gives the bits of ``pyrnn.ops``, values and gradients; beside JAX's own loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers_ops import CELLS, DTYPES, Case, Problem, family, make
from helpers_variants import make_variant, single
from tolerances import assert_close, assert_same_bits

from pyrnn import ops

jax = pytest.importorskip("jax", reason="needs JAX, which is not installed")

import jax.numpy as jnp  # noqa: E402

import pyrnn.jax  # noqa: E402

JAX_CELLS = tuple(cell for cell in CELLS if cell != "mgu")


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def split(problem: Problem) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays, which JAX may trace, and what it may not."""
    everything = problem.arrays | problem.options
    arrays = {k: v for k, v in everything.items() if isinstance(v, np.ndarray)}
    return arrays, {k: v for k, v in everything.items() if k not in arrays and v is not None}


def expected(problem: Problem) -> tuple[list[Any], dict[str, Any]]:
    name = family(problem.cell)
    *results, tape = getattr(ops, f"{name}_forward")(*problem.arrays.values(), **problem.options)
    grads = getattr(ops, f"{name}_backward")(tape, *problem.incoming.values())
    return results, {k[1:]: v for k, v in grads._asdict().items() if v is not None}


def found(problem: Problem, jit: bool) -> tuple[list[Any], dict[str, Any]]:
    arrays, fixed = split(problem)
    tokens = arrays["x"].dtype.kind == "i"
    names = [k for k in arrays if k != "lengths" and not (tokens and k == "x")]
    rest = {k: v for k, v in arrays.items() if k not in names}

    def call(given: dict[str, Any], rest: dict[str, Any]) -> Any:
        every = {"b_ih": None, "b_hh": None} | given | rest
        return getattr(pyrnn.jax, family(problem.cell))(**every, **fixed)

    def both(given: dict[str, Any], rest: dict[str, Any], incoming: list[Any]) -> Any:
        results, back = jax.vjp(lambda given: call(given, rest), given)
        return call(given, rest), results, back(tuple(incoming))[0]

    run = jax.jit(both) if jit else both
    given = {k: arrays[k] for k in names}
    results = expected(problem)[0]
    incoming = [
        np.zeros_like(r) if d is None else d
        for r, d in zip(results, problem.incoming.values(), strict=True)
    ]
    alone, taped, grads = run(given, rest, incoming)
    for a, b in zip(alone, taped, strict=True):
        assert_same_bits(np.asarray(a), np.asarray(b))
    return list(alone), grads


def check(problem: Problem, jit: bool = True) -> None:
    want, grads = expected(problem)
    got, got_grads = found(problem, jit)
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_same_bits(np.asarray(a), b, f"result {k}")
    assert set(got_grads) == set(grads)
    for name, grad in grads.items():
        assert_same_bits(np.asarray(got_grads[name]), grad, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", JAX_CELLS)
def test_every_way_to_call(cell: str, dtype: str) -> None:
    shape = (7, 3, 4, 9)
    for reverse in (False, True):
        for lengths in (None, "zeros"):
            check(make(Case(cell, dtype, *shape, reverse=reverse, lengths=lengths)))
    for biases in ("ih", "hh", "none"):
        check(make(Case(cell, dtype, *shape, biases=biases)))
    check(make(Case(cell, dtype, *shape, tokens=True, lengths="ragged")))
    check(make(Case(cell, dtype, *shape)), jit=False)


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (3, 0, 3, 4), (1, 1, 1, 1), (40, 33, 17, 65)])
@pytest.mark.parametrize("cell", JAX_CELLS)
def test_sizes(cell: str, shape: tuple[int, ...]) -> None:
    check(make(Case(cell, "float32", *shape)))


VARIANTS = [
    (cell, options)
    for cell in ("rnn", "gru", "lstm")
    for options in single(cell)
    if not {"zoneout", "recurrent_dropout", "dcells"} & set(options)
]


@pytest.mark.parametrize(("cell", "options"), VARIANTS, ids=str)
def test_variants(cell: str, options: dict[str, Any]) -> None:
    for dtype in DTYPES:
        check(make_variant(cell, options, dtype, 6, 3, 4, 8))


def test_against_a_loop_of_jax() -> None:
    """An LSTM written with lax.scan and differentiated by JAX."""
    problem = make(Case("lstm", "float64", 9, 4, 3, 5))
    weights = jnp.asarray(problem.incoming["dy"])

    def loop(x: Any, h: Any, c: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        def step(state: Any, x_t: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(x_t @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        (h, c), y = jax.lax.scan(step, (h, c), x)
        return y, h, c

    def loss(call: Any) -> Any:
        def of(*arrays: Any) -> Any:
            y, h_n, c_n = call(*arrays)
            return (y * weights).sum() + (h_n * c_n).sum()

        return jax.jit(jax.value_and_grad(of, argnums=tuple(range(7))))

    arrays = [jnp.asarray(a) for a in problem.arrays.values()]
    (value, grads), (want, want_grads) = (loss(call)(*arrays) for call in (pyrnn.jax.lstm, loop))
    assert_close(np.asarray(value), np.asarray(want), "float64")
    for name, a, b in zip(problem.arrays, grads, want_grads, strict=True):
        assert_close(np.asarray(a), np.asarray(b), "float64", name)


def test_without_a_batch_and_without_states() -> None:
    arrays = make(Case("gru", "float32", 5, 1, 3, 4)).arrays
    weights = [arrays[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    y, h_n = pyrnn.jax.gru(arrays["x"], np.zeros((1, 4), "float32"), *weights, lengths=[3])
    alone, last = pyrnn.jax.gru(arrays["x"][:, 0], None, *weights, lengths=3)
    assert_same_bits(np.asarray(alone), np.asarray(y)[:, 0])
    assert_same_bits(np.asarray(last), np.asarray(h_n)[0])
