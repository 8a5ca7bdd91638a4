"""Layers written as ONNX models: one node for each layer, and what turns its arrays into theirs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .._core import __version__
from ..files import write_whole
from ..layers import GRU, LSTM, RNN
from ..stack import Recurrent
from ..tape import Array
from ..variants import PARAMETERLESS, Activation, checked_activation
from ..weights import to_onnx
from .attributes import TAKE_BETA, TO_ONNX
from .unpacked import is_odd_around_half

# Old enough for every runtime of the last years: the last opset of onnx 1.12, and its format.
_OPSET, _IR_VERSION = 17, 8


def export(
    layer: Recurrent[Any],
    path: str | os.PathLike[str],
    *,
    lengths: bool = False,
    states: bool = False,
) -> None:
    """Write a layer as an ONNX model.

    The model gives what calling the layer gives. Its input is ``x``, its outputs are ``y`` and
    ``h_n``, of the LSTM also ``c_n``, in the shapes that the layer has them. T and B are free. It
    has one node for each layer of the stack, opset 17.

    Parameters
    ----------
    layer : RNN, GRU or LSTM
        In float64 the model is a valid one, but ONNX Runtime has no kernels for it; and ONNX keeps
        clip and the numbers of activations in float32.
    path : str or path
        Where to. The file appears under its name only when it is complete.
    lengths : bool
        Give the model an input ``lengths`` (B), int32.
    states : bool
        Give it the inputs ``h0`` and, of the LSTM, ``c0``. Without, it starts from 0.

    Raises
    ------
    TypeError
        Another layer: ONNX has no node for it.
    ValueError
        A variant that ONNX has not: a projection, layer norm, full peepholes, ``cell_clip``,
        zoneout (which blends states in inference), coupled gates of an activation f for which
        1 - f(a) is not f(-a).
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.onnx import export, load
    >>> export(pyrnn.GRU(3, 4, num_layers=2, rng=0), "model.onnx")
    >>> load("model.onnx")
    {'gru_l0': GRU(3, 4, num_layers=2)}
    """
    write_whole(Path(path), model_of(layer, lengths, states).SerializeToString())


def model_of(layer: Recurrent[Any], lengths: bool, states: bool) -> ModelProto:
    _refuse_what_onnx_has_not(layer)
    graph = _Graph(layer, lengths, states)
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(
        graph.proto(),
        opset_imports=[opset],
        ir_version=_IR_VERSION,
        producer_name="pyrnn",
        producer_version=__version__,
    )


class _Graph:
    """Nodes and constants, as they come up."""

    def __init__(self, layer: Recurrent[Any], lengths: bool, states: bool) -> None:
        self.layer, self.lengths, self.states = layer, lengths, states
        self.letters = layer._states
        self.directions = 2 if layer.bidirectional else 1
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        count = layer.num_layers
        firsts: dict[str, list[str]] = {letter: [""] * count for letter in self.letters}
        if states:
            firsts = {letter: self._split(f"{letter}0") for letter in self.letters}
        empty = self._empty() if lengths and states else None
        x = "x"
        if layer.batch_first:
            x = self._add("Transpose", ["x"], "x_by_step", perm=[1, 0, 2])
        lasts: dict[str, list[str]] = {letter: [] for letter in self.letters}
        for k in range(count):
            of_layer = [firsts[letter][k] for letter in self.letters]
            y, *after = self._recurrent(k, x, of_layer)
            x = self._columns(k, y)
            for letter, first, last in zip(self.letters, of_layer, after, strict=True):
                if empty is not None:
                    # A row without a step keeps its state; the node's is 0.
                    last = self._add("Where", [empty, first, last], f"{letter}_kept_l{k}")
                lasts[letter].append(last)
        if layer.batch_first:
            self._add("Transpose", [x], "y", perm=[1, 0, 2])
        else:
            self._add("Identity", [x], "y")
        for letter, parts in lasts.items():
            self._add("Concat", parts, f"{letter}_n", axis=0)

    def proto(self) -> Any:
        layer = self.layer
        element = helper.np_dtype_to_tensor_dtype(layer.dtype)
        axes = ["B", "T"] if layer.batch_first else ["T", "B"]
        state = [layer.num_layers * self.directions, "B", layer.hidden_size]

        def info(name: str, shape: list[Any], kind: int = element) -> Any:
            return helper.make_tensor_value_info(name, kind, shape)

        inputs = [info("x", [*axes, layer.input_size])]
        if self.lengths:
            inputs.append(info("lengths", ["B"], TensorProto.INT32))
        if self.states:
            inputs += [info(f"{letter}0", state) for letter in self.letters]
        outputs = [info("y", [*axes, self.directions * layer.hidden_size])]
        outputs += [info(f"{letter}_n", state) for letter in self.letters]
        name = type(layer).__name__
        return helper.make_graph(self.nodes, name, inputs, outputs, self.constants)

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def _constant(self, name: str, array: Array) -> str:
        # Arrays in another byte order are written as they should be read.
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        self.constants.append(numpy_helper.from_array(native, name))
        return name

    def _split(self, name: str) -> list[str]:
        """(L*S, B, H) into (S, B, H) for each layer."""
        count = self.layer.num_layers
        if count == 1:
            return [name]
        parts = [f"{name}_l{k}" for k in range(count)]
        sizes = self._constant(f"{name}_sizes", np.full(count, self.directions))
        self.nodes.append(helper.make_node("Split", [name, sizes], parts, f"{name}_split", axis=0))
        return parts

    def _empty(self) -> str:
        """(1, B, 1): which rows have no step."""
        zero = self._constant("zero", np.array(0, "int32"))
        axes = self._constant("row_axes", np.array([0, 2]))
        return self._add(
            "Unsqueeze", [self._add("Equal", ["lengths", zero], "is_empty"), axes], "empty"
        )

    def _recurrent(self, k: int, x: str, states: list[str]) -> list[str]:
        layer, kind = self.layer, _kind(self.layer)
        options: dict[str, Any] = {
            "hidden_size": layer.hidden_size,
            "direction": "bidirectional" if layer.bidirectional else "forward",
            **_activations(layer),
        }
        if layer._inferring is not None and layer._inferring.clip:
            options["clip"] = layer._inferring.clip
        coupled = kind == "LSTM" and layer.coupled  # type: ignore[attr-defined]
        if coupled:
            options["input_forget"] = 1
        if kind == "GRU":
            options["linear_before_reset"] = int(layer.reset_after)  # type: ignore[attr-defined]
        arrays = to_onnx(layer.params, kind, coupled=coupled, layer=k)
        named = {name: self._constant(f"{name}_l{k}", array) for name, array in arrays.items()}
        inputs = [x, named["W"], named["R"], named.get("B", "")]
        inputs += ["lengths" if self.lengths else "", *states, named.get("P", "")]
        while not inputs[-1]:
            inputs.pop()
        outputs = [f"y_steps_l{k}", *(f"{letter}_n_l{k}" for letter in self.letters)]
        name = f"{kind.lower()}_l{k}"
        self.nodes.append(helper.make_node(kind, inputs, outputs, name, **options))
        return outputs

    def _columns(self, k: int, y: str) -> str:
        """From (T, S, B, H) to (T, B, S*H)."""
        if self.directions == 1:
            axis = "direction_axis"
            if k == 0:
                self._constant(axis, np.array([1]))
            return self._add("Squeeze", [y, axis], f"y_l{k}")
        rows = self._add("Transpose", [y], f"y_rows_l{k}", perm=[0, 2, 1, 3])
        shape = "columns"
        if k == 0:
            self._constant(shape, np.array([0, 0, self.directions * self.layer.hidden_size]))
        return self._add("Reshape", [rows, shape], f"y_l{k}")


def _kind(layer: Recurrent[Any]) -> str:
    for kind in (RNN, GRU, LSTM):
        if isinstance(layer, kind):
            return kind.__name__
    name = type(layer).__name__
    raise TypeError(f"layer: expected RNN, GRU or LSTM, got {name}: ONNX has no node for it")


def _activations(layer: Recurrent[Any]) -> dict[str, Any]:
    """Names, and the numbers of those that take any, for every direction."""
    of_one: list[Activation]
    if isinstance(layer, RNN):
        of_one = [checked_activation("nonlinearity", layer.nonlinearity)]
    else:
        gate = checked_activation("gate_activation", layer.gate_activation)  # type: ignore[attr-defined]
        own = checked_activation("activation", layer.activation)  # type: ignore[attr-defined]
        of_one = [gate, own, own] if isinstance(layer, LSTM) else [gate, own]
    of_one = [("affine", 1.0, 0.0) if name == "identity" else (name, *n) for name, *n in of_one]  # type: ignore[misc]
    every = of_one * (2 if layer.bidirectional else 1)
    found: dict[str, Any] = {"activations": [TO_ONNX[name] for name, _, _ in every]}
    alphas = [alpha for name, alpha, _ in every if name not in PARAMETERLESS]
    betas = [beta for name, _, beta in every if name in TAKE_BETA]
    if alphas:
        found["activation_alpha"] = alphas
    if betas:
        found["activation_beta"] = betas
    return found


def _refuse_what_onnx_has_not(layer: Recurrent[Any]) -> None:
    kind = _kind(layer)
    zoneout = np.any(np.asarray(layer.zoneout))  # type: ignore[attr-defined]
    why = {
        "proj_size": "ONNX has no projection" if layer.proj_size else None,
        "layer_norm": "ONNX has no layer normalisation within a cell" if layer.layer_norm else None,
        "zoneout": "ONNX has no zoneout, which blends states in inference" if zoneout else None,
    }
    if isinstance(layer, LSTM):
        if layer.peephole == "full":
            why["peephole"] = "ONNX has diagonal peepholes only"
        if layer.cell_clip is not None:
            why["cell_clip"] = "ONNX clips sums, not cells"
        gate = checked_activation("gate_activation", layer.gate_activation)
        if layer.coupled and not is_odd_around_half(gate):
            why["coupled"] = f"ONNX couples f = 1 - i, which is another cell with {gate[0]} gates"
    for name, reason in why.items():
        if reason is not None:
            raise ValueError(f"{name}: {reason}; this {kind} cannot be exported")
