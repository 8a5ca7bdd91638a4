"""The same cases under pytest-benchmark: ``pytest bench/ --benchmark-only``."""

from __future__ import annotations

from typing import Any

import pytest
from cases import CASES, Case, problem
from compare import authority, verify
from peer import Peer
from peers import PEERS
from threads import cores


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", PEERS, ids=lambda kind: kind.name)
def test_speed(benchmark: Any, case: Case, kind: type[Peer]) -> None:
    if case.mode not in kind.modes:
        pytest.skip(f"{kind.name} does not train")
    if module := kind.missing():
        pytest.skip(f"{module} is not installed")
    peer = kind(problem(case), cores())
    benchmark.group = case.name
    benchmark.extra_info["relative_error"] = verify(peer, case, authority(case))
    benchmark(peer.train if case.mode == "train" else peer.infer)
