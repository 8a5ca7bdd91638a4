"""Plugged in, every layer gives what Keras's own loop gives."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
from tolerances import assert_close

import pyrnn.keras

T, B, NUM_INPUTS, H = 7, 6, 3, 5
ARRAYS = np.random.default_rng(0)
X = ARRAYS.normal(size=(B, T, NUM_INPUTS)).astype("float32")
STATES = [ARRAYS.normal(size=(B, H)).astype("float32") for _ in range(2)]
STEPS = np.arange(T)
MASKS: dict[str, Any] = {
    "none": None,
    "whole": np.ones((B, T), bool),
    "right": np.array([7, 3, 0, 5, 1, 7])[:, None] > STEPS,
    "left": np.array([0, 3, 7, 5, 1, 2])[:, None] <= STEPS,
    "holes": ARRAYS.random((B, T)) < 0.5,
}
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (keras.layers.SimpleRNN, {}),
    "rnn relu": (keras.layers.SimpleRNN, {"activation": "relu"}),
    "lstm": (keras.layers.LSTM, {}),
    "lstm no bias": (keras.layers.LSTM, {"use_bias": False}),
    "lstm hard": (
        keras.layers.LSTM,
        {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
    ),
    "gru": (keras.layers.GRU, {}),
    "gru before": (keras.layers.GRU, {"reset_after": False}),
    "gru no bias": (keras.layers.GRU, {"use_bias": False, "activation": "softsign"}),
}
ON_TORCH = keras.config.backend() == "torch"
if ON_TORCH:  # where Keras's loop takes milliseconds a step; variants are the NumPy backend's
    LAYERS = {name: LAYERS[name] for name in ("rnn", "lstm", "gru before")}
MERGE_MODES = ["concat", None] if ON_TORCH else ["concat", "sum", "mul", "ave", None]


def made(name: str, **options: Any) -> Any:
    kind, more = LAYERS[name]
    options = {"bias_initializer": "random_normal", **more, **options}
    layer = kind(H, return_state=True, **options)
    layer.build((B, T, NUM_INPUTS))
    # Biases drawn from a normal distribution for the LSTM also: unit_forget_bias draws nothing.
    layer.set_weights([ARRAYS.normal(size=w.shape) / 2 for w in layer.get_weights()])
    return layer


def arrays(results: Any) -> list[Any]:
    parts = results if isinstance(results, (list, tuple)) else [results]
    return [np.asarray(keras.ops.convert_to_numpy(part)) for part in parts]


def assert_same(got: Any, want: Any) -> None:
    for k, (a, b) in enumerate(zip(arrays(got), arrays(want), strict=True)):
        assert_close(a, b, "float32", f"result {k}")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, mask: str) -> None:
    flags = ("return_sequences", "go_backwards", "zero_output_for_mask", "unroll", "state")
    for values in itertools.product([False, True], repeat=len(flags)):
        options = dict(zip(flags, values, strict=True))
        state = None
        if options.pop("state"):
            state = STATES[: 2 if name.startswith("lstm") else 1]
        layer = made(name, **options)
        if ON_TORCH and mask != "none" and options["unroll"] and options["go_backwards"]:
            continue  # Keras's own unrolled loop raises TypeError
        want = layer(X, mask=MASKS[mask], initial_state=state)
        before = pyrnn.keras.calls.total()
        with pyrnn.keras.plugged_in():
            got = layer(X, mask=MASKS[mask], initial_state=state)
        assert pyrnn.keras.calls.total() == before + 1
        assert_same(got, want)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("merge_mode", MERGE_MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_bidirectional(name: str, merge_mode: str | None, mask: str) -> None:
    for return_sequences in (False, True):
        layer = keras.layers.Bidirectional(
            made(name, return_sequences=return_sequences), merge_mode=merge_mode
        )
        layer(X)
        layer.set_weights([ARRAYS.normal(size=w.shape) / 2 for w in layer.get_weights()])
        count = 2 if name.startswith("lstm") else 1
        for state in (None, [*STATES[:count], *(1 - s for s in STATES[:count])]):
            want = layer(X, mask=MASKS[mask], initial_state=state)
            before = pyrnn.keras.calls.total()
            with pyrnn.keras.plugged_in():
                got = layer(X, mask=MASKS[mask], initial_state=state)
            assert pyrnn.keras.calls.total() == before + 2
            assert_same(got, want)


@pytest.mark.skipif(ON_TORCH, reason="the fused call is the NumPy backend's alone")
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_bidirectional_backward_layer_first(kind: str) -> None:
    """A pair in the other order is no pair that Keras's fused call knows."""
    layers = [made(kind, return_sequences=True, go_backwards=back) for back in (True, False)]
    layer = keras.layers.Bidirectional(layers[0], backward_layer=layers[1])
    want = layer(X)
    layer = keras.layers.Bidirectional.from_config(layer.get_config())
    layer(X)
    want = layer(X)
    with pyrnn.keras.plugged_in():
        assert_same(layer(X), want)


@pytest.mark.parametrize("name", LAYERS)
def test_stateful(name: str) -> None:
    """Three calls in a row, then from a fresh state."""
    results = []
    weights = made(name).get_weights()
    for plugged in (False, True):
        layer = made(name, stateful=True, return_sequences=True)
        layer.build((B, T, NUM_INPUTS))
        layer.set_weights([*weights, *layer.get_weights()[len(weights) :]])
        if plugged:
            pyrnn.keras.plug_in()
        found = [arrays(layer(X * k, mask=MASKS["right"])) for k in (1, 2, 3)]
        layer.reset_state()
        found.append(arrays(layer(X)))
        pyrnn.keras.unplug()
        results.append(found)
    for got, want in zip(results[1], results[0], strict=True):
        assert_same(got, want)
    assert np.abs(results[0][0][0] - results[0][3][0]).max() > 0  # the mask counts


def test_masked_steps_are_not_read() -> None:
    x = X.copy()
    x[~MASKS["holes"]] = np.nan
    layer = made("lstm", return_sequences=True)
    with pyrnn.keras.plugged_in():
        got, want = layer(x, mask=MASKS["holes"]), layer(X, mask=MASKS["holes"])
    assert_same(got, want)


def test_a_model_with_an_embedding_that_masks() -> None:
    model = keras.Sequential(
        [
            keras.layers.Embedding(10, NUM_INPUTS, mask_zero=True),
            keras.layers.Bidirectional(keras.layers.GRU(H, return_sequences=True)),
            keras.layers.LSTM(H),
            keras.layers.Dense(2),
        ]
    )
    tokens = ARRAYS.integers(0, 10, (B, T))
    want = model.predict(tokens, verbose=0)
    with pyrnn.keras.plugged_in():
        assert_close(model.predict(tokens, verbose=0), want, "float32")


@pytest.mark.skipif(ON_TORCH, reason="the hook is put into the NumPy backend alone")
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_hook_of_the_backend(name: str) -> None:
    from keras.src import backend

    layer = made(name, return_sequences=True, go_backwards=True)
    cell = layer.cell
    more = {"reset_after": True} if name == "gru" else {}
    states = STATES[: 2 if name == "lstm" else 1]
    own = getattr(backend, name)
    with pyrnn.keras.plugged_in():
        _, outputs, after = getattr(backend, name)(
            keras.ops.convert_to_tensor(X),
            *map(keras.ops.convert_to_tensor, states),
            None,
            kernel=cell.kernel,
            recurrent_kernel=cell.recurrent_kernel,
            bias=cell.bias,
            activation=cell.activation,
            recurrent_activation=cell.recurrent_activation,
            return_sequences=True,
            go_backwards=True,
            unroll=False,
            **more,
        )
    assert getattr(backend, name) is own
    assert_same([outputs, *after], layer(X, initial_state=states))
