"""Products in bfloat16 and int8 against the same rounding in float64, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers_worker import Worker
from tolerances import assert_same_bits, summation_error

import pyrnn
from pyrnn import _core

Array = npt.NDArray[Any]

ISAS = tuple(_core.available_isas())
PRECISIONS = ("bfloat16", "int8")
# Around the values of a word, lanes of a vector, columns of a panel, and chunks of packing.
DEPTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 61, 64, 67, 127, 129, 255, 257, 263)
COLUMNS = (1, 2, 7, 15, 16, 17, 31, 32, 33, 47, 49, 63, 65, 80, 113, 127, 129, 145)
# Around the rows of a tile and of two.
ROWS = (1, 2, 3, 4, 5, 6, 7, 11, 13, 16, 17, 32, 33, 49)
INT8_DEPTH = (2**31 - 1) // 127**2


def bfloat16(x: Array) -> Array:
    """Each value rounded to the nearest bfloat16, ties to even."""
    bits = x.astype("float32").view(np.uint32).astype(np.uint64)
    nearest = bits + 0x7FFF + ((bits >> 16) & 1)
    rounded = np.where(np.isnan(x), bits | 0x400000, nearest) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32).astype(np.float64)


def int8(x: Array) -> Array:
    """Each row's values as the nearest multiples of its largest magnitude / 127, ties to even."""
    top = np.abs(x).max(axis=1, keepdims=True).astype("float32")
    with np.errstate(all="ignore"):
        inverse = np.where(top < 2.0**-119, 0, np.float32(127) / top).astype("float32")
        scale = np.where(top < 2.0**-119, 0, top / np.float32(127)).astype("float32")
        q = np.rint(x * inverse)
        return np.where(np.isfinite(top), q.astype(np.float64) * scale, np.nan)


ROUNDED = {"bfloat16": bfloat16, "int8": int8}


def exact(precision: str, x: Array, w: Array, base: Array) -> tuple[Array, Array]:
    """The result in float64, and the sum of the magnitudes in it."""
    a, b = ROUNDED[precision](x), ROUNDED[precision](w)
    start = base.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return start + a @ b.T, np.abs(start) + np.abs(a) @ np.abs(b).T


def terms(precision: str, depth: int) -> int:
    """Roundings of one result: sums of int8 are exact, which leaves both scales and the base."""
    return depth + 1 if precision == "bfloat16" else 5


def assert_product(precision: str, x: Array, w: Array, base: Array, got: Array) -> None:
    want, magnitudes = exact(precision, x, w, base)
    assert got.dtype == np.float32
    assert got.shape == want.shape
    error = np.abs(got - want)
    limit = summation_error(terms(precision, x.shape[1])) * magnitudes
    assert (error <= limit).all(), f"{x.shape} {w.shape}: {(error / limit).max():.3g} of the limit"


def numbers(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(size=shape).astype("float32")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("isa", ISAS)
def test_ragged_sizes(isa: str, precision: str, isa_workers: dict[str, Worker]) -> None:
    rng = np.random.default_rng(3)
    sizes = [
        (n, k, m)
        for n in ROWS
        for k, m in zip(DEPTHS, rng.permutation(np.resize(COLUMNS, len(DEPTHS))), strict=True)
    ]
    sizes += [(n, 5, m) for n in (1, 6, 7) for m in COLUMNS]
    for n, k, m in sizes:
        x, w, base = numbers(rng, n, k), numbers(rng, m, k), numbers(rng, m)
        got = isa_workers[isa].call(_core.reduced_product, precision, x, w, base)
        assert_product(precision, x, w, base, got)


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("isa", ISAS)
def test_groups_of_columns_and_a_base_of_rows(
    isa: str, precision: str, groups: int, isa_workers: dict[str, Worker]
) -> None:
    rng = np.random.default_rng(groups)
    for n, k, columns in ((1, 33, 1), (2, 16, 17), (5, 7, 16), (7, 64, 33), (13, 35, 50)):
        x, w = numbers(rng, n, k), numbers(rng, groups * columns, k)
        base = numbers(rng, n, groups * columns)
        got = isa_workers[isa].call(_core.reduced_product, precision, x, w, base, groups)
        assert_product(precision, x, w, base, got)


@pytest.mark.parametrize("isa", ISAS)
def test_every_bfloat16_is_the_nearest(isa: str, isa_workers: dict[str, Worker]) -> None:
    """A product with 1: all exponents, both neighbours of each tie, what rounds to inf, and NaN."""
    upper = np.arange(0, 2**16, 7, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = (upper[:, None] | lower).reshape(-1, 1).view(np.float32)
    x = x[~(np.abs(x) < 2.0**-126)][:, None]
    zero, one = np.zeros(1, np.float32), np.ones((1, 1), np.float32)
    got = isa_workers[isa].call(_core.reduced_product, "bfloat16", x, one, zero)
    assert np.array_equal(got, bfloat16(x).astype("float32"), equal_nan=True)
    got = isa_workers[isa].call(_core.reduced_product, "bfloat16", one, x, np.zeros(len(x), "f4"))
    assert np.array_equal(got, bfloat16(x).astype("float32").T, equal_nan=True)


@pytest.mark.parametrize("isa", ISAS)
def test_every_int8_is_the_nearest(isa: str, isa_workers: dict[str, Worker]) -> None:
    """Rows of scale 1: quarters from -127 to 127, so that ties go both ways."""
    v = np.arange(-127, 127.25, 0.25, dtype=np.float32)
    x = np.stack([np.full_like(v, 127), v], axis=1)
    unit, zero = np.array([[0, 127]], np.float32), np.zeros(1, np.float32)
    got = isa_workers[isa].call(_core.reduced_product, "int8", x, unit, zero)
    assert np.array_equal(got[:, 0], 127 * np.rint(v))
    got = isa_workers[isa].call(_core.reduced_product, "int8", unit, x, np.zeros(len(v), "f4"))
    assert np.array_equal(got[0], 127 * np.rint(v))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("isa", ISAS)
def test_the_longest_int8_sum(isa: str, sign: int, isa_workers: dict[str, Worker]) -> None:
    x = np.full((1, INT8_DEPTH), 127, np.float32)
    got = isa_workers[isa].call(
        _core.reduced_product, "int8", x, sign * np.repeat(x, 2, axis=0), np.zeros(2, "f4")
    )
    assert np.array_equal(got, np.full((1, 2), sign * INT8_DEPTH * 127.0**2, np.float32))
    x = np.zeros((1, INT8_DEPTH + 1), np.float32)
    with pytest.raises(ValueError, match=str(INT8_DEPTH)):
        _core.reduced_product("int8", x, x, np.zeros(1, "f4"))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("isa", ISAS)
def test_a_row_depends_on_no_other(
    isa: str, precision: str, isa_workers: dict[str, Worker]
) -> None:
    rng = np.random.default_rng(8)
    call = isa_workers[isa].call
    for k, m, groups in ((67, 145, 1), (256, 192, 4), (5, 102, 3)):
        x, w, base = numbers(rng, 97, k), numbers(rng, m, k), numbers(rng, m)
        alone = np.concatenate(
            [
                call(_core.reduced_product, precision, x[i : i + 1], w, base, groups)
                for i in range(97)
            ]
        )
        for n in (*range(1, 27), 31, 32, 33, 34, 47, 63, 64, 65, 97):
            together = call(_core.reduced_product, precision, x[:n], w, base, groups)
            assert_same_bits(together, alone[:n], f"{n} rows")
        column = call(_core.reduced_product, precision, x[:7], w[-1:], base[-1:])
        assert_same_bits(column, alone[:7, -1:], "one column")


def powers(rng: np.random.Generator, low: int, high: int, *shape: int) -> Array:
    """Numbers of either sign between 2^low and 2^high, each magnitude as likely as any other."""
    sizes = np.exp2(rng.uniform(low, high, shape)) * rng.choice((-1, 1), shape)
    return sizes.astype("float32")


@pytest.mark.parametrize(
    ("x_powers", "w_powers"),
    [
        ((-60, 5), (-30, 5)),  # large enough for fused multiply-adds with two rows or more
        ((-56, -50), (-56, -50)),
        ((-70, -60), (-55, -45)),
        ((-126, -100), (-20, 0)),
        ((-20, 0), (-126, -100)),
        ((-149, -60), (-100, 10)),
        ((60, 66), (60, 64)),  # sums overflow
        ((-126, 127), (-126, 127)),
    ],
)
@pytest.mark.parametrize("isa", ISAS)
def test_a_bfloat16_row_depends_on_no_other_of_any_size(
    isa: str, x_powers: tuple[int, int], w_powers: tuple[int, int], isa_workers: dict[str, Worker]
) -> None:
    """Denormal products and sums, overflows, zeros, NaN and inf, one row alone and among others."""
    rng = np.random.default_rng(10)
    call, zero = isa_workers[isa].call, np.zeros(49, np.float32)
    for k in (1, 2, 7, 64, 131):
        x, w = powers(rng, *x_powers, 33, k), powers(rng, *w_powers, 49, k)
        x[:, rng.integers(0, k, k // 3)] = 0
        w[rng.random(w.shape) < 0.2] = 0
        bad_x, bad_w = x.copy(), w.copy()
        bad_x[rng.integers(0, 33, 5), rng.integers(0, k, 5)] = (np.nan, np.inf, -np.inf, -np.nan, 1)
        bad_w[rng.integers(0, 49, 5), rng.integers(0, k, 5)] = (np.nan, np.inf, -np.inf, -np.nan, 1)
        for rows, columns in ((x, w), (bad_x, w), (x, bad_w), (bad_x, bad_w), (0 * x, bad_w)):
            alone = np.concatenate(
                [
                    call(_core.reduced_product, "bfloat16", rows[i : i + 1], columns, zero)
                    for i in range(33)
                ]
            )
            alone[np.isnan(alone)] = np.nan  # IEEE leaves open which one of several
            for n in (2, 3, 4, 5, 12, 17, 33):
                together = call(_core.reduced_product, "bfloat16", rows[:n], columns, zero)
                together[np.isnan(together)] = np.nan
                assert_same_bits(together, alone[:n], f"{n} rows of {k}")


@pytest.mark.parametrize("isa", ISAS)
def test_the_smallest_difference_of_bfloat16_products(
    isa: str, isa_workers: dict[str, Worker]
) -> None:
    """(1 + e)^2 - (1 + 2 e) = e^2, around the smallest normal number."""
    e, zero, call = 2.0**-7, np.zeros(1, np.float32), isa_workers[isa].call
    for power in range(-118, -106):
        x = np.tile(np.array([[1 + e, -1]]) * 2.0**-50, (12, 1)).astype("float32")
        w = (np.array([[1 + e, 1 + 2 * e]]) * 2.0 ** (power + 50)).astype("float32")
        alone = call(_core.reduced_product, "bfloat16", x[:1], w, zero)
        assert alone[0, 0] in (e**2 * 2.0**power, 0 if power < -112 else np.nan)
        together = call(_core.reduced_product, "bfloat16", x, w, zero)
        assert_same_bits(together, np.tile(alone, (12, 1)), f"2^{power}")


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_number_of_threads_changes_nothing(precision: str) -> None:
    rng = np.random.default_rng(9)
    x, w, base = numbers(rng, 9, 75), numbers(rng, 201, 75), numbers(rng, 201)
    pyrnn.set_num_threads(1)
    want = _core.reduced_product(precision, x, w, base, 3)
    for threads in (2, 3, 5):
        pyrnn.set_num_threads(threads)
        assert_same_bits(_core.reduced_product(precision, x, w, base, 3), want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("isa", ISAS)
def test_bfloat16_propagates_as_ieee_says(
    isa: str, bad: float, isa_workers: dict[str, Worker]
) -> None:
    rng = np.random.default_rng(4)
    for side in ("x", "w", "both"):
        x, w, base = numbers(rng, 7, 35), numbers(rng, 50, 35), numbers(rng, 50)
        w[3, 34] = x[0, 20] = 0.0
        if side != "w":
            x[2, 34] = x[5, 0] = bad
        if side != "x":
            w[17, 34] = w[40, 20] = -bad
        got = isa_workers[isa].call(_core.reduced_product, "bfloat16", x, w, base)
        want, _ = exact("bfloat16", x, w, base)
        assert np.array_equal(np.isnan(got), np.isnan(want))
        assert np.array_equal(np.isinf(got), np.isinf(want))
        infinite = np.isinf(want)
        assert np.array_equal(got[infinite], want[infinite])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("isa", ISAS)
def test_int8_makes_all_of_a_row_nan(isa: str, bad: float, isa_workers: dict[str, Worker]) -> None:
    """Of a row of x with NaN or inf every result; of a row of w the results of its column."""
    rng = np.random.default_rng(4)
    x, w, base = numbers(rng, 7, 35), numbers(rng, 50, 35), numbers(rng, 50)
    clean = isa_workers[isa].call(_core.reduced_product, "int8", x, w, base)
    x[2, 34] = x[5, 0] = w[17, 34] = w[40, 3] = bad
    got = isa_workers[isa].call(_core.reduced_product, "int8", x, w, base)
    lost = np.zeros(got.shape, bool)
    lost[[2, 5]] = lost[:, [17, 40]] = True
    assert np.array_equal(np.isnan(got), lost)
    assert np.array_equal(got[~lost], clean[~lost])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("isa", ISAS)
def test_zeros_and_the_smallest(isa: str, precision: str, isa_workers: dict[str, Worker]) -> None:
    rng = np.random.default_rng(6)
    x, w, base = numbers(rng, 7, 35), numbers(rng, 50, 35), numbers(rng, 50)
    x[1] = w[9] = 0.0
    x[3] *= np.float32(1e-40)
    w[20] *= np.float32(1e-40)
    x[4] *= np.float32(1e-33)
    got = isa_workers[isa].call(_core.reduced_product, precision, x, w, base)
    assert_product(precision, x, w, base, got)
    assert_same_bits(got[1], base)
    assert_same_bits(got[:, 9], np.full(7, base[9]))
    # Without a base, the results themselves are small: off by the smallest normal number at most.
    got = isa_workers[isa].call(_core.reduced_product, precision, x, w, np.zeros_like(base))
    want, magnitudes = exact(precision, x, w, np.zeros_like(base))
    limit = summation_error(terms(precision, 35)) * magnitudes + 35 * 2.0**-126
    assert (np.abs(got - want) <= limit).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_to_sum(precision: str) -> None:
    base = np.arange(6, dtype=np.float32)
    got = _core.reduced_product(precision, np.zeros((4, 0), "f4"), np.zeros((6, 0), "f4"), base)
    assert_same_bits(got, np.tile(base, (4, 1)))
    got = _core.reduced_product(precision, np.zeros((0, 5), "f4"), np.zeros((6, 5), "f4"), base)
    assert got.shape == (0, 6)


def test_what_is_refused() -> None:
    x, w, base = np.zeros((3, 5), "f4"), np.zeros((6, 5), "f4"), np.zeros(6, "f4")
    with pytest.raises(ValueError, match="bfloat16 or int8, got 'int4'"):
        _core.reduced_product("int4", x, w, base)
    with pytest.raises(TypeError, match="w: expected float32, got float64"):
        _core.reduced_product("int8", x, w.astype("float64"), base)
    with pytest.raises(ValueError, match="w: expected shape"):
        _core.reduced_product("int8", x, w[:, :4], base)
    with pytest.raises(ValueError, match="base: expected shape"):
        _core.reduced_product("int8", x, w, base[:5])
    with pytest.raises(ValueError, match="groups"):
        _core.reduced_product("int8", x, w, base, 4)
