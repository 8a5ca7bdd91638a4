"""What a cell of Keras becomes for the kernels: its family, its weights and its activations.

Weights keep the kind of array that Keras gave, so that gradients flow through the conversion.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from ..weights import KERAS_HARD_SIGMOID

_CELLS: dict[type, str] = {
    keras.layers.SimpleRNNCell: "rnn",
    keras.layers.LSTMCell: "lstm",
    keras.layers.GRUCell: "gru",
}
_ACTIVATIONS: dict[Any, str | tuple[Any, ...]] = {
    keras.activations.tanh: "tanh",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.relu: "relu",
    keras.activations.linear: "identity",
    keras.activations.hard_sigmoid: KERAS_HARD_SIGMOID[3],
    keras.activations.elu: ("elu", 1.0),
    keras.activations.leaky_relu: ("leaky_relu", 0.2),
    keras.activations.softplus: "softplus",
    keras.activations.softsign: "softsign",
}


class NotExpressible(NotImplementedError):
    """Keras's own path is taken; what it is about is the message."""


class Layer(NamedTuple):
    """One layer in one direction; arrays of Keras's backend, laid out and ordered as in Keras."""

    family: str  # "rnn", "lstm" or "gru"
    kernel: Any  # (I, G*H)
    recurrent: Any  # (H, G*H)
    bias: Any  # (G*H), (2, 3*H) or None
    options: dict[str, Any]  # keywords of pyrnn.ops


def activation_of(function: Any) -> str | tuple[Any, ...]:
    """The name that ``pyrnn.ops`` has for an activation of Keras."""
    try:
        return _ACTIVATIONS[function]
    except (KeyError, TypeError):  # TypeError: an activation that has no hash
        name = getattr(function, "__name__", type(function).__name__)
        raise NotExpressible(f"activation {name}") from None


def options_of(family: str, activation: Any, gate_activation: Any, reset_after: bool) -> Any:
    """Keywords of ``pyrnn.ops`` for a layer of Keras."""
    if family == "rnn":
        return {"nonlinearity": activation_of(activation)}
    options: dict[str, Any] = {
        "activation": activation_of(activation),
        "gate_activation": activation_of(gate_activation),
    }
    if family == "gru":
        options["reset_after"] = reset_after
    return options


def layer_of(cell: Any) -> Layer:
    """A cell of one of the three classes themselves: a subclass may compute anything."""
    family = _CELLS.get(type(cell))
    if family is None:
        raise NotExpressible(f"cell {type(cell).__name__}")
    options = options_of(
        family,
        cell.activation,
        getattr(cell, "recurrent_activation", None),
        getattr(cell, "reset_after", False),
    )
    return Layer(family, cell.kernel, cell.recurrent_kernel, cell.bias, options)
