"""``python -m bench sweep``: how cost grows with T, B, H, the threads and the lengths of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from compare import alternate, authority, verify
from figure import draw_sweeps
from isolated import isolated
from peer import Peer
from report import introduce, matches
from results import micros, save, table_head, table_line

_FIELD = {"T": "seq_len", "B": "batch_size", "H": "hidden_size"}


@dataclass(frozen=True)
class Sweep:
    """One size of a case takes the values; ``threads`` and I follow or stay as they are."""

    symbol: str
    values: tuple[int, ...]
    case: Case

    def cases(self, threads: int) -> list[tuple[Case, int]]:
        """Each with its number of threads."""
        if self.symbol == "threads":
            return [(self.case, n) for n in self.values]
        sizes = [{_FIELD[self.symbol]: value} for value in self.values]
        if self.symbol == "H":
            sizes = [size | {"input_size": size["hidden_size"]} for size in sizes]
        return [(replace(self.case, **size), threads) for size in sizes]  # type: ignore[arg-type]

    @property
    def fixed(self) -> str:
        """What all of its cases have in common."""
        case = self.case
        sizes = {"H": case.hidden_size, "B": case.batch_size, "T": case.seq_len}
        known = [f"{s} {v}" for s, v in sizes.items() if s != self.symbol]
        return " ".join([case.cell, *known])


def _counts(threads: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all."""
    powers = [1 << k for k in range(threads.bit_length())]
    return tuple(sorted({n for n in powers if n < threads} | {threads}))


def sweeps(threads: int) -> list[Sweep]:
    found = []
    for mode in ("infer", "train"):
        base = Case(mode, "lstm", 128, 128, 8, 64)
        found += [
            Sweep("T", (1, 4, 16, 64, 256, 1024), base),
            Sweep("B", (1, 2, 4, 8, 16, 32, 64, 128, 256), base),
            Sweep("H", (8, 16, 32, 64, 128, 256, 512, 1024), replace(base, seq_len=16)),
            Sweep("threads", _counts(threads), replace(base, hidden_size=256, batch_size=32)),
        ]
    return found


def slope(values: Sequence[float], times: Sequence[float]) -> float | None:
    """The exponent of growth over the upper half of the values: least squares of the logarithms.

    Below it fixed costs bend the line. None with fewer than two values.

    Examples
    --------
    >>> round(slope([1, 2, 4, 8], [100.0, 101.0, 4.0, 16.0]), 2)
    2.0
    """
    upper = len(values) // 2
    if len(values) - upper < 2:
        upper = 0
    if len(values) < 2:
        return None
    return float(np.polyfit(np.log(values[upper:]), np.log(times[upper:]), 1)[0])


def measure(sweep: Sweep, kinds: Sequence[type[Peer]], threads: int, seconds: float) -> Any:
    """What is saved of a sweep: medians in µs per peer and value, and the slopes."""
    samples: dict[str, list[list[float] | None]] = {kind.name: [] for kind in kinds}
    for case, count in sweep.cases(threads):
        expected = authority(case)
        running = [kind for kind in kinds if kind.supports(case)]
        peers = [isolated(kind, count) for kind in running]
        for peer in peers:
            peer.prepare(case, verify, expected)
        turns = dict(
            zip((kind.name for kind in running), alternate(peers, seconds, None), strict=True)
        )
        for name, found in samples.items():
            found.append(turns.get(name))
    medians = {
        name: [None if turns is None else float(np.median(turns)) * 1e6 for turns in found]
        for name, found in samples.items()
        if any(found)
    }
    slopes = {}
    for name, times in medians.items():
        known = [(v, t) for v, t in zip(sweep.values, times, strict=True) if t is not None]
        slopes[name] = slope([v for v, _ in known], [t for _, t in known])
    return {
        "mode": sweep.case.mode,
        "symbol": sweep.symbol,
        "values": sweep.values,
        "fixed": sweep.fixed,
        "median_us": medians,
        "slope": slopes,
    }


def report(
    kinds: Sequence[type[Peer]], threads: int, seconds: float, part: str, folder: Path | None
) -> None:
    """Print a line for each sweep and peer; save sweep.json and sweep.png.

    Raises
    ------
    ValueError
        No sweep whose name matches ``part``.
    """
    chosen = [s for s in sweeps(threads) if matches(part, f"{s.case.mode}-{s.symbol}")]
    if not chosen:
        raise ValueError(f"--filter: no sweep's name, such as infer-T, matches {part!r}")
    machine, limits = introduce(threads)
    results = []
    for sweep in chosen:
        result = measure(sweep, kinds, threads, seconds)
        results.append(result)
        title = f"{result['mode']}-{result['symbol']} ({result['fixed']})"
        print(table_head([title, *map(str, result["values"]), "slope"]))
        for name, times in result["median_us"].items():
            cells = ["–" if t is None else micros(t * 1e-6) for t in times]
            found = result["slope"][name]
            print(table_line([name, *cells, "–" if found is None else f"{found:.2f}"]))
        print(flush=True)
    if folder is not None:
        file = folder / "sweep.json"
        save(file, machine, [x.as_dict() for x in limits], threads=threads, sweeps=results)
        draw_sweeps(file)
