"""What a layer of PyTorch is to the kernels: a layer of pyrnn on the memory of its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .._core import KeptWeights
from ..layers import GRU, LSTM, RNN
from ..stack import Recurrent
from ..tape import Array
from ..variants import tapes_h

Layer = Recurrent[Any]

# PyTorch's names of the cells -> the layer, and its nonlinearity.
_KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "RNN_TANH": (RNN, {"nonlinearity": "tanh"}),
    "RNN_RELU": (RNN, {"nonlinearity": "relu"}),
    "GRU": (GRU, {}),
    "LSTM": (LSTM, {}),
}


class Plan(NamedTuple):
    """What one call computes, apart from its arrays.

    ``dropout`` is 0 where none is drawn in this call.
    """

    mode: str
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    dropout: float
    dtype: str


def states_of(plan: Plan) -> int:
    """Of the cell: h, or h and c. No property: tracers before PyTorch 2.7 know none of a tuple."""
    return 2 if plan.mode == "LSTM" else 1


def parts_of(plan: Any) -> int:
    """Layers times directions, of a plan or of a module."""
    parts: int = plan.num_layers * (1 + plan.bidirectional)
    return parts


def state_shapes(plan: Plan, batch_size: Any) -> list[tuple[Any, ...]]:
    """Of h and, of the LSTM, c."""
    sizes = (plan.proj_size or plan.hidden_size, plan.hidden_size)[: states_of(plan)]
    return [(parts_of(plan), batch_size, size) for size in sizes]


@lru_cache(maxsize=256)
def _pattern(plan: Plan) -> Layer:
    """A layer without parameters, to be copied."""
    kind, options = _KINDS[plan.mode]
    if plan.proj_size:
        options = options | {"proj_size": plan.proj_size}
    layer: Layer = kind(
        plan.input_size, plan.hidden_size, plan.num_layers, bias=plan.bias,
        bidirectional=plan.bidirectional, dtype=plan.dtype, rng=0, **options,
    )  # fmt: skip
    layer.dropout = plan.dropout
    layer.params = dict.fromkeys(layer.params, np.empty(0))
    return layer


def layer_of(
    plan: Plan,
    params: Sequence[Array],
    seed: int = 0,
    kept: Sequence[KeptWeights] | None = None,
) -> Layer:
    """The layer of one call: pyrnn's order of parameters is PyTorch's.

    ``kept``: one for each layer and direction, for calls that read the same weights.
    """
    pattern = _pattern(plan)
    layer: Layer = object.__new__(type(pattern))  # as copy.copy does, in a tenth of the time
    vars(layer).update(vars(pattern))
    layer.params = dict(zip(pattern.params, params, strict=True))
    layer._given_seed = seed  # of PyTorch's generator
    layer._kept = kept
    layer._variants = {}  # the pattern outlives the weights
    return layer


@lru_cache(maxsize=256)
def stored(plan: Plan) -> tuple[str, ...]:
    """Arrays on the tape of each layer and direction, as :class:`pyrnn.tape.Tape` has them."""
    layer = _pattern(plan)
    names = ["gates"]
    if tapes_h(layer._kernel, layer._variant(0, None)):
        names.append("h")
    if states_of(plan) == 2:
        names.append("c")
    return tuple(names)
