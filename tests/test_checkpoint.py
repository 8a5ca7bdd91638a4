"""forward(checkpoint=k): the bits of the whole pass, from the states of every k-th step alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from helpers_layers import KINDS, assert_all_same, build, inputs
from helpers_ops import (
    BIASES,
    CELLS,
    DTYPES,
    INCOMING,
    LENGTHS,
    Case,
    Problem,
    backward,
    family,
    forward,
    make,
    problem_of,
)
from tolerances import assert_same_bits

import pyrnn
from pyrnn import _core, checkpoint, ops, reference
from pyrnn.dispatch import tape_inputs, tape_saved
from pyrnn.tape import CheckpointTape
from pyrnn.variants import VARIANT_ARRAYS

# T, B, I, H. More rows than a block of backward takes; steps that no chunk divides; one row, whose
# units the threads share; one step; nothing at all.
SHAPES = (
    (23, 9, 17, 33),
    (130, 3, 4, 20),
    (5, 67, 12, 40),
    (90, 1, 8, 64),
    (20, 1, 32, 192),
    (1, 2, 3, 5),
    (0, 3, 2, 4),
    (5, 0, 2, 3),
)
CHUNKS = (1, 7, 64, 10**9)
SUMS = ("dw_ih", "dw_hh", "db_ih", "db_hh")


def taken(problem: Problem, steps: int) -> Problem:
    problem = problem.copy()
    problem.options["checkpoint"] = steps
    return problem


def everything(problem: Problem, module: Any = ops) -> tuple[dict[str, Any], Any]:
    outputs = forward(module, problem)
    tape = outputs.pop("tape")
    return outputs | backward(module, problem, tape), tape


def states_nbytes(case: Case, steps: int) -> int:
    """N * B * H values for each state of the cell, N = max(ceil(T / k) - 1, 0)."""
    kept = max(-(-case.seq_len // steps) - 1, 0)
    states = 2 if case.cell == "lstm" else 1
    size = np.dtype(case.dtype).itemsize
    return kept * case.batch_size * case.hidden_size * states * size


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_the_same_bits_as_the_whole_pass(
    cell: str, dtype: str, reverse: bool, lengths: str | None
) -> None:
    for index, shape in enumerate(SHAPES):
        case = Case(
            cell,
            dtype,
            *shape,
            reverse=reverse,
            lengths=lengths,
            tokens=index % 3 == 1,
            biases=BIASES[index % 4],
            given=INCOMING[index % 3 :] if shape[0] < 50 else INCOMING,
        )
        problem = make(case)
        with pyrnn.backend("kernels"):
            pyrnn.set_num_threads(1)
            want, _ = everything(problem)
            for k, steps in enumerate(CHUNKS):
                threads = 1 + (k + index) % 3
                pyrnn.set_num_threads(threads)
                got, tape = everything(taken(problem, steps))
                assert isinstance(tape, CheckpointTape)
                assert tape.nbytes == states_nbytes(case, steps)
                for name, array in want.items():
                    assert_same_bits(array, got[name], f"{case}, k {steps}, {threads}, {name}")


@pytest.mark.parametrize("cell", CELLS)
def test_the_reference_gives_its_own_bits_too(cell: str) -> None:
    for dtype in DTYPES:
        for reverse in (False, True):
            for shape in SHAPES[:2] + SHAPES[5:]:
                case = Case(cell, dtype, *shape, reverse=reverse, lengths="zeros")
                problem = make(case)
                want, _ = everything(problem, reference)
                for steps in CHUNKS:
                    got, tape = everything(taken(problem, steps), reference)
                    assert tape.nbytes == states_nbytes(case, steps)
                    for name, array in want.items():
                        assert_same_bits(array, got[name], f"{case}, {steps}, {name}")


@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("cell", CELLS)
def test_either_reads_the_tape_of_the_other(cell: str, reverse: bool) -> None:
    """The states kept are the same, and so, closely, are the gradients from them."""
    problem = taken(make(Case(cell, "float64", 23, 9, 5, 7, reverse=reverse, lengths="zeros")), 4)
    tapes = {}
    for name in ("kernels", "reference"):
        with pyrnn.backend(name):
            tapes[name] = forward(ops, problem)["tape"]
    for state in ("h", "c"):
        ours, theirs = (getattr(tape, state) for tape in tapes.values())
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)
    made = []
    for name, other in (("kernels", "reference"), ("reference", "kernels"), ("kernels",) * 2):
        with pyrnn.backend(name):
            made.append(backward(ops, problem, tapes[other]))
    for gradients in made[1:]:
        for name, array in gradients.items():
            if array is not None:
                np.testing.assert_allclose(array, made[0][name], rtol=1e-9, atol=1e-11)


def test_the_tape_is_read_only_and_may_be_used_again() -> None:
    for cell in CELLS:
        problem = taken(problem_of(cell, lengths="ragged"), 2)
        tape = forward(ops, problem)["tape"]
        first = backward(ops, problem, tape)
        for name, array in backward(ops, problem, tape).items():
            assert_same_bits(array, first[name], name)
        for stored in (tape.h, tape.c):
            if stored is not None:
                with pytest.raises(ValueError, match="read-only"):
                    stored[...] = 0


@pytest.mark.parametrize("cell", CELLS)
def test_sums_are_added_to_what_each_array_holds(cell: str) -> None:
    """Two biases of a gate have one gradient, and need not have held the same."""
    rng = np.random.default_rng(2)
    problem = make(Case(cell, "float64", 5, 3, 4, 17))
    tape = forward(ops, problem)["tape"]
    want = backward(ops, problem, tape)
    held = {name: rng.standard_normal(want[name].shape) for name in SUMS}
    sums = [held[name].copy() for name in SUMS] + [None] * len(VARIANT_ARRAYS)
    incoming = [problem.incoming.get(name) for name in ("dy", "dh_n", "dc_n", "dcells")]
    _core.backward_chunk(
        tape.cell, tape_inputs(tape), tape_saved(tape), False, *incoming, 0,
        (np.empty_like(want["dx"]), *sums),
    )  # fmt: skip
    for name, array in zip(SUMS, sums, strict=False):
        np.testing.assert_allclose(array, held[name] + want[name], rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("each_backend")
def test_what_is_refused() -> None:
    for cell in CELLS:
        problem = problem_of(cell)
        for bad in (0, -3):
            with pytest.raises(ValueError, match=rf"^checkpoint: expected at least 1, got {bad}$"):
                forward(ops, taken(problem, bad))
        for wrong in (2.0, "2"):
            with pytest.raises(TypeError, match=r"^checkpoint: expected an integer, got "):
                forward(ops, taken(problem, wrong))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="checkpoint"):
            build(cell).forward(np.zeros((2, 1, 3)), checkpoint=0)
        other = "rnn_tanh" if family(cell) != "rnn" else "gru"
        with pytest.raises(ValueError, match=r"^tape: expected the tape of "):
            backward(ops, problem_of(other), forward(ops, taken(problem, 2))["tape"])
        assert forward(ops, taken(problem, 2), save=False)["tape"] is None
        problem.incoming["dy"] = problem.incoming["dy"][1:]
        with pytest.raises(ValueError, match=r"^dy: expected shape \(T, B, H\) = \(5, 4, 6\)"):
            backward(ops, problem, forward(ops, taken(problem, 2))["tape"])


def test_errors_come_before_any_work() -> None:
    problem = taken(make(Case("lstm", "float32", 9, 2, 3, 4, tokens=True)), 2)
    problem.arrays["x"][8, 1] = 3
    with pytest.raises(IndexError, match=r"^x: expected tokens in 0\.\.I-1 = 0\.\.2, got 3$"):
        forward(ops, problem)
    problem.options["lengths"] = np.array([9, 10])
    with pytest.raises(ValueError, match=r"^lengths: expected values in 0\.\.T = 0\.\.9, got 10$"):
        forward(ops, problem)


# --- Layers ----------------------------------------------------------------------------------


def step(layer: Any, x: Any, state: Any, lengths: Any, dy: Any, steps: int | None) -> Any:
    y, last, tape = layer.forward(x, state, lengths, checkpoint=steps)
    grads = layer.backward(tape, dy, last)
    return (y, last, grads.x, grads.state, grads.params), tape


@pytest.mark.parametrize("options", [(1, 0.0), (3, 0.0), (3, 0.4)], ids=["1", "3", "3-dropout"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_give_the_same_bits(
    kind: str, bidirectional: bool, options: tuple[int, float]
) -> None:
    num_layers, dropout = options
    with warnings.catch_warnings(), pyrnn.backend("kernels"):
        warnings.simplefilter("ignore")
        for index, dtype in enumerate(DTYPES * 2):
            more = {"batch_first": index > 1, "bias": index != 1, "dtype": dtype}
            for lengths in (None, [9, 0, 4]):
                for tokens in (False, True):
                    results = []
                    for steps in (None, 1, 4, 9, 50):
                        # A layer draws its dropout masks from its own generator.
                        layer = build(
                            kind,
                            num_layers=num_layers,
                            bidirectional=bidirectional,
                            dropout=dropout,
                            **more,
                        )
                        x, state = inputs(layer, 9, 3, tokens=tokens)
                        pyrnn.set_num_threads(1 + index % 2)
                        dy = np.random.default_rng(0).normal(
                            size=(*x.shape[:2], 4 * (1 + bidirectional))
                        )
                        got, _ = step(layer, x, state, lengths, dy.astype(dtype), steps)
                        results.append(got)
                    for got in results[1:]:
                        assert_all_same(got, results[0])


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_a_layer_tape(kind: str) -> None:
    """A plain stack keeps states alone; otherwise also what the layers pass up."""
    states, seq_len, batch, size = (2 if kind.startswith("lstm") else 1), 50, 3, 4
    for steps, kept in ((7, 7), (10, 4), (50, 0), (1, 49)):
        of_states = kept * states * batch * size * 8
        for bidirectional, dropout in ((False, 0.0), (True, 0.0), (False, 0.5)):
            layer = build(kind, num_layers=3, bidirectional=bidirectional, dropout=dropout)
            x, _ = inputs(layer, seq_len, batch)
            _, _, tape = layer.forward(x, checkpoint=steps)
            count = 6 if bidirectional else 3
            passed_up = 2 * seq_len * batch * (count // 3) * size * 8
            plain = not bidirectional and dropout == 0.0
            if plain and pyrnn.backends.use_reference():
                plain = False
            assert tape.nbytes == count * of_states + (0 if plain else passed_up)


def test_a_stack_is_read_by_the_reference_too() -> None:
    for kind in KINDS:
        layer = build(kind, num_layers=3)
        x, state = inputs(layer, 11, 3)
        with pyrnn.backend("kernels"):
            y, last, tape = layer.forward(x, state, [11, 0, 5], checkpoint=4)
            want = layer.backward(tape, np.ones_like(y), last)
        with pyrnn.backend("reference"):
            got = layer.backward(tape, np.ones_like(y), last)
        for name, array in want.params.items():
            np.testing.assert_allclose(got.params[name], array, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(got.x, want.x, rtol=1e-9, atol=1e-11)


def test_the_tape_of_a_stack_is_not_that_of_an_operation() -> None:
    layer = build("lstm", num_layers=2)
    with pyrnn.backend("kernels"):
        _, _, tape = layer.forward(np.zeros((9, 1, 3)), checkpoint=4)
    with pytest.raises(ValueError, match=r"^tape: expected that of one layer, got a stack of 2$"):
        ops.lstm_backward(tape.tapes[0])


# --- Inference in chunks ---------------------------------------------------------------------


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_ROWS_OF_A_CHUNK", 100)


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("batch_first", [False, True], ids=["", "batch-first"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_long_inference_gives_the_bits_of_training(
    kind: str, num_layers: int, batch_first: bool
) -> None:
    """A long call is cut into chunks; forward for training runs the whole."""
    layer = build(kind, num_layers=num_layers, batch_first=batch_first)
    for batch, seq_len in ((3, 300), (70, 75)):
        lengths = np.random.default_rng(0).integers(0, seq_len + 1, batch)
        for tokens in (False, True):
            for given in (None, lengths):
                x, state = inputs(layer, seq_len, batch, tokens=tokens)
                want = layer.forward(x, state, given)[:2]
                assert_all_same(layer(x, state, given), want)
    if num_layers == 3 and not batch_first:
        x, state = inputs(layer, 400, unbatched=True)
        assert_all_same(layer(x, state), layer.forward(x, state)[:2])


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize("cell", CELLS)
def test_long_inputs_that_have_to_be_converted(cell: str, reverse: bool) -> None:
    for dtype in DTYPES:
        case = Case(cell, dtype, 220, 2, 3, 5, reverse=reverse, lengths="zeros")
        problem = make(case)
        want = forward(ops, problem, save=False)
        x = problem.arrays["x"]
        wide = np.repeat(x, 2, axis=2)[..., ::2]
        for other in (wide, x.astype(x.dtype.newbyteorder()), np.asfortranarray(x)):
            problem.arrays["x"] = other
            for name, array in forward(ops, problem, save=False).items():
                assert_same_bits(array, want[name], name)
        tokens = make(Case(cell, dtype, 220, 2, 3, 5, reverse=reverse, tokens=True))
        want = forward(ops, tokens, save=False)
        tokens.arrays["x"] = tokens.arrays["x"].astype(np.uint8)
        for name, array in forward(ops, tokens, save=False).items():
            assert_same_bits(array, want[name], name)
        tokens.arrays["x"][200, 1] = 3
        with pytest.raises(IndexError, match=r"^x: expected tokens in 0\.\.I-1 = 0\.\.2, got 3$"):
            forward(ops, tokens, save=False)
        tokens.options["lengths"] = np.array([220, 221])
        with pytest.raises(ValueError, match=r"^lengths: expected values in 0\.\.T = 0\.\.220"):
            forward(ops, tokens, save=False)
