"""Layers: the same bits as the operations composed by hand, in every form of input."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np
import pytest
from helpers_layers import (
    HIDDEN_SIZE,
    KINDS,
    KINDS_AND_PROJECTIONS,
    Array,
    assert_all_same,
    build,
    compose,
    inputs,
    states_of,
)
from tolerances import assert_same_bits

import pyrnn

pytestmark = pytest.mark.usefixtures("each_backend")

STACKS: tuple[dict[str, Any], ...] = (
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
)
DTYPES = ("float32", "float64")


def everything(layer: Any, x: Array, state: Any, lengths: Any, dy: Array, dstate: Any) -> Any:
    y, last, tape = layer.forward(x, state, lengths)
    grads = layer.backward(tape, dy, dstate)
    assert_all_same(layer(x, state, lengths), (y, last))
    return y, states_of(last), grads.x, states_of(grads.state), grads.params


@pytest.mark.parametrize("tokens", [False, True], ids=["", "tokens"])
@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS_AND_PROJECTIONS)
def test_a_layer_is_its_operations(
    kind: str, dtype: str, stack: dict[str, Any], tokens: bool
) -> None:
    layer = build(kind, dtype=dtype, **stack)
    x, state = inputs(layer, 6, 3, tokens=tokens)
    y, _ = layer(x, state)
    rng = np.random.default_rng(2)
    dy = rng.normal(size=y.shape).astype(dtype)
    _, dstate = inputs(layer, 6, 3, seed=3)
    for lengths in (None, np.array([4, 0, 6])):
        want = compose(layer, x, state, lengths, dy, dstate)
        assert_all_same(everything(layer, x, state, lengths, dy, dstate), want)
    # batch_first moves axes and does nothing else.
    turned = build(kind, dtype=dtype, batch_first=True, **stack)
    got = everything(turned, x.swapaxes(0, 1), state, lengths, dy.swapaxes(0, 1), dstate)
    y, states, dx, dstates, params = want
    dx = None if dx is None else dx.swapaxes(0, 1)
    assert_all_same(got, (y.swapaxes(0, 1), states, dx, dstates, params))
    assert got[0].flags.c_contiguous
    assert got[2] is None or got[2].flags.c_contiguous


@pytest.mark.parametrize("tokens", [False, True], ids=["", "tokens"])
@pytest.mark.parametrize("stack", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_batch(kind: str, stack: dict[str, Any], tokens: bool) -> None:
    layer = build(kind, **stack)
    x, state = inputs(layer, unbatched=True, tokens=tokens)
    y, _ = layer(x, state, lengths=3)
    assert y.shape == (5, HIDDEN_SIZE * (2 if layer.bidirectional else 1))
    _, dstate = inputs(layer, unbatched=True, seed=4)
    one = [s[:, None] for s in states_of(state)]
    done = [d[:, None] for d in states_of(dstate)]
    want = compose(layer, x[:, None], tuple(one), np.array([3]), y[:, None], tuple(done))
    want_y, states, dx, dstates, params = want
    alone = (
        want_y[:, 0],
        [s[:, 0] for s in states],
        None if dx is None else dx[:, 0],
        [d[:, 0] for d in dstates],
        params,
    )
    for lengths in (3, [3]):
        assert_all_same(everything(layer, x, state, lengths, y, dstate), alone)
    # batch_first says nothing where there is no batch.
    turned = build(kind, batch_first=True, **stack)
    assert_all_same(everything(turned, x, state, 3, y, dstate), alone)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_states_and_gradients_are_zero(kind: str) -> None:
    layer = build(kind, num_layers=2, bidirectional=True)
    x, state = inputs(layer)
    zero = (
        tuple(np.zeros_like(s) for s in state) if kind.startswith("lstm") else np.zeros_like(state)
    )
    assert_all_same(layer(x), layer(x, zero))
    y, _, tape = layer.forward(x, state)
    zeros = np.zeros_like(y)

    def gradients(dy: Any, dstate: Any) -> Any:
        grads = layer.backward(tape, dy, dstate)
        return grads.x, grads.state, grads.params

    assert_all_same(gradients(y, None), gradients(y, zero))
    assert_all_same(gradients(None, state), gradients(zeros, state))
    assert_all_same(gradients(None, None), gradients(zeros, zero))
    if kind.startswith("lstm"):
        assert_all_same(gradients(y, (state[0], None)), gradients(y, (state[0], zero[1])))
        assert_all_same(gradients(y, (None, state[1])), gradients(y, (zero[0], state[1])))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_in_two_calls_is_one_call(kind: str) -> None:
    layer = build(kind, num_layers=2)
    x, state = inputs(layer, 7)
    y, last = layer(x, state)
    y_1, middle = layer(x[:3], state)
    y_2, end = layer(x[3:], middle)
    assert_all_same((np.concatenate([y_1, y_2]), end), (y, last))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_changed_in_place_are_seen_by_the_next_call(kind: str) -> None:
    layer, other = build(kind, num_layers=2), build(kind, num_layers=2, rng=5)
    x, state = inputs(layer)
    layer(x, state)
    layer.forward(x, state)
    for name, array in layer.params.items():
        array[...] = other.params[name]
        y, last, tape = layer.forward(x, state)
        y_inference, _ = layer(x, state)
        fresh = build(kind, num_layers=2)
        fresh.load_state_dict(layer.params)
        want, want_last, want_tape = fresh.forward(x, state)
        assert_all_same((y, y_inference, last), (want, want, want_last))
        assert_all_same(layer.backward(tape, y).params, fresh.backward(want_tape, y).params)
    # An array put in place of another one, too.
    layer.params["weight_hh_l1"] = build(kind, num_layers=2, rng=6).params["weight_hh_l1"]
    assert not np.array_equal(layer(x, state)[0], want)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tape_serves_several_times_and_is_read_only(kind: str) -> None:
    layer = build(kind, num_layers=2, bidirectional=True, dropout=0.5)
    x, state = inputs(layer)
    before = x.copy()
    y, last, tape = layer.forward(x, state)
    first = layer.backward(tape, y, last)
    layer.forward(x + 1, state)
    again = layer.backward(tape, y, last)
    assert_all_same((again.x, again.state, again.params), (first.x, first.state, first.params))
    assert_same_bits(x, before)
    with pytest.raises(AttributeError):
        tape.tapes = ()
    for of_one in tape.tapes:
        with pytest.raises(ValueError):
            of_one.gates[...] = 0


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_a_tape(kind: str) -> None:
    one = build(kind)
    x, _ = inputs(one, 7, 2)
    _, _, tape = one.forward(x)
    assert tape.nbytes == tape.tapes[0].nbytes > 0
    two = build(kind, num_layers=2, bidirectional=True)
    y, _, tape = two.forward(x)
    # What the lower layer hands up is kept once.
    assert tape.nbytes == sum(t.nbytes for t in tape.tapes) + y.nbytes


@pytest.mark.parametrize("shape", [(0, 2), (5, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_do(kind: str, shape: tuple[int, int]) -> None:
    layer = build(kind, num_layers=2, bidirectional=True)
    x, state = inputs(layer, *shape)
    y, last, tape = layer.forward(x, state)
    assert y.shape == (*shape, 2 * HIDDEN_SIZE)
    assert_all_same(last, state)
    grads = layer.backward(tape, y, state)
    assert_all_same(grads.state, state)
    assert grads.x.shape == x.shape
    assert all(not d.any() for d in grads.params.values())
    assert {n: d.shape for n, d in grads.params.items()} == {
        n: p.shape for n, p in layer.params.items()
    }


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_writing_to_a_last_state_reaches_no_later_call(kind: str, num_layers: int) -> None:
    """Without a step it is the first one, of which a layer keeps an array of 0."""
    layer = build(kind, num_layers=num_layers)
    x, _ = inputs(layer, 0, 2)
    for call in (layer, layer.freeze("float64"), lambda x: layer.forward(x)[:2]):
        for state in states_of(call(x)[1]):
            state += 1
        assert not any(state.any() for state in states_of(call(x)[1]))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_read(kind: str) -> None:
    layer = build(kind, num_layers=2, bidirectional=True, batch_first=True)
    x, state = inputs(layer, 5, 3)
    lengths = np.array([2, 5, 0])
    y, last, tape = layer.forward(x, state, lengths)
    spoilt, dy = x.copy(), y.copy()
    padding = np.arange(5) >= lengths[:, None]
    spoilt[padding], dy[padding] = np.nan, np.nan
    y_2, last_2, tape_2 = layer.forward(spoilt, state, lengths)
    assert_all_same((y_2, last_2), (y, last))
    clean, dirty = layer.backward(tape, y), layer.backward(tape_2, dy)
    assert_all_same((dirty.x, dirty.params), (clean.x, clean.params))
    assert not y[padding].any()
    assert not clean.x[padding].any()


@pytest.mark.parametrize("layout", ["strided", "swapped", "misaligned", "read-only", "list"])
def test_layouts(layout: str) -> None:
    layer = build("lstm", num_layers=2, bidirectional=True)
    x, state = inputs(layer)

    def change(array: Array) -> Any:
        if layout == "strided":
            return np.repeat(array, 2, axis=-1)[..., ::2]
        if layout == "swapped":
            return array.astype(array.dtype.newbyteorder())
        if layout == "misaligned":
            raw = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
            raw = raw.reshape(array.shape)
            raw[...] = array
            return raw
        if layout == "list":
            return array.tolist()
        array = array.copy()
        array.flags.writeable = False
        return array

    y, last, tape = layer.forward(x, state)
    y_2, last_2, tape_2 = layer.forward(change(x), tuple(map(change, state)))
    assert_all_same((y_2, last_2), (y, last))
    got = layer.backward(tape_2, change(y), tuple(map(change, last)))
    want = layer.backward(tape, y, last)
    assert_all_same((got.x, got.state, got.params), (want.x, want.state, want.params))
    # And of the parameters themselves.
    if layout != "list":
        for name, array in layer.params.items():
            layer.params[name] = change(array)
        assert_all_same(layer(x, state), (y, last))


@pytest.mark.parametrize("kind", KINDS)
def test_copies(kind: str) -> None:
    layer = build(kind, num_layers=2, dropout=0.3, batch_first=True)
    x, state = inputs(layer)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert_all_same(twin(x, state), layer(x, state))
        # The generator goes along.
        assert_all_same(copy.deepcopy(layer).forward(x)[0], twin.forward(x)[0])
        twin.params["weight_ih_l0"] += 1
        assert not np.array_equal(twin.params["weight_ih_l0"], layer.params["weight_ih_l0"])


def test_many_threads_at_once() -> None:
    layer = pyrnn.LSTM(8, 24, 2, dropout=0.5, bidirectional=True, rng=0)
    draw = np.random.default_rng(1)
    xs = [draw.normal(size=(9, b, 8)).astype("float32") for b in (1, 2, 3, 17)] * 6
    want = [layer(x) for x in xs]
    seeds = set()

    def work(k: int) -> Any:
        y, _, tape = layer.forward(xs[k])
        seeds.add(tape.dropout)
        grads = layer.backward(tape, y)
        return layer(xs[k]), grads, layer.backward(tape, y)

    # The backend belongs to the context, which a new thread does not take over by itself.
    contexts = [copy_context() for _ in xs]
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda k: contexts[k].run(work, k), range(len(xs)))
        for k, (got, grads, again) in enumerate(results):
            assert_all_same(got, want[k])
            assert_all_same(again.params, grads.params)
    assert len(seeds) == len(xs)


def test_repr() -> None:
    cases = {
        "LSTM(3, 4)": pyrnn.LSTM(3, 4, rng=0, forget_bias=1.0, init="orthogonal"),
        "RNN(3, 4, num_layers=2, nonlinearity='relu', bias=False)": pyrnn.RNN(
            3, 4, 2, "relu", False
        ),
        "GRU(3, 4, num_layers=2, batch_first=True, dropout=0.5, bidirectional=True, "
        "reset_after=False, dtype='float64')": pyrnn.GRU(
            3, 4, 2, True, True, 0.5, True, reset_after=False, dtype="f8"
        ),
        "Linear(3, 4, bias=False)": pyrnn.Linear(3, 4, False),
    }
    for text, layer in cases.items():
        assert repr(layer) == text
