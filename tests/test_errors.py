"""What the operations refuse: the contract's table of errors; test_odd_inputs.py has what works."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from helpers_ops import (
    CELLS,
    DTYPES,
    NUM_GATES,
    Array,
    Problem,
    backward,
    family,
    forward,
    incoming_of,
    names_of,
    problem_of,
    run,
)
from helpers_script import check_script
from tolerances import assert_same_bits

from pyrnn import ops

pytestmark = pytest.mark.usefixtures("each_backend")


def complaint(name: str, expected: str = ".+", got: str = ".+") -> str:
    return f"^{re.escape(name)}: expected {expected}, got {got}$"


ANY_COMPLAINT = r"^\w+: expected .+, got .+$"


def refuses(
    problem: Problem, error: type[Exception] | tuple[type[Exception], ...], match: str
) -> None:
    """Raises, with this message, and leaves every argument as it was."""
    before = problem.copy()
    with pytest.raises(error, match=match):
        forward(ops, problem)
    for key, value in problem.arrays.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            assert_same_bits(value, before.arrays[key], key)


# Row 1: shapes and lengths.


def test_the_message_of_the_contract() -> None:
    w_ih, b_ih, state = np.zeros((1024, 8)), np.zeros(1024), np.zeros((2, 256))
    with pytest.raises(ValueError) as raised:
        ops.lstm_forward(np.zeros((3, 2, 8)), state, state, w_ih, np.zeros((1024, 128)), b_ih)
    want = "w_hh: expected shape (4·H, H) = (1024, 256), got (1024, 128)"
    assert str(raised.value) == want


@pytest.mark.parametrize("cell", CELLS)
def test_wrong_rank(cell: str) -> None:
    for name in names_of(cell):
        for change in (
            lambda a: a[None],
            lambda a: np.asarray(a[0]),
            lambda a: a.ravel()[:1].reshape(()),
        ):
            problem = problem_of(cell)
            array: Any = problem.arrays[name]
            problem.arrays[name] = change(array)
            shape = re.escape(str(problem.arrays[name].shape))
            refuses(problem, ValueError, complaint(name, r"shape \(.+", shape))


@pytest.mark.parametrize("cell", CELLS)
def test_wrong_size_of_each_axis(cell: str) -> None:
    for name in names_of(cell):
        rank = np.ndim(problem_of(cell).arrays[name])
        for axis in range(rank):
            if name == "x" and axis == 0:  # x says what T is
                continue
            for change in (-1, +1):
                problem = problem_of(cell)
                array: Any = problem.arrays[name]
                shape = list(array.shape)
                shape[axis] += change
                problem.arrays[name] = np.zeros(shape, array.dtype)
                # What disagrees with one argument may be laid at the door of another.
                refuses(problem, ValueError, ANY_COMPLAINT)


@pytest.mark.parametrize("cell", CELLS)
def test_states_of_another_batch(cell: str) -> None:
    for name in ("h0", "c0") if cell == "lstm" else ("h0",):
        problem = problem_of(cell)
        problem.arrays[name] = np.zeros((7, 6), "float32")
        refuses(problem, ValueError, complaint(name, r"shape \(B, H\) = \(4, 6\)", r"\(7, 6\)"))


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_another_shape(cell: str) -> None:
    problem = problem_of(cell)
    tape = forward(ops, problem)["tape"]
    for name in incoming_of(cell):
        good: Any = problem.incoming[name]
        for bad in (good[:-1], good[..., :-1], good[None], good[0]):
            problem.incoming[name] = bad
            with pytest.raises(ValueError, match=complaint(name, r"shape \(.+")):
                backward(ops, problem, tape)
        problem.incoming[name] = good


@pytest.mark.parametrize(
    "lengths",
    [[5, 5, 5], [5, 5, 5, 5, 5], [[5, 5, 5, 5]], [5, 5, 5, 6], [5, -1, 5, 5], [2**40, 1, 1, 1]],
    ids=str,
)
@pytest.mark.parametrize("cell", CELLS)
def test_lengths_out_of_range_or_of_the_wrong_shape(cell: str, lengths: Any) -> None:
    problem = problem_of(cell)
    problem.options["lengths"] = np.array(lengths)
    refuses(problem, ValueError, complaint("lengths"))


def test_lengths_too_large_for_int64() -> None:
    problem = problem_of("lstm")
    problem.options["lengths"] = np.array([2**63 + 2, 1, 1, 1], np.uint64)
    refuses(problem, ValueError, complaint("lengths", got=str(2**63 + 2)))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bool", "complex128", "U3", "O"])
def test_lengths_of_another_dtype(dtype: str) -> None:
    problem = problem_of("gru")
    problem.options["lengths"] = np.ones(4).astype(dtype)
    refuses(problem, TypeError, complaint("lengths"))


@pytest.mark.parametrize("name", ["swish", "TANH", "", None])
def test_unknown_nonlinearity(name: Any) -> None:
    problem = problem_of("rnn_tanh")
    problem.options["nonlinearity"] = name
    refuses(
        problem,
        ValueError,
        complaint(
            "nonlinearity",
            r"a name or \(name, alpha, beta\) out of tanh, .+",
            re.escape(repr(name)),
        ),
    )


# Row 2: dtypes.


@pytest.mark.parametrize(
    "dtype", ["float16", "longdouble", "complex64", "complex128", "bool", "int32", "int64", "O"]
)
@pytest.mark.parametrize("cell", CELLS)
def test_dtypes_that_are_not_computed_in(cell: str, dtype: str) -> None:
    for name in names_of(cell):
        if name == "x" and dtype.startswith("int"):
            continue  # tokens
        problem = problem_of(cell)
        problem.arrays[name] = np.ones_like(problem.arrays[name], dtype=dtype)
        refuses(problem, TypeError, complaint(name, got=str(np.dtype(dtype))))
    everything = problem_of(cell)
    for name in names_of(cell)[dtype.startswith("int") :]:
        everything.arrays[name] = np.ones_like(everything.arrays[name], dtype=dtype)
    refuses(everything, TypeError, ANY_COMPLAINT)


@pytest.mark.parametrize(("dtype", "other"), [DTYPES, DTYPES[::-1]])
@pytest.mark.parametrize("cell", CELLS)
def test_mixed_dtypes_are_named(cell: str, dtype: str, other: str) -> None:
    for name in names_of(cell):
        problem = problem_of(cell, dtype)
        problem.arrays[name] = problem.arrays[name].astype(other)
        with pytest.raises(TypeError, match=ANY_COMPLAINT) as raised:
            forward(ops, problem)
        assert dtype in str(raised.value)
        assert other in str(raised.value)
    problem = problem_of(cell, dtype)
    tape = forward(ops, problem)["tape"]
    for name in incoming_of(cell):
        mixed = problem.copy()
        mixed.incoming[name] = mixed.incoming[name].astype(other)
        with pytest.raises(TypeError, match=complaint(name)) as raised:
            backward(ops, mixed, tape)
        assert dtype in str(raised.value)
        assert other in str(raised.value)


@pytest.mark.parametrize("bad", [None, "text", 3.0, {}], ids=repr)
def test_things_that_are_not_arrays(bad: Any) -> None:
    for name in ("x", "h0", "c0", "w_ih", "w_hh"):
        problem = problem_of("lstm")
        problem.arrays[name] = bad
        refuses(problem, TypeError, complaint(name, got=type(bad).__name__))
    for name in incoming_of("lstm"):
        problem = problem_of("lstm")
        tape = forward(ops, problem)["tape"]
        if bad is not None:
            problem.incoming[name] = bad
            with pytest.raises(TypeError, match=complaint(name)):
                backward(ops, problem, tape)


@pytest.mark.parametrize("where", [(0, 0), (4, 3), (2, 1)])
@pytest.mark.parametrize("token", [3, -1, 2**40, -(2**63)])
@pytest.mark.parametrize("cell", CELLS)
def test_token_out_of_range(cell: str, token: int, where: tuple[int, int]) -> None:
    problem = problem_of(cell, tokens=True)
    problem.arrays["x"][where] = token
    refuses(problem, IndexError, complaint("x", r"tokens in 0\.\.I-1 = 0\.\.2", str(token)))


def test_token_too_large_for_int64() -> None:
    problem = problem_of("lstm", tokens=True)
    problem.arrays["x"] = problem.arrays["x"].astype(np.uint64)
    problem.arrays["x"][1, 1] = 2**64 - 1
    refuses(problem, IndexError, "^x: expected tokens")


def test_tokens_in_the_padding_are_not_looked_at() -> None:
    problem = problem_of("lstm", tokens=True)
    problem.options["lengths"] = np.array([5, 0, 3, 1])
    want = run(ops, problem)
    for bad in (-1, 3, 10**9):
        problem.arrays["x"][np.arange(5)[:, None] >= problem.options["lengths"]] = bad
        for name, array in run(ops, problem).items():
            assert_same_bits(array, want[name], name)


# Row 4: sizes of 0 that make no sense.


@pytest.mark.parametrize("cell", CELLS)
def test_hidden_size_zero(cell: str) -> None:
    problem = problem_of(cell)
    rows = {"w_ih": (0, 3), "w_hh": (0, 0), "b_ih": (0,), "b_hh": (0,), "h0": (4, 0), "c0": (4, 0)}
    for name in names_of(cell)[1:]:
        problem.arrays[name] = np.zeros(rows[name], "float32")
    refuses(problem, ValueError, r"^\w+: expected .*H.*, got .+$")


def test_tokens_of_no_vocabulary() -> None:
    problem = problem_of("lstm", tokens=True)
    problem.arrays["w_ih"] = np.zeros((24, 0), "float32")
    refuses(problem, IndexError, "^x: expected tokens")


# Row 5: sizes that overflow. Zero strides make arrays of any shape out of one number.


def zeros(*shape: int, dtype: str = "float32") -> Array:
    return np.broadcast_to(np.zeros((), dtype), shape)


HUGE = [
    # T, B, I or None for tokens, H
    (2**31, 2**31 - 1, None, 4),  # y overflows, its tokens do not
    (2**30, 2**30, None, 16),
    (2**62, 1, None, 64),
    (1, 2**57, None, 8),
    (2**40, 2**10, 1, 4096),
    (2**40, 2**16, None, 3),  # no overflow, but no memory has as much
    (2**50, 1, 1, 1),
]


@pytest.mark.parametrize("shape", HUGE, ids=str)
def test_sizes_that_overflow(shape: tuple[int, int, int | None, int], each_backend: str) -> None:
    """In a process of its own: a crash or a hang is a failure of this test only."""
    code = f"""
    import numpy as np, pyrnn
    from test_errors import zeros
    seq_len, batch_size, input_size, size = {shape}
    dense = input_size is not None
    for cell, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        for save in (False, True):
            for lengths in (None, zeros(batch_size, dtype="int8"))[: 1 + (batch_size < 2**16)]:
                x = zeros(seq_len, batch_size, *([input_size] if dense else []),
                          dtype="float32" if dense else "int8")
                states = [zeros(batch_size, size)] * (2 if cell == "lstm" else 1)
                weights = zeros(gates * size, input_size or 2), zeros(gates * size, size)
                try:
                    with pyrnn.backend("{each_backend}"):
                        getattr(pyrnn.ops, cell + "_forward")(
                            x, *states, *weights, save=save, lengths=lengths)
                except (ValueError, MemoryError) as error:
                    print(type(error).__name__, error)
                else:
                    raise SystemExit("it did not fail")
    """
    check_script(code, timeout=60)


def test_weights_that_no_memory_holds() -> None:
    size = 2**26
    with pytest.raises((ValueError, MemoryError)):
        ops.lstm_forward(
            np.zeros((1, 1), np.int64), zeros(1, size), zeros(1, size),
            zeros(4 * size, 1), zeros(4 * size, size),
        )  # fmt: skip


# Row 7: tapes.


@pytest.mark.parametrize("cell", CELLS)
def test_tape_of_another_cell(cell: str) -> None:
    problem = problem_of(cell)
    for other in CELLS:
        if family(other) == family(cell):
            continue
        tape = forward(ops, problem_of(other))["tape"]
        message = complaint("tape", f"the tape of {family(cell)}_forward", f"one of cell '{other}'")
        with pytest.raises(ValueError, match=message):
            backward(ops, problem, tape)


@pytest.mark.parametrize("bad", [None, "tape", 1, (1, 2)], ids=repr)
@pytest.mark.parametrize("cell", CELLS)
def test_not_a_tape(cell: str, bad: Any) -> None:
    message = complaint("tape", got=type(bad).__name__)
    with pytest.raises(TypeError, match=message):
        backward(ops, problem_of(cell), bad)


def test_a_tape_cannot_be_changed() -> None:
    tape = forward(ops, problem_of("lstm"))["tape"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        tape.reverse = True
    # The kernels' tape is not made by the dataclass: no field is left to its default.
    assert vars(tape).keys() == {field.name for field in dataclasses.fields(tape)}
    for stored in (tape.gates, tape.c):
        with pytest.raises(ValueError, match="read-only"):
            stored[0] = 0


def test_arguments_spoilt_between_forward_and_backward(each_backend: str) -> None:
    """The caller breaks the promise to keep them: an error or wrong numbers, never a crash."""
    code = f"""
    import numpy as np, pyrnn
    from helpers_ops import CELLS, Case, backward, forward, make
    with pyrnn.backend("{each_backend}"):
        for cell in CELLS:
            for tokens in (10**12, -(10**12), 10**6):
                problem = make(Case(cell, "float32", 50, 9, 3, 6, tokens=True))
                problem.options["lengths"] = np.full(9, 50)
                for spoil in ("x", "lengths"):
                    tape = forward(pyrnn.ops, problem)["tape"]
                    array = problem.arrays["x"] if spoil == "x" else problem.options["lengths"]
                    keep = array.copy()
                    array[...] = tokens
                    try:
                        backward(pyrnn.ops, problem, tape)
                    except (IndexError, ValueError):
                        pass
                    array[...] = keep
    """
    check_script(code)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if NUM_GATES[cell] > 1])
def test_wrong_number_of_gates(cell: str) -> None:
    problem = problem_of(cell)
    gates = NUM_GATES[cell]
    problem.arrays["w_ih"] = np.zeros((gates * 6 + 1, 3), "float32")
    refuses(problem, ValueError, complaint("w_ih", rf".*{gates}·H.*"))
