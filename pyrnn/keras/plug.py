"""Keras's own layers on the kernels: what is put in place of its functions, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import keras
import keras.src.backend as keras_backend
from keras.src.layers.rnn.bidirectional import Bidirectional

from .both import run_both
from .hosts import NumpyHost, host
from .inner_loop import inner_loop, run_layer
from .parameters import Layer, layer_of, options_of

_replaced: list[tuple[Any, str, Any]] = []


def plug_in() -> None:
    """Run SimpleRNN, LSTM, GRU and Bidirectional of Keras on pyrnn from now on.

    Layers that exist change over as well. What the kernels cannot express runs as before:
    ``pyrnn.keras.handed_back`` counts it by reason, ``pyrnn.keras.calls`` what did run on the
    kernels. It may be called again; ``unplug`` undoes it.

    Raises
    ------
    RuntimeError
        A backend other than numpy or torch.

    Examples
    --------
    >>> import os
    >>> os.environ["KERAS_BACKEND"] = "numpy"
    >>> import keras, numpy as np, pyrnn.keras
    >>> layer = keras.layers.LSTM(4)
    >>> with pyrnn.keras.plugged_in():
    ...     y = layer(np.zeros((2, 5, 3), "float32"))
    >>> y.shape, pyrnn.keras.calls["lstm"] > 0
    ((2, 4), True)
    """
    on = host()
    if _replaced:
        return
    for layer in (keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU):
        _replace(layer, "inner_loop", _loop)
    if isinstance(on, NumpyHost):
        for family in ("lstm", "gru"):
            _replace(keras_backend, family, _hook(family))
            if hasattr(Bidirectional, f"_call_fused_{family}"):  # not in earlier versions
                _replace(keras_backend, f"bidirectional_{family}", _both(family))
                _replace(Bidirectional, f"_call_fused_{family}", _guarded)


def unplug() -> None:
    """Give Keras its own functions back."""
    while _replaced:
        owner, name, own = _replaced.pop()
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


@contextmanager
def plugged_in() -> Iterator[None]:
    """``plug_in`` within a ``with``; where it was plugged in before, it stays so."""
    before = bool(_replaced)
    plug_in()
    try:
        yield
    finally:
        if not before:
            unplug()


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put ``make(own)`` in the place of what the owner itself has there, if anything."""
    _replaced.append((owner, name, vars(owner).get(name)))
    setattr(owner, name, make(getattr(owner, name)))


def _loop(own: Any) -> Any:
    @wraps(own)
    def loop(
        self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool | None = False
    ) -> Any:
        return inner_loop(own.__get__(self), self, sequences, initial_state, mask, training)

    return loop


def _hook(family: str) -> Callable[[Any], Any]:
    """``keras.src.backend.lstm`` or ``.gru``, for callers other than Keras's layers."""
    count = 2 if family == "lstm" else 1

    def make(own: Any) -> Any:
        @wraps(own)
        def hook(
            sequences: Any,
            *states_and_mask: Any,  # h (B, H), with the LSTM c (B, H), and the mask (B, T)
            kernel: Any,
            recurrent_kernel: Any,
            bias: Any,
            activation: Any,
            recurrent_activation: Any,
            reset_after: bool = True,
            **how: Any,
        ) -> Any:
            *states, mask = states_and_mask
            if len(states) != count:
                raise TypeError(f"backend.{family}: expected {count} states, got {len(states)}")
            options = options_of(family, activation, recurrent_activation, reset_after)
            layer = Layer(family, kernel, recurrent_kernel, bias, options)
            return run_layer(layer, sequences, states, mask, **how)

        return hook

    return make


def _guarded(own: Any) -> Any:
    """Bidirectional's try at both directions in one call, where that computes what it shows."""

    @wraps(own)
    def call(self: Any, sequences: Any, initial_state: Any) -> Any:
        layers = (self.forward_layer, self.backward_layer)
        if [layer.go_backwards for layer in layers] != [False, True]:
            raise NotImplementedError
        for layer in layers:
            layer_of(layer.cell)
        return own(self, sequences, initial_state)

    return call


def _both(family: str) -> Callable[[Any], Any]:
    """``keras.src.backend.bidirectional_lstm`` or ``_gru``, which has no mask."""

    def make(own: Any) -> Any:
        @wraps(own)
        def hook(
            sequences: Any,
            *states: Any,  # (B, H) of the forward direction, then of the other
            mask: Any = None,
            activation: Any,
            recurrent_activation: Any,
            return_sequences: bool = False,
            reset_after: bool = True,
            unroll: bool = False,
            **weights: Any,
        ) -> Any:
            if mask is not None:
                raise NotImplementedError
            options = options_of(family, activation, recurrent_activation, reset_after)
            layers = [
                Layer(
                    family,
                    weights[f"{side}_kernel"],
                    weights[f"{side}_recurrent_kernel"],
                    weights[f"{side}_bias"],
                    options,
                )
                for side in ("fwd", "bwd")
            ]
            return run_both(layers, sequences, states, return_sequences)

        return hook

    return make
