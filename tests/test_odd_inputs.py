"""What works all the same: odd layouts, empty sizes, NaN and infinities (rows 3, 4 and 6 of the
contract's table of errors)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers_ops import (
    CELLS,
    DTYPES,
    SHAPE,
    Array,
    Case,
    backward,
    forward,
    incoming_of,
    make,
    names_of,
    problem_of,
    run,
)
from tolerances import assert_close, assert_same_bits

import pyrnn
from pyrnn import ops

pytestmark = pytest.mark.usefixtures("each_backend")


# Row 3: odd layouts.


def misaligned(a: Array) -> Array:
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    view = buffer[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned or a.dtype.itemsize == 1 or a.size == 0
    return view


def strided(a: Array) -> Array:
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), 77, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def backwards(a: Array) -> Array:
    return np.ascontiguousarray(np.flip(a))[(slice(None, None, -1),) * a.ndim]


def swapped(a: Array) -> Array:
    return a.astype(a.dtype.newbyteorder("S"))


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


class Subclass(np.ndarray):
    pass


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "strided": strided,
    "Fortran": np.asfortranarray,
    "backwards": backwards,
    "misaligned": misaligned,
    "byte-swapped": swapped,
    "read-only": read_only,
    "subclass": lambda a: a.view(Subclass),
    "strided, swapped and read-only": lambda a: read_only(swapped(strided(a))),
}


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_layouts(cell: str, layout: str, tokens: bool) -> None:
    for dtype in DTYPES:
        problem = problem_of(cell, dtype, lengths="zeros", tokens=tokens)
        want = run(ops, problem)
        odd = problem.copy()
        for items in (odd.arrays, odd.options, odd.incoming):
            for name, value in items.items():
                if isinstance(value, np.ndarray):
                    items[name] = LAYOUTS[layout](value)
        got = run(ops, odd)
        for name, array in want.items():
            assert type(got[name]) in (np.ndarray, type(None))
            if pyrnn.backends.use_reference():  # BLAS may add in another order
                assert_close(got[name], array, dtype, name)
            else:
                assert_same_bits(got[name], array, name)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
def test_tokens_and_lengths_of_any_integer_dtype(dtype: str) -> None:
    problem = problem_of("gru", tokens=True)
    problem.options["lengths"] = np.array([5, 0, 3, 1])
    want = run(ops, problem)
    problem.arrays["x"] = problem.arrays["x"].astype(dtype)
    problem.options["lengths"] = problem.options["lengths"].astype(dtype)
    for name, array in run(ops, problem).items():
        assert_same_bits(array, want[name], name)


def test_lengths_as_a_list() -> None:
    problem = problem_of("lstm")
    problem.options["lengths"] = np.array([5, 0, 3, 1])
    want = forward(ops, problem)["y"]
    problem.options["lengths"] = [5, 0, 3, 1]
    assert_same_bits(forward(ops, problem)["y"], want)


# Row 4: empty sizes.


def test_no_rows_need_no_steps() -> None:
    steps = 2**40  # walking over them would take minutes
    x = np.broadcast_to(np.float32(0), (steps, 0, 3))
    state, weights = np.zeros((0, 4), "float32"), np.ones((16, 4), "float32")
    with pyrnn.backend("kernels"):
        y, _, _, tape = ops.lstm_forward(x, state, state, weights[:, :3], weights)
        assert y.shape == (steps, 0, 4)
        assert tape is not None
        assert not ops.lstm_backward(tape).dw_hh.any()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zero", ["seq_len", "batch_size", "input_size"])
@pytest.mark.parametrize("cell", CELLS)
def test_empty_sizes(cell: str, zero: str, dtype: str, reverse: bool) -> None:
    for tokens in (False, True) if zero != "input_size" else (False,):
        for lengths in (None, "zeros"):
            case = Case(cell, dtype, *SHAPE, reverse=reverse, lengths=lengths, tokens=tokens)
            problem = make(replace(case, **{zero: 0}))
            outputs = forward(ops, problem)
            gradients = backward(ops, problem, outputs["tape"])
            want = run(pyrnn.reference, problem.astype("float64"))
            for name, array in (outputs | gradients).items():
                if name != "tape":
                    assert_close(array, want[name], dtype, name)
            if zero == "seq_len":
                assert outputs["y"].shape == (0, 4, 6)
                assert_same_bits(outputs["h_n"], problem.arrays["h0"])
                assert_same_bits(gradients["dh0"], problem.incoming["dh_n"])
                if cell == "lstm":
                    assert_same_bits(outputs["c_n"], problem.arrays["c0"])
                    assert_same_bits(gradients["dc0"], problem.incoming["dc_n"])
            if zero != "input_size":
                for name in ("dw_ih", "dw_hh", "db_ih", "db_hh"):
                    assert not gradients[name].any()


# Row 6: NaN and infinities.


def same_kind(got: Array | None, want: Array | None, name: str) -> None:
    """NaN and each infinity in the same elements."""
    if got is None or want is None:
        assert got is want, name
        return
    with np.errstate(all="ignore"):
        want = want.astype(got.dtype)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        differ = np.argwhere(kind(got) != kind(want))
        assert not len(differ), f"{name}: {kind.__name__} differs at {differ[0]} of {got.shape}"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_nan_and_infinity_propagate(cell: str, value: float) -> None:
    for dtype in DTYPES:
        for name in names_of(cell):
            for batch_size, hidden_size in ((4, 6), (7, 19)):
                case = Case(cell, dtype, 5, batch_size, 3, hidden_size, lengths="ragged")
                problem = make(case)
                problem.options["lengths"][0] = 5
                array: Any = problem.arrays[name]
                array[(2, 0, 1) if name == "x" else (1,) * array.ndim] = value
                want = run(pyrnn.reference, problem.astype("float64"))
                for key, got in run(ops, problem).items():
                    same_kind(got, want[key], f"{name} = {value}: {key}")


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_nan_and_infinity_in_the_incoming_gradients(cell: str, value: float) -> None:
    for name in incoming_of(cell):
        problem = problem_of(cell)
        problem.incoming[name][(2, 1, 3) if name == "dy" else (1, 3)] = value
        want = run(pyrnn.reference, problem.astype("float64"))
        for key, got in run(ops, problem).items():
            same_kind(got, want[key], f"{name} = {value}: {key}")


@pytest.mark.parametrize("cell", CELLS)
def test_nan_stays_in_its_row(cell: str) -> None:
    problem = problem_of(cell)
    clean = run(ops, problem)
    problem.arrays["x"][:, 1] = np.nan
    dirty = run(ops, problem)
    others = [0, 2, 3]
    for name in ("y", "dx"):
        assert_same_bits(dirty[name][:, others], clean[name][:, others])
    for name in ("h_n", "dh0"):
        assert_same_bits(dirty[name][others], clean[name][others])
