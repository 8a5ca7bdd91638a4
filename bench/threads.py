"""Processors: imported before any library that starts threads."""

from __future__ import annotations

import os


def cores() -> int:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_to(threads: int) -> None:
    """Narrow the process to ``threads`` processors.

    Libraries without an option for their number of threads (XLA, NumPy's BLAS) take what
    they find at import.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
