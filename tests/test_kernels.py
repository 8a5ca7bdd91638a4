"""The kernels against the float64 reference, on every instruction set of this machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from helpers_ops import (
    BIASES,
    CELLS,
    DTYPES,
    LENGTHS,
    SIZES,
    Case,
    backward,
    forward,
    grid,
    make,
    run,
    run_kernels,
    run_reference,
)
from helpers_script import run_script
from helpers_worker import Worker
from tolerances import RELATIVE, assert_close, assert_same_bits, relative_error

import pyrnn
from pyrnn import _core, ops, reference

ISAS = tuple(_core.available_isas())
GRID = grid()


@lru_cache(maxsize=2)
def authority(case: Case) -> dict[str, Any]:
    return run_reference(case)


def config_of_worker() -> dict[str, Any]:
    return _core.config()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", GRID, ids=str)
def test_values_gradients_and_tape(case: Case, isa: str, isa_workers: dict[str, Worker]) -> None:
    got = isa_workers[isa].call(run_kernels, case)
    want = authority(case)
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert_close(got[name], array, case.dtype, f"{isa}, {name}")


def test_the_grid_covers_every_option() -> None:
    for cell in CELLS:
        for dtype in DTYPES:
            cases = [case for case in GRID if (case.cell, case.dtype) == (cell, dtype)]
            for size in ("batch_size", "input_size", "hidden_size"):
                assert {getattr(case, size) for case in cases} >= set(SIZES)
            for option, values in {
                "reverse": (False, True),
                "lengths": LENGTHS,
                "tokens": (False, True),
                "biases": BIASES,
            }.items():
                assert {getattr(case, option) for case in cases} == set(values), option
            missing = Counter("dy" in case.given for case in cases)
            assert min(missing[False], missing[True]) >= 5


# Beyond the second-level cache: strips in parts, asked for ahead, both products at once
# where there are rows enough, W_ih packed as it goes where they are few.
LARGE = [
    Case(cell, dtype, 2, rows, inputs, 300)
    for cell in ("rnn_tanh", "gru", "lstm")
    for dtype in DTYPES
    for rows, inputs in ((5, 330), (8, 1100), (30, 300), (60, 1500))
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_large_weights(case: Case, isa: str, isa_workers: dict[str, Worker]) -> None:
    test_values_gradients_and_tape(case, isa, isa_workers)


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_a_row_of_many_is_as_it_is_alone(case: Case) -> None:
    problem = make(case)
    together = forward(ops, problem)
    arrays = problem.arrays
    arrays["x"] = np.ascontiguousarray(arrays["x"][:, 3:4])
    for name in arrays.keys() & {"h0", "c0"}:
        arrays[name] = arrays[name][3:4]
    alone = forward(ops, problem)
    assert_same_bits(together["y"][:, 3:4], alone["y"], "y")
    assert_same_bits(together["h_n"][3:4], alone["h_n"], "h_n")


# One instruction set against the others.


@pytest.mark.skipif(len(ISAS) < 2, reason="this machine has one instruction set only")
@pytest.mark.parametrize("case", GRID[::5], ids=str)
def test_instruction_sets_agree(case: Case, isa_workers: dict[str, Worker]) -> None:
    first, *others = (isa_workers[isa].call(run_kernels, case) for isa in ISAS)
    for other in others:
        for name, array in first.items():
            assert_close(other[name], array, case.dtype, name)


@pytest.mark.parametrize("isa", ISAS)
def test_the_forced_instruction_set_runs(isa: str, isa_workers: dict[str, Worker]) -> None:
    assert isa_workers[isa].call(config_of_worker)["isa"] == isa


def test_without_force_the_best_instruction_set_runs() -> None:
    code = "import pyrnn; print(pyrnn._core.config()['isa'])"
    environment = {"PYRNN_ISA": ""}
    assert run_script(code, environment=environment).stdout.strip() == ISAS[0]


def test_an_unknown_instruction_set_fails_at_import() -> None:
    done = run_script("import pyrnn", environment={"PYRNN_ISA": "sse9"})
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert "PYRNN_ISA" in last
    assert "sse9" in last
    for isa in ISAS:
        assert isa in last, f"{last} does not name {isa}"


def test_an_instruction_set_that_the_processor_lacks_fails_at_import() -> None:
    last = (
        run_script("import pyrnn", environment={"PYRNN_ISA": "?"}).stderr.strip().splitlines()[-1]
    )
    names = last.split("expected one of ")[1].split(", got")[0].split(", ")
    assert set(ISAS) <= set(names)
    for isa in set(names) - set(ISAS):
        last = (
            run_script("import pyrnn", environment={"PYRNN_ISA": isa})
            .stderr.strip()
            .splitlines()[-1]
        )
        assert last.startswith("ImportError: PYRNN_ISA: this processor lacks")
        assert last.endswith(isa)


# What every call promises, whatever the instruction set.


@pytest.fixture(autouse=True)
def _on_the_kernels() -> Any:
    with pyrnn.backend("kernels"):
        yield


def some(cell: str, **options: Any) -> Case:
    return Case(cell, "float32", 7, 5, 9, 11, **options)


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("lengths", [None, "zeros"])
@pytest.mark.parametrize("cell", CELLS)
def test_forward_without_saving_gives_the_same_bits(
    cell: str, lengths: str | None, tokens: bool
) -> None:
    for shape in ((7, 5, 9, 11), (130, 1, 16, 32), (9, 33, 5, 17)):
        problem = make(Case(cell, "float32", *shape, lengths=lengths, tokens=tokens))
        saved, unsaved = forward(ops, problem), forward(ops, problem, save=False)
        assert unsaved.pop("tape") is None
        for name, array in unsaved.items():
            assert_same_bits(array, saved[name], name)


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("cell", CELLS)
def test_tokens_and_one_hot_vectors_agree_in_every_bit(cell: str, tokens: bool) -> None:
    problem = make(some(cell, tokens=True))
    tokens_array: Any = problem.arrays["x"]
    one_hot = problem.copy()
    one_hot.arrays["x"] = (tokens_array[..., None] == np.arange(9)).astype("float32")
    got, want = forward(ops, problem), forward(ops, one_hot)
    assert_same_bits(got["y"], want["y"])
    assert_same_bits(got["h_n"], want["h_n"])


@pytest.mark.parametrize("cell", CELLS)
def test_a_tape_serves_many_backward_calls(cell: str) -> None:
    problem = make(some(cell, lengths="zeros"))
    outputs = forward(ops, problem)
    tape = outputs.pop("tape")
    taped = {name: getattr(tape, name) for name in ("gates", "h", "c")}
    copies = {name: None if a is None else a.copy() for name, a in taped.items()}
    first = backward(ops, problem, tape)
    for array in outputs.values():  # the caller's own: the tape does not lean on them
        array[...] = np.nan
    for array in first.values():
        assert array is None or array.flags.writeable
    for name, array in backward(ops, problem, tape).items():
        assert_same_bits(array, first[name], name)
    for name, array in taped.items():
        assert_same_bits(array, copies[name], name)
        assert array is None or not array.flags.writeable


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("cell", CELLS)
def test_arguments_are_left_alone_and_results_are_fresh(cell: str, tokens: bool) -> None:
    problem = make(some(cell, lengths="zeros", tokens=tokens))
    before = problem.copy()
    results = run(ops, problem)
    for name in ("arrays", "options", "incoming"):
        for key, value in getattr(problem, name).items():
            if not isinstance(value, np.ndarray):
                continue
            assert_same_bits(value, getattr(before, name)[key], key)
            for other, result in results.items():
                assert result is None or not np.shares_memory(value, result), f"{other}, {key}"
    arrays = [array for array in results.values() if array is not None]
    for k, array in enumerate(arrays):
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert not any(np.shares_memory(array, other) for other in arrays[:k])


@pytest.mark.parametrize("cell", CELLS)
def test_a_tape_put_together_by_hand(cell: str) -> None:
    """Parts that do not fit each other are refused, not read beyond their end."""
    problem = make(some(cell))
    tape = forward(ops, problem)["tape"]
    parts = ["gates", "x", "h0", "w_ih", "w_hh"]
    parts += ["h"] * (tape.h is not None) + ["c", "c0"] * (tape.c is not None)
    for name in parts:
        array = getattr(tape, name)
        for bad in (array[:-1], array[..., :-1], array.astype("float64"), None):
            with pytest.raises((ValueError, TypeError)):
                backward(ops, problem, replace(tape, **{name: bad}))
    with pytest.raises(ValueError):
        backward(ops, problem, replace(tape, lengths=np.array([9, 0, 0, 0, 0])))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_each_side_reads_the_tape_of_the_other(cell: str, reverse: bool) -> None:
    problem = make(Case(cell, "float64", 9, 5, 4, 13, lengths="zeros", reverse=reverse))
    ours, theirs = forward(ops, problem)["tape"], forward(reference, problem)["tape"]
    for name in ("cell", "reverse", "dtype", "nbytes"):
        assert getattr(ours, name) == getattr(theirs, name), name
    wants = backward(reference, problem, theirs)
    for got in (backward(ops, problem, theirs), backward(reference, problem, ours)):
        for name, want in wants.items():
            assert_close(got[name], want, "float64", name)


@pytest.mark.parametrize("cell", CELLS)
def test_in_place_changes_of_the_weights_are_seen(cell: str) -> None:
    problem = make(some(cell))
    arrays: dict[str, Any] = problem.arrays
    for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
        before = forward(ops, problem)["y"]
        arrays[name] *= 0.5
        after = forward(ops, problem)["y"]
        assert relative_error(after, before) > 100 * RELATIVE["float32"], name
        want = forward(reference, problem.astype("float64"))["y"]
        assert_close(after, want, "float32", name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_saturated_gates(cell: str, dtype: str) -> None:
    """Weights 40 times too large: gates at 0 and 1, gradients through denormals."""
    problem = make(Case(cell, dtype, 6, 5, 9, 11))
    for name in ("w_ih", "w_hh") if cell != "rnn_relu" else ("w_ih",):
        problem.arrays[name] *= 40
    results = run(ops, problem)
    wants = run(reference, problem.astype("float64"))
    for name, want in wants.items():
        assert results[name] is None or np.isfinite(results[name]).all(), name
        if name in ("y", "h_n", "c_n") and dtype == "float64":
            assert_close(results[name], want, dtype, name)
