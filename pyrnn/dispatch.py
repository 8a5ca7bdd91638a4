"""One layer in one direction, forward and backward, on the kernels or on the reference.

What the operations and the layers have in common below their arguments: the name of the cell, its
variant and its arrays go in, results come out by name. Only who uses the reference imports it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _core
from . import checkpoint as chunks
from ._core import KeptWeights
from .backends import use_reference
from .checks import checked_integer
from .kernel_variant import kernel_variant, named_gradients
from .tape import Array, CheckpointTape, Gradients, LayerInputs, Tape
from .variants import Variant

__all__ = [
    "Gradients",
    "Results",
    "backward",
    "forward",
    "new_tape",
    "tape_inputs",
    "tape_saved",
]


class Results(NamedTuple):
    """Of a forward pass; shapes as in :class:`pyrnn.tape.Tape`."""

    y: Array
    h_n: Array
    c_n: Array | None
    cells: Array | None  # every c_t, where asked for
    tape: Tape | CheckpointTape | None


def forward(
    cell: str,
    variant: Variant | None,
    x: Array,
    layer: LayerInputs,
    lengths: Array | None,
    reverse: bool,
    save: bool,
    checkpoint: int | None = None,
    return_cells: bool = False,
    kept: KeptWeights | None = None,
) -> Results:
    """Every argument is checked here; see :func:`pyrnn.ops.lstm_forward`.

    ``kept``: of this layer, whatever its weights are by now.
    """
    steps = None if checkpoint is None else checked_integer("checkpoint", checkpoint, 1)
    if use_reference():
        from .reference.scan import scan_forward

        checked = _core.check_forward(cell, x, *layer, lengths, kernel_variant(variant))
        results = Results(*scan_forward(cell, *checked, reverse, save, steps, variant))
        return results if return_cells else results._replace(cells=None)
    if steps is not None:
        y, ((h_n, c_n),), states, cells = chunks.forward(
            cell, [variant], x, [layer], lengths, reverse, steps, save, return_cells
        )
        return Results(y, h_n, c_n, cells, states)
    if not save and not return_cells and chunks.converts(x, layer):
        y, ((h_n, c_n),) = chunks.infer(cell, [variant], x, [layer], lengths, reverse, kept=[kept])
        return Results(y, h_n, c_n, None, None)
    y, h_n, c_n, inputs, saved = _core.forward(
        cell, x, *layer, lengths, kernel_variant(variant), reverse, save or return_cells,
        kept,
    )  # fmt: skip
    tape = None
    if inputs is not None and saved is not None:
        tape = new_tape(cell, variant, inputs, reverse, saved)
    cells = tape.c if return_cells and tape is not None else None
    if cells is not None:
        # The tape is read-only; without one the array is the caller's alone.
        cells = cells.copy() if save else cells
        cells.flags.writeable = True
    return Results(y, h_n, c_n, cells, tape if save else None)


def backward(
    tape: Tape | CheckpointTape,
    dy: Array | None,
    dh_n: Array | None,
    dc_n: Array | None,
    dcells: Array | None = None,
    kept: KeptWeights | None = None,
) -> Gradients:
    """Every argument is checked here; see :func:`pyrnn.ops.lstm_backward`."""
    if isinstance(tape, CheckpointTape) and len(tape.layers) != 1:
        raise ValueError(f"tape: expected that of one layer, got a stack of {len(tape.layers)}")
    if use_reference() or isinstance(tape, CheckpointTape):
        layer = tape if isinstance(tape, Tape) else tape.layers[0]
        dy, dh_n, dc_n, dcells = _core.check_backward(
            tape.cell, tape.x, layer.h0, layer.w_hh, dy, dh_n, dc_n, dcells
        )
    if use_reference():
        from .reference.scan import scan_backward

        return scan_backward(tape, dy, dh_n, dc_n, dcells)
    made: tuple[Any, ...]
    if isinstance(tape, CheckpointTape):
        dx, ((dh0, dc0),), (sums,) = chunks.backward(tape, dy, [(dh_n, dc_n)], dcells)
        made = dx, dh0, dc0, *sums[:4], named_gradients(sums[4:])
    else:
        made = _core.backward(
            tape.cell, tape_inputs(tape), tape_saved(tape), tape.reverse, dy, dh_n, dc_n, dcells,
            kept,
        )  # fmt: skip
    return Gradients(*made)


def new_tape(
    cell: str,
    variant: Variant | None,
    inputs: tuple[Any, ...],
    reverse: bool,
    saved: tuple[Any, ...],
) -> Tape:
    """Of the compiled module's results; its arrays are read-only already."""
    # Every call for training makes one for each of its passes: Tape() takes seven times as long.
    tape = object.__new__(Tape)
    x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths = inputs
    gates, h, c, norm_ih, norm_hh, rstd = saved
    fields = {
        "cell": cell, "x": x, "h0": h0, "c0": c0, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih,
        "b_hh": b_hh, "lengths": lengths, "reverse": reverse, "gates": gates, "h": h, "c": c,
        "variant": variant, "norm_ih": norm_ih, "norm_hh": norm_hh, "rstd": rstd,
    }  # fmt: skip
    object.__setattr__(tape, "__dict__", fields)
    return tape


def tape_inputs(tape: Tape) -> tuple[Any, ...]:
    """What the compiled module takes first of a tape."""
    return (
        tape.x, tape.h0, tape.c0, tape.w_ih, tape.w_hh, tape.b_ih, tape.b_hh, tape.lengths,
        kernel_variant(tape.variant),
    )  # fmt: skip


def tape_saved(tape: Tape) -> tuple[Any, ...]:
    """What forward stored."""
    return tape.gates, tape.h, tape.c, tape.norm_ih, tape.norm_hh, tape.rstd
