"""The cases that every benchmark runs, each written once, and the arrays they run on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_GATES = {"rnn": 1, "gru": 3, "lstm": 4}
# tanh and sigmoid evaluations per hidden unit and step; the LSTM adds tanh(c).
_ACTIVATIONS = {"rnn": 1, "gru": 3, "lstm": 5}
# Bytes of a weight that only a frozen layer has.
_REDUCED = {"bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Case:
    """One network, one input shape, and whether gradients are asked for."""

    mode: str
    cell: str
    input_size: int
    hidden_size: int
    batch_size: int
    seq_len: int
    num_layers: int = 1
    bidirectional: bool = False
    dtype: str = "float32"
    precision: str = ""  # of pyrnn's frozen weights, where it is not the dtype
    ragged: bool = False  # rows of unequal length
    denormal: str = ""  # what is too small for a normal number: inputs, states, weights or all

    @property
    def name(self) -> str:
        stack = f"x{self.num_layers}" if self.num_layers > 1 else ""
        return (
            f"{self.mode}-{self.cell}-{self.input_size}-{self.hidden_size}{stack}"
            f"{'-bi' if self.bidirectional else ''}-b{self.batch_size}-t{self.seq_len}"
            f"{'-ragged' if self.ragged else ''}"
            f"{'' if self.dtype == 'float32' else '-' + self.dtype}"
            f"{self.precision and '-' + self.precision}"
            f"{self.denormal and '-denormal-' + self.denormal}"
        )

    @property
    def lengths(self) -> Array | None:
        """(B,), from 1 to T, the first of them T: about half of T on average."""
        if not self.ragged:
            return None
        lengths = np.random.default_rng(11).integers(1, self.seq_len + 1, self.batch_size)
        lengths[0] = self.seq_len
        return lengths

    @property
    def rows(self) -> int:
        """Pairs of a step and a row that have to be computed."""
        lengths = self.lengths
        return self.seq_len * self.batch_size if lengths is None else int(lengths.sum())

    @property
    def gates(self) -> int:
        return _GATES[self.cell]

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def layer_inputs(self) -> Iterator[int]:
        """The input size of each layer, once for every direction."""
        for layer in range(self.num_layers):
            for _ in range(self.directions):
                yield self.input_size if layer == 0 else self.directions * self.hidden_size

    @property
    def input_flops(self) -> int:
        """FLOPs of ``W_ih x`` over all steps and layers; a multiply-add counts as two."""
        return sum(2 * self.rows * self.gates * self.hidden_size * i for i in self.layer_inputs())

    @property
    def recurrent_flops(self) -> int:
        """FLOPs of ``W_hh h`` over all steps and layers."""
        rows = self.rows * self.num_layers * self.directions
        return 2 * rows * self.gates * self.hidden_size**2

    @property
    def flops(self) -> int:
        """Training is three forwards: one, then the gradients of inputs and of weights."""
        return (3 if self.mode == "train" else 1) * (self.input_flops + self.recurrent_flops)

    @property
    def recurrent_bytes(self) -> int:
        """Bytes of one ``W_hh``, which every step has to read."""
        return self.gates * self.hidden_size**2 * self.weight_bytes

    @property
    def input_bytes(self) -> int:
        """Bytes of every ``W_ih``."""
        return (
            sum(self.gates * self.hidden_size * i for i in self.layer_inputs()) * self.weight_bytes
        )

    @property
    def weight_bytes(self) -> int:
        return _REDUCED.get(self.precision, np.dtype(self.dtype).itemsize)

    @property
    def activations(self) -> int:
        rows = self.rows * self.num_layers * self.directions
        return rows * self.hidden_size * _ACTIVATIONS[self.cell]


@dataclass(frozen=True)
class Problem:
    """A case with its numbers: PyTorch's parameter names, x, the states and the gradient of y."""

    case: Case
    params: dict[str, Array]
    x: Array
    state: tuple[Array, ...]
    dy: Array

    def astype(self, dtype: str) -> Problem:
        return Problem(
            self.case,
            {name: a.astype(dtype) for name, a in self.params.items()},
            self.x.astype(dtype),
            tuple(a.astype(dtype) for a in self.state),
            self.dy.astype(dtype),
        )


def problem(case: Case) -> Problem:
    """The same numbers for the same case, in every process."""
    rng = np.random.default_rng(7)
    hidden, rows = case.hidden_size, case.gates * case.hidden_size
    bound = hidden**-0.5
    params: dict[str, Array] = {}
    for index, inputs in enumerate(case.layer_inputs()):
        layer, direction = divmod(index, case.directions)
        suffix = f"l{layer}" + ("_reverse" if direction else "")
        for kind, shape in (
            ("weight_ih", (rows, inputs)),
            ("weight_hh", (rows, hidden)),
            ("bias_ih", (rows,)),
            ("bias_hh", (rows,)),
        ):
            params[f"{kind}_{suffix}"] = rng.uniform(-bound, bound, shape).astype(case.dtype)
    states = 2 if case.cell == "lstm" else 1
    state_shape = (case.num_layers * case.directions, case.batch_size, hidden)
    leading = (case.seq_len, case.batch_size)
    made = Problem(
        case,
        params,
        rng.standard_normal((*leading, case.input_size)).astype(case.dtype),
        tuple(rng.uniform(-1, 1, state_shape).astype(case.dtype) for _ in range(states)),
        rng.standard_normal((*leading, case.directions * hidden)).astype(case.dtype),
    )
    if case.denormal:
        _shrink(made)
    return made


def _shrink(made: Problem) -> None:
    """Make denormal what the case names, in place, and 0 what would hide it in a sum."""
    what = made.case.denormal
    # A thousandth of the smallest normal number.
    tiny = float(np.finfo(made.case.dtype).tiny) * 1e-3
    weights = [a for name, a in made.params.items() if name.startswith("weight")]
    biases = [a for name, a in made.params.items() if name.startswith("bias")]
    inputs, states = [made.x], list(made.state)
    parts = {"inputs": inputs, "states": states, "weights": weights + biases}
    parts["all"] = inputs + states + weights + biases
    for array in parts[what]:
        array *= tiny
    hidden = {"inputs": states + biases, "states": inputs + biases}
    for array in hidden.get(what, []):
        array[...] = 0


# cell, I, H, B, T, layers, bidirectional, and whether training is timed too.
_TABLE: tuple[tuple[str, int, int, int, int, int, bool, bool], ...] = (
    ("lstm", 64, 64, 1, 1, 1, False, False),
    ("lstm", 256, 256, 1, 1, 1, False, False),
    ("lstm", 64, 64, 1, 100, 1, False, True),
    ("lstm", 256, 256, 1, 100, 1, False, True),
    ("lstm", 512, 512, 1, 100, 1, False, False),
    ("lstm", 1024, 1024, 1, 100, 1, False, False),
    ("gru", 256, 256, 1, 100, 1, False, True),
    ("rnn", 256, 256, 1, 100, 1, False, True),
    ("lstm", 64, 64, 32, 100, 1, False, True),
    ("lstm", 128, 256, 32, 100, 1, False, True),
    ("lstm", 512, 512, 64, 50, 1, False, True),
    ("gru", 128, 256, 32, 100, 1, False, True),
    ("rnn", 128, 256, 32, 100, 1, False, True),
    ("lstm", 128, 256, 16, 100, 2, False, False),
    ("gru", 256, 256, 8, 200, 3, True, True),
)

_MODES = ("infer", "train")

CASES: tuple[Case, ...] = tuple(
    Case(mode, *row[:7]) for mode in _MODES for row in _TABLE if mode == "infer" or row[7]
)

# What pyrnn's users have beside float32 in one batch of equal lengths, one case of each kind.
KINDS: tuple[Case, ...] = (
    Case("infer", "lstm", 128, 256, 32, 100, ragged=True),
    Case("infer", "lstm", 128, 256, 32, 100, dtype="float64"),
    Case("infer", "lstm", 256, 256, 1, 100, precision="bfloat16"),
    Case("infer", "lstm", 256, 256, 1, 100, precision="int8"),
    Case("infer", "lstm", 128, 256, 32, 100, precision="bfloat16"),
    Case("infer", "lstm", 128, 256, 32, 100, precision="int8"),
    Case("train", "lstm", 128, 256, 32, 100, ragged=True),
    Case("train", "lstm", 128, 256, 32, 100, dtype="float64"),
)

# Every cell at every size between the smallest and the largest that the kernels are tuned for.
_GRID = tuple(
    Case(mode, cell, hidden, hidden, batch, 100)
    for mode in _MODES
    for batch in (1, 32)
    for cell in _GATES
    for hidden in (64, 128, 256, 512)
)
_BATCHES = tuple(
    Case(mode, "lstm", 128, 256, batch, 50)
    for mode in _MODES
    for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256)
)
_SIZES = tuple(
    Case(mode, "lstm", hidden, hidden, batch, 20)
    for mode in _MODES
    for batch in (1, 16)
    for hidden in (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
)
_STACKS = tuple(
    Case(mode, cell, 128, 128, 8, 100, layers, both, dtype=dtype)
    for mode in _MODES
    for dtype in ("float32", "float64")
    for cell in _GATES
    for layers, both in ((3, False), (1, True), (3, True))
)
_DTYPES = tuple(
    Case(mode, cell, 128, 256, batch, 100, dtype="float64")
    for mode in _MODES
    for batch in (1, 32)
    for cell in _GATES
)
_RAGGED = tuple(
    Case(mode, cell, 128, 256, batch, 100, ragged=True)
    for mode in _MODES
    for batch in (4, 32, 128)
    for cell in _GATES
)
_PRECISIONS = tuple(
    Case("infer", cell, hidden, hidden, 1, length, precision=precision)
    for precision in ("bfloat16", "int8")
    for cell in _GATES
    for length in (1, 100)
    for hidden in (64, 256, 512, 1024)
) + tuple(
    Case("infer", cell, 128, 256, batch, 100, precision=precision)
    for precision in ("bfloat16", "int8")
    for cell in _GATES
    for batch in (4, 8, 32, 128)
)

DEFAULT = CASES + KINDS

# Each once, though some stand in two lists.
FULL: tuple[Case, ...] = tuple(
    dict.fromkeys(DEFAULT + _GRID + _BATCHES + _SIZES + _STACKS + _DTYPES + _RAGGED + _PRECISIONS)
)
