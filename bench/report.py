"""What ``python -m bench`` prints and saves."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cases import CASES, GRID, Case
from compare import Row, run
from machine import describe, measure_limits
from peers import PEERS, Peer


def select(text: str, grid: bool, names: str | None) -> tuple[list[Case], list[type[Peer]]]:
    """The cases whose name contains ``text``, and the installed peers of ``names``.

    Raises
    ------
    ValueError
        No such case, an unknown peer, or pyrnn not among the peers.
    """
    cases = [case for case in (GRID if grid else CASES) if text in case.name]
    if not cases:
        raise ValueError(f"--filter: no case's name contains {text!r}")
    known = [peer.name for peer in PEERS]
    wanted = known if names is None else [name.strip() for name in names.split(",")]
    if unknown := sorted(set(wanted) - set(known)):
        raise ValueError(f"--peers: expected names of {', '.join(known)}, got {', '.join(unknown)}")
    if "pyrnn" not in wanted:
        raise ValueError("--peers: expected pyrnn among them")
    kinds = []
    for peer in PEERS:
        if peer.name not in wanted:
            continue
        if module := peer.missing():
            print(f"{peer.name}: left out, {module} is not installed", file=sys.stderr)
        else:
            kinds.append(peer)
    return cases, kinds


def _micros(seconds: float) -> str:
    us = seconds * 1e6
    return f"{us / 1000:.1f}k" if us >= 1e4 else f"{us:.0f}" if us >= 100 else f"{us:.1f}"


def _table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(row: Row, names: Sequence[str]) -> str:
    cells = [row.case.name]
    cells += [_micros(row.median(name)) if name in row.samples else "–" for name in names]
    cells += [f"{row.gflops:.1f}", _micros(row.bound), f"{row.share:.0%}"]
    cells += [row.best_peer or "–", "–" if row.ratio is None else f"{row.ratio:.2f}"]
    return _table_line(cells)


def report(
    cases: Sequence[Case],
    kinds: Sequence[type[Peer]],
    threads: int,
    seconds: float,
    repeat: int | None,
    file: Path | None,
) -> None:
    """Run the cases, print a Markdown table as they end, and write everything to ``file``.

    Times are in µs, ``k`` for thousands.
    """
    machine, limits = describe(), measure_limits()
    print(f"{machine['processor']}, {threads} of {machine['cores']} cores")
    print(", ".join(f"{name} {v}" for name, v in machine["versions"].items()))
    print(f"kernels: {machine['build']['isa']}")
    print("one thread: " + ", ".join(f"{k} FMA {v:.0f} GFLOP/s" for k, v in limits.fma.items()))
    reads = [f"{n >> 10} KiB {limits.read_rate(n):.0f} GB/s" for n in (1 << 14, 1 << 18, 1 << 22)]
    print("one thread: read " + ", ".join(reads))
    print()
    names = [kind.name for kind in kinds]
    head = ["case", *names, "GFLOP/s", "bound", "share", "best peer", "ratio"]
    print(_table_line(head))
    print(_table_line(["---"] * len(head)), flush=True)
    rows = []
    for case in cases:
        row = run(case, kinds, threads, limits, seconds, repeat)
        print(_line(row, names), flush=True)
        rows.append(row.as_dict())
    if file is not None:
        result = {
            "machine": machine,
            "threads": threads,
            "limits": {
                "fma_gflops": limits.fma,
                "read_gbs": limits.read,
                "activation_ns": limits.activation,
            },
            "rows": rows,
        }
        file.write_text(json.dumps(result, indent=1) + "\n")
