"""pyrnn, three times: as it is used for inference, as a layer, and as the float64 authority."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from cases import Array, Case, Problem
from peer import CLASS, Peer, state_names

import pyrnn
import pyrnn._core as _core


class Layer(Peer):
    """The layer itself, which packs its weights in every call."""

    name = "pyrnn layer"
    modes: ClassVar[tuple[str, ...]] = ("infer",)
    ragged = True

    def __init__(self, problem: Problem, threads: int) -> None:
        case = problem.case
        pyrnn.set_num_threads(threads)
        self.problem = problem
        self.layer = getattr(pyrnn, CLASS[case.cell])(
            case.input_size,
            case.hidden_size,
            case.num_layers,
            bidirectional=case.bidirectional,
            dtype=str(problem.x.dtype),
        )
        self.layer.load_state_dict(problem.params)
        self.state = problem.state if case.cell == "lstm" else problem.state[0]
        self.lengths = case.lengths

    @classmethod
    def supports(cls, case: Case) -> bool:
        return super().supports(case) and not case.precision

    def infer(self) -> Any:
        return self.layer(self.problem.x, self.state, self.lengths)

    def train(self) -> Any:
        y, _, tape = self.layer.forward(self.problem.x, self.state, self.lengths)
        return y, self.layer.backward(tape, self.problem.dy)

    def named(self, result: Any) -> dict[str, Array]:
        y, second = result
        if self.problem.case.mode == "infer":
            states = second if isinstance(second, tuple) else (second,)
            return {"y": y, **state_names(states, "_n")}
        states = second.state if isinstance(second.state, tuple) else (second.state,)
        named = {"y": y, "dx": second.x}
        named |= {f"d{name}": s for name, s in state_names(states, "0").items()}
        return named | {f"d{name}": grad for name, grad in second.params.items()}


class Reference(Layer):
    """The NumPy twin of the kernels: what every result is compared with."""

    name = "reference"
    modes = ("infer", "train")

    def infer(self) -> Any:
        with pyrnn.backend("reference"):
            return super().infer()

    def train(self) -> Any:
        with pyrnn.backend("reference"):
            return super().train()


class Pyrnn(Layer):
    """What one would use: a frozen layer, or its stream for a single step; a layer for training."""

    name = "pyrnn"
    modes = ("infer", "train")

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        case = problem.case
        self.stream: Any = None
        if case.mode == "infer":
            self.frozen = self.layer.freeze(self.precision(case))
            if case.seq_len == 1 and not case.bidirectional and not case.ragged:
                self.stream = self.frozen.stream(case.batch_size)
                self.stream.reset(self.state)
                self.x_t = problem.x[0]

    @classmethod
    def supports(cls, case: Case) -> bool:
        return case.mode in cls.modes and cls.precision(case) in _core.precisions()

    @classmethod
    def precision(cls, case: Case) -> str:
        return case.precision or case.dtype

    def infer(self) -> Any:
        # The stream carries its state on, as it does in use: the first step is the one that is
        # compared with the reference.
        if self.stream is not None:
            return self.stream.step(self.x_t)
        return self.frozen(self.problem.x, self.state, self.lengths)

    def named(self, result: Any) -> dict[str, Array]:
        if self.stream is not None:
            state = self.stream.state
            states = state if isinstance(state, tuple) else (state,)
            return {"y": result[np.newaxis], **state_names(states, "_n")}
        return super().named(result)
