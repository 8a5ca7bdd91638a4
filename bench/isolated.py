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
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from cases import Case, problem
from peer import Peer

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
        # With the last copy of its end gone, a process that died is an EOFError and not a wait.
        end.close()
        atexit.register(self._process.kill)

    def prepare(
        self, case: Case, check: Callable[[Peer, Case, Any], float], expected: Any
    ) -> float:
        """Build the case and return what ``check`` finds; its exceptions come through."""
        return float(self._ask((case, check, expected)))

    def turn(self) -> float:
        """Seconds per call."""
        return float(self._ask(None))

    def use(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(peer, *arguments)`` over there."""
        return self._ask((function, arguments))

    def _ask(self, request: Any) -> Any:
        pid = self._process.pid
        assert pid is not None
        os.kill(pid, signal.SIGCONT)
        self._pipe.send(request)
        answer = self._pipe.recv()
        os.kill(pid, signal.SIGSTOP)
        if isinstance(answer, Exception):
            raise answer
        return answer


@cache
def isolated(kind: type[Peer], threads: int, slot: str = "") -> Isolated:
    """The one process of a peer with so many threads, or one for each ``slot``."""
    return Isolated(kind, threads)


def _serve(pipe: Connection, kind: type[Peer], threads: int) -> None:
    peer: Peer | None = None
    case: Case | None = None
    while True:
        request = pipe.recv()
        try:
            if request is not None and len(request) == 3:
                case, check, expected = request
                peer = kind(problem(case), threads)
                pipe.send(check(peer, case, expected))
                continue
            assert peer is not None
            assert case is not None
            if request is not None:
                function, arguments = request
                pipe.send(function(peer, *arguments))
            else:
                call = peer.train if case.mode == "train" else peer.infer
                pipe.send(_turn(call, peer.before))
        except Exception as error:
            pipe.send(error)


def _turn(call: Callable[[], Any], before: Callable[[], object] | None) -> float:
    def stretch(count: int) -> float:
        """Seconds of so many calls."""
        if before is None:
            start = time.perf_counter()
            for _ in range(count):
                call()
            return time.perf_counter() - start
        total = 0.0
        for _ in range(count):
            before()
            start = time.perf_counter()
            call()
            total += time.perf_counter() - start
        return total

    warm, elapsed = 0, 0.0
    while warm == 0 or elapsed < _TURN:
        elapsed += stretch(1)
        warm += 1
    count = max(1, int(_TURN / (elapsed / warm)))
    return stretch(count) / count
