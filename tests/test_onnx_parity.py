"""The variants against ONNX Runtime, the parameters converted: values, final states, lengths."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers_ops import Array, family, make
from helpers_ops import Case as OpsCase
from tolerances import RELATIVE, relative_error

from pyrnn import ops, reference, weights

onnx = pytest.importorskip("onnx", reason="parity needs ONNX, which is not installed")
runtime = pytest.importorskip("onnxruntime", reason="parity needs ONNX Runtime")

NAMES = {
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "affine": "Affine",
    "leaky_relu": "LeakyRelu",
    "thresholded_relu": "ThresholdedRelu",
    "scaled_tanh": "ScaledTanh",
    "hard_sigmoid": "HardSigmoid",
    "elu": "Elu",
    "softsign": "Softsign",
    "softplus": "Softplus",
}
SHAPE = (6, 5, 3, 7)  # T, B, I, H
# As ONNX orders them: gates first, then the candidate (and the output, the same one here).
ACTIVATIONS = [
    (("sigmoid",), ("tanh",)),
    (("hard_sigmoid",), ("softsign",)),
    (("hard_sigmoid", 1 / 6, 0.5), ("scaled_tanh", 1.2, 0.7)),
    (("sigmoid",), ("leaky_relu", 0.2)),
    (("hard_sigmoid", 0.3, 0.4), ("elu", 0.7)),
    (("sigmoid",), ("relu",)),
    (("sigmoid",), ("thresholded_relu", 0.1)),
    (("sigmoid",), ("affine", 0.4, 0.1)),
    (("sigmoid",), ("softplus",)),
]


def run_node(cell: str, inputs: dict[str, Array | None], **attributes: Any) -> list[Array]:
    """Outputs of a graph of one node."""
    helper = onnx.helper
    outputs = ["Y", "Y_h", "Y_c"] if cell == "LSTM" else ["Y", "Y_h"]
    names = [name if array is not None else "" for name, array in inputs.items()]
    node = helper.make_node(cell, names, outputs, **attributes)

    def info(name: str, array: Array | None = None) -> Any:
        kind = onnx.TensorProto.INT32 if name == "sequence_lens" else onnx.TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, None if array is None else array.shape)

    graph = helper.make_graph(
        [node],
        "one",
        [info(name, array) for name, array in inputs.items() if array is not None],
        [info(name) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = {name: array for name, array in inputs.items() if array is not None}
    results: list[Array] = session.run(None, given)
    return results


def check(cell: str, options: dict[str, Any], peephole: bool, lengths: bool, reverse: bool) -> None:
    """ONNX's node in float32 on the numbers of our operation in float64."""
    options = dict(options)
    case = OpsCase(cell, "float32", *SHAPE, reverse=reverse, lengths="ragged" if lengths else None)
    problem = make(case)
    arrays = problem.arrays
    kind = family(cell)
    names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
    coupled = options.pop("coupled", False)
    if coupled:
        for ours in names:
            arrays[ours] = arrays[ours][: 3 * SHAPE[3]]
    params = {f"{theirs}_l0": arrays[ours] for ours, theirs in names.items()}
    keywords: dict[str, Any] = {}
    if peephole:
        rng = np.random.default_rng(3)
        keywords["w_peephole"] = rng.normal(size=(3 - coupled, SHAPE[3])).astype("float32")
        params["weight_peephole_l0"] = keywords["w_peephole"]
    if coupled:
        keywords["coupled"] = True
    node: dict[str, Any] = {
        "hidden_size": SHAPE[3],
        "direction": "reverse" if reverse else "forward",
    }
    given = [options[name] for name in ("gates", "candidate") if name in options]
    if kind == "lstm":
        given.append(options["candidate"])
    node["activations"] = [NAMES[name] for name, *_ in given]
    # One list for all activations that take a number, in their order.
    for k, name in ((0, "activation_alpha"), (1, "activation_beta")):
        values = [numbers[k] for _, *numbers in given if len(numbers) > k]
        if values:
            node[name] = values
    argument = "nonlinearity" if kind == "rnn" else "activation"
    keywords[argument] = options["candidate"]
    if "gates" in options:
        keywords["gate_activation"] = options["gates"]
    if options.get("clip"):
        node["clip"] = keywords["clip"] = options["clip"]
    if kind == "gru":
        keywords["reset_after"] = cell == "gru"
        node["linear_before_reset"] = int(cell == "gru")
    if kind == "lstm":
        node["input_forget"] = int(coupled)

    x = np.nan_to_num(arrays["x"])
    theirs = weights.to_onnx(params, kind, coupled=coupled)
    given_lengths = problem.options["lengths"]
    inputs: dict[str, Array | None] = {
        "X": x,
        "W": theirs["W"],
        "R": theirs["R"],
        "B": theirs["B"],
        "sequence_lens": None if given_lengths is None else given_lengths.astype("int32"),
        "initial_h": arrays["h0"][None],
    }
    if kind == "lstm":
        inputs |= {"initial_c": arrays["c0"][None], "P": theirs.get("P")}
    want = run_node(kind.upper(), inputs, **node)

    def double(array: Any) -> Any:
        return array.astype("float64") if getattr(array, "dtype", None) == np.float32 else array

    calls = {
        name: value for name, value in problem.options.items() if name in ("lengths", "reverse")
    }
    keywords = calls | {name: double(value) for name, value in keywords.items()}
    operands = [double(array) for array in (arrays | {"x": x}).values()]
    for side in (reference, ops):
        y, h_n, *rest = getattr(side, f"{kind}_forward")(*operands, **keywords)
        got = [y, h_n, *rest[:1]] if kind == "lstm" else [y, h_n]
        for ours, other in zip(got, want, strict=True):
            error = relative_error(other.reshape(ours.shape), ours)
            assert error <= RELATIVE["float32"], f"{error:.3g}"


@pytest.mark.parametrize("reverse", [False, True], ids=["", "reverse"])
@pytest.mark.parametrize(("gates", "candidate"), ACTIVATIONS, ids=str)
@pytest.mark.parametrize("cell", ["rnn_tanh", "gru", "gru_reset_before", "lstm"])
def test_activations(cell: str, gates: Any, candidate: Any, reverse: bool) -> None:
    options = {"candidate": candidate} | ({} if cell == "rnn_tanh" else {"gates": gates})
    check(cell, options, False, False, reverse)


@pytest.mark.parametrize(
    ("coupled", "peephole", "clip", "lengths", "reverse"),
    list(
        itertools.product([False, True], [False, True], [None, 0.7], [False, True], [False, True])
    ),
)
def test_lstm(
    coupled: bool, peephole: bool, clip: float | None, lengths: bool, reverse: bool
) -> None:
    options = {"gates": ("sigmoid",), "candidate": ("tanh",), "coupled": coupled, "clip": clip}
    check("lstm", options, peephole, lengths, reverse)


@pytest.mark.parametrize(
    ("cell", "clip", "lengths", "reverse"),
    list(
        itertools.product(
            ["rnn_tanh", "gru", "gru_reset_before"], [None, 0.7], [False, True], [False, True]
        )
    ),
)
def test_gru_and_elman(cell: str, clip: float | None, lengths: bool, reverse: bool) -> None:
    options = {"candidate": ("tanh",), "clip": clip}
    check(
        cell,
        options | ({} if cell == "rnn_tanh" else {"gates": ("sigmoid",)}),
        False,
        lengths,
        reverse,
    )
