"""The operations: one layer, one direction, forward and backpropagation through time.

Each has a twin of the same name and signature in :mod:`pyrnn.reference`. The
equations are those of ``docs/equations.md``; gate blocks are stacked in
PyTorch's order (LSTM i, f, g, o; GRU r, z, n).
"""

from .backward import gru_backward, lstm_backward, mgu_backward, rnn_backward
from .forward import gru_forward, lstm_forward, mgu_forward, rnn_forward

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "mgu_backward",
    "mgu_forward",
    "rnn_backward",
    "rnn_forward",
]
