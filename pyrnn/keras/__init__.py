"""Keras 3 on pyrnn's kernels: its own layers by ``plug_in``, or the layers of this package.

With ``KERAS_BACKEND=numpy`` for inference, with ``KERAS_BACKEND=torch`` also for training.
"""

from __future__ import annotations

from ..extras import needed

_keras = needed("keras", "keras", "pyrnn.keras")
if int(_keras.__version__.split(".")[0]) < 3:
    raise ImportError(f"pyrnn.keras: expected Keras 3, found {_keras.__version__}")

from .inner_loop import calls, handed_back  # noqa: E402
from .layers import GRU, LSTM, SimpleRNN  # noqa: E402
from .plug import plug_in, plugged_in, unplug  # noqa: E402

__all__ = [
    "GRU",
    "LSTM",
    "SimpleRNN",
    "calls",
    "handed_back",
    "plug_in",
    "plugged_in",
    "unplug",
]
