"""``python -m bench load``: what a busy machine and odd values do to pyrnn's times.

Three loads: a process that computes on every processor, PyTorch's threads spinning in the same
process after each of its calls, and numbers too small for the normal format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

from cases import Case, Problem
from compare import alternate, authority, unverified, verify
from isolated import isolated
from machine import DTYPES
from peer import Peer
from pyrnn_peers import Pyrnn
from report import introduce, matches
from results import micros, paired_ratio, save, table_head, table_line
from threads import cores

# From a size that one thread runs to one that fills every cache, with few rows and with many.
_CASES = tuple(
    Case(mode, "lstm", hidden, hidden, batch, 50)
    for mode in ("infer", "train")
    for batch, sizes in ((1, (16, 64, 128, 256, 512)), (32, (64, 256)))
    for hidden in sizes
)
_DENORMAL = ("inputs", "states", "weights", "all")


class BesideTorch(Pyrnn):
    """Before each call PyTorch runs a product on its threads, which then wait for another."""

    needs = ("torch",)

    def __init__(self, problem: Problem, threads: int) -> None:
        torch: Any = import_module("torch")
        super().__init__(problem, threads)
        # All of the processors, and large enough for PyTorch to share it out.
        torch.set_num_threads(cores())
        a = torch.ones(256, 256)
        self.before: Callable[[], object] = lambda: a @ a


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but take time."""
    context = get_context("spawn")
    started = [context.Process(target=_spin, daemon=True) for _ in range(processes)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.kill()


def _neighbourhood(case: Case, threads: int, seconds: float) -> dict[str, float]:
    """Seconds per call: quiet and beside each load, with one thread and with all.

    Medians; beside a process that takes its share in slices of milliseconds, the mean over all.
    """
    kinds: list[tuple[str, type[Peer]]] = [("", Pyrnn)]
    if BesideTorch.missing() is None:
        kinds.append((" torch", BesideTorch))
    expected = authority(case)
    peers, names = [], []
    for suffix, kind in kinds:
        for count in sorted({1, threads}):
            peer = isolated(kind, count)
            peer.prepare(case, verify, expected)
            peers.append(peer)
            names.append(f"{count}{suffix}")
    # Of three turns two may lie in one slice that the system gave to another thread.
    turns = alternate(peers, seconds, None, all_stay=True)
    found = {name: median(samples) for name, samples in zip(names, turns, strict=True)}
    plain = [k for k, name in enumerate(names) if "torch" not in name]
    with busy(cores()):
        for k, samples in zip(
            plain, alternate([peers[k] for k in plain], seconds, None, all_stay=True), strict=True
        ):
            found[f"{names[k]} busy"] = fmean(samples)
    return found


def _odd_values(case: Case, threads: int, seconds: float) -> dict[str, float]:
    """Time over that of ordinary values in the neighbouring turn."""
    kinds = ("", *_DENORMAL)
    peers = [isolated(Pyrnn, threads, kind) for kind in kinds]
    for peer, kind in zip(peers, kinds, strict=True):
        peer.prepare(replace(case, denormal=kind), unverified, None)
    ordinary, *odd = alternate(peers, seconds, None)
    return {kind: paired_ratio(turns, ordinary) for kind, turns in zip(_DENORMAL, odd, strict=True)}


def report(threads: int, seconds: float, part: str, folder: Path | None) -> None:
    """Print both tables; save load.json.

    Raises
    ------
    ValueError
        No case whose name matches ``part``.
    """
    cases = [case for case in _CASES if matches(part, case.name)]
    if not cases:
        raise ValueError(f"--filter: no case's name matches {part!r}")
    machine, limits = introduce(threads)
    rows = []
    columns: list[str] = []
    for case in cases:
        found = _neighbourhood(case, threads, seconds)
        alone = found["1"]
        if not columns:
            columns = list(found)
            print(
                "Time over that of one thread on an otherwise quiet machine; threads, then load:\n"
            )
            print(table_head(["case", "µs", *columns]), flush=True)
        ratios = {name: time / alone for name, time in found.items()}
        cells = [f"{ratios[name]:.2f}" for name in columns]
        print(table_line([case.name, micros(alone), *cells]), flush=True)
        rows.append({"case": case.name, "alone_us": alone * 1e6, "over_alone": ratios})
    print(f"\nworst beside a load: {worst(rows):.2f}\n")
    print("Time over that of ordinary values, of numbers below the smallest normal one:\n")
    print(table_head(["case", *_DENORMAL]), flush=True)
    odd = []
    for case in (replace(case, dtype=dtype) for dtype in DTYPES for case in cases):
        ratios = _odd_values(case, threads, seconds)
        print(table_line([case.name, *(f"{r:.2f}" for r in ratios.values())]), flush=True)
        odd.append({"case": case.name, "over_ordinary": ratios})
    if folder is not None:
        measured: dict[str, Any] = {"loads": rows, "denormals": odd}
        save(
            folder / "load.json",
            machine,
            [x.as_dict() for x in limits],
            threads=threads,
            **measured,
        )


def worst(rows: list[dict[str, Any]]) -> float:
    """The largest ratio beside a load with more than one thread.

    Examples
    --------
    >>> worst([{"over_alone": {"1": 1.0, "2": 0.6, "1 busy": 2.1, "2 busy": 1.8}}])
    1.8
    """
    return max(
        float(ratio)
        for row in rows
        for name, ratio in row["over_alone"].items()
        if " " in name and not name.startswith("1 ")
    )
