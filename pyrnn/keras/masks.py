"""A mask of Keras as lengths: what the kernels read, and where each output stands.

Keras skips masked steps wherever they are; the kernels know a length for each row. So the valid
steps of a row move to its start, and every step then takes the output of the last valid one that
ran before it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..checks import Array


class Steps(NamedTuple):
    """Time first; "in order" is the order in which steps run, from the last with go_backwards."""

    lengths: Array  # (B) valid steps
    order: Array | None  # (T, B) which step is the k-th valid one; None where that is step k
    source: Array  # (T, B) in order: which step of the kernel's y is the output here
    started: Array  # (T, B) in order: whether a valid step has run
    valid: Array  # (T, B) in order


def steps_of(mask: Array, go_backwards: bool) -> Steps | None:
    """``mask`` (T, B), True at valid steps; None where every step is one."""
    if mask.all():
        return None
    lengths = mask.sum(axis=0)
    order = None
    if not (mask == (np.arange(len(mask))[:, None] < lengths)).all():
        order = np.argsort(~mask, axis=0, kind="stable")
    valid = np.ascontiguousarray(mask[::-1] if go_backwards else mask)
    count = np.cumsum(valid, axis=0)
    # Backwards the kernel runs from step length - 1 down, and y stays where its x is.
    source = lengths - count if go_backwards else count - 1
    return Steps(lengths, order, np.clip(source, 0, len(mask) - 1), count > 0, valid)
