"""A packed sequence as the kernels take it, and back: its rows put in their places, all at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..tape import Array


class Packing(NamedTuple):
    """Where the rows of a packed sequence lie in (T, B)."""

    batch_sizes: Any  # int64 tensor [T], falling: rows that take part in each step
    lengths: Array  # int64 [B], falling
    places: Array  # int64 [N] of each row of the data, in T·B


def packing(batch_sizes: Any) -> Packing:
    """Of a ``PackedSequence``, whose ``batch_sizes`` fall."""
    sizes: Array = batch_sizes.numpy()
    batch = int(sizes[0])
    taken = np.arange(batch) < sizes[:, None]  # [T, B]
    return Packing(batch_sizes, np.count_nonzero(taken, axis=0), np.flatnonzero(taken))


def padded(rows: Array, packing: Packing) -> Array:
    """[T, B, ...] of the rows [N, ...], 0 past the lengths."""
    steps, batch = len(packing.batch_sizes), len(packing.lengths)
    made = np.zeros((steps * batch, *rows.shape[1:]), rows.dtype)
    made[packing.places] = rows
    return made.reshape(steps, batch, *rows.shape[1:])


def unpadded(array: Array, packing: Packing) -> Array:
    """The rows [N, ...] of an array [T, B, ...]."""
    return array.reshape(-1, *array.shape[2:]).take(packing.places, axis=0)
