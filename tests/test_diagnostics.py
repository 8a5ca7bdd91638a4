"""Gradients and Jacobians of every step against differences, and products made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from helpers_diagnostics import LAYERS, LENGTHS, B, T, given, made
from helpers_layers import assert_all_same, assert_gradient, build, inputs, states_of
from tolerances import (
    DIFFERENCE_RELATIVE,
    DIFFERENCE_STEP,
    RELATIVE,
    assert_close,
    assert_same_bits,
)

import pyrnn
from pyrnn.reference import scan
from pyrnn.reference.rules import Rule
from pyrnn.stepwise import Walk


@contextmanager
def pushed(
    monkeypatch: pytest.MonkeyPatch, layer: Any, place: tuple[int, int, str], push: Any, rows: Any
) -> Iterator[None]:
    """The reference, with ``push`` added to the state ``place`` says: part, step, h or c.

    Of each step it settles h and then c, having clipped a cell c that h is made of; a zoned-out
    c_t is no part of h_t.
    """
    k, t, which = place
    calls = len(layer._states)
    ran = k * T + (T - 1 - t if layer.bidirectional and k % 2 else t)
    number = {"settle": calls * ran + (which == "c"), "clip": ran}
    blended = which == "h" or (isinstance(layer.zoneout, tuple) and layer.zoneout[1] > 0)
    count = {"settle": 0, "clip": 0}
    settle, clip_cell = scan.settle, Rule.clip_cell

    def here(function: str, state: Any) -> Any:
        count[function] += 1
        return state + push[rows] if count[function] == number[function] + 1 else state

    with monkeypatch.context() as patch, pyrnn.backend("reference"):
        if blended:
            patch.setattr(scan, "settle", lambda *given: here("settle", settle(*given)))
        else:
            patch.setattr(Rule, "clip_cell", lambda rule, c: here("clip", clip_cell(rule, c)))
        yield
        assert count["settle" if blended else "clip"] > 0


def alive_rows(lengths: Any) -> Any:
    """[T, B], bool."""
    return np.arange(T)[:, None] < (np.full(B, T) if lengths is None else lengths)


def places(layer: Any, lengths: Any) -> Iterator[tuple[tuple[int, int, str], Any]]:
    """Every state of every part at every step, and the rows that have that step."""
    for k in range(layer._parts):
        for t, alive in enumerate(alive_rows(lengths)):
            for which in layer._states:
                yield (k, t, which), np.flatnonzero(alive)


def width(layer: Any, which: str) -> int:
    return layer.proj_size or layer.hidden_size if which == "h" else layer.hidden_size


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_gradients_are_those_of_finite_differences(
    name: str, lengths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = made(name)
    x, state, dy, dstate = given(layer)
    outside = ~alive_rows(lengths)  # what stands there counts for nothing
    dy[outside], x[outside] = np.nan, np.nan
    walk = Walk.of(layer, x, state, lengths)
    list(walk.forward())
    parts = [[d[k] for d in states_of(dstate)] for k in range(layer._parts)]
    steps = {(k, step.t): step for k, step in walk.backward(dy, parts, False)}
    flow = pyrnn.gradient_flow(layer, x, dy, state=state, lengths=lengths, dstate=dstate)

    for place, rows in places(layer, lengths):
        k, t, which = place
        push, want = np.zeros((B, width(layer, which))), np.zeros((B, width(layer, which)))
        want[rows] = getattr(steps[k, t], f"d{which}")[rows]

        def loss(place: tuple[int, int, str] = place, push: Any = push, rows: Any = rows) -> float:
            with pushed(monkeypatch, layer, place, push, rows):
                y, last = layer(x, state, lengths)
            of_states = zip(states_of(last), states_of(dstate), strict=True)
            return float(np.nansum(y * dy)) + sum(float((s * d).sum()) for s, d in of_states)

        assert_gradient(loss, push, want, f"{place}")
        norm = getattr(flow, f"d{which}")[k, t]
        assert norm == pytest.approx(np.linalg.norm(want), rel=RELATIVE["float64"])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_jacobians_are_those_of_finite_differences(
    name: str, lengths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = made(name)
    x, state, *_ = given(layer)
    flow = pyrnn.gradient_flow(layer, x, state=state, lengths=lengths)
    for place, rows in places(layer, lengths):
        k, t, which = place
        size = width(layer, which)
        jacobians = np.zeros((B, size, size))
        push = np.zeros((B, size))

        def last(place: tuple[int, int, str] = place, push: Any = push, rows: Any = rows) -> Any:
            with pushed(monkeypatch, layer, place, push, rows):
                return states_of(layer(x, state, lengths)[1])["hc".index(place[2])][place[0]]

        for unit in range(size):  # no row of a batch reaches another
            push[:, unit] = DIFFERENCE_STEP
            above = last()
            push[:, unit] = -DIFFERENCE_STEP
            jacobians[:, :, unit] = (above - last()) / (2 * DIFFERENCE_STEP)
            push[:, unit] = 0
        want = np.linalg.norm(jacobians[rows], 2, axis=(1, 2)).max()
        norm = getattr(flow, f"{which}_jacobian")[k, t]
        assert norm == pytest.approx(want, rel=DIFFERENCE_RELATIVE), place


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_last_step_back_gives_what_backward_gives(name: str, dtype: str) -> None:
    kind, options = LAYERS[name]
    options = {n: v for n, v in options.items() if "dropout" not in n and n != "zoneout"}
    layer = build(kind, **options, dtype=dtype)
    x, state = inputs(layer, T, B)
    if getattr(layer, "proj_size", 0):
        state = state[0][..., : layer.proj_size], state[1]
    y, _, tape = layer.forward(x, state, LENGTHS)
    grads = layer.backward(tape, np.ones_like(y))
    walk = Walk.of(layer, x, state, LENGTHS)
    list(walk.forward())
    got: dict[str, Any] = {}
    dx = np.zeros_like(x)
    no_gradient = [[None] * len(layer._states)] * layer._parts
    for k, step in walk.backward(np.ones_like(y), no_gradient, False):
        m = step.made
        of_step = layer._named(k, m.dw_ih, m.dw_hh, m.db_ih, m.db_hh, m.of_variant)
        of_step |= {
            f"dh0 of {k}": m.dh0 if step.t == (T - 1 if walk.parts[k].reverse else 0) else 0
        }
        got |= {n: got.get(n, 0) + d for n, d in of_step.items()}
        if k < layer._directions:
            dx[step.t] += m.dx[0]
    want = grads.params | {f"dh0 of {k}": d for k, d in enumerate(states_of(grads.state)[0])}
    for one, array in want.items():
        assert_close(got[one], array, dtype, one)
    assert_close(dx, grads.x, dtype, "dx")


def test_an_elman_network_is_a_product_of_jacobians() -> None:
    """dh_T/dh_t = product of diag(1 - h_s^2) W_hh over s = T .. t+1, and dL/dh_t by hand."""
    layer = build("rnn_tanh")
    x, h0 = inputs(layer, T, 1)
    y, _ = layer(x, h0)
    w = layer.params["weight_hh_l0"]
    want, product = [], np.eye(layer.hidden_size)
    for t in reversed(range(T)):
        want.append((np.linalg.svd(product)[1][0], np.linalg.norm(product.sum(axis=0))))
        product = product @ np.diag(1 - y[t, 0] ** 2) @ w
    flow = pyrnn.gradient_flow(layer, x, state=h0)  # L is the sum of h_T
    assert_close(flow.h_jacobian[0], np.array(want)[::-1, 0], "float64")
    assert_close(flow.dh[0], np.array(want)[::-1, 1], "float64")
    assert flow.dc is None
    assert flow.c_jacobian is None


def test_an_lstm_cell_alone_is_a_product_of_forget_gates() -> None:
    """With W_hh = 0 nothing but f lies between c_t and c_T."""
    layer = build("lstm")
    layer.params["weight_hh_l0"][...] = 0
    x, state = inputs(layer, T, 1)
    forget = layer.forward(x, state)[2].tapes[0].gates[:, 0, 4:8]
    want = [np.prod(forget[t + 1 :], axis=0).max() for t in range(T)]
    assert_close(
        pyrnn.gradient_flow(layer, x, state=state).c_jacobian[0], np.array(want), "float64"
    )


@pytest.mark.parametrize("tokens", [False, True], ids=["vectors", "tokens"])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_layouts_agree(kind: str, tokens: bool) -> None:
    layer, first = (
        build(kind, bidirectional=True),
        build(kind, bidirectional=True, batch_first=True),
    )
    x, state = inputs(layer, T, 1, tokens=tokens)
    dy = np.random.default_rng(0).normal(size=(T, 1, 2 * layer.hidden_size))
    want = pyrnn.gradient_flow(layer, x, dy, state=state, lengths=[4])
    alone = tuple(s[:, 0] for s in state) if kind == "lstm" else state[:, 0]
    for got in (
        pyrnn.gradient_flow(first, x.swapaxes(0, 1), dy.swapaxes(0, 1), state=state, lengths=[4]),
        pyrnn.gradient_flow(layer, x[:, 0], dy[:, 0], state=alone, lengths=4),
    ):
        for one in ("dh", "dc", "h_jacobian", "c_jacobian"):
            assert_same_bits(getattr(got, one), getattr(want, one), one)
    assert (want.dh[:, 4] == 0).all()
    assert (want.dh[:, :4] > 0).all()


def test_without_steps_rows_or_jacobians() -> None:
    layer = build("lstm")
    assert pyrnn.gradient_flow(layer, np.zeros((0, 2, 3))).dh.shape == (1, 0)
    assert (pyrnn.gradient_flow(layer, np.zeros((4, 0, 3))).h_jacobian == 0).all()
    x, state = inputs(layer)
    whole = pyrnn.gradient_flow(layer, x, state=state)
    quick = pyrnn.gradient_flow(layer, x, state=state, jacobian=False)
    assert quick.h_jacobian is None
    assert quick.c_jacobian is None
    assert_close(quick.dh, whole.dh, "float64")
    assert_close(quick.dc, whole.dc, "float64")


def test_without_a_gradient_the_loss_is_the_sum_of_the_last_h() -> None:
    layer = build("lstm", num_layers=2, bidirectional=True)
    x, state = inputs(layer)
    ones = np.zeros_like(state[0])
    ones[2:] = 1
    got = pyrnn.gradient_flow(layer, x, state=state)
    want = pyrnn.gradient_flow(layer, x, state=state, dstate=(ones, None))
    assert_same_bits(got.dh, want.dh)
    assert_same_bits(got.dc, want.dc)


def test_norms_reach_as_far_as_the_numbers() -> None:
    """In float32 the square of 1e-25 is 0, and that of 1e25 infinite."""
    for factor in (1e-25, 1e25):
        layer = pyrnn.RNN(1, 2, nonlinearity="identity", bias=False, rng=0)
        layer.params["weight_hh_l0"][...] = factor * np.eye(2)
        flow = pyrnn.gradient_flow(layer, np.zeros((3, 1, 1), "float32"))
        assert flow.h_jacobian[0, 1] == pytest.approx(factor, rel=RELATIVE["float32"])
        assert flow.dh[0, 1] == pytest.approx(factor * 2**0.5, rel=RELATIVE["float32"])
        assert flow.h_jacobian[0, 0] == (0 if factor < 1 else np.inf)


def test_nothing_of_the_layer_changes() -> None:
    layer = build("gru", num_layers=2, dropout=0.5, recurrent_dropout=0.5, zoneout=0.5)
    x, state = inputs(layer)
    before, drawn = layer.state_dict(), layer.rng.bit_generator.state
    kept = x.copy(), state.copy()
    pyrnn.gradient_flow(layer, x, np.ones((5, 2, 4)), state=state)
    pyrnn.check_finite(layer, x, state=state)
    assert_all_same(layer.state_dict(), before)
    assert_all_same((x, state), kept)
    assert layer.rng.bit_generator.state == drawn


@pytest.mark.parametrize("function", [pyrnn.gradient_flow, pyrnn.check_finite])
def test_arguments_are_checked_as_by_the_layer(function: Callable[..., Any]) -> None:
    layer = build("lstm")
    x, _ = inputs(layer)
    with pytest.raises(TypeError, match="layer: expected an RNN, GRU, MGU or LSTM, got int"):
        function(3, x)
    with pytest.raises(ValueError, match="x: expected shape"):
        function(layer, x[..., :2])
    with pytest.raises(ValueError, match=r"dy: expected shape \(T, B, S·H\) = \(5, 2, 4\)"):
        function(layer, x, np.ones((5, 2, 3)))
    with pytest.raises(ValueError, match=r"dstate: expected a tuple \(h, c\)"):
        function(layer, x, dstate=np.ones((1, 2, 4)))
    with pytest.raises(ValueError, match="lengths"):
        function(layer, x, lengths=[6, 1])
    with pytest.raises(IndexError):
        function(layer, np.full((5, 2), 3))
