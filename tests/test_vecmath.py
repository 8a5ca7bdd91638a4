"""exp, tanh and sigmoid of the kernels, in units in the last place, on every instruction set."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from helpers_worker import Worker
from tolerances import VECMATH_ULP

from pyrnn import _core

Array = npt.NDArray[Any]

ISAS = tuple(_core.available_isas())
FUNCTIONS = ("exp", "tanh", "sigmoid")
SPECIALS = (
    0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 88.7, 88.8, -87.4, -103.9, -104.1, 9.02, -9.02,
    709.7, 709.8, -708.4, -745.1, -745.2, 19.1, -19.1, 1e30, -1e30, 1e-30, -1e-30, 1e-45, -1e-45,
)  # fmt: skip


def exact(name: str, x: Array) -> Array:
    """In a wider type: float64 for float32, 80 bits or more for float64."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
        if name == "exp":
            return np.asarray(np.exp(wide))
        if name == "tanh":
            return np.asarray(np.tanh(wide))
        e = np.exp(-np.abs(wide))
        return np.asarray(np.where(wide >= 0, 1, e) / (1 + e))


def worst_ulp(name: str, x: Array, got: Array, want: Array) -> tuple[float, float]:
    """The largest error and where it is; NaN comes out where it went in."""
    assert got.dtype == x.dtype
    assert got.shape == x.shape
    numbers = ~np.isnan(x)
    assert np.array_equal(np.isnan(got), ~numbers), f"{name}: NaN"
    x, got, want = x[numbers], got[numbers], want[numbers]
    with np.errstate(all="ignore"):
        rounded = want.astype(x.dtype)
        # The spacing in the binade of the exact value; for denormals, that of the denormals.
        # Infinity counts as the next number after the largest.
        largest = np.asarray(np.finfo(x.dtype).max)
        below = np.nextafter(largest, 0).astype(x.dtype)
        unit = np.spacing(np.minimum(np.abs(rounded), below)).astype(want.dtype)
        after = largest.astype(want.dtype) + (largest - below)
        reached = np.clip(got.astype(want.dtype), -after, after)
        error = np.abs(reached - np.clip(want, -after, after)) / unit
    if name == "tanh":
        assert np.array_equal(np.signbit(got), np.signbit(x)), "tanh: sign"
    if not len(x):
        return 0.0, 0.0
    k = int(np.argmax(error))
    return float(error[k]), float(x[k])


def check(name: str, pieces: list[Array], workers: dict[str, Worker]) -> None:
    limit = VECMATH_ULP[pieces[0].dtype.name]
    for x in pieces:
        want = exact(name, x)
        for isa, worker in workers.items():
            error, where = worst_ulp(name, x, worker.call(_core.vecmath, name, x), want)
            assert error <= limit, f"{isa}: {name}({where!r}) is {error:.2f} ulp off"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_over_the_whole_range(name: str, isa_workers: dict[str, Worker]) -> None:
    """Every 257th bit pattern: each exponent, the denormals and NaN payloads included."""
    patterns = np.arange(0, 2**32, 257, dtype=np.uint64).astype(np.uint32)
    check(name, np.array_split(patterns.view(np.float32), 16), isa_workers)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_where_the_work_is(name: str, isa_workers: dict[str, Worker]) -> None:
    """Both signs of 2^-14..2^7 densely, and the neighbours of every power of two."""
    first, last = (np.array([v], np.float32).view(np.uint32)[0] for v in (2**-14, 2**7))
    dense = np.arange(first, last, 61, dtype=np.uint32).view(np.float32)
    powers = np.array([2.0**k for k in range(-149, 128)], np.float32)
    edges = np.concatenate([powers, np.nextafter(powers, 0), np.nextafter(powers, np.inf)])
    x = np.concatenate([dense, edges])
    check(name, np.array_split(np.concatenate([x, -x]), 4), isa_workers)


@pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 60, reason="long double is no wider than double"
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64(name: str, isa_workers: dict[str, Worker]) -> None:
    """The whole range, and 2^-60..2^10 densely."""
    everywhere = np.linspace(0, 2**64 - 2**11, 100_003).astype(np.uint64).view(np.float64)
    first, last = (np.array([v]).view(np.uint64)[0] for v in (2.0**-60, 2.0**10))
    dense = np.linspace(float(first), float(last), 200_003).astype(np.uint64).view(np.float64)
    # Uniform in x: the last bits of the argument reduction.
    rng = np.random.default_rng(5)
    uniform = rng.uniform(-750, 750, 100_000)
    small = rng.normal(size=200_000)
    check(name, [everywhere, dense, -dense, uniform, small], isa_workers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_in_every_lane(
    name: str, dtype: str, isa_workers: dict[str, Worker]
) -> None:
    specials = np.array(SPECIALS, np.float64).astype(dtype)
    for count in range(1, 40):
        for shift in (0, 1, 5):
            x = np.resize(np.roll(specials, shift), count)
            check(name, [x], isa_workers)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_value_does_not_depend_on_its_place(name: str, isa_workers: dict[str, Worker]) -> None:
    rng = np.random.default_rng(11)
    for dtype in ("float32", "float64"):
        x = (4 * rng.normal(size=67)).astype(dtype)
        for worker in isa_workers.values():
            whole = worker.call(_core.vecmath, name, x)
            alone = np.concatenate(
                [worker.call(_core.vecmath, name, x[k : k + 1]) for k in range(67)]
            )
            assert whole.tobytes() == alone.tobytes()


def test_unknown_function_or_dtype() -> None:
    with pytest.raises(ValueError, match="cosh"):
        _core.vecmath("cosh", np.zeros(3, np.float32))
    with pytest.raises(TypeError):
        _core.vecmath("exp", np.zeros(3, np.int64))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_polynomial_of_expm1(dtype: str) -> None:
    """``r + r^2 q(r)`` in exact arithmetic: less than a quarter of the last place off."""
    name = {"float32": "float", "float64": "double"}[dtype]
    header = (Path(__file__).parents[1] / "csrc" / "isa" / "vecmath.hpp").read_text()
    found = re.search(rf"static constexpr {name} q\[\] = {{([^}}]+)}}", header)
    assert found is not None
    texts = [text.strip().rstrip("f") for text in found[1].split(",")]
    with mpmath.workdps(40):
        q = [mpmath.mpf(float(np.dtype(dtype).type(text))) for text in texts]
        for part in range(1, 201):
            for r in (mpmath.log(2) / 2 * part / 200, -mpmath.log(2) / 2 * part / 200):
                of_r = reduce(lambda value, coefficient: value * r + coefficient, q)
                error = (r + r**2 * of_r) / mpmath.expm1(r) - 1
                assert abs(error) < float(np.finfo(dtype).eps) / 4, float(r)
