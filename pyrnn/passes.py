"""Several operations at once: the directions of a layer, or layers above each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from . import _core
from . import checkpoint as chunks
from .backends import use_reference
from .ops import tape_inputs, tape_saved
from .tape import Array, CheckpointTape, LayerInputs, Tape


class Pass(NamedTuple):
    """Arguments of one forward operation among several; x None is y of the one before."""

    x: Array | None
    states: Sequence[Any]
    weights: Sequence[Any]
    reverse: bool


class PassBack(NamedTuple):
    """Arguments of one backward operation among several."""

    tape: Tape | CheckpointTape
    dy: Array | None
    dstates: Sequence[Array | None]


def forward_passes(
    cell: str,
    op: Callable[..., tuple[Any, ...]],
    passes: Sequence[Pass],
    lengths: Array | None,
    save: bool,
    **options: Any,
) -> list[tuple[Any, ...]]:
    """Results of ``op`` for each pass, which the kernels run side by side where that is faster.

    A pass either takes its own x, or ``None`` and with it the y of the pass before.
    """
    inputs = [
        LayerInputs(*(*one.states, None)[:2], *(*one.weights, None, None)[:4]) for one in passes
    ]
    x = passes[0].x
    alone = len(passes) == 1 or use_reference() or options.get("checkpoint") is not None
    if alone or (not save and x is not None and any(chunks.converts(x, i) for i in inputs)):
        results: list[tuple[Any, ...]] = []
        for one in passes:
            results.append(
                op(results[-1][0] if one.x is None else one.x, *one.states, *one.weights,
                   lengths=lengths, reverse=one.reverse, save=save, **options)
            )  # fmt: skip
        return results
    arguments = [(one.x, *given, one.reverse) for one, given in zip(passes, inputs, strict=True)]
    made = _core.forward_side_by_side(cell, arguments, lengths, save)
    results = []
    for one, (y, h_n, c_n, checked, saved) in zip(passes, made, strict=True):
        tape = Tape(cell, *checked, one.reverse, *saved) if save else None
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
        (tape_inputs(tape), tape_saved(tape), tape.reverse, one.dy, *(*one.dstates, None)[:2])
        for tape, one in zip(tapes, passes, strict=True)
    ]
    cell = tapes[0].cell
    results = []
    for dx, dh0, dc0, *rest in _core.backward_side_by_side(cell, arguments, chained):
        results.append((dx, dh0, *rest) if dc0 is None else (dx, dh0, dc0, *rest))
    return results
