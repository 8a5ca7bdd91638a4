"""A Python process of its own that computes on request, with another environment.

The instruction set is chosen at import, so each one needs a process; and a crash there is a test
failure here. Run as a script, this file is the process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any


class Worker:
    """``Worker(PYRNN_ISA="avx2").call(function, *args)``; functions must be importable."""

    def __init__(self, **environment: str) -> None:
        self.environment = environment
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environment,
        )

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((function, args), self._process.stdin, protocol=5)
            self._process.stdin.flush()
            result, error = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            raise AssertionError(
                f"process with {self.environment} ended with code {code} in {function.__name__}"
            ) from None
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


def main() -> None:
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    while True:
        try:
            function, args = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (function(*args), None)
        except Exception as error:
            answer = (None, error)
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    main()
