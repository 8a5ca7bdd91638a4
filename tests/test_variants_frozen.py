"""Layers with layer norm, projections and full peepholes: frozen, streamed, stacked, both ways."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from helpers_layers import assert_all_same, inputs, states_of
from tolerances import RELATIVE, assert_close, assert_same_bits, relative_error

import pyrnn

EVERYTHING = {"layer_norm": True, "peephole": "full", "proj_size": 4, "zoneout": (0.2, 0.1)}
KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "rnn norm": (pyrnn.RNN, {"layer_norm": True}),
    "gru norm": (pyrnn.GRU, {"layer_norm": True}),
    "lstm norm": (pyrnn.LSTM, {"layer_norm": True}),
    "lstm projected": (pyrnn.LSTM, {"proj_size": 5}),
    "lstm full peepholes": (pyrnn.LSTM, {"peephole": "full"}),
    "lstm everything": (pyrnn.LSTM, EVERYTHING),
    "coupled everything": (pyrnn.LSTM, EVERYTHING | {"coupled": True}),
}
REDUCED = ["bfloat16", "int8"]
DTYPES = ["float32", "float64"]


def make(kind: str, input_size: int, hidden_size: int, dtype: str, **options: Any) -> Any:
    """With gains and biases that are not 1 and 0."""
    cls, fixed = KINDS[kind]
    layer = cls(input_size, hidden_size, dtype=dtype, rng=hidden_size, **fixed, **options)
    rng = np.random.default_rng(hidden_size)
    for name, array in layer.params.items():
        if name.startswith("ln_"):
            array += 0.2 * rng.normal(size=array.shape).astype(dtype)
    return layer


def limit_of(kind: str, precision: str) -> float:
    """Ten times as much with layer norm, which divides by a standard deviation."""
    return RELATIVE[precision] * (10 if "layer_norm" in KINDS[kind][1] else 1)


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("input_size", "hidden_size", "options"),
    [
        (1, 7, {"bias": False}),
        (17, 16, {"num_layers": 3}),
        (65, 40, {"bidirectional": True, "num_layers": 2, "batch_first": True}),
        (31, 129, {"num_layers": 2}),
    ],
    ids=str,
)
def test_frozen_gives_the_bits_of_the_layer(
    kind: str, dtype: str, input_size: int, hidden_size: int, options: dict[str, Any]
) -> None:
    layer = make(kind, input_size, hidden_size, dtype, **options)
    frozen = pickle.loads(pickle.dumps(layer.freeze(dtype)))
    for seq_len, batch_size in ((1, 1), (9, 1), (3, 20)):
        for tokens in (False, True):
            x, state = inputs(layer, seq_len, batch_size, tokens=tokens)
            lengths = np.random.default_rng(seq_len).integers(0, seq_len + 1, batch_size)
            for given, ends in ((None, None), (state, lengths)):
                results = []
                for threads in (1, 2, 3):
                    pyrnn.set_num_threads(threads)
                    results += [layer(x, given, ends), frozen(x, given, ends)]
                for other in results[1:]:
                    assert_all_same(other, results[0])
                with pyrnn.backend("reference"):
                    want = frozen(x, given, ends)[0]
                assert_close(results[0][0], want, dtype, "y", limit_of(kind, dtype))


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_streams_are_the_sequence(kind: str, dtype: str) -> None:
    for input_size, hidden_size, batch_size in ((3, 7, 2), (17, 16, 1), (5, 33, 65), (256, 192, 1)):
        layer = make(kind, input_size, hidden_size, dtype, num_layers=2)
        frozen = layer.freeze(dtype)
        for threads in (1, 2):
            pyrnn.set_num_threads(threads)
            for tokens in (False, True):
                x, state = inputs(layer, 3, batch_size, tokens=tokens)
                y, last = layer(x, state)
                stream = frozen.stream(batch_size)
                stream.reset(state)
                for t in range(3):
                    assert_same_bits(stream.step(x[t]), y[t], f"step {t}")
                assert_all_same(stream.state, last)


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("kind", KINDS)
def test_reduced_precision(kind: str, precision: str) -> None:
    """Near the layer; the same bits whole and in a stream, with any threads."""
    layer = make(kind, 40, 64, "float32", num_layers=2)
    frozen = layer.freeze(precision)
    x, state = inputs(layer, 6, 3)
    want, last = frozen(x, state)
    limit = limit_of(kind, precision) * layer.num_layers  # each rounds what it is given
    assert relative_error(want, layer(x, state)[0]) < limit
    for threads in (1, 2, 3):
        pyrnn.set_num_threads(threads)
        assert_all_same(frozen(x, state), (want, last))
        stream = frozen.stream(3)
        stream.reset(state)
        for t in range(6):
            assert_same_bits(stream.step(x[t]), want[t], f"stream, {t}")


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("kind", KINDS)
def test_training_in_chunks_and_threads_gives_the_same_bits(kind: str) -> None:
    rng = np.random.default_rng(0)
    results = []
    for threads in (1, 2, 3):
        pyrnn.set_num_threads(threads)
        for checkpoint in (None, 3):
            layer = make(kind, 6, 130, "float32", num_layers=2, bidirectional=True)
            x, state = inputs(layer, 7, 2)
            y, last, tape = layer.forward(x, state, lengths=[7, 4], checkpoint=checkpoint)
            if not results:
                dy = rng.normal(size=y.shape).astype("float32")
                dlast = tuple(rng.normal(size=s.shape).astype("float32") for s in states_of(last))
            grads = layer.backward(tape, dy, dlast if len(dlast) == 2 else dlast[0])
            results.append({"y": y, "dx": grads.x} | grads.params)
    for other in results[1:]:
        for name, want in results[0].items():
            assert_same_bits(other[name], want, name)
