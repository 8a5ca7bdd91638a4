"""A real model that others trained: silero-vad's, with the output that ONNX Runtime gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _common
import numpy as np
import pytest
from tolerances import assert_close

pytest.importorskip("onnx", reason="needs ONNX, which is not installed")
evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
pyrnn_onnx = pytest.importorskip("pyrnn.onnx")
speech = pytest.importorskip("speech")


def fetched(source: Any) -> Path:
    try:
        return _common.fetch(source)[0]
    except SystemExit as error:  # no package index is at hand
        pytest.skip(str(error))


def test_the_whole_model_as_onnx_runtime_runs_it() -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    path = str(fetched(speech.MODEL))
    session = evaluator(path, new_ops=pyrnn_onnx.reference_ops)
    oracle = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for seq_len in (1, 40):
        feeds = {
            "input": rng.normal(0, 0.1, (seq_len, 576)).astype("float32"),
            "h": rng.normal(size=(1, 1, 128)).astype("float32"),
            "c": rng.normal(size=(1, 1, 128)).astype("float32"),
        }
        for ours, theirs in zip(session.run(None, feeds), oracle.run(None, feeds), strict=True):
            assert_close(ours, theirs, "float32")


def test_its_network_becomes_a_layer() -> None:
    layers = pyrnn_onnx.load(fetched(speech.MODEL))
    assert repr(layers) == "{'/recurrent/LSTM': LSTM(128, 128)}"


def test_the_example_hears_the_voice(capsys: pytest.CaptureFixture[str]) -> None:
    fetched(speech.MODEL)
    fetched(speech.RECORDING)
    found = speech.main(["--seconds", "6", "--repeat", "1"])
    heard = found.probabilities["pyrnn"] > 0.5
    assert (heard & found.is_voice).sum() > 0.4 * found.is_voice.sum()
    assert (heard & ~found.is_voice).sum() < 0.1 * (~found.is_voice).sum()
    printed = capsys.readouterr().out
    for name, probabilities in found.probabilities.items():
        assert_close(probabilities, found.probabilities["pyrnn"], "float32")
        assert f"{name}: " in printed
