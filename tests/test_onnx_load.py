"""``load``: layers out of nodes, wherever they are; what no layer can be is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_onnx import GATES, Inputs, model_of, problem, specified
from tolerances import assert_close, assert_same_bits

import pyrnn

onnx = pytest.importorskip("onnx", reason="needs ONNX, which is not installed")
load = pytest.importorskip("pyrnn.onnx").load
helper = onnx.helper

WEIGHTS = ("W", "R", "B", "P")


def values(kind: str, inputs: Inputs, layer: Any) -> list[Any]:
    """Y, Y_h(, Y_c) of a layer, in ONNX's shapes."""
    states = [inputs["initial_h"], inputs["initial_c"]] if kind == "LSTM" else [inputs["initial_h"]]
    if layer.batch_first:
        states = [state.swapaxes(0, 1) for state in states]  # type: ignore[union-attr]
    y, state = layer(
        inputs["X"], tuple(states) if kind == "LSTM" else states[0], inputs["sequence_lens"]
    )
    last = list(state) if kind == "LSTM" else [state]
    y = y.reshape(*y.shape[:2], -1, layer.hidden_size)
    if layer.batch_first:
        return [y, *(state.swapaxes(0, 1) for state in last)]
    return [y.transpose(0, 2, 1, 3), *last]


ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "RNN": [],
    "GRU": [{"linear_before_reset": 1}],
    "LSTM": [{"input_forget": 1}],
}
OF_ALL: list[dict[str, Any]] = [
    {},
    {"direction": "bidirectional"},
    {"layout": 1, "direction": "bidirectional"},
    {"clip": 0.75},
]


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [(kind, attributes) for kind in GATES for attributes in OF_ALL + ATTRIBUTES[kind]],
    ids=str,
)
def test_a_node_becomes_a_layer(kind: str, attributes: dict[str, Any]) -> None:
    inputs = problem(kind, dtype="float64", **attributes)
    inputs["sequence_lens"] = np.array([6, 1, 3, 2, 6], "int32")  # of 0 ONNX Runtime says otherwise
    layers = load(model_of(kind, inputs, constants=WEIGHTS, **attributes))
    assert list(layers) == ["node"]
    want = specified(kind, inputs, **attributes)
    for ours, theirs in zip(values(kind, inputs, layers["node"]), want, strict=True):
        assert_close(ours, theirs, "float64")


def test_activations_become_arguments() -> None:
    inputs = problem("LSTM")
    model = model_of(
        "LSTM",
        inputs,
        constants=WEIGHTS,
        activations=["HardSigmoid", "Elu", "Elu"],
        activation_alpha=[0.25, 0.5, 0.5],
    )
    layer = load(model)["node"]
    assert repr(layer) == (
        "LSTM(3, 7, peephole='diagonal', activation=('elu', 0.5, 0.0), "
        "gate_activation=('hard_sigmoid', 0.25, 0.5))"
    )
    assert load(model_of("RNN", problem("RNN"), constants=WEIGHTS))["node"].nonlinearity == "tanh"


def test_a_path_and_no_name(tmp_path: Path) -> None:
    model = model_of("GRU", problem("GRU"), constants=WEIGHTS)
    model.graph.node[0].name = ""
    onnx.save(model, tmp_path / "model.onnx")
    assert list(load(tmp_path / "model.onnx")) == list(load(str(tmp_path / "model.onnx"))) == ["Y"]
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.onnx")


def test_narrow_weights_are_widened() -> None:
    inputs = problem("GRU", dtype="float16")
    layer = load(model_of("GRU", inputs, constants=WEIGHTS))["node"]
    assert layer.dtype == np.float32
    assert_same_bits(layer.params["weight_hh_l0"][7:14], inputs["R"][0, :7].astype("float32"))  # type: ignore[index]


# --- where nodes and weights may be ----------------------------------------------------------


def test_weights_made_from_initialisers() -> None:
    inputs = problem("GRU")
    want = load(model_of("GRU", inputs, constants=WEIGHTS))["node"].params
    model = model_of("GRU", inputs, constants=("R", "B"))
    w = inputs["W"]
    assert w is not None
    turned = onnx.numpy_helper.from_array(np.ascontiguousarray(w.transpose(0, 2, 1)), "turned")
    node = model.graph.node[0]
    del model.graph.node[:], model.graph.input[1]
    model.graph.node.append(helper.make_node("Constant", [], ["W_t"], value=turned))
    model.graph.node.append(helper.make_node("Transpose", ["W_t"], ["W"], perm=[0, 2, 1]))
    model.graph.node.append(node)
    got = load(model)["node"].params
    for name in want:
        assert_same_bits(got[name], want[name])


def test_nodes_in_branches_and_functions() -> None:
    inputs = problem("GRU")
    model = model_of("GRU", inputs, ["Y"], WEIGHTS)
    branches = {
        name: helper.make_graph([model.graph.node[0]], name, [], model.graph.output)
        for name in ("then_branch", "else_branch")
    }
    both = helper.make_node("If", ["which"], ["Y"], **branches)
    which = helper.make_tensor_value_info("which", onnx.TensorProto.BOOL, [])
    graph = helper.make_graph(
        [both], "g", [which, *model.graph.input], model.graph.output, model.graph.initializer
    )
    opset = helper.make_opsetid("", 14)
    layers = load(helper.make_model(graph, opset_imports=[opset], ir_version=8))
    assert list(layers) == ["node", "node:2"]

    names = [name for name in inputs if inputs[name] is not None]
    function = helper.make_function("own", "Inner", names, ["Y"], [model.graph.node[0]], [opset])
    call = helper.make_node("Inner", names, ["Y"], domain="own")
    graph = helper.make_graph(
        [call], "g", model.graph.input, model.graph.output, model.graph.initializer
    )
    opsets = [opset, helper.make_opsetid("own", 1)]
    whole = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    (layer,) = load(whole).values()
    for name, array in layers["node"].params.items():
        assert_same_bits(layer.params[name], array)


def test_a_model_without_any() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [info("x", 1, [1])], [info("y", 1, [1])]
    )
    assert load(helper.make_model(graph)) == {}


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("GRU", {"direction": "reverse"}, "direction: expected forward or bidirectional"),
        (
            "RNN",
            {"direction": "bidirectional", "activations": ["Tanh", "Relu"]},
            "activations: expected the same ones in both directions",
        ),
        (
            "LSTM",
            {"activations": ["Sigmoid", "Tanh", "Relu"]},
            "activations: expected g and h alike, got tanh, relu",
        ),
        (
            "LSTM",
            {"activations": ["Relu", "Tanh", "Tanh"], "input_forget": 1},
            "input_forget: f = 1 - i with relu gates is not i = 1 - f with other weights",
        ),
        ("LSTM", {"clip": -1.0}, "clip: expected a positive number, got -1.0"),
    ],
)
def test_what_no_layer_can_be(kind: str, attributes: Any, message: str) -> None:
    inputs = problem(kind, **attributes)
    expected = "^" + re.escape(f"{kind} 'node': {message}")
    with pytest.raises(ValueError, match=expected):
        load(model_of(kind, inputs, constants=WEIGHTS, **attributes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W": (1, 27, 3)}, "W: expected shape (D, 4·H, I), got (1, 27, 3)"),
        ({"B": (1, 55)}, "B: expected shape (D, 8·H) = (1, 56), got (1, 55)"),
        ({"P": (1, 20)}, "P: expected shape (D, 3·H) = (1, 21), got (1, 20)"),
    ],
)
def test_a_wrong_shape_is_named(changes: Any, message: str) -> None:
    inputs = problem("LSTM")
    inputs |= {name: np.zeros(shape, "float32") for name, shape in changes.items()}
    with pytest.raises(ValueError, match="^" + re.escape(f"LSTM 'node': {message}")):
        load(model_of("LSTM", inputs, constants=WEIGHTS))


def test_weights_that_are_inputs() -> None:
    with pytest.raises(ValueError, match=r"^GRU 'node': R: expected a constant, got an input"):
        load(model_of("GRU", problem("GRU"), constants=("W", "B")))


def test_weights_that_cannot_be_computed() -> None:
    model = model_of("RNN", problem("RNN"), constants=("W", "R", "B"))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.insert(0, helper.make_node("Unknown", ["R"], ["R_made"], domain="own"))
    model.graph.node[1].input[2] = "R_made"
    message = r"^RNN 'node': R_made: cannot be computed from initialisers: .*Unknown"
    with pytest.raises(ValueError, match=message):
        load(model)
    model.graph.node[1].input[2] = ""
    with pytest.raises(ValueError, match=r"^RNN 'node': R: missing$"):
        load(model)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"hidden_size": 8}, "R: expected hidden_size = 8 columns, got 7"),
        ({"direction": "bidirectional"}, "R: expected D = 2 for direction 'bidirectional'"),
    ],
)
def test_attributes_that_do_not_fit(attributes: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"RNN 'node': {message}")):
        load(model_of("RNN", problem("RNN"), constants=WEIGHTS, **attributes))


def test_mixed_types() -> None:
    inputs = problem("GRU")
    inputs["B"] = inputs["B"].astype("float64")  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"^GRU 'node': bias_ih_l0: expected float32, got float64"):
        load(model_of("GRU", inputs, constants=WEIGHTS))


def test_layers_train() -> None:
    """They are layers like any other."""
    layer = load(model_of("GRU", problem("GRU"), constants=WEIGHTS))["node"]
    x = np.ones((4, 2, 3), "float32")
    y, _, tape = layer.forward(x)
    grads = layer.backward(tape, 2 * y)
    pyrnn.SGD(layer.params, lr=0.1).step(grads.params)
    assert (layer(x)[0] ** 2).sum() < (y**2).sum()
