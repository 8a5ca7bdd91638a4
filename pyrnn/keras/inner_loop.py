"""The loop over time of a layer of Keras, on the kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ..checks import Array
from .hosts import Host, host
from .masks import steps_of
from .parameters import Layer, NotExpressible, layer_of

# How often each cell ran on the kernels, and for what reason Keras's own loop ran instead.
calls: Counter[str] = Counter()
handed_back: Counter[str] = Counter()

Result = tuple[Any, Any, list[Any]]  # last output (B, H), outputs (B, T, H), states (B, H)


def inner_loop(
    own: Callable[..., Result],
    layer: Any,
    sequences: Any,
    initial_state: Any,
    mask: Any,
    training: bool | None = False,
) -> Result:
    """``layer.inner_loop``; ``own`` is the one that Keras has."""
    try:
        if getattr(layer, "use_cudnn", "auto") is False:
            raise NotExpressible("use_cudnn=False")
        cell = layer.cell
        of_cell = layer_of(cell)
        x = sequences
        if training and cell.recurrent_dropout:
            raise NotExpressible("recurrent_dropout in training")
        if training and cell.dropout:
            x = x * cell.get_dropout_mask(x[:, 0, :])[:, None]
        return run_layer(
            of_cell,
            x,
            initial_state if isinstance(initial_state, (list, tuple)) else [initial_state],
            mask[0] if isinstance(mask, (list, tuple)) else mask,
            return_sequences=layer.return_sequences,
            go_backwards=layer.go_backwards,
            unroll=layer.unroll,
            zero_output_for_mask=layer.zero_output_for_mask,
        )
    except NotExpressible as reason:
        handed_back[str(reason)] += 1
        if str(reason).startswith("cell "):
            # Keras's hooks would take the weights of the cell and leave out what it computes.
            own = keras.layers.RNN.inner_loop.__get__(layer)
    return own(sequences, initial_state, mask, training)


def run_layer(
    layer: Layer,
    sequences: Any,
    initial_state: Any,
    mask: Any = None,
    *,
    return_sequences: bool = False,
    go_backwards: bool = False,
    unroll: bool = False,
    zero_output_for_mask: bool = False,
) -> Result:
    """What Keras's loop gives: with ``go_backwards`` outputs are in the order in which steps ran.

    A masked step repeats the output ahead of it, or gives 0 with ``zero_output_for_mask``.
    """
    on = host()
    weights = converted(on, layer)
    x, *states = checked_inputs(on, weights[0], sequences, initial_state)
    valid = None if mask is None else checked_mask(on, mask)
    steps = None if valid is None else steps_of(valid, go_backwards)
    if steps is not None and steps.order is not None:
        x = on.take(x, steps.order)
    lengths = None if steps is None else steps.lengths
    y, after = on.run(layer, x, states, weights, lengths, go_backwards)
    calls[layer.family] += 1
    if steps is None:
        y = on.flipped(y) if go_backwards and return_sequences else y
        last = after[0]
    else:
        zeros = on.zeros(states[0])  # (B, H)
        # What a masked step gives ahead of every valid one.
        first = states[0] if on.starts_from_state and not unroll else zeros
        shown, source, started = steps.valid, steps.source, steps.started
        if not return_sequences:
            shown, source, started = shown[-1:], source[-1:], started[-1:]
        y = on.where(started, on.take(y, source), first)
        # The unrolled loop of Keras's NumPy backend repeats outputs whatever it is told.
        if zero_output_for_mask and not (unroll and on.starts_from_state):
            y = on.where(shown, y, zeros)
        last = y[-1]
    outputs = y.swapaxes(0, 1) if return_sequences else last[:, None]
    return last, outputs, after


def converted(on: Host, layer: Layer) -> list[Any]:
    """w_ih, w_hh, b_ih, b_hh as ``pyrnn.ops`` takes them."""
    matrices = [on.array(layer.kernel).T, on.array(layer.recurrent).T]
    bias = None if layer.bias is None else on.array(layer.bias)
    if bias is None:
        biases = [None, None]
    elif len(bias.shape) == 2:
        biases = [bias[0], bias[1]]
    else:
        biases = [bias, None]
    for array in matrices:
        on.check(array)
    weights = [*matrices, *biases]
    if layer.family != "gru":  # gates i, f, c, o are pyrnn's own
        return weights
    size = matrices[1].shape[1]
    z, r, n = (slice(k * size, (k + 1) * size) for k in range(3))
    return [None if a is None else on.concatenate([a[r], a[z], a[n]]) for a in weights]


def checked_inputs(on: Host, w_ih: Any, sequences: Any, initial_state: Any) -> list[Any]:
    """x with time first and the states, all of the dtype of the weights."""
    x = on.array(sequences)
    if len(x.shape) != 3 or x.shape[1] == 0:
        raise NotExpressible(f"shape {tuple(x.shape)}")
    if on.is_integer(x):
        x = on.cast(x, w_ih)
    arrays = [x.swapaxes(0, 1), *(on.array(state) for state in initial_state)]
    for array in arrays:
        on.check(array)
        if array.dtype != w_ih.dtype:
            raise NotExpressible(f"dtype {array.dtype} on weights of {w_ih.dtype}")
    return arrays


def checked_mask(on: Host, mask: Any) -> Array:
    """(T, B)."""
    valid: Array = on.mask(mask)
    if valid.ndim == 3 and valid.shape[2] == 1:
        valid = valid[:, :, 0]
    if valid.ndim != 2:
        raise NotExpressible(f"mask of shape {valid.shape}")
    return np.asarray(valid.T)
