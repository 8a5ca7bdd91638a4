"""Several operations at once: the directions of a layer, or layers above each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from . import _core
from ._core import KeptWeights
from .backends import use_reference
from .dispatch import (
    Gradients,
    Results,
    backward,
    forward,
    new_tape,
    tape_inputs,
    tape_saved,
)
from .kernel_variant import kernel_variant
from .tape import Array, CheckpointTape, LayerInputs, Tape
from .variants import Variant


class Pass(NamedTuple):
    """Arguments of one forward operation among several; x None is y of the one before."""

    x: Array | None
    layer: LayerInputs
    variant: Variant | None
    reverse: bool
    kept: KeptWeights | None = None


class PassBack(NamedTuple):
    """Arguments of one backward operation among several."""

    tape: Tape | CheckpointTape
    dy: Array | None
    dstates: Sequence[Array | None]
    kept: KeptWeights | None = None


def forward_passes(
    cell: str,
    passes: Sequence[Pass],
    lengths: Array | None,
    save: bool,
    checkpoint: int | None,
) -> list[Results]:
    """Results of each pass, which the kernels run side by side where that is faster.

    A pass either takes its own x, or ``None`` and with it the y of the pass before. Those that keep
    only a state every ``checkpoint`` steps run one after the other.
    """
    results: list[Results] = []
    if len(passes) == 1 or checkpoint is not None or use_reference():
        for x, layer, variant, reverse, kept in passes:
            x = results[-1].y if x is None else x
            results.append(
                forward(cell, variant, x, layer, lengths, reverse, save, checkpoint, kept=kept)
            )
        return results
    arguments = [
        (one.x, *one.layer, kernel_variant(one.variant), one.reverse, one.kept) for one in passes
    ]
    for one, (y, h_n, c_n, inputs, saved) in zip(
        passes, _core.forward_side_by_side(cell, arguments, lengths, save), strict=True
    ):
        tape = new_tape(cell, one.variant, inputs, one.reverse, saved) if save else None
        results.append(Results(y, h_n, c_n, None, tape))
    return results


def backward_passes(passes: Sequence[PassBack], chained: bool) -> list[Gradients]:
    """Gradients of each pass; chained, each but the first has the dx before it as dy."""
    tapes = [one.tape for one in passes if isinstance(one.tape, Tape)]
    if len(passes) == 1 or len(tapes) < len(passes) or use_reference():
        results: list[Gradients] = []
        for one in passes:
            dy = results[-1].dx if chained and results else one.dy
            dh_n, dc_n = (*one.dstates, None)[:2]
            results.append(backward(one.tape, dy, dh_n, dc_n, kept=one.kept))
        return results
    arguments = [
        (tape_inputs(tape), tape_saved(tape), tape.reverse, one.dy,
         *(*one.dstates, None)[:2], None, one.kept)
        for one, tape in zip(passes, tapes, strict=True)
    ]  # fmt: skip
    made = _core.backward_side_by_side(tapes[0].cell, arguments, chained)
    return [Gradients(*of_one) for of_one in made]


def side_by_side(ys: Sequence[Array]) -> Array:
    """Outputs of both directions (T, B, P) as one."""
    shape = *ys[0].shape[:2], sum(y.shape[2] for y in ys)
    both = _core.empty(shape, ys[0])
    np.concatenate(ys, axis=2, out=both)
    return both
