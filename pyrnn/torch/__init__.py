"""PyTorch: RNN, GRU and LSTM that are ``torch.nn``'s and run on pyrnn, forward and backward.

Needs the package ``torch`` (``pip install "pyrnn-kernels[torch]"``), 2.6 or newer.
"""

from __future__ import annotations

from ..extras import needed

needed("torch", "torch", "pyrnn.torch")

from .layers import GRU, LSTM, RNN  # noqa: E402
from .swap import accelerate  # noqa: E402

__all__ = ["GRU", "LSTM", "RNN", "accelerate"]
