"""PyTorch's own threads, which its operations leave waiting on their processors: where there are
enough of them for a call, they do its work too."""

import sys
from pathlib import Path

import torch

from ._core import Lender

_SUFFIX = "dylib" if sys.platform == "darwin" else "so"

lent_threads = Lender(str(Path(torch.__file__).parent / "lib" / f"libtorch_cpu.{_SUFFIX}"))
