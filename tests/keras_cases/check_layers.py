"""pyrnn's own layers of Keras, what goes back to Keras, and plugging in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tolerances import assert_close

import pyrnn.keras
from pyrnn.weights import from_keras

X = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
KINDS = ["SimpleRNN", "LSTM", "GRU"]


def numbers(result: Any) -> Any:
    return np.asarray(keras.ops.convert_to_numpy(result))


@pytest.mark.parametrize("kind", KINDS)
def test_same_weights_and_results(kind: str) -> None:
    ours = getattr(pyrnn.keras, kind)(5, return_sequences=True, dropout=0.3, recurrent_dropout=0.2)
    theirs = getattr(keras.layers, kind)(5, return_sequences=True)
    assert isinstance(ours, getattr(keras.layers, kind))
    ours(X)
    theirs(X)
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs.get_weights()]
    theirs.set_weights(ours.get_weights())
    before = pyrnn.keras.calls.total()
    assert_close(numbers(ours(X)), numbers(theirs(X)), "float32")
    assert pyrnn.keras.calls.total() == before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    inner = getattr(pyrnn.keras, kind)
    model = keras.Sequential(
        [keras.Input((6, 3)), inner(5, return_sequences=True), keras.layers.Bidirectional(inner(4))]
    )
    want = model.predict(X, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.layers[0]) is inner
    assert type(again.layers[1].backward_layer) is inner
    np.testing.assert_array_equal(again.predict(X, verbose=0), want)


@pytest.mark.parametrize("kind", KINDS)
def test_float64(kind: str) -> None:
    """Against the reference: Keras's own loop rounds float64 to float32 on its way."""
    x = X.astype("float64")
    before = pyrnn.keras.calls.total()
    layer = getattr(pyrnn.keras, kind)(5, dtype="float64", return_sequences=True)
    layer(x)  # with the weights as they were drawn
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=w.shape) for w in layer.get_weights()]
    layer.set_weights(weights)
    got = numbers(layer(x))
    assert pyrnn.keras.calls.total() == before + 2
    cell = {"SimpleRNN": "rnn"}.get(kind, kind.lower())
    same = getattr(pyrnn, cell.upper())(3, 5, batch_first=True, dtype="float64")
    same.load_state_dict(from_keras(weights, cell))
    with pyrnn.backend("reference"):
        assert_close(got, same(x)[0], "float64")


def custom(x: Any) -> Any:
    return x * 0.5


class Doubled(keras.layers.LSTMCell):
    """A cell that inherits weights and computes something else."""

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        output, after = super().call(inputs, states, training=training)
        return output * 2, after


def with_cell(kind: Any) -> Any:
    layer = kind(5)
    layer.cell = Doubled(5)
    return layer


# What the kernels have not, and why it goes back.
HANDED_BACK = {
    "activation custom": lambda: keras.layers.LSTM(5, activation=custom),
    "activation gelu": lambda: keras.layers.GRU(5, recurrent_activation="gelu"),
    "activation ReLU": lambda: keras.layers.SimpleRNN(5, activation=keras.layers.ReLU(1.0)),
    "use_cudnn=False": lambda: keras.layers.GRU(5, use_cudnn=False),
    "cell Doubled": lambda: with_cell(keras.layers.LSTM),
}


@pytest.mark.parametrize("reason", HANDED_BACK)
def test_handed_back(reason: str) -> None:
    layer = HANDED_BACK[reason]()
    layer(X)
    # Keras's generic loop, which asks the cell for each step.
    state = layer.get_initial_state(len(X))
    step = keras.layers.RNN(layer.cell)
    want = step(X, initial_state=state)
    before, calls = pyrnn.keras.handed_back[reason], pyrnn.keras.calls.total()
    with pyrnn.keras.plugged_in():
        got = layer(X)
    assert pyrnn.keras.handed_back[reason] == before + 1
    assert pyrnn.keras.calls.total() == calls
    assert_close(numbers(got), numbers(want), "float32")


def test_half_precision_is_handed_back() -> None:
    layer = pyrnn.keras.LSTM(5, dtype="float16", recurrent_initializer="glorot_uniform")
    before = pyrnn.keras.calls.total()
    result = layer(X.astype("float16"))
    assert keras.backend.standardize_dtype(result.dtype) == "float16"
    assert pyrnn.keras.calls.total() == before


def test_integers_are_numbers_not_tokens() -> None:
    layer = keras.layers.LSTM(5)
    x = np.random.default_rng(1).integers(-2, 3, X.shape)
    want = layer(x.astype("float32"))
    before = pyrnn.keras.calls.total()
    with pyrnn.keras.plugged_in():
        assert_close(numbers(layer(x)), numbers(want), "float32")
    assert pyrnn.keras.calls.total() == before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_of_inputs(kind: str) -> None:
    """The masks are those that Keras draws, in training alone."""
    results = []
    for family in (keras.layers, pyrnn.keras):
        keras.utils.set_random_seed(7)
        layer = getattr(family, kind)(5, dropout=0.5, seed=3, return_sequences=True)
        results.append([numbers(layer(X, training=flag)) for flag in (True, True, False)])
    for got, want in zip(results[1], results[0], strict=True):
        assert_close(got, want, "float32")
    assert np.abs(results[0][0] - results[0][2]).max() > 0.01


def test_recurrent_dropout_in_training_is_handed_back() -> None:
    results = []
    for family in (keras.layers, pyrnn.keras):
        keras.utils.set_random_seed(7)
        layer = family.GRU(5, recurrent_dropout=0.5, seed=3)
        results.append(numbers(layer(X, training=True)))
    np.testing.assert_array_equal(*results)
    assert pyrnn.keras.handed_back["recurrent_dropout in training"] > 0


def test_plugged_in_and_out() -> None:
    own = [vars(getattr(keras.layers, kind)).get("inner_loop") for kind in KINDS]
    for _ in range(2):
        pyrnn.keras.plug_in()
    with pyrnn.keras.plugged_in():
        pass
    layer = keras.layers.GRU(5)
    before = pyrnn.keras.calls.total()
    layer(X)
    assert pyrnn.keras.calls.total() == before + 1  # still in after an inner with
    for _ in range(2):
        pyrnn.keras.unplug()
    layer(X)
    assert pyrnn.keras.calls.total() == before + 1
    assert [vars(getattr(keras.layers, kind)).get("inner_loop") for kind in KINDS] == own


def test_unplugged_after_an_error() -> None:
    with pytest.raises(KeyError), pyrnn.keras.plugged_in():
        raise KeyError
    before = pyrnn.keras.calls.total()
    keras.layers.GRU(5)(X)
    assert pyrnn.keras.calls.total() == before


def test_no_steps() -> None:
    """Keras's own error, whatever it is, not a crash."""
    layer = keras.layers.LSTM(5)
    layer(X)
    kinds = []
    for _ in range(2):
        with pytest.raises(Exception) as caught:
            layer(X[:, :0])
        kinds.append(caught.type)
        pyrnn.keras.plug_in()
    pyrnn.keras.unplug()
    assert kinds[0] is kinds[1]
