"""Forward and backward of a whole layer on arrays, the tape as a flat list of them.

Autograd and the custom operators keep that list between the two: tensors that they free, offload
or compute anew as they do with any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._core import KeptWeights
from ..layer_tape import LayerTape
from ..tape import Array, Tape
from ..torch_threads import lent_threads
from ..variants import NUM_GATES
from .plan import Layer, Plan, layer_of, parts_of, states_of, stored


class Inputs(NamedTuple):
    """Arrays of one call, time first; ``states`` is empty for 0."""

    x: Array  # [T, B, I]
    states: Sequence[Array]  # h0 [L*S, B, P] and, of the LSTM, c0 [L*S, B, H]
    params: Sequence[Array]
    lengths: Array | None  # [B]
    seed: int
    kept: Sequence[KeptWeights] | None = None  # L*S


def infer(plan: Plan, inputs: Inputs, layer: Layer | None = None) -> list[Array]:
    """y, h_n and, of the LSTM, c_n; of ``layer``, where that has the parameters already."""
    run = layer or _layer(plan, inputs)
    with lent_threads:
        y, last = run(inputs.x, _state(plan, inputs.states), inputs.lengths)
    return [y, *_states(last)]


def forward(plan: Plan, inputs: Inputs) -> tuple[list[Array], list[Array]]:
    """What ``infer`` gives, with dropout, and the tape."""
    layer = _layer(plan, inputs)
    with lent_threads:
        y, last, tape = layer.forward(inputs.x, _state(plan, inputs.states), inputs.lengths)
    kept = [getattr(part, name) for part in tape.tapes for name in stored(plan)]
    # What a layer has passed up: both directions above it read the same.
    kept += [part.x for part in tape.tapes[layer._directions :: layer._directions]]
    for array in kept:
        array.flags.writeable = True  # PyTorch has no read-only tensors; autograd alone holds it
    return [y, *_states(last)], kept


def backward(
    plan: Plan, inputs: Inputs, kept: Sequence[Array], dy: Array | None, dlast: Sequence[Any]
) -> tuple[Array, list[Array], list[Array]]:
    """dx, the gradients of the initial states and of the parameters."""
    layer = _layer(plan, inputs)
    dstate = dlast[0] if states_of(plan) == 1 else tuple(dlast)
    with lent_threads:
        grads = layer.backward(_tape(plan, layer, inputs, kept), dy, dstate)
    assert grads.x is not None
    return grads.x, _states(grads.state), list(grads.params.values())


def tape_shapes(plan: Plan, seq_len: Any, batch_size: Any) -> list[tuple[Any, ...]]:
    """Of the arrays of a tape, in order."""
    columns = plan.proj_size or plan.hidden_size
    blocks = 4 if plan.mode == "GRU" else NUM_GATES[plan.mode.lower()]
    last = {"gates": blocks * plan.hidden_size, "h": columns, "c": plan.hidden_size}
    shapes = [(seq_len, batch_size, last[name]) for name in stored(plan)] * parts_of(plan)
    passed_up = (seq_len, batch_size, columns * (1 + plan.bidirectional))
    return shapes + [passed_up] * (plan.num_layers - 1)


def _layer(plan: Plan, inputs: Inputs) -> Layer:
    return layer_of(plan, inputs.params, inputs.seed, inputs.kept)


def _tape(plan: Plan, layer: Layer, inputs: Inputs, kept: Sequence[Array]) -> LayerTape:
    """The tape of ``forward``, from its arrays."""
    arrays = iter(kept)
    saved = [{name: next(arrays) for name in stored(plan)} for _ in range(layer._parts)]
    below = [inputs.x, *arrays]
    zeros = [] if inputs.states else layer._zeros(inputs.x.shape[1])
    parts = []
    for k, of_part in enumerate(saved):
        states = [s[k] for s in inputs.states] or zeros
        x, reverse = below[k // layer._directions], k % layer._directions == 1
        optional = of_part.get("h"), of_part.get("c"), layer._variant(k, None)
        arguments = x, *layer._layer(k, states), inputs.lengths, reverse
        parts.append(Tape(layer._kernel, *arguments, of_part["gates"], *optional))
    dropout = (inputs.seed, plan.dropout) if plan.dropout else None
    return LayerTape(layer, tuple(parts), "T, B", dropout)


def _state(plan: Plan, states: Sequence[Array]) -> Any:
    if not states:
        return None
    return states[0] if states_of(plan) == 1 else tuple(states)


def _states(state: Any) -> list[Array]:
    return list(state) if isinstance(state, tuple) else [np.asarray(state)]
