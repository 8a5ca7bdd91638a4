"""Run a piece of Python in a process of its own, for tests that may hang or crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path


def run_script(
    code: str, timeout: float = 60, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The finished process; the helpers of the tests can be imported in it."""
    here = Path(__file__).parent
    path = [str(here), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=here,  # in the root of the checkout the source folder would stand for the package
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def check_script(code: str, timeout: float = 60, environment: dict[str, str] | None = None) -> str:
    """What the script printed; it must end well."""
    done = run_script(code, timeout, environment)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def seconds_to_interrupt(call: Callable[[], object]) -> float:
    """From Ctrl-C, 0.3 s into a call, to its KeyboardInterrupt; for a process of its own."""
    sent = []

    def interrupt() -> None:
        time.sleep(0.3)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        call()
    except KeyboardInterrupt:
        return time.perf_counter() - sent[0]
    sys.exit("the call was not interrupted")
