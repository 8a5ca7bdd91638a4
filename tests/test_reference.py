"""The NumPy reference: against the equations written out in scalars, and finite differences."""

from __future__ import annotations

import inspect
import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers_ops import (
    BIASES,
    CELLS,
    DTYPES,
    LENGTHS,
    NUM_GATES,
    NUM_TAPED,
    Array,
    Case,
    Problem,
    backward,
    forward,
    incoming_of,
    make,
    run,
)
from helpers_variants import FAMILIES, make_variant, variant_forward
from tolerances import (
    DIFFERENCE_RELATIVE,
    DIFFERENCE_STEP,
    assert_close,
    assert_same_bits,
    relative_error,
)

import pyrnn
from pyrnn import ops, reference
from pyrnn.reference.activations import sigmoid
from pyrnn.reference.cells import CELLS as TABLE

TINY = {"seq_len": 4, "batch_size": 3, "input_size": 2, "hidden_size": 3}


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [s for n in range(len(names) + 1) for s in itertools.combinations(names, n)]


# The equations of the contract, one unit at a time, in Python floats.


def scalar_sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def scalar_step(
    cell: str, x: Array, h: Array, c: Array | None, arrays: dict[str, Any]
) -> tuple[list[float], list[float]]:
    """h_t and c_t of one row."""
    size_h, zeros = len(h), np.zeros(NUM_GATES[cell] * len(h))
    w_ih, w_hh = arrays["w_ih"], arrays["w_hh"]
    b_ih = zeros if arrays["b_ih"] is None else arrays["b_ih"]
    b_hh = zeros if arrays["b_hh"] is None else arrays["b_hh"]

    def from_x(k: int) -> float:
        return float(sum(w_ih[k, i] * x[i] for i in range(len(x))) + b_ih[k])

    def from_h(k: int, operand: list[float] | Array) -> float:
        return float(sum(w_hh[k, j] * operand[j] for j in range(size_h)) + b_hh[k])

    h_t, c_t = [], []
    reset = [
        scalar_sigmoid(from_x(j) + from_h(j, h)) if cell.startswith(("gru", "mgu")) else 0.0
        for j in range(size_h)
    ]
    for j in range(size_h):
        block = [k * size_h + j for k in range(NUM_GATES[cell])]
        if cell == "rnn_tanh":
            h_t.append(math.tanh(from_x(j) + from_h(j, h)))
        elif cell == "rnn_relu":
            h_t.append(max(0.0, from_x(j) + from_h(j, h)))
        elif cell == "lstm":
            assert c is not None
            a = [from_x(k) + from_h(k, h) for k in block]
            i, f, o = scalar_sigmoid(a[0]), scalar_sigmoid(a[1]), scalar_sigmoid(a[3])
            c_t.append(f * float(c[j]) + i * math.tanh(a[2]))
            h_t.append(o * math.tanh(c_t[j]))
        elif cell == "mgu":
            f = reset[j]
            forgotten = [r * float(v) for r, v in zip(reset, h, strict=True)]
            n = math.tanh(from_x(block[1]) + from_h(block[1], forgotten))
            h_t.append((1 - f) * float(h[j]) + f * n)
        else:
            z = scalar_sigmoid(from_x(block[1]) + from_h(block[1], h))
            if cell == "gru":
                n = math.tanh(from_x(block[2]) + reset[j] * from_h(block[2], h))
            else:
                reset_h = [r * float(v) for r, v in zip(reset, h, strict=True)]
                n = math.tanh(from_x(block[2]) + from_h(block[2], reset_h))
            h_t.append((1 - z) * n + z * float(h[j]))
    return h_t, c_t


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("biases", BIASES)
@pytest.mark.parametrize("cell", CELLS)
def test_forward_is_the_equations(
    cell: str, biases: str, reverse: bool, lengths: str | None
) -> None:
    problem = make(
        Case(cell, "float64", 5, 4, 2, 3, reverse=reverse, lengths=lengths, biases=biases)
    )
    arrays: dict[str, Any] = problem.arrays
    outputs = forward(reference, problem)
    y = np.zeros((5, 4, 3))
    for row in range(4):
        h = arrays["h0"][row]
        c = arrays["c0"][row] if cell == "lstm" else None
        length = 5 if problem.options["lengths"] is None else problem.options["lengths"][row]
        times = range(length)
        for t in reversed(times) if reverse else times:
            h, c = scalar_step(cell, arrays["x"][t, row], h, c, arrays)
            y[t, row] = h
        np.testing.assert_allclose(outputs["h_n"][row], h, rtol=1e-13, atol=1e-15)
        if cell == "lstm":
            np.testing.assert_allclose(outputs["c_n"][row], c, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(outputs["y"], y, rtol=1e-13, atol=1e-15)


# Gradients against central differences of L = <y, dy> + <h_n, dh_n> + <c_n, dc_n>.


def loss(problem: Problem) -> float:
    outputs = forward(reference, problem, save=False)
    total = 0.0
    for name, gradient in problem.incoming.items():
        if gradient is not None:
            # dy is NaN in the padding, where y must not count.
            valid = ~np.isnan(gradient)
            total += float(np.sum(outputs[name[1:]][valid] * gradient[valid]))
    return total


def difference(problem: Problem, name: str, direction: Array) -> float:
    """Derivative of the loss along a direction of one array."""
    array = problem.arrays[name]
    losses = []
    for sign in (1, -1):
        problem.arrays[name] = array + sign * DIFFERENCE_STEP * direction
        losses.append(loss(problem))
    problem.arrays[name] = array
    return (losses[0] - losses[1]) / (2 * DIFFERENCE_STEP)


def gradients_of(problem: Problem) -> dict[str, Any]:
    return backward(reference, problem, forward(reference, problem)["tape"])


def differentiable(problem: Problem) -> dict[str, Array]:
    return {
        name: array
        for name, array in problem.arrays.items()
        if array is not None and array.dtype.kind == "f"
    }


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("lengths", [None, "zeros"])
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_entry_of_every_gradient(
    cell: str, reverse: bool, lengths: str | None, tokens: bool
) -> None:
    problem = make(Case(cell, "float64", **TINY, reverse=reverse, lengths=lengths, tokens=tokens))
    gradients = gradients_of(problem)
    for name, array in differentiable(problem).items():
        want = np.empty(array.shape)
        for k in np.ndindex(*array.shape):
            direction = np.zeros(array.shape)
            direction[k] = 1
            want[k] = difference(problem, name, direction)
        got = gradients[f"d{name}"]
        assert got is not None
        assert got.shape == array.shape
        error = relative_error(got, want)
        assert error <= DIFFERENCE_RELATIVE, f"d{name}: {error:.3g}"
        if name == "x" and lengths:
            assert not got[np.isnan(array)].any(), "dx of padding"


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_with_any_of_the_incoming_ones_and_biases_missing(
    cell: str, reverse: bool, lengths: str | None
) -> None:
    rng = np.random.default_rng(7)
    for given, biases in itertools.product(subsets(incoming_of(cell)), BIASES):
        case = Case(
            cell, "float64", 5, 4, 3, 4, reverse=reverse, lengths=lengths, biases=biases,
            given=given, tokens=(len(given) + len(biases)) % 2 == 0,
        )  # fmt: skip
        problem = make(case)
        gradients = gradients_of(problem)
        assert (gradients["db_ih"] is None) == (biases in ("hh", "none"))
        assert (gradients["db_hh"] is None) == (biases in ("ih", "none"))
        assert (gradients["dx"] is None) == case.tokens
        for name, array in differentiable(problem).items():
            got = gradients[f"d{name}"]
            assert got is not None
            direction = rng.normal(size=array.shape)
            want = difference(problem, name, direction)
            along = float(np.sum(got * direction))
            # Rounding of the loss, relative to the whole gradient rather than to its projection.
            scale = float(np.linalg.norm(got)) * float(np.linalg.norm(direction))
            assert abs(along - want) <= DIFFERENCE_RELATIVE * scale, f"{case}: d{name}"
        if not given:
            assert all(g is None or not g.any() for g in gradients.values()), str(case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_computes_in_the_dtype_it_is_given(cell: str, dtype: str) -> None:
    for tokens in (False, True):
        case = Case(cell, dtype, 12, 5, 6, 9, lengths="zeros", tokens=tokens)
        results = run(reference, make(case))
        wants = run(reference, make(case).astype("float64"))
        for name, want in wants.items():
            assert_close(results[name], want, dtype, name)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_tokens_are_one_hot_vectors(cell: str, reverse: bool) -> None:
    case = Case(cell, "float64", 6, 4, 5, 3, reverse=reverse, lengths="zeros", tokens=True)
    problem = make(case)
    tokens: Any = problem.arrays["x"]
    one_hot = problem.copy()
    one_hot.arrays["x"] = (tokens[..., None] == np.arange(5)).astype("float64")
    got, want = run(reference, problem), run(reference, one_hot)
    assert got.pop("dx") is None
    want.pop("dx")
    for name, array in want.items():
        assert_close(got[name], array, "float64", name)


@pytest.mark.parametrize("tokens", [[0, -1], [0, 5]])
def test_token_out_of_range(tokens: list[int]) -> None:
    w_ih, w_hh, h0 = np.ones((2, 5)), np.ones((2, 2)), np.zeros((2, 2))
    with pytest.raises(IndexError, match=r"^x: expected tokens in 0\.\.4"):
        reference.rnn_forward(np.array([tokens]), h0, w_ih, w_hh)


@pytest.mark.parametrize("cell", CELLS)
def test_tape_layout(cell: str) -> None:
    case = Case(cell, "float64", 4, 3, 2, 3, lengths="zeros")
    problem = make(case)
    arrays: dict[str, Any] = problem.arrays
    outputs = forward(reference, problem)
    tape, y = outputs["tape"], outputs["y"]
    assert tape.cell == cell
    assert tape.gates.shape == (4, 3, NUM_TAPED[cell] * 3)
    assert (tape.h is None) == (not cell.startswith(("gru", "mgu")))
    assert (tape.c is None) == (cell != "lstm")
    assert tape.lengths.dtype == np.int64
    padding = np.arange(4)[:, None] >= problem.options["lengths"]
    for stored in (tape.gates, tape.h, tape.c):
        assert stored is None or not stored[padding].any()
        assert stored is None or not stored.flags.writeable
    blocks = np.split(tape.gates, NUM_TAPED[cell], axis=-1)
    if cell.startswith("rnn"):
        assert_same_bits(tape.gates, y)
    elif cell == "lstm":
        i, f, g, o = blocks
        c_prev = np.concatenate([arrays["c0"][None], tape.c[:-1]])
        valid = ~padding
        np.testing.assert_allclose(tape.c[valid], (f * c_prev + i * g)[valid])
        np.testing.assert_allclose(y[valid], (o * np.tanh(tape.c))[valid])
    else:
        z, n = (1 - blocks[0], blocks[1]) if cell == "mgu" else blocks[1:3]
        h_prev = np.concatenate([arrays["h0"][None], y[:-1]])
        np.testing.assert_allclose(y[~padding], ((1 - z) * n + z * h_prev)[~padding])
        assert_same_bits(tape.h, y)
        if cell == "gru":
            q = h_prev @ arrays["w_hh"][6:].T + arrays["b_hh"][6:]
            np.testing.assert_allclose(blocks[3][~padding], q[~padding])


@pytest.mark.parametrize("cell", CELLS)
def test_forward_without_saving(cell: str) -> None:
    problem = make(Case(cell, "float32", 5, 3, 4, 6, lengths="zeros"))
    saved, unsaved = forward(reference, problem), forward(reference, problem, save=False)
    assert unsaved.pop("tape") is None
    for name, array in unsaved.items():
        assert_same_bits(array, saved[name], name)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_leaves_its_arguments_and_the_tape_alone(cell: str, tokens: bool) -> None:
    problem = make(Case(cell, "float64", 5, 3, 4, 6, lengths="zeros", tokens=tokens))
    before = problem.copy()
    outputs = forward(reference, problem)
    tape = outputs.pop("tape")
    first = backward(reference, problem, tape)
    for name in ("arrays", "options", "incoming"):
        for key, value in getattr(problem, name).items():
            if isinstance(value, np.ndarray):
                assert_same_bits(value, getattr(before, name)[key], key)
    for array in outputs.values():
        array[...] = np.nan
    for name, array in backward(reference, problem, tape).items():
        assert_same_bits(array, first[name], name)


@pytest.mark.parametrize("zero", ["seq_len", "batch_size", "input_size"])
@pytest.mark.parametrize("cell", CELLS)
def test_empty_sizes(cell: str, zero: str) -> None:
    case = replace(Case(cell, "float64", **TINY), **{zero: 0})
    problem = make(case)
    outputs = forward(reference, problem)
    gradients = backward(reference, problem, outputs["tape"])
    assert outputs["y"].shape == (case.seq_len, case.batch_size, 3)
    for name, array in problem.arrays.items():
        got = gradients[f"d{name}"]
        assert got is not None
        assert array is not None
        assert got.shape == array.shape
    if zero == "seq_len":
        assert_same_bits(outputs["h_n"], problem.arrays["h0"])
        assert_same_bits(gradients["dh0"], problem.incoming["dh_n"])
    if zero != "input_size":
        assert not any(gradients[name].any() for name in ("dw_ih", "dw_hh", "db_ih"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cell", CELLS)
def test_infinities_pass_without_a_warning(cell: str) -> None:
    problem = make(Case(cell, "float32", 4, 3, 2, 3))
    arrays: dict[str, Any] = problem.arrays
    arrays["x"][1, 0, 0] = np.inf
    arrays["x"][2, 1, 1] = np.nan
    arrays["h0"][2, 0] = -np.inf
    y = run(reference, problem)["y"]
    assert y is not None
    assert np.isfinite(y[0, :2]).all()
    assert np.isfinite(y[1, 1]).all()
    assert np.isnan(y[2, 1]).any()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_is_zero_whatever_the_weights(cell: str, reverse: bool) -> None:
    problem = make(Case(cell, "float64", 5, 4, 3, 6, lengths="zeros", reverse=reverse))
    arrays: dict[str, Any] = problem.arrays
    arrays["w_ih"][1, 1] = np.inf
    arrays["w_hh"][2, 2] = np.nan
    results = run(reference, problem)
    padding = np.arange(5)[:, None] >= problem.options["lengths"]
    for name in ("y", "dx", "tape.gates", "tape.h", "tape.c"):
        array = results[name]
        assert array is None or not array[padding].any(), name


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_in_the_tails(dtype: str) -> None:
    edge = 80 if dtype == "float32" else 700
    x = np.linspace(-edge, edge, 4001, dtype=dtype)
    want = 1 / (1 + np.exp(-x.astype(np.longdouble)))
    assert sigmoid(x).dtype == dtype
    assert np.max(np.abs(sigmoid(x) - want) / want) < 4 * np.finfo(dtype).eps
    with np.errstate(under="ignore"):
        extremes = sigmoid(np.array([-np.inf, np.inf, np.nan, -1e4, 1e4], dtype))
    np.testing.assert_array_equal(extremes, np.array([0, 1, np.nan, 0, 1], dtype))


def test_same_functions_and_signatures_as_the_operations() -> None:
    assert reference.__all__ == ops.__all__
    for name in ops.__all__:
        ours, theirs = getattr(reference, name), getattr(ops, name)
        assert inspect.signature(ours) == inspect.signature(theirs), name


def test_same_cells_on_both_sides() -> None:
    problems = [make_variant(cell, {}, "float32", 2, 2, 2, 2) for cell in FAMILIES]
    for cell, option in (
        ("rnn", {"nonlinearity": "relu"}),
        ("rnn", {"nonlinearity": "elu"}),
        ("lstm", {"coupled": True}),
    ):
        problems.append(make_variant(cell, option, "float32", 2, 2, 2, 2))
    with pyrnn.backend("kernels"):
        assert {variant_forward(ops, one)["tape"].cell for one in problems} == set(TABLE)
