"""Weights packed for inference, for as long as they keep their values.

A tensor's version tells of writes through the tensor, not of those through ``.data`` or NumPy,
which many an optimiser and moving average still uses. So the weights themselves are compared, bit
by bit, with those that were packed, which is one pass over both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..frozen import Frozen
from ..tape import Array
from .function import array
from .plan import Plan, layer_of

# Words compared at a time: 256 KiB of each side and the answers stay in a second-level cache.
_BLOCK = 1 << 15


class Packed(NamedTuple):
    """A frozen layer, the values it was made of, and where these were read."""

    plan: Plan
    frozen: Frozen[Any]
    values: list[Array]  # flat, of integers: NaN is equal to itself
    tensors: Sequence[Any]
    pointers: list[int]
    memory: list[Array]  # of the tensors, flat, of integers


def packed(plan: Plan, tensors: Sequence[Any], before: Packed | None) -> Packed:
    """``before`` where it still stands for these parameters, else anew."""
    pointers = [tensor.data_ptr() for tensor in tensors]
    if before is not None and before.plan == plan:
        if not _in_place(before, tensors, pointers):
            memory = [_words(array(tensor)) for tensor in tensors]
            before = before._replace(tensors=tensors, pointers=pointers, memory=memory)
        if all(map(_same, before.values, before.memory)):
            return before
    arrays = [array(tensor) for tensor in tensors]
    copies = [np.array(one, order="C") for one in arrays]
    frozen = layer_of(plan, copies).freeze(plan.dtype)
    values, memory = list(map(_words, copies)), list(map(_words, arrays))
    return Packed(plan, frozen, values, tensors, pointers, memory)


def _in_place(before: Packed, tensors: Sequence[Any], pointers: list[int]) -> bool:
    """Whether ``before.memory`` is that of the tensors: of one with other strides it is a copy."""
    return pointers == before.pointers and all(
        a is b and a.is_contiguous() for a, b in zip(tensors, before.tensors, strict=True)
    )


def _same(values: Array, memory: Array) -> bool:
    return values.shape == memory.shape and all(
        (values[start : start + _BLOCK] == memory[start : start + _BLOCK]).all()
        for start in range(0, values.size, _BLOCK)
    )


def _words(values: Array) -> Array:
    flat = values.reshape(-1)
    # Words of 8 bytes are compared twice as fast as floats.
    return flat.view(np.int64 if flat.nbytes % 8 == 0 else np.int32)
