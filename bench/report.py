"""What ``python -m bench`` prints and saves."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import DEFAULT, FULL, Case
from compare import run
from figure import draw_comparison
from machine import Limits, describe, measure_limits, text
from peer import Peer
from peers import PEERS
from pyrnn_peers import Pyrnn
from results import Row, micros, save, table_head, table_line


def select(part: str, full: bool, names: str | None) -> tuple[list[Case], list[type[Peer]]]:
    """The cases whose name matches ``part``, and the installed peers of ``names``.

    Raises
    ------
    ValueError
        No such case, an unknown peer, or pyrnn not among the peers.
    """
    cases = [case for case in (FULL if full else DEFAULT) if matches(part, case.name)]
    if not cases:
        raise ValueError(f"--filter: no case's name matches {part!r}")
    return cases, chosen(names)


def matches(part: str, name: str) -> bool:
    """Whether the name contains the regular expression.

    Raises
    ------
    ValueError
        It is none.
    """
    try:
        return re.search(part, name) is not None
    except re.error as error:
        raise ValueError(f"--filter: {error} in {part!r}") from None


def chosen(names: str | None) -> list[type[Peer]]:
    """The installed peers of the comma-separated names; None stands for all.

    Raises
    ------
    ValueError
        An unknown peer, or pyrnn not among them.
    """
    known = [peer.name for peer in PEERS]
    wanted = known if names is None else [name.strip() for name in names.split(",")]
    if unknown := sorted(set(wanted) - set(known)):
        raise ValueError(f"--peers: expected names of {', '.join(known)}, got {', '.join(unknown)}")
    if Pyrnn.name not in wanted:
        raise ValueError(f"--peers: expected {Pyrnn.name} among them")
    kinds = []
    for peer in PEERS:
        if peer.name not in wanted:
            continue
        if module := peer.missing():
            print(f"{peer.name}: left out, {module} is not installed", file=sys.stderr)
        else:
            kinds.append(peer)
    return kinds


def introduce(threads: int) -> tuple[dict[str, Any], list[Limits]]:
    """The machine and its limits for one thread and for all, printed and returned."""
    machine = describe()
    limits = [measure_limits(n) for n in sorted({1, threads})]
    print(f"{machine['processor']}, {threads} of {machine['cores']} processors")
    print(", ".join(f"{name} {v}" for name, v in machine["versions"].items()))
    print(f"kernels: {machine['build']['isa']}, {machine['build']['compiler']}")
    for each in limits:
        print(text(each))
    print(flush=True)
    return machine, limits


def _latency(row: Row) -> str:
    return "–" if not row.latency[0] > 0 else "/".join(f"{ns:.0f}" for ns in row.latency)


def line(row: Row, names: Sequence[str]) -> str:
    cells = [row.case.name]
    cells += [micros(row.median(name)) if name in row.samples else "–" for name in names]
    cells += [f"{row.gflops:.1f}", micros(row.bound), f"{row.share:.0%}"]
    cells += [row.best_peer or "–", "–" if row.ratio is None else f"{row.ratio:.2f}"]
    return table_line([*cells, f"{row.fma:.0f}", _latency(row)])


def head(names: Sequence[str]) -> str:
    measured = ["GFLOP/s", "bound", "share", "best peer", "ratio", "FMA limit", "latency"]
    return table_head(["case", *names, *measured])


def report(
    cases: Sequence[Case],
    kinds: Sequence[type[Peer]],
    threads: int,
    seconds: float,
    repeat: int | None,
    folder: Path | None,
) -> None:
    """Run the cases, print a Markdown table as they end, and save bench.json and bench.png.

    Times are in µs, ``k`` for thousands.
    """
    machine, limits = introduce(threads)
    names = [kind.name for kind in kinds]
    print(head(names), flush=True)
    rows = []
    for case in cases:
        if not Pyrnn.supports(case):
            print(f"{case.name}: left out, pyrnn has no such layer", file=sys.stderr)
            continue
        row = run(case, kinds, threads, limits[-1], seconds, repeat)
        print(line(row, names), flush=True)
        rows.append(row)
    if folder is not None:
        file = folder / "bench.json"
        save(
            file,
            machine,
            [each.as_dict() for each in limits],
            threads=threads,
            rows=[row.as_dict() for row in rows],
        )
        draw_comparison(file)


def compare_kinds(
    what: str,
    kinds: Sequence[type[Peer]],
    cases: Sequence[Case],
    threads: int,
    seconds: float,
    repeat: int | None,
    part: str,
    folder: Path | None,
) -> None:
    """A host on pyrnn, the first of ``kinds``, beside the host itself: a line for each case.

    Saves ``what``.json. Those of ``kinds`` that are not installed are left out, but not the first.

    Raises
    ------
    ValueError
        No case whose name matches ``part``.
    ImportError
        The host is not installed.
    """
    if module := kinds[0].missing():
        raise ImportError(f"{what}: {module} is not installed")
    chosen_cases = [case for case in cases if matches(part, case.name)]
    if not chosen_cases:
        raise ValueError(f"--filter: no case's name matches {part!r}")
    kinds = [kind for kind in kinds if kind.missing() is None]
    names = [kind.name for kind in kinds]
    machine, limits = introduce(threads)
    print(head(names), flush=True)
    rows = []
    for case in chosen_cases:
        row = run(case, kinds, threads, limits[-1], seconds, repeat)
        print(line(row, names), flush=True)
        rows.append(row.as_dict())
    if folder is not None:
        each = [limit.as_dict() for limit in limits]
        save(folder / f"{what}.json", machine, each, threads=threads, rows=rows)
