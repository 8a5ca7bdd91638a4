"""Which implementation the operations run on: the kernels or the NumPy reference."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NAMES = ("kernels", "reference")


def _checked(name: str, source: str) -> str:
    if name not in _NAMES:
        raise ValueError(f"{source}: expected one of {', '.join(_NAMES)}, got {name!r}")
    return name


_default = _checked(os.environ.get("PYRNN_BACKEND") or "kernels", "PYRNN_BACKEND")
_current: ContextVar[str] = ContextVar("pyrnn_backend", default=_default)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run every operation inside the block on the named backend.

    The choice holds for the current thread (or task) only. The environment
    variable ``PYRNN_BACKEND`` sets the default.

    Parameters
    ----------
    name : {"kernels", "reference"}
        The compiled kernels, or plain NumPy.

    Raises
    ------
    ValueError
        For any other name.

    Examples
    --------
    >>> import pyrnn
    >>> with pyrnn.backend("reference"):
    ...     y, h = pyrnn.GRU(2, 3)(np.zeros((4, 1, 2), "float32"))
    >>> y.shape
    (4, 1, 3)
    """
    token = _current.set(_checked(name, "backend"))
    try:
        yield
    finally:
        _current.reset(token)


def use_reference() -> bool:
    """Whether the reference is in force here."""
    return _current.get() == "reference"
