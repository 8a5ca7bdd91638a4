"""Random problems for one operation, and running them through an implementation."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

import pyrnn

Array = npt.NDArray[Any]

CELLS = ("rnn_tanh", "rnn_relu", "gru", "gru_reset_before", "mgu", "lstm")
DTYPES = ("float32", "float64")
NUM_GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "gru_reset_before": 3, "mgu": 2, "lstm": 4}
NUM_TAPED = {**NUM_GATES, "gru": 4}
BIASES = ("both", "ih", "hh", "none")
LENGTHS = (None, "ragged", "zeros", "full")
INCOMING = ("dy", "dh_n", "dc_n")


def incoming_of(cell: str) -> tuple[str, ...]:
    return INCOMING if cell == "lstm" else INCOMING[:2]


@dataclass(frozen=True)
class Case:
    """One call of one operation; the same case always has the same numbers."""

    cell: str
    dtype: str
    seq_len: int
    batch_size: int
    input_size: int
    hidden_size: int
    reverse: bool = False
    lengths: str | None = None  # "ragged": 1..T, "zeros": 0..T, "full": all T
    tokens: bool = False
    biases: str = "both"
    given: tuple[str, ...] = INCOMING

    def __str__(self) -> str:
        parts = [
            self.cell,
            self.dtype,
            f"T{self.seq_len}-B{self.batch_size}-I{self.input_size}-H{self.hidden_size}",
            "reverse" if self.reverse else "",
            f"lengths={self.lengths}" if self.lengths else "",
            "tokens" if self.tokens else "",
            f"biases={self.biases}" if self.biases != "both" else "",
            "" if set(self.given) >= set(incoming_of(self.cell)) else f"given={self.given}",
        ]
        return " ".join(part for part in parts if part)


@dataclass
class Problem:
    """Arguments of a forward call and the incoming gradients of its backward call."""

    cell: str
    arrays: dict[str, Any]  # x, h0, c0 (lstm), w_ih, w_hh, b_ih, b_hh
    options: dict[str, Any]  # keywords
    incoming: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> Problem:
        def copied(items: dict[str, Any]) -> dict[str, Any]:
            return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in items.items()}

        return Problem(self.cell, copied(self.arrays), copied(self.options), copied(self.incoming))

    def astype(self, dtype: str) -> Problem:
        """The same numbers, floating-point arrays in another dtype."""

        def cast(items: dict[str, Any]) -> dict[str, Any]:
            return {
                k: v.astype(dtype) if v is not None and v.dtype.kind == "f" else v
                for k, v in items.items()
            }

        return replace(self, arrays=cast(self.arrays), incoming=cast(self.incoming))


def make(case: Case) -> Problem:
    """Random arrays; weights within 1/sqrt(H) as after initialisation; NaN in all padding."""
    rng = np.random.default_rng(random.Random(str(case)).getrandbits(64))
    size_t, size_b, size_i, size_h = (
        case.seq_len,
        case.batch_size,
        case.input_size,
        case.hidden_size,
    )
    rows = NUM_GATES[case.cell] * size_h
    bound = 1 / np.sqrt(size_h)

    def normal(*shape: int) -> Array:
        return rng.normal(size=shape).astype(case.dtype)

    def uniform(*shape: int) -> Array:
        return rng.uniform(-bound, bound, size=shape).astype(case.dtype)

    arrays: dict[str, Any] = {
        "x": rng.integers(0, size_i, size=(size_t, size_b))
        if case.tokens
        else normal(size_t, size_b, size_i),
        "h0": normal(size_b, size_h) / 2,
    }
    if case.cell == "lstm":
        arrays["c0"] = normal(size_b, size_h)
    arrays |= {"w_ih": uniform(rows, size_i), "w_hh": uniform(rows, size_h)}
    arrays["b_ih"] = uniform(rows) if case.biases in ("both", "ih") else None
    arrays["b_hh"] = uniform(rows) if case.biases in ("both", "hh") else None

    lengths = None
    if case.lengths == "full":
        lengths = np.full(size_b, size_t)
    elif case.lengths is not None:
        least = min(size_t, 0 if case.lengths == "zeros" else 1)
        lengths = rng.integers(least, size_t + 1, size=size_b)
    options: dict[str, Any] = {"reverse": case.reverse, "lengths": lengths}
    if case.cell.startswith("rnn"):
        options["nonlinearity"] = case.cell.removeprefix("rnn_")
    elif case.cell.startswith("gru"):
        options["reset_after"] = case.cell == "gru"

    incoming: dict[str, Any] = {
        "dy": normal(size_t, size_b, size_h),
        "dh_n": normal(size_b, size_h),
        "dc_n": normal(size_b, size_h),
    }
    incoming = {
        name: incoming[name] if name in case.given else None for name in incoming_of(case.cell)
    }
    if lengths is not None:
        padding = np.arange(size_t)[:, None] >= lengths
        arrays["x"][padding] = -(10**9) if case.tokens else np.nan
        if incoming["dy"] is not None:
            incoming["dy"][padding] = np.nan
    return Problem(case.cell, arrays, options, incoming)


def family(cell: str) -> str:
    return cell.split("_")[0]


def forward(module: ModuleType, problem: Problem, save: bool = True) -> dict[str, Any]:
    """Outputs by name: y, h_n, c_n (lstm), tape."""
    call = getattr(module, f"{family(problem.cell)}_forward")
    names = ("y", "h_n", "c_n", "tape") if problem.cell == "lstm" else ("y", "h_n", "tape")
    outputs = call(*problem.arrays.values(), **problem.options, save=save)
    return dict(zip(names, outputs, strict=True))


def backward(module: ModuleType, problem: Problem, tape: Any) -> dict[str, Any]:
    """Gradients by name."""
    call = getattr(module, f"{family(problem.cell)}_backward")
    gradients: dict[str, Any] = call(tape, *problem.incoming.values())._asdict()
    return gradients


def run(module: ModuleType, problem: Problem) -> dict[str, Any]:
    """Everything that a forward and a backward call give, the tape's arrays included."""
    outputs = forward(module, problem)
    tape = outputs.pop("tape")
    taped = {f"tape.{name}": getattr(tape, name) for name in ("gates", "h", "c")}
    return outputs | taped | backward(module, problem, tape)


def run_kernels(case: Case) -> dict[str, Any]:
    with pyrnn.backend("kernels"):
        return run(pyrnn.ops, make(case))


def run_reference(case: Case) -> dict[str, Any]:
    """The authority: the reference in float64 on the numbers of the case."""
    return run(pyrnn.reference, make(case).astype("float64"))


# Below, at and above the widths of vectors (4, 8, 16) and tiles, and primes.
SIZES = (1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65)
TIMES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 23, 40)
LARGE = (  # T, B, I, H
    (300, 1, 5, 33),
    (9, 70, 17, 40),
    (40, 1, 64, 256),
    (3, 130, 9, 31),
    (12, 32, 64, 128),
    (130, 4, 8, 16),
    (600, 2, 3, 4),
    (2, 3, 300, 7),
    (1, 257, 2, 3),
)
# Few tokens of a large vocabulary, one step among them.
VOCABULARIES = ((4, 2, 500, 19), (1, 3, 97, 33), (1, 1, 65, 64), (3, 5, 121, 8))


def grid() -> list[Case]:
    """Ragged sizes for every cell and dtype, the other options drawn beside them."""
    cases = []
    for index, cell in enumerate(CELLS):
        for dtype in DTYPES:
            draw = random.Random(f"{cell} {dtype}")

            def options(cell: str = cell, draw: random.Random = draw) -> dict[str, Any]:
                names = incoming_of(cell)
                return {
                    "reverse": draw.random() < 0.5,
                    "lengths": draw.choice(LENGTHS),
                    "tokens": draw.random() < 0.25,
                    "biases": draw.choice(BIASES),
                    "given": tuple(draw.sample(names, draw.randint(1, len(names)))),
                }

            for k in range(2 * len(SIZES)):
                # Steps coprime to the number of sizes: each of B, I and H takes every size twice,
                # in combinations that differ between the cells.
                cases.append(
                    Case(
                        cell,
                        dtype,
                        TIMES[(k * 5 + index) % len(TIMES)],
                        SIZES[(k * 5 + 3 + index + k // 18) % len(SIZES)],
                        SIZES[(k * 7 + 11 + index + 2 * (k // 18)) % len(SIZES)],
                        SIZES[k % len(SIZES)],
                        **options(),
                    )
                )
            # With dy: from h_n alone nothing but denormals comes back over hundreds of steps.
            cases += [
                Case(cell, dtype, *shape, **options() | {"given": incoming_of(cell)})
                for shape in LARGE
            ]
            cases += [
                Case(cell, dtype, *shape, **options() | {"tokens": True}) for shape in VOCABULARIES
            ]
    return cases


SHAPE = (5, 4, 3, 6)  # T, B, I, H of a small problem


def problem_of(cell: str, dtype: str = "float32", **options: Any) -> Problem:
    return make(Case(cell, dtype, *SHAPE, **options))


def names_of(cell: str) -> list[str]:
    return ["x", "h0", *(["c0"] if cell == "lstm" else []), "w_ih", "w_hh", "b_ih", "b_hh"]
