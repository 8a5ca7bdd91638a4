"""Layers out of the recurrent nodes of an ONNX model."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from ..blocks import GATES, shaped
from ..layers import GRU, LSTM, RNN
from ..tape import Array
from ..variants import ACTIVATIONS, Activation
from ..weights import from_onnx
from .attributes import Settings, check_sizes, settings_of
from .graphs import Scope, above, attributes_of
from .unpacked import is_odd_around_half

_CLASSES: dict[str, type[RNN] | type[GRU] | type[LSTM]] = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}


class _Found(NamedTuple):
    """A recurrent node and what it is made of."""

    name: str
    scope: Scope
    node: NodeProto
    settings: Settings
    arrays: dict[str, Array]  # W, R, B, P: those there are

    @property
    def columns(self) -> int:
        return self.settings.directions * int(self.arrays["R"].shape[-1])

    def carries(self, other: _Found) -> bool:
        """Whether both can be layers of one stack, the other above this one."""
        lengths = [(*one.node.input, *[""] * 5)[4] for one in (self, other)]
        return (
            self.settings == other.settings
            and self.arrays.keys() == other.arrays.keys()
            and self.arrays["R"].shape == other.arrays["R"].shape
            and self.arrays["R"].dtype == other.arrays["R"].dtype
            and lengths[0] == lengths[1]
        )


def load(
    path_or_model: str | os.PathLike[str] | ModelProto,
) -> dict[str, RNN | GRU | LSTM]:
    """Build a layer from each RNN, GRU and LSTM node of a model.

    Nodes that stand on each other with nothing between become the layers of one stack: of one kind
    and size, with the same attributes and ``sequence_lens``, where nothing else uses what the lower
    one passes up. Nodes in branches, bodies and functions are found as well.

    A layer has the weights of its nodes alone: what the model feeds as initial states and lengths
    is passed to each call.

    Parameters
    ----------
    path_or_model : str, path or onnx.ModelProto
        The model. Weights may be initialisers or computed from initialisers.

    Returns
    -------
    dict of str to RNN, GRU or LSTM
        By the name of the node, or of its first output where it has none; of a stack, of the
        lowest. float16 and bfloat16 weights are widened to float32, which is exact. ``layout`` 1
        is ``batch_first``.

    Raises
    ------
    ValueError
        A node that no layer can be: of direction "reverse", with different activations in the two
        directions or for g and h, coupled gates of an activation f for which 1 - f(a) is not f(-a)
        (:data:`pyrnn.onnx.reference_ops` runs them all), or whose weights are inputs of the
        model or of wrong shapes.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.onnx import export, load
    >>> export(pyrnn.LSTM(3, 4, bidirectional=True, rng=0), "model.onnx")
    >>> layer = load("model.onnx")["lstm_l0"]
    >>> layer
    LSTM(3, 4, bidirectional=True)
    """
    model = path_or_model
    if not isinstance(model, ModelProto):
        model = onnx.load(os.fspath(model))
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    found: dict[str, _Found] = {}
    for scope, node in Scope(model, model.graph).nodes():
        if node.op_type in _CLASSES and node.domain in ("", "ai.onnx"):
            one = _found(scope, node, found)
            found[one.name] = one
    upper: dict[str, _Found] = {}
    for name, one in found.items():
        user = above(one.scope, one.node, one.settings.batch_first, one.columns)
        for other in found.values():
            if other.scope is one.scope and other.node == user and one.carries(other):
                upper[name] = other
    layers = {}
    for name in found.keys() - {other.name for other in upper.values()}:
        stack = [found[name]]
        while stack[-1].name in upper:
            stack.append(upper[stack[-1].name])
        layers[name] = _layer(stack)
    return {name: layers[name] for name in found if name in layers}


def _found(scope: Scope, node: NodeProto, others: dict[str, _Found]) -> _Found:
    name = base = node.name or next(output for output in node.output if output)
    count = 1
    while name in others:
        count += 1
        name = f"{base}:{count}"
    try:
        settings = settings_of(node.op_type, attributes_of(node))
        inputs = dict(enumerate(node.input))
        arrays = {}
        for place, letter in ((1, "W"), (2, "R"), (3, "B"), (7, "P")):
            if inputs.get(place):
                array = scope.constant(inputs[place])
                if array is None:
                    raise ValueError(f"{letter}: expected a constant, got an input of the model")
                wide = array.dtype.name in ("float16", "bfloat16")
                arrays[letter] = array.astype(np.float32) if wide else array
            elif letter in "WR":
                raise ValueError(f"{letter}: missing")
        gates = len(GATES[settings.kind])
        shaped("R", arrays["R"], f"(D, {gates}·H, H)", (None, None, None))
        check_sizes(settings, arrays["R"])
        _check_that_layers_have(settings)
    except ValueError as error:
        raise ValueError(f"{node.op_type} {name!r}: {error}") from error
    return _Found(name, scope, node, settings, arrays)


def _check_that_layers_have(settings: Settings) -> None:
    if settings.direction == "reverse":
        raise ValueError(
            "direction: expected forward or bidirectional, got reverse, which no layer is alone"
        )
    if len(set(settings.activations)) > 1:
        raise ValueError("activations: expected the same ones in both directions")
    gate, *others = settings.activations[0]
    if len(set(others)) > 1:
        raise ValueError(f"activations: expected g and h alike, got {others[0][0]}, {others[1][0]}")
    if settings.kind == "LSTM" and settings.coupled and not is_odd_around_half(gate):
        raise ValueError(
            f"input_forget: f = 1 - i with {gate[0]} gates is not i = 1 - f with other weights"
        )


def _layer(stack: list[_Found]) -> RNN | GRU | LSTM:
    lowest = stack[0]
    settings = lowest.settings
    params: dict[str, Array] = {}
    for k, one in enumerate(stack):
        try:
            params |= from_onnx(one.arrays, settings.kind, input_forget=settings.coupled, layer=k)
        except ValueError as error:
            raise ValueError(f"{settings.kind} {one.name!r}: {error}") from error
    options = {name: _short(value) for name, value in settings.keywords(0).items()}
    if "P" in lowest.arrays and settings.kind == "LSTM":
        options["peephole"] = "diagonal"
    layer = _CLASSES[settings.kind](
        int(lowest.arrays["W"].shape[2]),
        int(lowest.arrays["R"].shape[2]),
        len(stack),
        bias="B" in lowest.arrays,
        batch_first=settings.batch_first,
        bidirectional=settings.directions == 2,
        dtype=lowest.arrays["R"].dtype,
        **options,
    )
    try:
        layer.load_state_dict(params)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{settings.kind} {lowest.name!r}: {error}") from error
    return layer


def _short(value: Any) -> Any:
    """An activation by its name alone where its numbers are the defaults."""
    if not isinstance(value, tuple):
        return value
    activation: Activation = value
    return activation[0] if activation[1:] == ACTIVATIONS[activation[0]] else activation
