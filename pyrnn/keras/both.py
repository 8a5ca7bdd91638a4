"""Both directions of a layer side by side, for ``keras.layers.Bidirectional``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..passes import Pass, forward_passes
from ..tape import LayerInputs
from ..variants import variant_of
from .hosts import NumpyHost
from .inner_loop import Result, calls, checked_inputs, converted
from .parameters import Layer


def run_both(
    layers: Sequence[Layer], sequences: Any, states: Sequence[Any], return_sequences: bool
) -> list[Result]:
    """Last output, outputs and states of the forward direction, then of the other.

    Outputs of either stand where their inputs do. ``states`` are those of one, then of the other.
    """
    on, passes, cell = NumpyHost(), [], ""
    per_layer = len(states) // 2
    for k, layer in enumerate(layers):
        weights = converted(on, layer)
        own = states[k * per_layer : (k + 1) * per_layer]
        x, h0, *c0 = checked_inputs(on, weights[0], sequences, own)
        w_hh = np.ascontiguousarray(weights[1])
        rows = w_hh.shape[1]
        cell, variant = variant_of(layer.family, (rows, rows), w_hh.dtype, **layer.options)
        inputs = LayerInputs(h0, c0[0] if c0 else None, weights[0], w_hh, *weights[2:])
        passes.append(Pass(x, inputs, variant, k == 1))
    results = []
    for made in forward_passes(cell, passes, None, save=False, checkpoint=None):
        after = [made.h_n] if made.c_n is None else [made.h_n, made.c_n]
        outputs = made.y.swapaxes(0, 1) if return_sequences else made.h_n[:, None]
        results.append((made.h_n, outputs, after))
    calls[layers[0].family] += 2
    return results
