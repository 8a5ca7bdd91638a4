"""Threads, and what this build is."""

from __future__ import annotations

from . import _core


def set_num_threads(n: int) -> None:
    """Use at most ``n`` threads in each call from now on.

    Only pyrnn is affected. Without a call to this function, each call uses what OpenMP
    offers (``OMP_NUM_THREADS``, or every core; in a build without OpenMP too, where only
    threadpoolctl has nothing to limit). Results do not depend on it.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    ValueError
        If ``n`` is below 1.

    Examples
    --------
    >>> import pyrnn
    >>> pyrnn.set_num_threads(2)
    >>> pyrnn.get_num_threads()
    2
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """The most threads that the next call may use.

    Examples
    --------
    >>> import pyrnn
    >>> pyrnn.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def show_config() -> None:
    """Print the version, the instruction set in use, OpenMP and the compiler.

    Examples
    --------
    >>> import pyrnn
    >>> pyrnn.show_config()  # doctest: +ELLIPSIS
    pyrnn ...
    """
    config = _core.config()
    print(f"pyrnn {config.pop('version')}")
    for key, value in config.items():
        shown = ", ".join(value) if isinstance(value, (list, tuple)) else value
        print(f"  {key}: {shown}")
