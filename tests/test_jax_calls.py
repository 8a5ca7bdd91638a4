"""Calls out of XLA: no dead ends, no compilation anew, errors in words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers_ops import Case, make
from helpers_script import check_script, run_script

jax = pytest.importorskip("jax", reason="needs JAX, which is not installed")

import pyrnn.jax  # noqa: E402
from pyrnn.jax import scan  # noqa: E402

# What an XLA with one thread does when a callback waits for XLA; 40 MB, so that nothing is inline.
BUSY = """
import os
os.sched_setaffinity(0, {cores})
import jax, jax.numpy as jnp, numpy as np, pyrnn.jax
from concurrent.futures import ThreadPoolExecutor
rng = np.random.default_rng(0)
x = rng.normal(size=(100, 400, 250)).astype("float32")
w = [rng.normal(size=s).astype("float32") / 8 for s in ((48, 250), (48, 16), (48,), (48,))]
f = jax.jit(jax.grad(lambda x, w: pyrnn.jax.gru(x + 1, None, *w)[0].sum(), argnums=1))
first = [np.asarray(g) for g in f(x, w)]
with ThreadPoolExecutor(3) as pool:
    for found in pool.map(lambda _: [np.asarray(g) for g in f(x, w)], range(6)):
        assert all((a == b).all() for a, b in zip(found, first))
print("ended")
"""


@pytest.mark.parametrize("cores", [1, 2])
def test_large_arrays_on_few_cores(cores: int) -> None:
    chosen = "{0}" if cores == 1 else "os.sched_getaffinity(0)"
    assert check_script(BUSY.replace("{cores}", chosen), 240) == "ended\n"


def test_from_several_threads() -> None:
    arrays = make(Case("lstm", "float32", 20, 8, 16, 32)).arrays
    f = jax.jit(lambda a: pyrnn.jax.lstm(**a)[0])
    want = np.asarray(f(arrays))
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: np.asarray(f(arrays)), range(40)):
            np.testing.assert_array_equal(got, want)


def test_calls_of_one_kind_compile_once() -> None:
    arrays = make(Case("gru", "float32", 5, 2, 3, 4)).arrays
    pyrnn.jax.gru(**arrays)
    before = scan.scan._cache_size()
    for _ in range(3):
        pyrnn.jax.gru(**arrays, reset_after=True, activation="tanh")
    assert scan.scan._cache_size() == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"h0": np.zeros((2, 5), "float32")}, ValueError, r"h0: expected shape .*= \(2, 4\)"),
        ({"w_hh": np.zeros((12, 5), "float32")}, ValueError, r"w_ih|w_hh"),
        ({"x": np.zeros((5, 2, 4), "float32")}, ValueError, "x: expected"),
        ({"x": np.zeros((5, 2, 3, 1), "float32")}, ValueError, r"x: expected shape \(T, B, I\)"),
        ({"w_ih": np.zeros(12, "float32")}, ValueError, "w_ih: expected a matrix"),
        (
            {"b_ih": np.zeros(12, "float16")},
            TypeError,
            "b_ih: expected float32 or float64, got float16",
        ),
        ({"activation": "cosh"}, ValueError, "activation: expected"),
        ({"lengths": np.zeros((2, 1), "int32")}, ValueError, "lengths"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], error: Any, message: str) -> None:
    """Ahead of XLA, under jit as well."""
    arrays = make(Case("gru", "float32", 5, 2, 3, 4)).arrays | change
    fixed = {k: arrays.pop(k) for k in ("activation",) if k in arrays}
    with pytest.raises(error, match=message):
        jax.jit(lambda a: pyrnn.jax.gru(**a, **fixed))(arrays)


def test_a_length_out_of_range() -> None:
    arrays = make(Case("gru", "float32", 5, 2, 3, 4)).arrays
    with pytest.raises(jax.errors.JaxRuntimeError, match="lengths"):
        jax.block_until_ready(pyrnn.jax.gru(**arrays, lengths=np.array([1, 9])))
    # And the next call is as good as any.
    jax.block_until_ready(pyrnn.jax.gru(**arrays, lengths=np.array([1, 5])))


def test_without_jax() -> None:
    """None in sys.modules is what an import of a missing module looks like to Python."""
    done = run_script("import sys; sys.modules['jax'] = None; import pyrnn.jax")
    assert 'pip install "pyrnn-kernels[jax]"' in done.stderr.splitlines()[-1]
