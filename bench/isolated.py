"""Each library in a process of its own, stopped while another has its turn.

Threads of ONNX Runtime, OpenMP and BLAS spin for a while after a call. In one process they would
take the processors from the library that is measured next.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from cases import Array, Case, problem
from peers import Peer

# A turn is long enough for the clock, and starts with calls that warm caches and threads.
_TURN = 0.002


class Isolated:
    """A peer in another process; the latest case is the one that ``turn`` times."""

    def __init__(self, kind: type[Peer], threads: int) -> None:
        self.name = kind.name
        context = get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end, kind, threads), daemon=True)
        self._process.start()
        atexit.register(self._process.kill)

    def prepare(
        self, case: Case, check: Callable[[Peer, Case, dict[str, Array]], float], expected: Any
    ) -> float:
        """Build the case and return what ``check`` finds; its exceptions come through."""
        return self._ask((case, check, expected))

    def turn(self) -> float:
        """Seconds per call."""
        return self._ask(None)

    def _ask(self, request: Any) -> float:
        pid = self._process.pid
        assert pid is not None
        os.kill(pid, signal.SIGCONT)
        self._pipe.send(request)
        answer = self._pipe.recv()
        os.kill(pid, signal.SIGSTOP)
        if isinstance(answer, Exception):
            raise answer
        return float(answer)


def _serve(pipe: Connection, kind: type[Peer], threads: int) -> None:
    peer: Peer | None = None
    case: Case | None = None
    while True:
        request = pipe.recv()
        try:
            if request is not None:
                case, check, expected = request
                peer = kind(problem(case), threads)
                pipe.send(check(peer, case, expected))
            else:
                assert peer is not None
                assert case is not None
                pipe.send(_turn(peer.train if case.mode == "train" else peer.infer))
        except Exception as error:
            pipe.send(error)


def _turn(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    warm = 0
    while warm == 0 or (time.perf_counter() - start) < _TURN:
        call()
        warm += 1
    per_call = (time.perf_counter() - start) / warm
    count = max(1, int(_TURN / per_call))
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count
