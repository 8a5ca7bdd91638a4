"""``export``: a valid model, the layer's own numbers from ONNX Runtime, and refusals with why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_onnx import runtime_fills_padding
from tolerances import assert_close, assert_same_bits

import pyrnn

onnx = pytest.importorskip("onnx", reason="needs ONNX, which is not installed")
pyrnn_onnx = pytest.importorskip("pyrnn.onnx")
evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator

# Numbers that float32 holds: a model has no other attributes.
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (pyrnn.RNN, {}),
    "relu": (pyrnn.RNN, {"nonlinearity": "relu"}),
    "rnn numbers": (pyrnn.RNN, {"nonlinearity": ("scaled_tanh", 1.25, 0.75), "clip": 0.75}),
    "identity": (pyrnn.RNN, {"nonlinearity": "identity", "bias": False}),
    "gru": (pyrnn.GRU, {}),
    "reset before": (pyrnn.GRU, {"reset_after": False, "bias": False}),
    "gru numbers": (
        pyrnn.GRU,
        {
            "gate_activation": ("hard_sigmoid", 0.25, 0.375),
            "activation": ("elu", 0.75),
            "clip": 0.75,
        },
    ),
    "lstm": (pyrnn.LSTM, {}),
    "no bias": (pyrnn.LSTM, {"bias": False}),
    "peephole": (pyrnn.LSTM, {"peephole": "diagonal"}),
    "coupled": (pyrnn.LSTM, {"coupled": True}),
    "coupled peephole": (pyrnn.LSTM, {"coupled": True, "peephole": "diagonal", "clip": 0.75}),
    "coupled hard": (pyrnn.LSTM, {"coupled": True, "gate_activation": ("hard_sigmoid", 0.25, 0.5)}),
    "lstm numbers": (
        pyrnn.LSTM,
        {
            "gate_activation": ("hard_sigmoid", 0.25, 0.375),
            "activation": ("leaky_relu", 0.25),
            "peephole": "diagonal",
        },
    ),
}
SHAPES = {
    "one": {},
    "stack": {"num_layers": 3},
    "both": {"bidirectional": True},
    "stack both": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
SEQ_LEN, BATCH = 6, 5


def layer_of(name: str, shape: str = "one", **more: Any) -> Any:
    kind, options = LAYERS[name]
    layer = kind(3, 7, **options, **SHAPES[shape], **more, rng=0)
    rng = np.random.default_rng(1)
    for array in layer.params.values():  # large enough to reach clips
        array[...] = rng.normal(size=array.shape) * 0.7
    return layer


def given(layer: Any, lengths: bool, states: bool) -> tuple[dict[str, Any], list[Any]]:
    """Inputs of the model, and arguments of the layer."""
    rng = np.random.default_rng(2)
    shape = (BATCH, SEQ_LEN, 3) if layer.batch_first else (SEQ_LEN, BATCH, 3)
    x = rng.normal(size=shape).astype(layer.dtype)
    feeds: dict[str, Any] = {"x": x}
    rows = layer.num_layers * (1 + layer.bidirectional)
    letters = "hc" if isinstance(layer, pyrnn.LSTM) else "h"
    parts = [rng.normal(size=(rows, BATCH, 7)).astype(layer.dtype) for _ in letters]
    state = (tuple(parts) if len(parts) == 2 else parts[0]) if states else None
    if states:
        feeds |= {f"{letter}0": part for letter, part in zip(letters, parts, strict=True)}
    row_lengths = np.array([0, SEQ_LEN, 1, 4, 0], "int32") if lengths else None
    if lengths:
        feeds["lengths"] = row_lengths
    return feeds, [x, state, row_lengths]


def flat(result: Any) -> list[Any]:
    y, state = result
    return [y, *(state if isinstance(state, tuple) else [state])]


def runtime_of(path: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LAYERS)
def test_onnx_runtime_gives_what_the_layer_gives(name: str, shape: str, tmp_path: Path) -> None:
    layer, path = layer_of(name, shape), tmp_path / "model.onnx"
    kind = type(layer).__name__
    for lengths, states in ((False, False), (True, False), (False, True), (True, True)):
        if lengths and not runtime_fills_padding(kind):
            continue
        pyrnn_onnx.export(layer, path, lengths=lengths, states=states)
        onnx.checker.check_model(onnx.load(path), full_check=True)
        feeds, arguments = given(layer, lengths, states)
        got = runtime_of(path).run(None, feeds)
        for theirs, ours in zip(got, flat(layer(*arguments)), strict=True):
            assert_close(theirs, ours, "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back(name: str, shape: str, dtype: str, tmp_path: Path) -> None:
    layer, path = layer_of(name, shape, dtype=dtype), tmp_path / "model.onnx"
    pyrnn_onnx.export(layer, path, lengths=True, states=True)
    (loaded,) = pyrnn_onnx.load(path).values()
    assert type(loaded) is type(layer)
    assert list(loaded.params) == list(layer.params)
    for parameter, array in layer.params.items():
        assert_same_bits(loaded.params[parameter], array, parameter)
    x = given(layer, True, True)[1][0]
    if layer.batch_first:  # the model turns x, so its node does not
        x = x.swapaxes(0, 1)
        layer.batch_first = False
    for ours, theirs in zip(flat(loaded(x)), flat(layer(x)), strict=True):
        assert_close(ours, theirs, dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_the_evaluator_runs_it_on_the_same_kernels(name: str, tmp_path: Path) -> None:
    layer, path = layer_of(name, "stack", dtype="float64"), tmp_path / "model.onnx"
    pyrnn_onnx.export(layer, path, lengths=True, states=True)
    session = evaluator(str(path), new_ops=pyrnn_onnx.reference_ops)
    feeds, arguments = given(layer, True, True)
    for theirs, ours in zip(session.run(None, feeds), flat(layer(*arguments)), strict=True):
        assert_close(theirs, ours, "float64")


def test_any_length_and_batch(tmp_path: Path) -> None:
    layer, path = layer_of("lstm", "stack both"), tmp_path / "model.onnx"
    pyrnn_onnx.export(layer, path)
    session = runtime_of(path)
    for batch, seq_len in ((1, 1), (2, 9), (7, 3)):
        x = np.ones((batch, seq_len, 3), "float32")
        assert_close(session.run(["y"], {"x": x})[0], layer(x)[0], "float32")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    pyrnn_onnx.export(layer_of("gru"), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^proj_size"):
        pyrnn_onnx.export(pyrnn.LSTM(3, 4, proj_size=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError):
        pyrnn_onnx.export(layer_of("gru"), tmp_path / "missing" / "model.onnx")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (pyrnn.LSTM(3, 4, proj_size=2), "proj_size: ONNX has no projection; this LSTM"),
        (pyrnn.LSTM(3, 4, peephole="full"), "peephole: ONNX has diagonal peepholes only"),
        (pyrnn.LSTM(3, 4, cell_clip=1.0), "cell_clip: ONNX clips sums, not cells"),
        (pyrnn.GRU(3, 4, layer_norm=True), "layer_norm: ONNX has no layer normalisation"),
        (pyrnn.RNN(3, 4, zoneout=0.1), "zoneout: ONNX has no zoneout"),
        (pyrnn.LSTM(3, 4, zoneout=(0.0, 0.1)), "zoneout: ONNX has no zoneout"),
        (
            pyrnn.LSTM(3, 4, coupled=True, gate_activation="relu"),
            "coupled: ONNX couples f = 1 - i, which is another cell with relu gates",
        ),
    ],
    ids=str,
)
def test_what_onnx_has_not_is_refused(layer: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        pyrnn_onnx.export(layer, tmp_path / "model.onnx")


@pytest.mark.parametrize("layer", [pyrnn.MGU(3, 4), pyrnn.Linear(3, 4)], ids=str)
def test_other_layers_are_refused(layer: Any, tmp_path: Path) -> None:
    kind = type(layer).__name__
    message = f"layer: expected RNN, GRU or LSTM, got {kind}: ONNX has no node for it"
    with pytest.raises(TypeError, match=re.escape(message)):
        pyrnn_onnx.export(layer, tmp_path / "model.onnx")


def test_regularisers_of_training_do_not_matter(tmp_path: Path) -> None:
    layer = pyrnn.LSTM(3, 7, 2, dropout=0.5, recurrent_dropout=0.5, rng=0)
    pyrnn_onnx.export(layer, tmp_path / "model.onnx")
    x = np.ones((SEQ_LEN, BATCH, 3), "float32")
    y = runtime_of(tmp_path / "model.onnx").run(["y"], {"x": x})[0]
    assert_close(y, layer(x)[0], "float32")
