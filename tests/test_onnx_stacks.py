"""``load``: nodes that stand on each other become one stack, where that is exact."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from helpers_onnx import GATES
from tolerances import assert_close, assert_same_bits

onnx = pytest.importorskip("onnx", reason="needs ONNX, which is not installed")
load = pytest.importorskip("pyrnn.onnx").load
helper = onnx.helper


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
