"""The loss of a classifier, and clipping of gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .checks import checked_number, shape_text
from .module import Grads
from .tape import Array

__all__ = ["clip_grad_norm", "softmax_cross_entropy"]

# Gradients as they come: of a layer, by name, or in any iterable of these.
GradTree: TypeAlias = "Grads | Mapping[str, Any] | Array | Iterable[Any]"


def softmax_cross_entropy(
    logits: npt.ArrayLike, targets: npt.ArrayLike, mask: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """Mean of ``-log softmax(logits)[target]``, and its gradient.

    Parameters
    ----------
    logits : array
        (..., K) float32 or float64: scores of K classes.
    targets : array of integers
        (...), each in 0..K-1 where the mask is True.
    mask : array of bool, optional
        (...). Entries where it is False count for nothing, whatever stands in logits and targets.

    Returns
    -------
    loss : float
        Natural logarithm, averaged over the entries that the mask keeps, in float64; 0.0 where it
        keeps none.
    dlogits : ndarray
        (..., K), of the dtype of logits: gradient of the loss, 0 where masked.

    Raises
    ------
    ValueError
        A wrong shape.
    TypeError
        Another dtype.
    IndexError
        A target outside 0..K-1.

    Notes
    -----
    The largest score of a row is subtracted first, so that no exponential overflows.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> loss, dlogits = pyrnn.softmax_cross_entropy(np.array([[0.0, 0.0], [3e4, 0.0]]), [0, 0])
    >>> round(loss, 4), dlogits.tolist()
    (0.3466, [[-0.25, 0.25], [0.0, 0.0]])
    """
    logits = np.asarray(logits)
    if logits.dtype.newbyteorder("=").name not in ("float32", "float64"):
        raise TypeError(f"logits: expected float32 or float64, got {logits.dtype.name}")
    if logits.ndim == 0:
        raise ValueError("logits: expected shape (..., K), got ()")
    leading, classes = logits.shape[:-1], logits.shape[-1]
    targets = _entries("targets", targets, leading, "iu", "integers")
    rows = logits.reshape(math.prod(leading), classes)
    if mask is None:
        kept = None
        of_rows = targets
    else:
        kept = np.flatnonzero(_entries("mask", mask, leading, "b", "booleans"))
        rows, of_rows = rows[kept], targets[kept]
    count = len(rows)
    if count and (of_rows.min() < 0 or of_rows.max() >= classes):
        wrong = of_rows[(of_rows < 0) | (of_rows >= classes)][0]
        raise IndexError(f"targets: expected 0..K-1 = 0..{classes - 1}, got {wrong}")

    dtype = logits.dtype.newbyteorder("=")
    loss, drows = 0.0, np.zeros((count, classes), dtype)
    if count:
        loss = _mean_cross_entropy(rows, of_rows, drows)
    if kept is None:
        return loss, drows.reshape(logits.shape)
    dlogits = np.zeros((math.prod(leading), classes), dtype)
    dlogits[kept] = drows
    return loss, dlogits.reshape(logits.shape)


def _entries(name: str, value: npt.ArrayLike, shape: tuple[int, ...], kinds: str, of: str) -> Array:
    array = np.asarray(value)
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64 if of == "integers" else bool)
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name}: expected {of}, got {array.dtype.name}")
    if array.shape != shape:
        raise ValueError(
            f"{name}: expected shape {shape_text(shape)}, that of logits without its last axis, "
            f"got {shape_text(array.shape)}"
        )
    return array.reshape(-1)


def _mean_cross_entropy(rows: Array, targets: Array, drows: Array) -> float:
    """Write the gradient of the mean over the rows (N, K) into drows (N, K)."""
    count = len(rows)
    index = np.arange(count)
    with np.errstate(all="ignore"):
        largest = rows.max(axis=1, keepdims=True)
        np.exp(np.subtract(rows, largest, out=drows), out=drows)
        total = drows.sum(axis=1, keepdims=True)
        above = largest[:, 0].astype(np.float64) - rows[index, targets]
        loss = float(np.mean(np.log(total[:, 0].astype(np.float64)) + above))
        drows /= total * drows.dtype.type(count)
        drows[index, targets] -= drows.dtype.type(1 / count)
    return loss


def clip_grad_norm(grads: GradTree, max_norm: float, *, error_if_nonfinite: bool = False) -> float:
    """Scale gradients in place so that their norm is at most ``max_norm``.

    The norm is that of all elements of all arrays together. Where an element is NaN or infinite no
    scale can help: the gradients then stay as they are, and a warning names the first such array.

    Parameters
    ----------
    grads : Grads, mapping, array, or iterable of these
        Of a result of ``backward``, its ``params``.
    max_norm : float
        At least 0; infinity measures without clipping.
    error_if_nonfinite : bool
        Raise instead of warning.

    Returns
    -------
    float
        The norm before, summed in float64 without overflow or underflow.

    Raises
    ------
    FloatingPointError
        An element is not finite, with ``error_if_nonfinite``.
    TypeError
        An array of another dtype than float32 and float64.
    ValueError
        A negative or NaN ``max_norm``, or an array that is read-only.

    Warns
    -----
    RuntimeWarning
        An element is not finite.

    Notes
    -----
    Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks", ICML
    2013, algorithm 1.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> grads = {"weight": np.array([3.0, 4.0])}
    >>> pyrnn.clip_grad_norm(grads, 1.0)
    5.0
    >>> grads["weight"].round(3).tolist()
    [0.6, 0.8]
    """
    max_norm = checked_number("max_norm", max_norm, 0.0)
    arrays = list(_leaves("grads", grads))
    for name, array in arrays:
        if array.dtype.newbyteorder("=").name not in ("float32", "float64"):
            raise TypeError(f"{name}: expected float32 or float64, got {array.dtype.name}")
        if not array.flags.writeable:
            raise ValueError(f"{name}: expected a writable array")
    with np.errstate(all="ignore"):
        scale, root = _scaled_norm([array for _, array in arrays])
        norm = scale * root
        if not math.isfinite(root):
            bad = next(name for name, array in arrays if not np.isfinite(array).all())
            message = f"{bad} is not finite, so the gradients cannot be clipped (norm {norm})"
            if error_if_nonfinite:
                raise FloatingPointError(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        elif norm > max_norm:
            factor = max_norm / scale / root
            for _, array in arrays:
                array *= factor
    return norm


def _leaves(name: str, grads: GradTree) -> Iterator[tuple[str, Array]]:
    if isinstance(grads, Grads):
        grads = grads.params
    if isinstance(grads, np.ndarray):
        yield name, grads
    elif isinstance(grads, Mapping):
        for key, value in grads.items():
            yield from _leaves(f"{name}[{key!r}]", value)
    elif isinstance(grads, Iterable) and not isinstance(grads, (str, bytes)):
        for key, value in enumerate(grads):
            yield from _leaves(f"{name}[{key}]", value)
    else:
        raise TypeError(f"{name}: expected an array or gradients, got {type(grads).__name__}")


def _scaled_norm(arrays: list[Array]) -> tuple[float, float]:
    """(s, r) with norm s * r; r is finite exactly where all elements are."""
    # Not a dot product: the threads of a BLAS would show in the last digits.
    total = sum((float(np.square(a, dtype=np.float64).sum()) for a in arrays), 0.0)
    # Squares of normal numbers neither overflow nor vanish: nothing to scale.
    if math.isnan(total) or 1e-280 < total < math.inf:
        return 1.0, math.sqrt(total)
    largest = max((float(np.abs(a).max(initial=0.0)) for a in arrays), default=0.0)
    if largest == 0.0 or not math.isfinite(largest):
        return 1.0, largest
    scaled = (np.divide(a, largest, dtype=np.float64) for a in arrays)
    return largest, math.sqrt(sum(float(np.square(a).sum()) for a in scaled))
