"""Starting values of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from .tape import Array

INITIALISATIONS = ("uniform", "orthogonal")


def generator(rng: int | np.random.Generator | None) -> np.random.Generator:
    """The Generator itself, or a new one from a seed (None: from the system's entropy)."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is not None and (isinstance(rng, bool) or not isinstance(rng, (int, np.integer))):
        raise TypeError(f"rng: expected None, an int or a Generator, got {type(rng).__name__}")
    if rng is not None and rng < 0:
        raise ValueError(f"rng: expected a seed of at least 0, got {rng}")
    return np.random.default_rng(rng)


def uniform(
    rng: np.random.Generator, shape: tuple[int, ...], fan: int, dtype: np.dtype[Any]
) -> Array:
    """Uniform in ±1/sqrt(fan), PyTorch's rule for recurrent and linear layers."""
    bound = fan**-0.5
    return rng.uniform(-bound, bound, size=shape).astype(dtype)


def starting_value(
    kind: str,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    hidden_size: int,
    dtype: np.dtype[Any],
    is_orthogonal: bool,
) -> Array:
    """Of one parameter: a layer norm starts as the identity."""
    if kind.startswith("ln_"):
        return np.full(shape, 1.0 if kind.endswith("weight") else 0.0, dtype)
    if is_orthogonal and kind == "weight_hh":
        return orthogonal(rng, shape[0] // hidden_size, hidden_size, dtype, shape[1])
    return uniform(rng, shape, hidden_size, dtype)


def orthogonal(
    rng: np.random.Generator,
    blocks: int,
    size: int,
    dtype: np.dtype[Any],
    columns: int | None = None,
) -> Array:
    """``blocks`` random orthogonal matrices (size, size), one below the other.

    With ``columns`` (size, columns), whose rows or columns, whichever are fewer, are orthonormal.

    Each is drawn uniformly over the orthogonal group: the Q of a normal matrix, with the signs of
    R's diagonal made positive (Mezzadri, "How to generate random matrices from the classical
    compact groups", 2007). One for each gate, so that each gate's W_hh h keeps the norm of h
    (Saxe et al., arXiv:1312.6120).

    Examples
    --------
    >>> import numpy as np
    >>> from pyrnn.initialisation import orthogonal
    >>> q = orthogonal(np.random.default_rng(0), 1, 3, np.dtype("float64"))
    >>> np.allclose(q @ q.T, np.eye(3))
    True
    """
    drawn = []
    columns = size if columns is None else columns
    for _ in range(blocks):
        q, r = np.linalg.qr(rng.standard_normal((max(size, columns), min(size, columns))))
        q = q * np.copysign(1.0, np.diag(r))
        drawn.append(q if columns <= size else q.T)
    return np.concatenate(drawn).astype(dtype)
