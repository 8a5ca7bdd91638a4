"""chars2vec 0.1.7: its published code and trained weights give its vectors on pyrnn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import _common
import h5py
import numpy as np
import pytest
from tolerances import assert_close

import pyrnn.keras
from pyrnn.weights import KERAS_HARD_SIGMOID, from_keras

CHARS2VEC = _common.Source(
    "chars2vec==0.1.7",
    "df05b0765e406e1bdb9f9537adf7fccb24db4a81956aea5c25a707a03a6a8094",
    "sdist",
    tuple(
        f"chars2vec-0.1.7/chars2vec/{path}"
        for path in (
            "model.py",
            "trained_models/eng_50/model.pkl",
            "trained_models/eng_50/weights.h5",
        )
    ),
)
WORDS = ["list", "of", "words", "mecbanizing", "mechanizing", "prot$oplasmatic", "dis7overy"]


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return _common.fetch(CHARS2VEC)[0].parent
    except SystemExit as error:  # no package index is at hand
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def published(folder: Path) -> Any:
    """The published class with its weights."""
    spec = importlib.util.spec_from_file_location("chars2vec_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_model(str(folder))


def vectors(published: Any) -> Any:
    published.cache.clear()
    return np.asarray(published.vectorize_words(WORDS))


def by_hand(published: Any, folder: Path, gate: Any) -> tuple[Any, list[list[Any]]]:
    """Keras's equations over both layers in float64, on the weights as they lie in the file."""
    longest = max(map(len, WORDS))
    x = np.zeros((len(WORDS), longest, 59))
    for row, word in zip(x, WORDS, strict=True):  # padded in front
        for k, letter in enumerate(word, longest - len(word)):
            row[k, published.char_to_ix[letter]] = 1
    layers = []
    with h5py.File(folder / "weights.h5") as file:
        for name in ("lstm_1", "lstm_2"):
            group = file[name][name]
            parts = ("kernel:0", "recurrent_kernel:0", "bias:0")
            layers.append([np.asarray(group[part], "float64") for part in parts])
    for kernel, recurrent, bias in layers:
        h = c = np.zeros((len(WORDS), 50))
        outputs = []
        for x_t in x.swapaxes(0, 1):
            i, f, g, o = np.split(x_t @ kernel + h @ recurrent + bias, 4, axis=1)
            c = gate(f) * c + gate(i) * np.tanh(g)
            h = gate(o) * np.tanh(c)
            outputs.append(h)
        x = np.stack(outputs, axis=1)
    return x[:, -1], layers


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def test_vectors_of_the_published_code(published: Any, folder: Path) -> None:
    own = vectors(published)
    before = pyrnn.keras.calls["lstm"]
    with pyrnn.keras.plugged_in():
        got = vectors(published)
    assert pyrnn.keras.calls["lstm"] >= before + 2
    assert_close(got, own, "float32")
    assert_close(got, by_hand(published, folder, sigmoid)[0].astype("float32"), "float32")
    distance = np.linalg.norm(got[:, None] - got, axis=2)
    assert distance[3].argsort()[1] == 4  # mecbanizing, mechanizing


def test_vectors_of_the_keras_that_trained_it(published: Any, folder: Path) -> None:
    """Keras 2.2, whose LSTM had its hard sigmoid for gates unless told otherwise."""
    want, layers = by_hand(published, folder, lambda a: np.clip(0.2 * a + 0.5, 0, 1))
    x = np.zeros((max(map(len, WORDS)), len(WORDS), 59), "float32")
    for b, word in enumerate(WORDS):
        for k, letter in enumerate(word, len(x) - len(word)):
            x[k, b, published.char_to_ix[letter]] = 1
    stack = pyrnn.LSTM(59, 50, 2, gate_activation=KERAS_HARD_SIGMOID[2])
    for k, arrays in enumerate(layers):
        for name, value in from_keras(arrays, "lstm", layer=k).items():
            stack.params[name][...] = value
    _, (h, _) = stack(x)
    assert_close(h[-1], want.astype("float32"), "float32")
