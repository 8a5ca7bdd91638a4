"""What an adapter is: the same network on the same arrays, in the library's fastest form.

An adapter computes ``infer()`` (y and the final states) or ``train()`` (y and the
gradients of ``sum(y * dy)`` by x, the initial states and every parameter) and returns
whatever its library returns; ``named`` turns that into arrays, outside the timing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

from cases import Array, Case, Problem

CLASS = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}


def state_names(states: Any, prefix: str) -> dict[str, Any]:
    return {f"{letter}{prefix}": s for letter, s in zip("hc", states, strict=False)}


class Peer(ABC):
    """One library, set up for one problem."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    modes: ClassVar[tuple[str, ...]] = ("infer", "train")
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    ragged: ClassVar[bool] = False
    # What it rounds weights and operands to; it then takes part where pyrnn's weights are reduced.
    reduced: ClassVar[str] = ""
    # How many times as far from the reference as pyrnn it may be, since it rounds more than that.
    slack: ClassVar[float] = 1
    # Called before each call that is timed, and not timed itself.
    before: Callable[[], object] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """The first module that this adapter needs and that is not installed."""
        return next((module for module in cls.needs if find_spec(module) is None), None)

    @classmethod
    def supports(cls, case: Case) -> bool:
        return (
            case.mode in cls.modes
            and case.dtype in cls.dtypes
            and (cls.ragged or not case.ragged)
            and (not cls.reduced or bool(case.precision))
        )

    @classmethod
    def precision(cls, case: Case) -> str:
        """Of the weights: what says how close to the reference the result has to be."""
        return cls.reduced or case.dtype

    @abstractmethod
    def __init__(self, problem: Problem, threads: int) -> None: ...

    @abstractmethod
    def infer(self) -> Any: ...

    def train(self) -> Any:
        raise TypeError(f"{self.name} does not train")

    @abstractmethod
    def named(self, result: Any) -> dict[str, Array]:
        """Arrays by name: y, h_n, c_n of ``infer``; y, dx, dh0, dc0, d<parameter> of ``train``."""
