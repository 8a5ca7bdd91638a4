"""Truncated BPTT against its definition, written with whole-sequence calls."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers_layers import KINDS, assert_all_same, build, inputs, states_of
from tolerances import relative_error

import pyrnn
from pyrnn import tbptt

Array = npt.NDArray[Any]
SEQ_LEN = 11
# Equal, overlapping, shorter windows; ends that fit and ends that do not.
WINDOWS = (
    *((k, k) for k in (1, 2, 3, 4, 11, 20)),
    *((1, 2), (1, 11), (2, 3), (3, 4), (3, 5), (3, 6), (3, 11), (4, 9), (5, 50)),
    *((2, 1), (4, 1), (4, 3), (5, 2), (11, 4), (20, 3)),
)


def square(weights: Array, layer: Any) -> Callable[[Array, slice], tuple[float, Array]]:
    """The loss ``sum(weights * y**2)``, whose gradient needs y."""

    def loss(y: Array, steps: slice) -> tuple[float, Array]:
        part = weights[:, steps] if layer.batch_first and y.ndim == 3 else weights[steps]
        assert part.shape == y.shape
        return float((part * y**2).sum()), 2 * part * y

    return loss


def definition(
    layer: Any, x: Array, state: Any, lengths: Any, weights: Array, steps: slice, k1: int, k2: int
) -> tuple[float, Any, Any]:
    """Loss of the steps on time-major arrays, its gradients through the last k2 steps, and the
    state after them, all with the parameters of now."""
    begin, end = steps.start, steps.stop

    def cut(a: int, b: int) -> Array | None:
        return None if lengths is None else np.clip(lengths - a, 0, b - a)

    low = max(end - k2, 0 if k2 > k1 else begin)
    _, first = layer(x[:low], state, cut(0, low))
    y, last, tape = layer.forward(x[low:end], first, cut(low, end))
    whole, _ = layer(x[:end], state, cut(0, end))
    value = float((weights[begin:end] * whole[begin:end] ** 2).sum())
    dy = 2 * weights[low:end] * y
    dy[: max(begin - low, 0)] = 0
    return value, layer.backward(tape, dy), last


@pytest.mark.parametrize(("k1", "k2"), WINDOWS)
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_every_chunk_is_the_definition(kind: str, k1: int, k2: int) -> None:
    for layer, lengths, tokens in (
        (build(kind, num_layers=2), None, False),
        (build(kind), np.array([11, 4, 0]), True),
    ):
        x, state = inputs(layer, SEQ_LEN, 3, tokens=tokens)
        weights = np.random.default_rng(3).normal(size=(SEQ_LEN, 3, 4))
        chunks: list[Any] = list(
            tbptt(layer, x, square(weights, layer), k1=k1, k2=k2, state=state, lengths=lengths)
        )
        assert [chunk.steps for chunk in chunks] == [
            slice(begin, min(begin + k1, SEQ_LEN)) for begin in range(0, SEQ_LEN, k1)
        ]
        for chunk in chunks:
            value, grads, last = definition(layer, x, state, lengths, weights, chunk.steps, k1, k2)
            assert type(chunk.loss) is float
            assert chunk.loss == pytest.approx(value, rel=1e-12)
            assert list(chunk.grads.params) == list(layer.params)
            for name, want in grads.params.items():
                assert relative_error(chunk.grads.params[name], want) < 1e-12, name
            for got, want in zip(states_of(chunk.state), states_of(last), strict=True):
                assert relative_error(got, want) < 1e-12
            if tokens:
                assert chunk.grads.x is None
            else:
                assert chunk.grads.x.shape == grads.x.shape
                assert relative_error(chunk.grads.x, grads.x) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_one_chunk_is_full_bptt_to_the_bit(kind: str) -> None:
    layer = build(kind, num_layers=2)
    x, state = inputs(layer, SEQ_LEN, 3)
    weights = np.random.default_rng(3).normal(size=(SEQ_LEN, 3, 4))
    loss = square(weights, layer)
    y, last, tape = layer.forward(x, state)
    want = layer.backward(tape, loss(y, slice(0, SEQ_LEN))[1])
    for k1 in (SEQ_LEN, 99):
        (chunk,) = tbptt(layer, x, loss, k1=k1, state=state)
        assert_all_same(chunk.state, last)
        got = chunk.grads
        assert_all_same((got.x, got.state, got.params), (want.x, want.state, want.params))


@pytest.mark.parametrize("k1", [1, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_windows_that_reach_the_start_sum_to_full_bptt(kind: str, k1: int) -> None:
    layer = build(kind, num_layers=2)
    x, state = inputs(layer, SEQ_LEN, 3)
    weights = np.random.default_rng(3).normal(size=(SEQ_LEN, 3, 4))
    loss = square(weights, layer)
    y, _, tape = layer.forward(x, state)
    want = layer.backward(tape, loss(y, slice(0, SEQ_LEN))[1])
    total: dict[str, Any] = dict.fromkeys(layer.params, 0.0)
    dfirst, dx = np.zeros_like(states_of(state)[0]), np.zeros_like(x)
    chunk: Any
    for chunk in tbptt(layer, x, loss, k1=k1, k2=SEQ_LEN, state=state):
        total = {name: total[name] + chunk.grads.params[name] for name in total}
        dfirst = dfirst + states_of(chunk.grads.state)[0]
        dx[: chunk.steps.stop] += chunk.grads.x
    for name in total:
        assert relative_error(total[name], want.params[name]) < 1e-12, name
    assert relative_error(dfirst, states_of(want.state)[0]) < 1e-12
    assert relative_error(dx, want.x) < 1e-12


@pytest.mark.parametrize(("k1", "k2"), [(3, 3), (3, 7), (4, 2)])
def test_layouts_of_x(k1: int, k2: int) -> None:
    layer = build("gru")
    x, state = inputs(layer, SEQ_LEN, 3)
    weights = np.random.default_rng(3).normal(size=(SEQ_LEN, 3, 4))
    want = list(tbptt(layer, x, square(weights, layer), k1=k1, k2=k2, state=state))
    turned = build("gru", batch_first=True)
    loss = square(weights.swapaxes(0, 1), turned)
    got = list(tbptt(turned, x.swapaxes(0, 1), loss, k1=k1, k2=k2, state=state))
    a: Any
    b: Any
    for a, b in zip(got, want, strict=True):
        assert a.loss == pytest.approx(b.loss)
        assert a.steps == b.steps
        assert_all_same(
            (a.grads.x.swapaxes(0, 1), a.grads.params, a.state),
            (b.grads.x, b.grads.params, b.state),
        )
    one = list(tbptt(layer, x[:, :1], square(weights[:, :1], layer), k1=k1, k2=k2))
    for network in (layer, turned):
        loss = square(weights[:, 0], network)
        for a, b in zip(tbptt(network, x[:, 0], loss, k1=k1, k2=k2), one, strict=True):
            assert a.loss == pytest.approx(b.loss)
            assert_all_same(
                (a.grads.x, a.grads.params, a.state),
                (b.grads.x[:, 0], b.grads.params, b.state[:, 0]),
            )


def test_updates_between_chunks_are_seen() -> None:
    """Of a window that overlaps, the older steps are computed anew with the new parameters."""
    layer, again = build("rnn_tanh"), build("rnn_tanh")
    x, _ = inputs(layer, 9, 2)
    weights = np.ones((9, 2, 4))
    states: dict[int, Any] = {0: None}
    for chunk in tbptt(layer, x, square(weights, layer), k1=3, k2=6):
        again.load_state_dict(layer.params)
        end = chunk.steps.stop
        low = max(end - 6, 0)
        y, _, tape = again.forward(x[low:end], states[low])
        _, states[low + 3] = again(x[low : low + 3], states[low])
        dy = 2 * y
        dy[: end - low - 3] = 0
        want = again.backward(tape, dy).params
        for name, array in chunk.grads.params.items():
            assert relative_error(array, want[name]) < 1e-12
        for name, array in layer.params.items():
            array -= 0.1 * chunk.grads.params[name]


def test_loss_is_asked_once_for_each_step() -> None:
    layer = build("gru", num_layers=2, dropout=0.5)
    x, _ = inputs(layer, SEQ_LEN)
    for k1, k2 in WINDOWS:
        seen: list[int] = []

        def loss(y: Array, steps: slice, seen: list[int] = seen) -> tuple[float, Array]:
            seen += range(steps.start, steps.stop)
            return 0.0, np.zeros_like(y)

        for chunk in tbptt(layer, x, loss, k1=k1, k2=k2):
            assert not any(array.any() for array in chunk.grads.params.values())
        assert seen == list(range(SEQ_LEN))


@pytest.mark.parametrize(("k1", "k2"), WINDOWS)
def test_no_step_is_computed_more_often_than_said(
    k1: int, k2: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = build("gru")
    x, _ = inputs(layer, SEQ_LEN, 1)
    x[:, 0, 0] = np.arange(SEQ_LEN)
    runs: list[list[int]] = []
    forward = layer.forward

    def counted(x: Array, *others: Any) -> Any:
        runs.append(x[:, 0, 0].astype(int).tolist())
        return forward(x, *others)

    monkeypatch.setattr(layer, "forward", counted)
    for chunk in tbptt(layer, x, lambda y, _: (0.0, y), k1=k1, k2=k2):
        begin, end = chunk.steps.start, chunk.steps.stop
        low = max(end - k2, 0) if k2 > k1 else begin
        assert [step for run in runs for step in run] == list(range(low, end))
        if k1 == k2:
            assert len(runs) == 1
        runs.clear()


def test_an_empty_sequence_has_no_chunks() -> None:
    layer = build("gru")
    assert list(tbptt(layer, np.zeros((0, 2, 3)), square(np.zeros(0), layer), k1=3)) == []


def test_memory_does_not_grow_with_the_sequence() -> None:
    layer = pyrnn.GRU(4, 8, rng=0)
    pyrnn.set_num_threads(1)

    def peak(seq_len: int, k2: int) -> int:
        x = np.zeros((seq_len, 4), np.int64)
        tracemalloc.start()
        for _ in tbptt(layer, x, lambda y, _: (0.0, y), k1=20, k2=k2):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    for k2 in (10, 20, 50):
        peak(100, k2)  # what is allocated once
        assert peak(800, k2) < 1.2 * peak(100, k2)


def test_errors_come_at_the_call() -> None:
    layer = build("lstm")
    x, _ = inputs(layer)

    def refuses(error: type[Exception], message: str, layer: Any, x: Any, **options: Any) -> None:
        with pytest.raises(error, match="^" + re.escape(message)):
            tbptt(layer, x, lambda y, steps: (0.0, y), **({"k1": 2} | options))

    refuses(TypeError, "layer: expected an RNN, GRU or LSTM, got Linear", pyrnn.Linear(3, 4), x)
    refuses(ValueError, "layer: expected one direction", build("gru", bidirectional=True), x)
    refuses(ValueError, "k1: expected at least 1, got 0", layer, x, k1=0)
    refuses(ValueError, "k2: expected at least 1, got -3", layer, x, k2=-3)
    refuses(TypeError, "k1: expected an integer, got float", layer, x, k1=2.0)
    refuses(ValueError, "x: expected a time axis, got shape ()", layer, 3)
    refuses(
        ValueError, "lengths: expected values in 0..T = 0..5, got -1..6", layer, x, lengths=[-1, 6]
    )
    refuses(TypeError, "lengths: expected integers, got float64", layer, x, lengths=[1.0, 2.0])


def test_errors_of_a_chunk() -> None:
    layer = build("lstm")
    x, _ = inputs(layer)

    def refuses(error: type[Exception], message: str, loss: Any, **options: Any) -> None:
        with pytest.raises(error, match="^" + re.escape(message)):
            next(tbptt(layer, x, loss, k1=2, **options))

    message = "dy of loss: expected shape that of y = (2, 2, 4), got (2, 4)"
    refuses(ValueError, message, lambda y, _: (0.0, y[0]))
    message = "dy of loss: expected float64, got float32"
    refuses(TypeError, message, lambda y, _: (0.0, y.astype("f4")))
    refuses(ValueError, "lengths: ", lambda y, _: (0.0, y), lengths=[1, 2, 3])
    refuses(ValueError, "state: ", lambda y, _: (0.0, y), state=np.zeros((1, 2, 4)))
