"""Verify, then time: the peers in turn, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from cases import Array, Case, problem
from isolated import isolated
from machine import Limits
from peer import Peer
from pyrnn_peers import Reference
from results import Row
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
        if not error <= peer.slack * RELATIVE[peer.precision(case)]:
            raise Mismatch(f"{case.name}: {peer.name}: {name}: relative error {error:.1e}")
        worst = max(worst, error)
    return worst


def turn_of(call: Callable[[], object]) -> float:
    """Seconds per call, over some 20 ms."""
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < 0.02:
        call()
        calls += 1
    return elapsed / calls


def unverified(peer: Peer, case: Case, expected: None) -> float:
    """For numbers that float32 holds with a few bits, which no tolerance fits."""
    _call(peer, case)
    return float("nan")


def alternate(
    peers: Sequence[Any], seconds: float, repeat: int | None, *, all_stay: bool = False
) -> list[list[float]]:
    """The turns of each peer, in seconds per call: ``repeat`` rounds, or for ``seconds``.

    There are at least three rounds; then those that take five times as long as the first of
    ``peers`` and as the fastest leave, since they would use up the time of the others; but for
    ``all_stay``.
    """
    samples: list[list[float]] = [[] for _ in peers]
    staying = list(range(len(peers)))
    start, rounds = time.perf_counter(), 0
    while rounds < (repeat or 3) or (repeat is None and time.perf_counter() - start < seconds):
        if rounds == 3 and not all_stay:
            limit = 5 * min(map(median, samples))
            staying = [k for k in staying if k == 0 or median(samples[k]) < limit]
        # Every other round backwards, so that no peer always follows the same one.
        for k in staying if rounds % 2 == 0 else reversed(staying):
            samples[k].append(peers[k].turn())
        rounds += 1
    return samples


def run(
    case: Case,
    kinds: Sequence[type[Peer]],
    threads: int,
    limits: Limits,
    seconds: float,
    repeat: int | None = None,
) -> Row:
    """Verify every peer that supports the case, then let them take turns, pyrnn the first of them.

    The limits are measured anew before and after: on a shared machine two processors are at times
    two cores, at times one. The bound is that of the better moment.

    Raises
    ------
    Mismatch
        See :func:`verify`.
    """
    expected = authority(case)
    peers = [isolated(kind, threads) for kind in kinds if kind.supports(case)]
    errors = {peer.name: peer.prepare(case, verify, expected) for peer in peers}
    moments = [limits.again()]
    samples = alternate(peers, seconds, repeat)
    moments.append(limits.again())
    return Row(
        case,
        min(moment.bound(case) for moment in moments),
        [moment.latency_ns for moment in moments],
        max(moment.fma[case.dtype] for moment in moments),
        errors,
        {peer.name: turns for peer, turns in zip(peers, samples, strict=True)},
    )
