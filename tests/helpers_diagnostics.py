"""Layers of every kind for the diagnostics, and what they are called with."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers_layers import build, inputs, states_of

import pyrnn

T, B = 5, 2
LENGTHS = np.array([5, 3])

# Layers, and how they are called; every cell, every state's own path and each way through time.
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn_tanh", {}),
    "rnn relu": ("rnn_relu", {}),
    "rnn elu": ("rnn_tanh", {"nonlinearity": "elu", "zoneout": 0.3}),
    "rnn norm": ("rnn_tanh", {"layer_norm": True}),
    "gru": ("gru", {}),
    "gru before": ("gru_reset_before", {"gate_activation": "hard_sigmoid"}),
    "gru norm": ("gru", {"layer_norm": True, "zoneout": 0.2}),
    "gru clip": ("gru", {"clip": 0.45}),
    "mgu": ("mgu", {}),
    "lstm": ("lstm", {}),
    "lstm diagonal": ("lstm", {"peephole": "diagonal"}),
    "lstm full": ("lstm", {"peephole": "full", "coupled": True}),
    "lstm projection": ("lstm", {"proj_size": 2}),
    "lstm norm": ("lstm", {"layer_norm": True, "proj_size": 3, "peephole": "diagonal"}),
    "lstm zoneout h": ("lstm", {"zoneout": (0.3, 0.0), "activation": "softsign"}),
    "lstm zoneout": ("lstm", {"zoneout": (0.3, 0.2), "peephole": "full"}),
    "lstm cell clip": ("lstm", {"cell_clip": 0.4}),
    "lstm regular": ("lstm", {"recurrent_dropout": 0.5, "dropout": 0.5, "num_layers": 2}),
    "rnn reverse": ("rnn_tanh", {"bidirectional": True}),
    "mgu deep": ("mgu", {"num_layers": 2, "bidirectional": True, "zoneout": 0.2}),
    "gru deep": ("gru", {"num_layers": 2, "bidirectional": True}),
    "lstm deep": ("lstm", {"num_layers": 2, "bidirectional": True, "proj_size": 3}),
}


def made(name: str) -> Any:
    """In float64, with parameters of which none stands at 0 or 1."""
    kind, options = LAYERS[name]
    layer = build(kind, **options)
    rng = np.random.default_rng(5)
    for array in layer.params.values():
        array += rng.normal(scale=0.3, size=array.shape)
    return layer


def given(layer: Any) -> tuple[Any, Any, Any, Any]:
    """x, state, dy and dstate."""
    x, _ = inputs(layer, T, B)
    rng = np.random.default_rng(3)
    y, state = layer(x)
    first, dstate = ([rng.normal(size=s.shape) / 2 for s in states_of(state)] for _ in range(2))
    dy = rng.normal(size=y.shape)
    if isinstance(layer, pyrnn.LSTM):
        return x, tuple(first), dy, tuple(dstate)
    return x, first[0], dy, dstate[0]
