"""``load``: layers out of nodes, alone and in stacks; what no layer can be is refused by name."""

from __future__ import annotations

import io
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


# --- stacks ----------------------------------------------------------------------------------


def pair(
    between: list[Any],
    kind: str = "GRU",
    upper: str | None = None,
    directions: int = 1,
    outputs: tuple[str, ...] = ("Y1", "Y_h1"),
    lengths: tuple[str, str] = ("", ""),
    opset: int = 14,
    sizes: tuple[int, int] = (4, 4),
    of_upper: dict[str, Any] | None = None,  # attributes of its own; "B": False for none
    **attributes: Any,
) -> Any:
    """A model of two nodes, the second on what ``between`` makes of Y0, called x1."""
    rng = np.random.default_rng(0)
    if directions == 2:
        attributes["direction"] = "bidirectional"
    nodes, constants = [], []
    kinds = [kind, upper or kind]
    for k, (of_node, x, width) in enumerate(
        [(kinds[0], "x0", 3), (kinds[1], "x1", directions * sizes[0])]
    ):
        own = dict(attributes if k == 0 else attributes | (of_upper or {}))
        with_bias = own.pop("B", True)
        size = sizes[k]
        rows = GATES[of_node] * size
        for name, shape in (("W", (rows, width)), ("R", (rows, size)), ("B", (2 * rows,))):
            array = rng.normal(size=(directions, *shape)).astype("float32")
            constants.append(onnx.numpy_helper.from_array(array, f"{name}{k}"))
        names = [x, f"W{k}", f"R{k}", f"B{k}" if with_bias else "", lengths[k]]
        nodes.append(helper.make_node(of_node, names, [f"Y{k}", f"Y_h{k}"], f"node{k}", **own))
    constants += [node for node in between if isinstance(node, onnx.TensorProto)]
    nodes[1:1] = [node for node in between if not isinstance(node, onnx.TensorProto)]
    info = helper.make_tensor_value_info
    given = [info("x0", 1, ["T", "B", 3])]
    given += [info(name, 6, ["B"]) for name in sorted(set(lengths)) if name]
    made = [info(name, 1, [None] * (3 if "_h" in name else 4)) for name in outputs]
    graph = helper.make_graph(nodes, "pair", given, made, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def integers(name: str, *numbers: int) -> Any:
    return onnx.numpy_helper.from_array(np.array(numbers), name)


SQUEEZE = [integers("axes", 1), helper.make_node("Squeeze", ["Y0", "axes"], ["x1"])]
TURN = helper.make_node("Transpose", ["Y0"], ["turned"], perm=[0, 2, 1, 3])


def reshape(*shape: int, source: str = "turned", **attributes: Any) -> list[Any]:
    node = helper.make_node("Reshape", [source, "shape"], ["x1"], **attributes)
    return [integers("shape", *shape), node]


STACKS: dict[str, dict[str, Any]] = {
    "squeeze": {"between": SQUEEZE},
    "squeeze of opset 11": {
        "between": [helper.make_node("Squeeze", ["Y0"], ["x1"], axes=[1])],
        "opset": 11,
    },
    "both": {"between": [TURN, *reshape(0, 0, -1)], "directions": 2},
    "columns": {"between": [TURN, *reshape(0, -1, 8)], "directions": 2},
    "one direction": {"between": [TURN, *reshape(0, 0, 4)]},
    "dropout": {
        "between": [
            integers("axes", -3),
            helper.make_node("Squeeze", ["Y0", "axes"], ["kept"]),
            helper.make_node("Dropout", ["kept"], ["x1"]),
        ]
    },
    "layout 1": {"between": reshape(0, 0, -1, source="Y0"), "directions": 2, "layout": 1},
    "layout 1, one direction": {
        "between": [integers("axes", 2), helper.make_node("Squeeze", ["Y0", "axes"], ["x1"])],
        "layout": 1,
    },
    "lengths": {"between": SQUEEZE, "lengths": ("lengths", "lengths")},
}


@pytest.mark.parametrize("name", STACKS)
def test_nodes_on_each_other_are_a_stack(name: str) -> None:
    model = pair(**STACKS[name])
    layers = load(model)
    assert list(layers) == ["node0"]
    layer = layers["node0"]
    assert layer.num_layers == 2
    x = np.random.default_rng(1).normal(size=(5, 2, 3)).astype("float32")
    feeds: dict[str, Any] = {"x0": x}
    lengths = None
    if name == "lengths":
        feeds["lengths"] = lengths = np.array([5, 3], "int32")
    session = onnx.reference.ReferenceEvaluator(
        model, new_ops=pytest.importorskip("pyrnn.onnx").reference_ops
    )
    want, last = session.run(None, feeds)
    y, state = layer(x, None, lengths)
    y = y.reshape(5, 2, -1, 4)
    assert_close(y if layer.batch_first else y.transpose(0, 2, 1, 3), want, "float32")
    count = y.shape[2]
    got = state[-count:]
    assert_close(got.swapaxes(0, 1) if layer.batch_first else got, last, "float32")


ALONE: dict[str, dict[str, Any]] = {
    "of another kind": {"between": SQUEEZE, "upper": "LSTM"},
    "y is an output": {"between": SQUEEZE, "outputs": ("Y0", "Y1")},
    "y is used twice": {
        "between": [*SQUEEZE, helper.make_node("Relu", ["Y0"], ["relu"])],
        "outputs": ("Y1", "relu"),
    },
    "something between": {
        "between": [
            integers("axes", 1),
            helper.make_node("Squeeze", ["Y0", "axes"], ["flat"]),
            helper.make_node("Relu", ["flat"], ["x1"]),
        ]
    },
    "other lengths": {"between": SQUEEZE, "lengths": ("lengths", "others")},
    "lengths below": {"between": SQUEEZE, "lengths": ("lengths", "")},
    "another clip": {"between": SQUEEZE, "of_upper": {"clip": 1.0}},
    "another activation": {"between": SQUEEZE, "of_upper": {"activations": ["Sigmoid", "Relu"]}},
    "without a bias": {"between": SQUEEZE, "of_upper": {"B": False}},
    "of another size": {"between": SQUEEZE, "sizes": (4, 5)},
    "axes unknown": {"between": [helper.make_node("Squeeze", ["Y0"], ["x1"])]},
    "rows and steps exchanged": {
        "between": [
            helper.make_node("Transpose", ["Y0"], ["turned"], perm=[2, 0, 1, 3]),
            *reshape(0, 0, -1),
        ],
        "directions": 2,
    },
    "directions as rows": {"between": reshape(0, -1, 8, source="Y0"), "directions": 2},
    "numbers that say nothing": {"between": [TURN, *reshape(5, 2, 8)], "directions": 2},
    "no zeros": {"between": [TURN, *reshape(0, 0, 8, allowzero=1)], "directions": 2},
}


@pytest.mark.parametrize("name", ALONE)
def test_other_nodes_stay_alone(name: str) -> None:
    layers = load(pair(**ALONE[name]))
    assert list(layers) == ["node0", "node1"]
    assert all(layer.num_layers == 1 for layer in layers.values())


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


@pytest.mark.filterwarnings("ignore")  # of an exporter that is to be replaced
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_models_that_pytorch_exports(kind: str, bidirectional: bool) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(3, 4, 2, bidirectional=bidirectional)
    file = io.BytesIO()
    torch.onnx.export(module, (torch.zeros(5, 2, 3),), file, dynamo=False)
    (layer,) = load(onnx.load_model_from_string(file.getvalue())).values()
    for name, parameter in module.state_dict().items():
        assert_same_bits(layer.params[name], parameter.numpy(), name)
    x = torch.randn(5, 2, 3)
    assert_close(layer(x.numpy())[0], module(x)[0].detach().numpy(), "float32")


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
