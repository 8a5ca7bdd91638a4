"""What a run leaves: samples, the numbers that follow from them, and the file that keeps both."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cases import Case

OURS = ("pyrnn", "pyrnn layer")

# Of a sample in µs; the clock does not tell more.
_DIGITS = 3


def paired_ratio(theirs: list[float], ours: list[float]) -> float:
    """The median over neighbouring turns; one of them may have left early."""
    return median(t / o for t, o in zip(theirs, ours, strict=False))


@dataclass
class Row:
    """A case with the samples of every peer, in seconds per call and in order of the rounds."""

    case: Case
    bound: float  # seconds
    latency: list[float]  # ns from core to core, before and after
    fma: float  # GFLOP/s of all threads at the better of both moments
    errors: dict[str, float]
    samples: dict[str, list[float]] = field(default_factory=dict)

    def median(self, peer: str) -> float:
        return median(self.samples[peer])

    @property
    def gflops(self) -> float:
        return self.case.flops / self.median("pyrnn") / 1e9

    @property
    def share(self) -> float:
        return self.bound / self.median("pyrnn")

    @property
    def best_peer(self) -> str | None:
        return min((n for n in self.samples if n not in OURS), key=self.median, default=None)

    def ratio_to(self, peer: str) -> float:
        """How many times as long as pyrnn it takes: the median over the rounds."""
        return paired_ratio(self.samples[peer], self.samples["pyrnn"])

    @property
    def ratio(self) -> float | None:
        """That of the best peer."""
        return None if self.best_peer is None else self.ratio_to(self.best_peer)

    def as_dict(self) -> dict[str, Any]:
        return {
            "case": asdict(self.case),
            "name": self.case.name,
            "median_us": {name: self.median(name) * 1e6 for name in self.samples},
            "gflops": self.gflops,
            "bound_us": self.bound * 1e6,
            "share_of_bound": self.share,
            "best_peer": self.best_peer,
            "ratio_to_best_peer": self.ratio,
            "core_latency_ns": [ns if ns > 0 else None for ns in self.latency],
            "fma_gflops": self.fma,
            "relative_error": self.errors,
            "samples_us": {
                name: [round(s * 1e6, _DIGITS) for s in turns]
                for name, turns in self.samples.items()
            },
        }

    @staticmethod
    def of(saved: dict[str, Any]) -> Row:
        """The row of ``as_dict()``."""
        return Row(
            Case(**saved["case"]),
            saved["bound_us"] * 1e-6,
            [float("nan") if ns is None else ns for ns in saved["core_latency_ns"]],
            saved["fma_gflops"],
            saved["relative_error"],
            {name: [s * 1e-6 for s in turns] for name, turns in saved["samples_us"].items()},
        )


def save(file: Path, machine: dict[str, Any], limits: list[dict[str, Any]], **parts: Any) -> None:
    """One JSON object: the machine, its limits, and the rows under their names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "limits": limits, **parts}
    file.write_text(json.dumps(content, indent=1) + "\n")


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def micros(seconds: float) -> str:
    """µs, ``k`` for thousands."""
    us = seconds * 1e6
    return f"{us / 1000:.1f}k" if us >= 1e4 else f"{us:.0f}" if us >= 100 else f"{us:.1f}"


def table_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table_head(cells: list[str]) -> str:
    return f"{table_line(cells)}\n{table_line(['---'] * len(cells))}"
