"""``python -m bench jitter``: how even the steps of a stream are.

pyrnn's are timed twice: with the array that each step gives, and into one that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from cases import Array, Case
from compare import authority, verify
from isolated import isolated
from peer import Peer
from pyrnn_peers import Pyrnn
from report import introduce
from results import save, table_head, table_line

_CASE = Case("infer", "lstm", 64, 64, 1, 1)
# Before the first that counts: caches, branch predictors, the clock of the processor.
_WARM = 1000


def steps(peer: Peer, count: int) -> Array:
    """The time of each step in ns, the reading of the clock included."""
    return _timed(peer.infer, count)


def steps_into(peer: Pyrnn, count: int) -> Array:
    """The same of a stream whose steps go into one array."""
    out = np.empty_like(peer.infer())
    return _timed(partial(peer.stream.step, peer.x_t, out), count)


def _timed(step: Callable[[], Any], count: int) -> Array:
    samples = np.empty(count, np.int64)
    for _ in range(_WARM):
        step()
    for k in range(count):
        start = perf_counter_ns()
        step()
        samples[k] = perf_counter_ns() - start
    return samples


def clock(count: int = 10_000) -> float:
    """What two readings of the clock tell of nothing, in ns."""
    return float(np.median([-(perf_counter_ns() - perf_counter_ns()) for _ in range(count)]))


def summary(samples: Array) -> dict[str, float]:
    """In µs."""
    median, p99, p999 = np.percentile(samples, (50, 99, 99.9)) / 1e3
    found = {"median": median, "p99": p99, "p99.9": p999, "max": samples.max() / 1e3}
    return {name: float(value) for name, value in found.items()}


def report(kinds: Sequence[type[Peer]], threads: int, count: int, folder: Path | None) -> None:
    """Print a line for each peer; save jitter.json."""
    machine, limits = introduce(threads)
    print(f"{_CASE.name}, {count} steps one after the other, µs")
    print(f"(reading the clock, included: {clock() / 1e3:.3f})\n")
    expected = authority(_CASE)
    results: dict[str, Any] = {}
    for kind in kinds:
        peer = isolated(kind, threads)
        peer.prepare(_CASE, verify, expected)
        ways: dict[str, Callable[..., Array]] = {kind.name: steps}
        if kind is Pyrnn:
            ways[f"{kind.name}, out="] = steps_into
        for name, way in ways.items():
            found = summary(peer.use(way, count))
            if not results:
                print(table_head(["library", *found]))
            results[name] = found
            print(table_line([name, *(f"{v:.2f}" for v in found.values())]), flush=True)
    if folder is not None:
        save(
            folder / "jitter.json",
            machine,
            [x.as_dict() for x in limits],
            threads=threads,
            steps=count,
            libraries=results,
        )
