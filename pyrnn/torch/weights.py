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
from .plan import Plan, layer_of


class Packed(NamedTuple):
    """A frozen layer, and the values it was made of."""

    plan: Plan
    values: list[Array]  # flat, of integers: NaN is equal to itself
    frozen: Frozen[Any]


def packed(plan: Plan, params: Sequence[Array], before: Packed | None) -> Packed:
    """``before`` where it still stands for these parameters, else anew."""
    if before is not None and before.plan == plan and _same(before.values, params):
        return before
    copies = [np.array(param, order="C") for param in params]
    frozen = layer_of(plan, copies).freeze(plan.dtype)
    return Packed(plan, [_bits(copy) for copy in copies], frozen)


def _same(values: list[Array], params: Sequence[Array]) -> bool:
    return all(
        np.array_equal(value, _bits(param)) for value, param in zip(values, params, strict=True)
    )


def _bits(array: Array) -> Array:
    flat = array.reshape(-1)
    # Words of 8 bytes are compared twice as fast as floats.
    return flat.view(np.int64 if flat.nbytes % 8 == 0 else np.int32)
