"""Verify, then time: the peers in turn, again and again, and the medians of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from typing import Any

from cases import Array, Case, problem
from isolated import Isolated
from machine import Limits
from peers import Peer, Reference
from tolerances import RELATIVE, relative_error


class Mismatch(Exception):
    """A peer computes something else than the reference."""


def authority(case: Case) -> dict[str, Array]:
    """The reference's answer in float64."""
    reference = Reference(problem(case).astype("float64"), 1)
    return reference.named(_call(reference, case))


def _call(peer: Peer, case: Case) -> Any:
    return peer.train() if case.mode == "train" else peer.infer()


def verify(peer: Peer, case: Case, expected: dict[str, Array]) -> float:
    """The largest relative error over all values and gradients.

    Raises
    ------
    Mismatch
        A missing name, another shape, or an error that the tests would not accept.
    """
    got = peer.named(_call(peer, case))
    if got.keys() != expected.keys():
        raise Mismatch(f"{case.name}: {peer.name}: names {sorted(got)}, not {sorted(expected)}")
    worst = 0.0
    for name, want in expected.items():
        if got[name].shape != want.shape:
            raise Mismatch(
                f"{case.name}: {peer.name}: {name}: shape {got[name].shape}, not {want.shape}"
            )
        error = relative_error(got[name], want)
        if not error <= RELATIVE[case.dtype]:
            raise Mismatch(f"{case.name}: {peer.name}: {name}: relative error {error:.1e}")
        worst = max(worst, error)
    return worst


@dataclass
class Row:
    """A case with the samples of every peer, in seconds per call and in order of the rounds."""

    case: Case
    bound: float
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
        others = [name for name in self.samples if name not in ("pyrnn", "reference")]
        return min(others, key=self.median, default=None)

    @property
    def ratio(self) -> float | None:
        """How many times as long the best peer takes: the median over the rounds."""
        if (best := self.best_peer) is None:
            return None
        # The best of few that are all five times slower may have left after three rounds.
        pairs = zip(self.samples[best], self.samples["pyrnn"], strict=False)
        return median(theirs / ours for theirs, ours in pairs)

    def as_dict(self) -> dict[str, Any]:
        return {
            "case": self.case.name,
            "median_us": {name: self.median(name) * 1e6 for name in self.samples},
            "gflops": self.gflops,
            "bound_us": self.bound * 1e6,
            "share_of_bound": self.share,
            "best_peer": self.best_peer,
            "ratio_to_best_peer": self.ratio,
            "relative_error": self.errors,
            "rounds": len(self.samples["pyrnn"]),
            "samples_us": {n: [s * 1e6 for s in v] for n, v in self.samples.items()},
        }


@cache
def isolated(kind: type[Peer], threads: int) -> Isolated:
    """The one process of a peer."""
    return Isolated(kind, threads)


def run(
    case: Case,
    kinds: Sequence[type[Peer]],
    threads: int,
    limits: Limits,
    seconds: float,
    repeat: int | None = None,
) -> Row:
    """Verify every peer, then let them take turns: ``repeat`` rounds, or for ``seconds``.

    There are at least three rounds; then those that take five times as long as the fastest leave,
    since they would use up the time of the others.

    Raises
    ------
    Mismatch
        See :func:`verify`.
    """
    expected = authority(case)
    peers = [isolated(kind, threads) for kind in kinds if case.mode in kind.modes]
    errors = {peer.name: peer.prepare(case, verify, expected) for peer in peers}
    row = Row(case, limits.bound(case, threads), errors, {peer.name: [] for peer in peers})
    start, rounds = time.perf_counter(), 0
    while rounds < (repeat or 3) or (repeat is None and time.perf_counter() - start < seconds):
        if rounds == 3:
            limit = 5 * min(map(row.median, row.samples))
            peers = [p for p in peers if p.name == "pyrnn" or row.median(p.name) < limit]
        # Every other round backwards, so that no peer always follows the same one.
        for peer in peers if rounds % 2 == 0 else reversed(peers):
            row.samples[peer.name].append(peer.turn())
        rounds += 1
    return row
