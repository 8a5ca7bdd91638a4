"""Keras 3 on pyrnn's kernels: its own layers by ``plug_in``, or the layers of this package.

With ``KERAS_BACKEND=numpy`` for inference, with ``KERAS_BACKEND=torch`` also for training.
"""

from __future__ import annotations

try:
    import keras as _keras
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    raise ModuleNotFoundError(
        'pyrnn.keras needs Keras, which is not installed: pip install "pyrnn-kernels[keras]"',
        name="keras",
    ) from None

if int(_keras.__version__.split(".")[0]) < 3:
    raise ImportError(f"pyrnn.keras: expected Keras 3, found {_keras.__version__}")

from .inner_loop import calls, handed_back
from .layers import GRU, LSTM, SimpleRNN
from .plug import plug_in, plugged_in, unplug

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
