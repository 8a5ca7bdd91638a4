"""Properties of any problem: hypothesis chooses shapes, lengths, dtypes and directions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers_ops import (
    BIASES,
    CELLS,
    DTYPES,
    INCOMING,
    LENGTHS,
    Case,
    Problem,
    backward,
    forward,
    incoming_of,
    make,
    run,
    run_reference,
)
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close, assert_same_bits

import pyrnn
from pyrnn import ops

sizes = st.integers(1, 40)


@st.composite
def cases(draw: st.DrawFn, least_steps: int = 0, least_rows: int = 0, **fixed: Any) -> Case:
    cell = draw(st.sampled_from(CELLS))
    options: dict[str, Any] = {
        # A sum near 0 may fall on either side of relu's kink in float32, and the gradient with it.
        "dtype": "float64" if cell == "rnn_relu" else draw(st.sampled_from(DTYPES)),
        "seq_len": draw(st.integers(least_steps, 12)),
        "batch_size": draw(st.integers(least_rows, 20)),
        "input_size": draw(sizes),
        "hidden_size": draw(sizes),
        "reverse": draw(st.booleans()),
        "lengths": draw(st.sampled_from(LENGTHS)),
        "tokens": draw(st.booleans()),
        "biases": draw(st.sampled_from(BIASES)),
        "given": tuple(draw(st.sets(st.sampled_from(INCOMING)))),
    }
    return Case(cell, **options | fixed)


@pytest.fixture(autouse=True)
def _on_the_kernels() -> Iterator[None]:
    with pyrnn.backend("kernels"):
        yield


@given(cases())
def test_kernels_are_the_reference(case: Case) -> None:
    got, want = run(ops, make(case)), run_reference(case)
    for name, array in want.items():
        assert_close(got[name], array, case.dtype, name)


def rows_of(problem: Problem, rows: Any) -> Problem:
    """The problem of some of the rows, in the given order."""
    chosen = problem.copy()
    for name in ("h0", "c0"):
        if name in chosen.arrays:
            chosen.arrays[name] = chosen.arrays[name][rows]
    chosen.arrays["x"] = chosen.arrays["x"][:, rows]
    if chosen.options["lengths"] is not None:
        chosen.options["lengths"] = chosen.options["lengths"][rows]
    for name, array in chosen.incoming.items():
        if array is not None:
            chosen.incoming[name] = array[:, rows] if name == "dy" else array[rows]
    return chosen


BY_TIME_AND_ROW = ("y", "dx", "tape.gates", "tape.h", "tape.c")
BY_ROW = ("h_n", "c_n", "dh0", "dc0")


@given(cases(least_rows=1), st.data())
def test_a_row_does_not_depend_on_the_others(case: Case, data: st.DataObject) -> None:
    """Rows in another order, or only some of them: the same bits for each."""
    rows = data.draw(st.permutations(range(case.batch_size)))
    rows = rows[: data.draw(st.integers(1, case.batch_size))]
    problem = make(case)
    whole, part = run(ops, problem), run(ops, rows_of(problem, rows))
    for name, array in whole.items():
        if array is not None and name in BY_TIME_AND_ROW:
            assert_same_bits(part[name], array[:, rows], name)
        elif array is not None and name in BY_ROW:
            assert_same_bits(part[name], array[rows], name)
        elif array is not None and len(rows) == case.batch_size:
            assert_close(part[name], array, case.dtype, name)


def steps_of(problem: Problem, steps: slice) -> Problem:
    part = problem.copy()
    part.arrays["x"] = part.arrays["x"][steps]
    if part.incoming["dy"] is not None:
        part.incoming["dy"] = part.incoming["dy"][steps]
    return part


@given(cases(least_steps=1, lengths=None), st.data())
def test_a_sequence_in_two_calls_is_one_call(case: Case, data: st.DataObject) -> None:
    """The state handed from call to call, and its gradient back: the same bits."""
    cut = data.draw(st.integers(0, case.seq_len))
    problem = make(case)
    whole = run(ops, problem)

    pieces = [slice(None, cut), slice(cut, None)]
    if case.reverse:
        pieces.reverse()
    first, second = (steps_of(problem, piece) for piece in pieces)
    outputs = [forward(ops, first)]
    for name in ("h", "c") if case.cell == "lstm" else ("h",):
        second.arrays[f"{name}0"] = outputs[0][f"{name}_n"]
    outputs.append(forward(ops, second))
    gradients = [backward(ops, second, outputs[1]["tape"])]
    for name in incoming_of(case.cell)[1:]:
        first.incoming[name] = gradients[0][name.removesuffix("_n") + "0"]
    gradients.insert(0, backward(ops, first, outputs[0]["tape"]))

    def joined(name: str, parts: list[Any]) -> Any:
        ordered = parts[::-1] if case.reverse else parts
        return np.concatenate([part[name] for part in ordered])

    assert_same_bits(joined("y", outputs), whole["y"], "y")
    for name in ("h_n", "c_n") if case.cell == "lstm" else ("h_n",):
        assert_same_bits(outputs[1][name], whole[name], name)
    if not case.tokens:
        assert_same_bits(joined("dx", gradients), whole["dx"], "dx")
    for name in ("dh0", "dc0") if case.cell == "lstm" else ("dh0",):
        assert_same_bits(gradients[0][name], whole[name], name)
    for name in ("dw_ih", "dw_hh", "db_ih", "db_hh"):
        if whole[name] is not None:
            total = gradients[0][name] + gradients[1][name]
            assert_close(total, whole[name], case.dtype, name)


@given(cases(least_steps=1, least_rows=1))
def test_a_shorter_length_is_a_shorter_sequence(case: Case) -> None:
    if case.lengths is None:
        case = replace(case, lengths="zeros")
    problem = make(case)
    whole = run(ops, problem)
    for row, length in enumerate(problem.options["lengths"]):
        alone = steps_of(rows_of(problem, [row]), slice(None, length))
        alone.options["lengths"] = None
        got = run(ops, alone)
        for name, array in whole.items():
            if array is None:
                continue
            if name in BY_TIME_AND_ROW:
                assert_same_bits(got[name], array[:length, [row]], name)
                assert not array[length:, row].any(), f"{name} in the padding"
            elif name in BY_ROW:
                assert_same_bits(got[name], array[[row]], name)


@given(cases(least_steps=1))
def test_reverse_is_forward_on_a_reversed_sequence(case: Case) -> None:
    """Each row turned round within its length, and the results turned back: the same bits."""
    problem = make(replace(case, reverse=False))
    lengths = problem.options["lengths"]
    times = np.arange(case.seq_len)[:, None]
    ends = np.full(case.batch_size, case.seq_len) if lengths is None else lengths
    turned = np.where(times < ends, ends - 1 - times, times)  # [T, B], its own inverse

    def turn(array: Any) -> Any:
        return array[turned, np.arange(case.batch_size)]

    backwards = problem.copy()
    backwards.options["reverse"] = True
    backwards.arrays["x"] = turn(problem.arrays["x"])
    if problem.incoming["dy"] is not None:
        backwards.incoming["dy"] = turn(problem.incoming["dy"])
    got, want = run(ops, backwards), run(ops, problem)
    for name, array in want.items():
        if array is None:
            continue
        if name in BY_TIME_AND_ROW:
            assert_same_bits(turn(got[name]), array, name)
        elif name in BY_ROW:
            assert_same_bits(got[name], array, name)
        else:
            assert_close(got[name], array, case.dtype, name)


@given(cases())
def test_backward_scales(case: Case) -> None:
    """Twice the incoming gradients give twice the gradients, exactly: 2 is a power of two."""
    problem = make(case)
    tape = forward(ops, problem)["tape"]
    once = backward(ops, problem, tape)
    for name, array in problem.incoming.items():
        problem.incoming[name] = None if array is None else 2 * array
    for name, array in backward(ops, problem, tape).items():
        want = once[name]
        assert_same_bits(array, None if want is None else 2 * want, name)
