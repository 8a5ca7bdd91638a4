"""Layer normalisation over the last axis (Ba, Kiros & Hinton, arXiv:1607.06450).

norm = (a - mean) * rstd,  rstd = 1 / sqrt(var + eps),  y = norm * weight + bias
"""

from __future__ import annotations

import numpy as np

from ..tape import Array
from ..variants import EPS


def normalise(a: Array) -> tuple[Array, Array]:
    """norm [..., N] and rstd [..., 1] of a [..., N]."""
    less_mean = a - a.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt((less_mean * less_mean).mean(axis=-1, keepdims=True) + EPS)
    return less_mean * rstd, rstd


def normalise_backward(
    dnorm: Array,  # [..., N]
    norm: Array,  # [..., N]
    rstd: Array,  # [..., 1]
) -> Array:
    """da [..., N]: mean and variance depend on every a of a row."""
    mean = dnorm.mean(axis=-1, keepdims=True)
    along = (dnorm * norm).mean(axis=-1, keepdims=True)
    return np.asarray(rstd * (dnorm - mean - norm * along))
