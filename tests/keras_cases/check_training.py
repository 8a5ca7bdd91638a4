"""Layers train on Keras's PyTorch backend: gradients of Keras's own loop, and a fit that learns."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import torch
from tolerances import assert_close

import pyrnn.keras

T, B, NUM_INPUTS, H = 6, 4, 3, 5
DRAWN = np.random.default_rng(0)
X = DRAWN.normal(size=(B, T, NUM_INPUTS))
MASKS = {
    "none": None,
    "right": np.array([6, 0, 3, 1])[:, None] > np.arange(T),
    "holes": DRAWN.random((B, T)) < 0.6,
}
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("SimpleRNN", {}),
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "gru before": ("GRU", {"reset_after": False}),
    "lstm no bias": ("LSTM", {"use_bias": False, "recurrent_activation": "hard_sigmoid"}),
}


def gradients(layer: Any, mask: Any, state: bool) -> list[Any]:
    """Of a sum that weighs every result, by x, the states and the weights."""
    x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    sizes = 2 if isinstance(layer, keras.layers.LSTM) else 1
    states = [torch.full((B, H), 0.3 * (k + 1)) for k in range(sizes)]
    for one in states:
        one.requires_grad_()
    results = layer(x, mask=mask, initial_state=states if state else None)
    rng = np.random.default_rng(1)
    loss = sum((r * torch.tensor(rng.normal(size=r.shape), dtype=r.dtype)).sum() for r in results)
    parameters = [w.value for w in layer.trainable_weights]
    wanted = [x, *(states if state else []), *parameters]
    # The output ahead of the first valid step is no function of some states.
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [
        np.zeros(w.shape, "float32") if g is None else g.numpy()
        for g, w in zip(found, wanted, strict=True)
    ]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name: str, mask: str) -> None:
    kind, more = LAYERS[name]
    for sequences, back, zero in itertools.product([False, True], repeat=3):
        options = {
            "return_sequences": sequences,
            "go_backwards": back,
            "zero_output_for_mask": zero,
            "return_state": True,
            **more,
        }
        ours = getattr(pyrnn.keras, kind)(H, **options)
        theirs = getattr(keras.layers, kind)(H, **options)
        for layer in (ours, theirs):
            layer.build((B, T, NUM_INPUTS))
        theirs.set_weights([DRAWN.normal(size=w.shape) / 2 for w in theirs.get_weights()])
        ours.set_weights(theirs.get_weights())
        got, want = (
            gradients(layer, MASKS[mask], state=sequences != zero) for layer in (ours, theirs)
        )
        for k, (a, b) in enumerate(zip(got, want, strict=True)):
            assert_close(a, b, "float32", f"gradient {k}")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_in_float64(name: str, mask: str) -> None:
    """Difference quotients: Keras's own loop rounds float64 to float32 on its way."""
    kind, more = LAYERS[name]
    layer = getattr(pyrnn.keras, kind)(H, return_sequences=True, dtype="float64", **more)
    layer.build((B, T, NUM_INPUTS))
    layer.set_weights([DRAWN.normal(size=w.shape) / 2 for w in layer.get_weights()])
    parameters = [w.value for w in layer.trainable_weights]
    x = torch.tensor(X, requires_grad=True)
    state = torch.full((B, H), 0.3, dtype=torch.float64, requires_grad=True)
    count = 2 if kind == "LSTM" else 1

    def function(x: Any, state: Any, *_: Any) -> Any:
        return layer(x, mask=MASKS[mask], initial_state=[state * k for k in range(1, count + 1)])

    assert torch.autograd.gradcheck(function, (x, state, *parameters))


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_fit_goes_where_keras_goes(kind: str, stateful: bool) -> None:
    """Four steps of descent: the same weights as with Keras's own layer."""
    results = []
    x, y = X.astype("float32"), DRAWN.normal(size=(B, 1)).astype("float32")
    for family in (keras.layers, pyrnn.keras):
        # Keras's short cut for the LSTM and the GRU overwrites states that it still needs.
        own = {"use_cudnn": False} if family is keras.layers and kind != "SimpleRNN" else {}
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(B, T, NUM_INPUTS)),
                getattr(family, kind)(H, return_sequences=True, stateful=stateful, **own),
                keras.layers.Bidirectional(getattr(family, kind)(H)),
                keras.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse")
        before = pyrnn.keras.calls.total()
        history = model.fit(x, y, batch_size=B, epochs=4, shuffle=False, verbose=0)
        used = pyrnn.keras.calls.total() - before
        results.append((model.get_weights(), history.history["loss"], used))
    (want, losses, none), (got, _, used) = results
    assert (none, used) == (0, 12)
    assert losses[-1] < losses[0]
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_close(a, b, "float32", f"weight {k}")


def test_nothing_is_kept_without_gradients() -> None:
    layer = pyrnn.keras.GRU(H, dtype="float64")
    assert layer(torch.tensor(X)).grad_fn is not None
    with torch.no_grad():
        assert layer(torch.tensor(X)).grad_fn is None


def test_weights_changed_ahead_of_the_backward_pass() -> None:
    layer = pyrnn.keras.LSTM(H, dtype="float64")
    y = layer(torch.tensor(X)).sum()
    with torch.no_grad():
        layer.cell.recurrent_kernel.value.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_second_derivatives_are_refused() -> None:
    layer = pyrnn.keras.LSTM(H, dtype="float64")
    x = torch.tensor(X, requires_grad=True)
    (dx,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="expected first derivatives"):
        (dx.square().sum() + x.sum()).backward()
