"""Checks of arguments, with messages that name the argument, what was expected and what came."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def checked_integer(name: str, value: Any, least: int) -> int:
    """``value`` as an int, at least ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from None
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    return number


def checked_number(name: str, value: Any, low: float, high: float = float("inf")) -> float:
    """``value`` as a float in [low, high]; NaN is refused."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    number = float(value)
    if not low <= number <= high:
        wanted = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
        raise ValueError(f"{name}: expected a number {wanted}, got {value!r}")
    return number


def checked_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """float32 or float64 in native byte order."""
    found: np.dtype[Any] | None = None
    with suppress(TypeError):
        found = np.dtype(dtype).newbyteorder("=")
    if found is None or found.name not in ("float32", "float64"):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return found


def checked_array(
    name: str, value: Any, dtype: np.dtype[Any], symbols: str, shape: tuple[int, ...]
) -> Array:
    """``value`` as an array of this shape and dtype; only the byte order may be converted."""
    array = with_dtype(name, np.asarray(value), dtype)
    if array.shape != shape:
        raise ValueError(
            f"{name}: expected shape {symbols} = {shape_text(shape)}, got {shape_text(array.shape)}"
        )
    return array


def with_dtype(name: str, array: Array, dtype: np.dtype[Any], also: str = "") -> Array:
    """``array`` where it has this dtype, a copy where only the byte order differs.

    ``also`` is what else the message offers.
    """
    if array.dtype == dtype:
        return array
    if array.dtype.newbyteorder("=") == dtype:
        return array.astype(dtype)
    raise TypeError(f"{name}: expected {dtype.name}{also}, got {array.dtype.name}")


def check_names(what: str, expected: Iterable[str], given: Mapping[str, Any]) -> None:
    """Refuse a mapping whose names are not exactly the expected ones."""
    wanted = list(expected)
    missing = [name for name in wanted if name not in given]
    unexpected = [str(name) for name in given if name not in wanted]
    if missing or unexpected:
        parts = [("missing", missing), ("unexpected", unexpected)]
        text = "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
        raise ValueError(f"{what}: {text}")


def shape_text(shape: tuple[int, ...]) -> str:
    return str(tuple(int(size) for size in shape))
