"""What a recurrent layer keeps for its backward pass, and the gradients that this gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from .module import Grads, ModuleTape
from .tape import Array, CheckpointTape, Tape

State = TypeVar("State")


@dataclass(slots=True, eq=False)
class LayerGrads(Grads, Generic[State]):
    """Gradients of a recurrent layer.

    Attributes
    ----------
    params : dict of str to ndarray
        Gradients of the parameters, by their names.
    x : ndarray or None
        Gradient of the input, in its shape; None for integer tokens.
    state : ndarray or tuple of two ndarrays
        Gradient of the initial state, in its shape.
    """

    x: Array | None
    state: State


@dataclass(frozen=True, slots=True, eq=False)
class LayerTape(ModuleTape):
    """Read-only record of one ``forward`` of a recurrent layer.

    Attributes
    ----------
    owner : Module
        The layer.
    tapes : tuple of Tape or CheckpointTape
        One for each layer and direction; a single one for a stack that keeps states only.
    layout : str
        How x was laid out: "T, B", "B, T" or, without a batch, "T".
    dropout : tuple of int and float, or None
        Seed of the dropout masks, which ``backward`` draws again, and their probability.
    """

    tapes: tuple[Tape | CheckpointTape, ...]
    layout: str
    dropout: tuple[int, float] | None

    @property
    def nbytes(self) -> int:
        """Bytes stored beside the arguments: all operations' tapes, and what the layers pass up."""
        x = self.tapes[0].x
        passed_up = {id(tape.x): tape.x.nbytes for tape in self.tapes if tape.x is not x}
        return sum(tape.nbytes for tape in self.tapes) + sum(passed_up.values())
