"""PyTorch: RNN, GRU and LSTM that are ``torch.nn``'s and run on pyrnn, forward and backward.

Needs the package ``torch`` (``pip install "pyrnn-kernels[torch]"``), 2.6 or newer.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError(
        'pyrnn.torch needs the package torch: pip install "pyrnn-kernels[torch]"', name="torch"
    ) from None

from .layers import GRU, LSTM, RNN
from .swap import accelerate

__all__ = ["GRU", "LSTM", "RNN", "accelerate"]
