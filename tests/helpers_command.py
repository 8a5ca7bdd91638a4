"""A small text with a grammar that one can compute with, and the command ``pyrnn`` on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

VERBS = ("sees", "hears", "finds", "likes")
NOUNS = ("river", "mountain", "window", "garden", "lantern")


def _sentences(count: int) -> str:
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(count):
        one, other = rng.choice(NOUNS, 2)
        lines.append(f"the {one} {rng.choice(VERBS)} the {other}.\n")
    return "".join(lines)


SENTENCES = _sentences(400)
QUICK = ("--hidden", "24", "--epochs", "2", "--batch-size", "4", "--steps", "25")


def run_command(
    *arguments: str | Path, stdin: str | bytes = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pyrnn", *map(str, arguments)],
        cwd=Path(sys.prefix),
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        env=os.environ | (environment or {}),
        capture_output=True,
        timeout=120,
    )
