"""Sequences run in chunks of steps on the kernels, the states carried from one chunk to the next.

A value, a state and a gradient are the same chain of operations however time is cut, so a pass in
chunks gives the bits of the whole one. Forward that keeps only the states ahead of the chunks
needs no more for its backward pass than one chunk's tape; forward that keeps nothing runs a stack
of layers, or an input that has to be converted, in memory that does not grow with T.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from . import _core
from ._core import KeptWeights
from .kernel_variant import kernel_variant, variant_arrays
from .tape import Array, CheckpointTape, LayerInputs
from .variants import Variant

State = tuple[Array, Array | None]  # h and c of one layer, [B, H], or their gradients
DState = tuple[Array | None, Array | None]
# dw_ih, dw_hh, db_ih, db_hh and the gradients of the arrays of a variant; None where there is none
Sums = list[Array | None]
Variants = Sequence[Variant | None]  # one a layer

# Every chunk packs the weights anew, which takes as long as about a hundred (step, row) pairs.
_ROWS_OF_A_CHUNK = 8192
# One step alone would run in another way, and few would show what a call costs.
_LEAST_STEPS = 16


def forward(
    cell: str,
    variants: Variants,
    x: Array,  # [T, B, I] or tokens [T, B]
    layers: Sequence[LayerInputs],
    lengths: Array | None,  # [B]
    reverse: bool,
    steps: int,
    save: bool,
    return_cells: bool = False,
) -> tuple[Array, list[State], CheckpointTape | None, Array | None]:
    """y of the last layer, the final states of each, the tape with one state a chunk, every c_t."""
    x, lowest, lengths = _check(cell, variants[0], x, layers[0], lengths)
    checked = _check_upper(cell, variants, lowest, layers[1:])
    h0, c0 = checked[0][:2]
    count = max(-(-len(x) // steps) - 1, 0)
    h = np.empty((count, len(layers), *h0.shape), h0.dtype)
    c = None if c0 is None else np.empty((count, len(layers), *c0.shape), c0.dtype)
    y = np.empty((len(x), *h0.shape), h0.dtype)
    cells = np.empty((len(x), *c0.shape), c0.dtype) if return_cells and c0 is not None else None
    states = _run(
        cell, variants, x, checked, lengths, reverse, steps, y, (h, c) if save else None, cells
    )
    if not save:
        return y, states, None, cells
    of_layers = () if all(variant is None for variant in variants) else tuple(variants)
    tape = CheckpointTape(cell, x, checked, lengths, reverse, steps, h, c, of_layers)
    return y, states, tape, cells


def backward(
    tape: CheckpointTape,
    dy: Array | None,  # [T, B, H] of the last layer
    dlast: Sequence[DState],
    dcells: Array | None = None,  # [T, B, H] of the last layer
) -> tuple[Array | None, list[State], list[Sums]]:
    """dx of the lowest layer, None for tokens; each layer's dh0, dc0 and gradients of weights."""
    dx = np.empty(tape.x.shape, tape.dtype) if tape.x.ndim == 3 else None
    variants = _variants_of(tape)
    sums = [
        [
            None if array is None else np.zeros_like(array)
            for array in (*layer[2:], *variant_arrays(v))
        ]
        for layer, v in zip(tape.layers, variants, strict=True)
    ]
    dstates: list[DState] = list(dlast)
    for n, start, stop in reversed(list(_chunks(len(tape.x), tape.steps, tape.reverse))):
        runs = _run_again(tape, n, start, stop)
        above = None if dy is None else dy[start:stop]
        of_cells = None if dcells is None else dcells[start:stop]
        while runs:
            inputs, saved = runs.pop()
            k = len(runs)
            below = np.empty_like(inputs[0]) if k > 0 else None if dx is None else dx[start:stop]
            _, dh, dc, *_ = _core.backward_chunk(
                tape.cell, inputs, saved, tape.reverse, above, *dstates[k], of_cells, start,
                (below, *sums[k]),
            )  # fmt: skip
            dstates[k] = dh, dc
            above, of_cells = below, None
    return dx, dstates, sums  # type: ignore[return-value]


def unstacked(tape: CheckpointTape) -> list[CheckpointTape]:
    """A tape for each layer, for the reference, which computes what the layers pass up anew."""
    from .reference.scan import scan_forward

    tapes = []
    x = tape.x
    for k, layer in enumerate(tape.layers):
        c = None if tape.c is None else tape.c[:, k : k + 1]
        of_one = tape.variants[k : k + 1]
        tapes.append(
            replace(tape, x=x, layers=(layer,), h=tape.h[:, k : k + 1], c=c, variants=of_one)
        )
        if k + 1 < len(tape.layers):
            variant = of_one[0] if of_one else None
            x = scan_forward(
                tape.cell, x, *layer, tape.lengths, tape.reverse, False, None, variant
            )[0]
    return tapes


def converts(x: Array, layer: LayerInputs) -> bool:
    """Whether the kernels would need a copy of a long x, of the right shape and kind."""
    if not isinstance(x, np.ndarray) or not isinstance(layer.w_ih, np.ndarray):
        return False
    if x.ndim < 2 or len(x) <= 2 * steps_of_inference(x.shape[1]):
        return False
    tokens = x.dtype.kind in "iu"
    if x.ndim != 3 - tokens or (not tokens and x.shape[2:] != layer.w_ih.shape[1:]):
        return False
    plain = type(x) is np.ndarray and x.flags.c_contiguous and x.flags.aligned
    return not plain or not x.dtype.isnative or (tokens and x.dtype != np.int64)


def steps_of_inference(batch_size: int) -> int:
    """Steps of a chunk where nothing is kept: enough for the cost of a chunk not to show."""
    return max(_LEAST_STEPS, _ROWS_OF_A_CHUNK // max(batch_size, 1))


def infer(
    cell: str,
    variants: Variants,
    x: Array,  # [T, B, I] or tokens [T, B]
    layers: Sequence[LayerInputs],
    lengths: Array | None,  # [B]
    reverse: bool,
    batch_first: bool = False,
    kept: Sequence[KeptWeights | None] = (),
) -> tuple[Array, list[State]]:
    """y of the last layer, (T, B, H) or (B, T, H), and the final states; x may be strided."""
    seq_len, batch_size = x.shape[:2]
    _, lowest, _ = _check(cell, variants[0], x[:0], layers[0], None)
    checked = _check_upper(cell, variants, lowest, layers[1:])
    lengths = _core.check_lengths(lengths, seq_len, batch_size)
    shape = (batch_size, seq_len) if batch_first else (seq_len, batch_size)
    y = np.empty((*shape, lowest.h0.shape[1]), lowest.h0.dtype)
    steps = steps_of_inference(batch_size)
    into = y.swapaxes(0, 1) if batch_first else y
    return y, _run(
        cell, variants, x, checked, lengths, reverse, steps, into, None, kept_weights=kept
    )


def _run(
    cell: str,
    variants: Variants,
    x: Array,
    layers: Sequence[LayerInputs],
    lengths: Array | None,
    reverse: bool,
    steps: int,
    y: Array,
    kept: State | None,  # [N, L, B, H]
    cells: Array | None = None,  # [T, B, H] of the last layer
    kept_weights: Sequence[KeptWeights | None] = (),  # of each layer, or of none
) -> list[State]:
    states: list[State] = [(layer.h0, layer.c0) for layer in layers]
    last = len(layers) - 1
    for n, start, stop in _chunks(len(x), steps, reverse):
        if kept is not None and n > 0:
            for of_layers, parts in zip(kept, zip(*states, strict=True), strict=True):
                if of_layers is not None:
                    of_layers[n - 1] = parts
        above, into = x[start:stop], y[start:stop]
        for k, layer in enumerate(layers):
            inputs = (above, *states[k], *layer[2:], lengths, kernel_variant(variants[k]))
            direct = k == last and into.flags.c_contiguous
            keeps = k == last and cells is not None
            above, h, c, _, saved = _core.forward_chunk(
                cell, inputs, reverse, keeps, start, into if direct else None,
                kept_weights[k] if kept_weights else None,
            )  # fmt: skip
            states[k] = h, c
            if keeps and cells is not None and saved is not None:
                cells[start:stop] = saved[2]
        if not into.flags.c_contiguous:
            into[...] = above
    return states


def _run_again(
    tape: CheckpointTape, n: int, start: int, stop: int
) -> list[tuple[_core._Call, _core._Saved | None]]:
    """Inputs and tape of every layer in the n-th chunk that ran."""
    runs: list[tuple[_core._Call, _core._Saved | None]] = []
    above = tape.x[start:stop]
    variants = _variants_of(tape)
    for k, layer in enumerate(tape.layers):
        h, c = layer[:2]
        if n > 0:
            h, c = tape.h[n - 1, k], None if tape.c is None else tape.c[n - 1, k]
        inputs = (above, h, c, *layer[2:], tape.lengths, kernel_variant(variants[k]))
        above, *_, saved = _core.forward_chunk(
            tape.cell, inputs, tape.reverse, True, start, None, None
        )
        runs.append((inputs, saved))
    return runs


def _chunks(seq_len: int, steps: int, reverse: bool) -> Iterator[tuple[int, int, int]]:
    """Number, start and stop of the chunks as they run; without a step, one that is empty."""
    starts = range(0, max(seq_len, 1), steps)
    for n, start in enumerate(reversed(starts) if reverse else starts):
        yield n, start, min(start + steps, seq_len)


def _check(
    cell: str, variant: Variant | None, x: Array, layer: LayerInputs, lengths: Array | None
) -> tuple[Array, LayerInputs, Array | None]:
    """The arguments native and contiguous, their shapes agreeing."""
    x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths = _core.check_forward(
        cell, x, *layer, lengths, kernel_variant(variant)
    )
    return x, LayerInputs(h0, c0, w_ih, w_hh, b_ih, b_hh), lengths


def _check_upper(
    cell: str, variants: Variants, lowest: LayerInputs, above: Sequence[LayerInputs]
) -> tuple[LayerInputs, ...]:
    """All layers, each one's input as wide as the output of the one below."""
    checked = [lowest]
    for variant, layer in zip(variants[1:], above, strict=True):
        no_steps = np.empty((0, *checked[-1].h0.shape), lowest.h0.dtype)
        checked.append(_check(cell, variant, no_steps, layer, None)[1])
    return tuple(checked)


def _variants_of(tape: CheckpointTape) -> Variants:
    return tape.variants or (None,) * len(tape.layers)
