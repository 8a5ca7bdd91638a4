"""What a module of PyTorch keeps between calls: its weights as the kernels packed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch.utils.weak import WeakIdKeyDictionary

from .._core import KeptWeights
from .function import array
from .plan import Layer, Plan, layer_of, parts_of

# By the address of a layer's first weight: an operator in a graph sees no more of it. What is
# found there proves itself, as ever.
_by_memory: WeakValueDictionary[int, Kept] = WeakValueDictionary()
# By that weight itself, where no layer is: in an exported program.
_by_weight = WeakIdKeyDictionary()


class _Ready(NamedTuple):
    """A layer for inference, and on the memory of which tensors it is."""

    plan: Plan
    tensors: Sequence[Any]
    pointers: list[int]
    layer: Layer


class Kept:
    """Of a module with so many layers and directions.

    Nothing here says what the weights are: each call of the kernels sees to that itself.
    """

    def __init__(self, parts: int) -> None:
        self.weights = [KeptWeights() for _ in range(parts)]
        self._ready: _Ready | None = None

    def layer(self, plan: Plan, tensors: Sequence[Any]) -> Layer:
        """For inference, that of the last call where it is on the same memory."""
        ready, pointers = self._ready, [tensor.data_ptr() for tensor in tensors]
        if ready is not None and ready.pointers == pointers and ready.plan == plan:
            pairs = zip(tensors, ready.tensors, strict=True)
            if all(a is b and a.is_contiguous() for a, b in pairs):
                return ready.layer
        made = layer_of(plan, [array(tensor) for tensor in tensors], 0, self.weights)
        # With other strides the same memory would hold other weights.
        if all(tensor.is_contiguous() for tensor in tensors):
            self._ready = _Ready(plan, tensors, pointers, made)
        return made


def renew(module: Any) -> Kept:
    """A new one for the module, which lives as long as that."""
    kept = Kept(parts_of(module))
    # Past torch.nn.Module, which would look whether it is a parameter.
    module.__dict__["_kept"] = kept
    weight = module._parameters.get("weight_ih_l0")
    if type(weight) is torch.nn.Parameter and weight.is_cpu:  # fake ones have no memory
        _by_memory[weight.data_ptr()] = kept
    return kept


def kept_for(plan: Plan, params: Sequence[Any]) -> Sequence[KeptWeights] | None:
    """What the layer of these parameters keeps; None for weights that somebody computes."""
    first, parts = params[0], parts_of(plan)
    kept = _by_memory.get(first.data_ptr())
    if kept is None and type(first) is torch.nn.Parameter:
        kept = _by_weight.get(first)
        if kept is None or len(kept.weights) != parts:
            kept = _by_weight[first] = Kept(parts)
    return kept.weights if kept is not None and len(kept.weights) == parts else None
