"""Frozen layers in bfloat16 and int8: what they compute, how exactly, and their size."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers_layers import KINDS, SMOOTH_KINDS, assert_all_same, build, inputs, states_of
from helpers_worker import Worker
from test_reduced import ROUNDED
from tolerances import (
    BITS_PER_CHARACTER,
    RELATIVE,
    assert_close,
    assert_same_bits,
    relative_error,
)

import pyrnn
from pyrnn import _core
from pyrnn.autocomplete.corpus import language_reference, split
from pyrnn.autocomplete.model import CharModel
from pyrnn.autocomplete.training import Settings, train

Array = npt.NDArray[Any]

PRECISIONS = ("bfloat16", "int8")
SIZES = ((1, 1), (3, 7), (17, 16), (65, 40), (31, 129))


def random_layer(kind: str, input_size: int, hidden_size: int, **options: Any) -> Any:
    cls, fixed = KINDS[kind]
    return cls(input_size, hidden_size, rng=hidden_size, **fixed, **options)


def rounded_layer(layer: Any, precision: str) -> Any:
    """The same layer in float64 with rounded weights."""
    cls, fixed = KINDS[next(k for k, (c, f) in KINDS.items() if isinstance(layer, c) and f == {})]
    twin = cls(layer.input_size, layer.hidden_size, dtype="float64", **fixed)
    for name, array in layer.params.items():
        twin.params[name][...] = ROUNDED[precision](array) if array.ndim == 2 else array
    return twin


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_one_step_is_exact_but_for_the_roundings(kind: str, precision: str) -> None:
    """Against the layer in float64 on rounded weights, x and h."""
    rounded = ROUNDED[precision]
    for input_size, hidden_size in SIZES:
        layer = random_layer(kind, input_size, hidden_size)
        frozen, twin = layer.freeze(precision), rounded_layer(layer, precision)
        for batch_size in (1, 2, 7, 20):
            x, state = inputs(layer, 1, batch_size)
            # The GRU also mixes h as it is: one that is its own rounding serves both.
            h = rounded(states_of(state)[0][0]).astype("float32")[None]
            exact = rounded(x[0])[None], rounded(h[0])[None]
            given = (h, state[1]) if kind.startswith("lstm") else h
            wide = (exact[1], state[1].astype("float64")) if kind.startswith("lstm") else exact[1]
            y, _ = frozen(x, given)
            with pyrnn.backend("reference"):
                want, _ = twin(exact[0], wide)
            assert_close(y, want, "float32", f"{input_size}, {hidden_size}")


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_its_steps(kind: str, precision: str) -> None:
    """The same bits whole, step by step, in a stream, for a row alone, with any threads."""
    for input_size, hidden_size, num_layers in ((3, 7, 1), (17, 16, 2), (31, 129, 1)):
        layer = random_layer(kind, input_size, hidden_size, num_layers=num_layers)
        frozen = layer.freeze(precision)
        for batch_size in (1, 3, 18):
            x, state = inputs(layer, 6, batch_size)
            want, last = frozen(x, state)
            for threads in (1, 2, 3):
                pyrnn.set_num_threads(threads)
                assert_all_same(frozen(x, state), (want, last))
                stream = frozen.stream(batch_size)
                stream.reset(state)
                step_state = state
                for t in range(6):
                    assert_same_bits(stream.step(x[t]), want[t], f"stream, {t}")
                    y, step_state = frozen(x[t : t + 1], step_state)
                    assert_same_bits(y[0], want[t], f"step {t}")
            row = tuple(s[:, -1:] for s in states_of(state))
            alone, _ = frozen(x[:, -1:], row if len(row) == 2 else row[0])
            assert_same_bits(alone, want[:, -1:], "one row")


def many_rows(kind: str, precision: str, batch_size: int) -> list[tuple[Array, Array]]:
    """y of a batch beside what it has to be: with more threads, step by step, and row by row."""
    layer = random_layer(kind, 37, 51)
    frozen = layer.freeze(precision)
    x, _ = inputs(layer, 4, batch_size)
    lengths = np.random.default_rng(3).permutation(batch_size) % 5
    rows = range(batch_size)
    _core.heed_load(False)
    try:
        pyrnn.set_num_threads(1)
        whole, ragged = frozen(x)[0], frozen(x, None, lengths)[0]
        alone = np.concatenate([frozen(x[:, i : i + 1])[0] for i in rows], axis=1)
        pairs = [(whole, alone)]
        for threads in (2, 3):
            pyrnn.set_num_threads(threads)
            stream = frozen.stream(batch_size)
            pairs.append((whole, frozen(x)[0]))
            pairs.append((whole, np.stack([stream.step(x[t]) for t in range(4)])))
            pairs.append((ragged, frozen(x, None, lengths)[0]))
    finally:
        _core.heed_load(True)
    return pairs + [(ragged[: lengths[i], i], whole[: lengths[i], i]) for i in rows]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("isa", _core.available_isas())
def test_a_row_is_the_same_among_many(
    isa: str, kind: str, precision: str, isa_workers: dict[str, Worker]
) -> None:
    for batch_size in (4, 16, 17, 32, 35, 65, 130):
        for got, want in isa_workers[isa].call(many_rows, kind, precision, batch_size):
            assert_same_bits(got, want, f"{batch_size} rows")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", SMOOTH_KINDS)
def test_near_the_layer(kind: str, options: dict[str, Any], precision: str) -> None:
    layer = random_layer(kind, 40, 64, **options)
    frozen = layer.freeze(precision)
    x, state = inputs(layer, 20, 5)
    lengths = [20, 0, 7, 1, 19]
    got, want = frozen(x, state, lengths), layer(x, state, lengths)
    limit = RELATIVE[precision] * layer.num_layers  # each rounds what it is given
    parts = [(got[0], want[0]), *zip(states_of(got[1]), states_of(want[1]), strict=True)]
    for ours, theirs in parts:
        assert relative_error(ours, theirs) < limit
    assert not got[0][7:, 2].any()
    with pyrnn.backend("reference"):
        assert relative_error(frozen(x, state, lengths)[0], want[0]) < limit


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", SMOOTH_KINDS)
def test_both_directions_and_lengths(kind: str, precision: str) -> None:
    """The reverse half is a layer on reversed steps; a row ends where a shorter one would."""
    layer = random_layer(kind, 9, 37, bidirectional=True)
    alone = random_layer(kind, 9, 37)
    for name in alone.params:
        alone.params[name][...] = layer.params[f"{name}_reverse"]
    frozen, backwards = layer.freeze(precision), alone.freeze(precision)
    for batch_size in (3, 20):
        x, _ = inputs(layer, 6, batch_size)
        lengths = np.arange(batch_size) % 7
        for threads in (1, 2):
            pyrnn.set_num_threads(threads)
            y, _ = frozen(x, None, lengths)
            for row in range(1, 7 if batch_size > 6 else batch_size):
                shown = x[: lengths[row], row : row + 1]
                want, _ = frozen(shown)
                assert_same_bits(y[: lengths[row], row : row + 1], want, f"row {row}")
                reverse, _ = backwards(np.ascontiguousarray(shown[::-1]))
                assert_same_bits(want[..., 37:], reverse[::-1], f"row {row}, reverse")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru_reset_before", "lstm"])
def test_more_threads_than_a_step_uses(kind: str, precision: str) -> None:
    layer = random_layer(kind, 40, 400, num_layers=2)
    frozen = layer.freeze(precision)
    x, state = inputs(layer, 3, 9)
    pyrnn.set_num_threads(1)
    want, last = frozen(x, state)
    pyrnn.set_num_threads(20)
    assert_all_same(frozen(x, state), (want, last))
    stream = frozen.stream(9)
    stream.reset(state)
    for t in range(3):
        assert_same_bits(stream.step(x[t]), want[t], f"step {t}")


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru_reset_before", "lstm"])
def test_threads_do_not_meet_in_their_rows(kind: str, precision: str) -> None:
    """By units each rounds the rows for itself: one that is ahead spoils nothing for another."""
    layer = random_layer(kind, 200, 144)
    frozen = layer.freeze(precision)
    x, state = inputs(layer, 40, 3)
    pyrnn.set_num_threads(1)
    want = frozen(x, state)
    for threads in (2, 3, 4):
        pyrnn.set_num_threads(threads)
        for _ in range(20):
            assert_all_same(frozen(x, state), want)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_empty_calls(kind: str, precision: str) -> None:
    layer = random_layer(kind, 3, 5)
    frozen = layer.freeze(precision)
    for seq_len, batch_size in ((0, 2), (3, 0), (0, 0)):
        x, state = inputs(layer, seq_len, batch_size)
        assert_all_same(frozen(x, state), layer(x, state))
    assert frozen.stream(0).step(np.zeros((0, 3), "float32")).shape == (0, 5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_later_parameters_do_not_reach_it(kind: str, precision: str) -> None:
    layer = random_layer(kind, 3, 18, num_layers=2)
    frozen = layer.freeze(precision)
    x, state = inputs(layer)
    want = frozen(x, state)
    for name in layer.params:
        layer.params[name][...] = np.nan
    assert_all_same(frozen(x, state), want)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_one_hot_vectors(kind: str, precision: str) -> None:
    for vocabulary, hidden_size in ((1, 3), (7, 17), (66, 33)):
        frozen = random_layer(kind, vocabulary, hidden_size).freeze(precision)
        tokens = np.random.default_rng(2).integers(0, vocabulary, (5, 3))
        one_hot = (tokens[..., None] == np.arange(vocabulary)).astype("float32")
        assert_all_same(frozen(tokens), frozen(one_hot))
        assert_same_bits(frozen.stream(3).step(tokens[0]), frozen(tokens)[0][0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_pickled(kind: str, precision: str) -> None:
    """The rounded weights round to themselves, scales included."""
    layer = random_layer(kind, 37, 50, num_layers=2, bidirectional=True)
    layer.params["weight_hh_l0"][3] = 0.0
    frozen = layer.freeze(precision)
    twin = frozen
    for _ in range(2):
        twin = pickle.loads(pickle.dumps(twin))
    x, state = inputs(layer)
    assert_all_same(twin(x, state), frozen(x, state))
    assert (repr(twin), twin.nbytes) == (repr(frozen), frozen.nbytes)


def test_a_scale_comes_back() -> None:
    """From 127 times itself, for each mantissa: what unpacking relies on."""
    largest = np.arange(2**23, 2**24).astype("float32")
    scale = largest / np.float32(127)
    assert ((scale * np.float32(127)) / np.float32(127) == scale).all()


def test_the_largest_weight_pickled() -> None:
    """Its scale times 127 is above all numbers."""
    layer = pyrnn.RNN(2, 1)
    layer.params["weight_ih_l0"][...] = np.finfo("float32").max, 1.0
    frozen = layer.freeze("int8")
    x = np.array([[[1e-35, 0]]], "float32")
    want, _ = frozen(x)
    assert abs(want).item() > 0.9
    assert_all_same(pickle.loads(pickle.dumps(frozen))(x), frozen(x))


@pytest.mark.parametrize(("precision", "times"), [("bfloat16", 1.99), ("int8", 3.8)])
def test_smaller(precision: str, times: float) -> None:
    layer = random_layer("lstm", 128, 256)
    assert layer.freeze().nbytes > times * layer.freeze(precision).nbytes


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_float32(dtype: str, precision: str) -> None:
    layer = build("lstm", dtype=dtype)
    frozen = layer.freeze(precision)
    assert (frozen.dtype, frozen.precision) == (np.dtype("float32"), precision)
    y, state = frozen(np.ones((3, 2, 3), "float32"))
    assert {array.dtype for array in (y, *state)} == {np.dtype("float32")}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nan_stays_in_its_row(precision: str) -> None:
    layer = random_layer("lstm", 5, 33)
    frozen = layer.freeze(precision)
    x, state = inputs(layer, 4, 6)
    clean, _ = frozen(x, state)
    x[2, 3, 4] = np.nan
    y, _ = frozen(x, state)
    assert np.isnan(y[2:, 3]).all()
    y[2:, 3] = clean[2:, 3]
    assert_same_bits(y, clean)


def test_sums_of_int8_that_could_overflow() -> None:
    layer = pyrnn.RNN(133_145, 1)
    layer.freeze("bfloat16")
    with pytest.raises(
        ValueError, match="precision: int8 takes sizes of at most 133144, got 133145"
    ):
        layer.freeze("int8")


@pytest.fixture(scope="module")
def trained() -> tuple[CharModel, Array]:
    """The LSTM of auto-completion, and text that it has not seen."""
    text, unseen = split(language_reference()[:150_000])
    model = CharModel.create(text, "lstm", hidden_size=128, seed=1)
    ids, held_out = model.vocabulary.encode(text), model.vocabulary.encode(unseen)
    for _ in train(model, ids, held_out, Settings(epochs=2), progress=False):
        pass
    return model, held_out


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_per_character(precision: str, trained: tuple[CharModel, Array]) -> None:
    model, held_out = trained
    want = model.bits_per_character(held_out)
    assert want < 3.0  # it has learnt something that can be lost
    frozen: Any = model.layer.freeze(precision)
    got = CharModel(model.vocabulary, frozen, model.head).bits_per_character(held_out)
    assert abs(got - want) < BITS_PER_CHARACTER[precision]
