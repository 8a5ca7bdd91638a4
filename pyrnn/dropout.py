"""Dropout between layers, and the seed of all masks of a call."""

from __future__ import annotations

import numpy as np

from . import _core
from .backends import use_reference
from .tape import Array


def drawn_seed(rng: np.random.Generator) -> int:
    """Of 53 bits, those of one float: a single draw, which NumPy makes under a lock, as threads may
    share a layer. An integer of more bits takes NumPy three times as long.
    """
    return int(rng.random() * 2.0**53)


def drop(array: Array, layer: int, seed: int, probability: float) -> Array:
    """``array`` (T, B, S*P) times the mask of one layer: 0 with the probability, else
    1 / (1 - probability).

    A counter-based generator makes the mask, so that a backward pass can draw it again.
    """
    key = seed, layer, 0
    if use_reference():
        from .reference import masks

        return masks.drop(array, key, probability)
    return _core.drop(array, key, probability)
