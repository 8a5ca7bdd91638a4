"""The operations: one layer, one direction, forward and backpropagation through time.

Each has a twin of the same name and signature in :mod:`pyrnn.reference`. The
equations are those of ``docs/equations.md``; gate blocks are stacked in
PyTorch's order (LSTM i, f, g, o; GRU r, z, n).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

# By the family of a cell, for those who run any of them.
FORWARD: dict[str, Callable[..., Any]] = {
    "rnn": rnn_forward,
    "lstm": lstm_forward,
    "gru": gru_forward,
}
BACKWARD: dict[str, Callable[..., Any]] = {
    "rnn": rnn_backward,
    "lstm": lstm_backward,
    "gru": gru_backward,
}
