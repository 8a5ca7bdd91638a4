"""``python -m bench torch``: PyTorch's layers on pyrnn, as they are, and pyrnn by itself.

What the first takes beyond the last is what PyTorch and the way through it cost a call; the
smallest case is little else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cases import CASES, KINDS, Case
from peer import Peer
from pyrnn_peers import Pyrnn
from report import compare_kinds
from torch_peer import Torch

_CASES = (
    Case("infer", "lstm", 4, 4, 1, 1),
    Case("train", "lstm", 4, 4, 1, 1),
    *(case for case in CASES + KINDS if not case.precision),
)


class TorchOnPyrnn(Torch):
    """The same calls on ``pyrnn.torch``."""

    name = "pyrnn"

    def __init__(self, problem: Any, threads: int) -> None:
        import pyrnn.torch

        pyrnn.set_num_threads(threads)
        super().__init__(problem, threads)
        pyrnn.torch.accelerate(self.module)


class Direct(Pyrnn):
    """A frozen layer for inference, a layer for training."""

    name = "pyrnn layer"

    def __init__(self, problem: Any, threads: int) -> None:
        super().__init__(problem, threads)
        self.stream = None


PEERS: tuple[type[Peer], ...] = (TorchOnPyrnn, Direct, Torch)


def report(
    threads: int, seconds: float, repeat: int | None, part: str, folder: Path | None
) -> None:
    """Print a line for each case; save torch.json.

    Raises
    ------
    ValueError
        No case whose name matches ``part``.
    ImportError
        PyTorch is not installed.
    """
    compare_kinds("torch", PEERS, _CASES, threads, seconds, repeat, part, folder)
