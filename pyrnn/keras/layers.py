"""Layers of Keras whose loop over time runs on the kernels."""

from __future__ import annotations

from typing import Any

import keras

from .hosts import host
from .inner_loop import inner_loop


class _OnKernels:
    """Mixed into a layer of Keras, ahead of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        host()
        super().__init__(*args, **kwargs)

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool | None = False
    ) -> Any:
        own = super().inner_loop  # type: ignore[misc]
        return inner_loop(own, self, sequences, initial_state, mask, training)


@keras.saving.register_keras_serializable(package="pyrnn")
class SimpleRNN(_OnKernels, keras.layers.SimpleRNN):  # type: ignore[misc]
    """``keras.layers.SimpleRNN`` on the kernels: same arguments, weights and results.

    Examples
    --------
    >>> import os
    >>> os.environ["KERAS_BACKEND"] = "numpy"
    >>> import numpy as np, pyrnn.keras
    >>> layer = pyrnn.keras.SimpleRNN(4, return_sequences=True)
    >>> layer(np.zeros((2, 5, 3), "float32")).shape
    (2, 5, 4)
    """


@keras.saving.register_keras_serializable(package="pyrnn")
class LSTM(_OnKernels, keras.layers.LSTM):  # type: ignore[misc]
    """``keras.layers.LSTM`` on the kernels: same arguments, weights and results."""


@keras.saving.register_keras_serializable(package="pyrnn")
class GRU(_OnKernels, keras.layers.GRU):  # type: ignore[misc]
    """``keras.layers.GRU`` on the kernels: same arguments, weights and results."""
