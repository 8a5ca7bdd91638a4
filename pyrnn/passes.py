"""Several operations at once: the directions of a layer, or layers above each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from . import _core
from .backends import use_reference
from .ops import (
    NONLINEARITIES,
    gru_forward,
    gru_name,
    lstm_forward,
    rnn_forward,
    tape_inputs,
    tape_saved,
)
from .tape import Array, CheckpointTape, Tape


class Pass(NamedTuple):
    """Arguments of one forward operation among several; x None is y of the one before."""

    x: Array | None
    states: Sequence[Array]
    weights: Sequence[Array]
    reverse: bool


class PassBack(NamedTuple):
    """Arguments of one backward operation among several."""

    tape: Tape | CheckpointTape
    dy: Array | None
    dstates: Sequence[Array | None]


def forward_passes(
    op: Callable[..., tuple[Any, ...]],
    options: dict[str, Any],
    passes: Sequence[Pass],
    lengths: Array | None,
    save: bool,
    checkpoint: int | None,
) -> list[tuple[Any, ...]]:
    """Results of ``op`` for each pass, which the kernels run side by side where that is faster.

    A pass either takes its own x, or ``None`` and with it the y of the pass before. Those that keep
    only a state every ``checkpoint`` steps run one after the other.
    """
    cell = _cell(op, options)
    if len(passes) == 1 or cell is None or checkpoint is not None or use_reference():
        results: list[tuple[Any, ...]] = []
        for one in passes:
            x = results[-1][0] if one.x is None else one.x
            results.append(
                op(x, *one.states, *one.weights,
                   lengths=lengths, reverse=one.reverse, save=save, checkpoint=checkpoint,
                   **options)
            )  # fmt: skip
        return results
    arguments = []
    for one in passes:
        h0, c0 = one.states if len(one.states) == 2 else (*one.states, None)
        weights = (*one.weights, None, None)[:4]  # biases or none
        arguments.append((one.x, h0, c0, *weights, None, one.reverse))
    results = []
    for one, (y, h_n, c_n, inputs, saved) in zip(
        passes, _core.forward_side_by_side(cell, arguments, lengths, save), strict=True
    ):
        tape = Tape(cell, *inputs, one.reverse, *saved) if save else None
        results.append((y, h_n, tape) if c_n is None else (y, h_n, c_n, tape))
    return results


def backward_passes(
    op: Callable[..., tuple[Any, ...]], passes: Sequence[PassBack], chained: bool
) -> list[tuple[Any, ...]]:
    """Gradients by ``op`` for each pass; chained, each but the first has the dx before it as dy."""
    tapes = [one.tape for one in passes if isinstance(one.tape, Tape)]
    if len(passes) == 1 or len(tapes) < len(passes) or use_reference():
        results: list[tuple[Any, ...]] = []
        for one in passes:
            dy = results[-1][0] if chained and results else one.dy
            results.append(op(one.tape, dy, *one.dstates))
        return results
    arguments = [
        (tape_inputs(tape), tape_saved(tape), tape.reverse, one.dy,
         one.dstates[0], one.dstates[1] if len(one.dstates) == 2 else None, None)
        for one, tape in zip(passes, tapes, strict=True)
    ]  # fmt: skip
    cell = tapes[0].cell
    results = []
    for dx, dh0, dc0, *rest in _core.backward_side_by_side(cell, arguments, chained):
        rest = rest[:4]
        results.append((dx, dh0, dc0, *rest) if cell == "lstm" else (dx, dh0, *rest))
    return results


def _cell(op: Callable[..., Any], options: dict[str, Any]) -> str | None:
    """The kernels' name of a forward operation; None where they do not run it side by side."""
    names = set(options)
    if op is lstm_forward and not names:
        return "lstm"
    if op is gru_forward and names <= {"reset_after"}:
        return gru_name(options.get("reset_after", True))
    if op is rnn_forward and names <= {"nonlinearity"}:
        return NONLINEARITIES[options.get("nonlinearity", "tanh")]
    return None
