"""The cells: what happens at one step between the matrix products, and its derivative.

    Elman  h = phi(a)                  LSTM  c = f * c_prev + i * g,  h = o * tanh(c)
    GRU    h = (1 - z) * n + z * h_prev
with a = a_x + a_h, a_x = W_ih x + b_ih, a_h = W_hh h_prev + b_hh, gates sigmoid(a) or tanh(a).
A step has one phase (product with W_hh, then pointwise), the reset-before GRU has two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..tape import Array

Gates = tuple[Array, ...]  # each [B, H]
# gates of the phase, its result (h_t, or what the next phase multiplies by W_hh), c_t
Forward = tuple[Gates, Array, Array | None]
# da_x, da_h (blocks of the phase), direct part of dh_prev, dc_prev
Backward = tuple[Gates, Gates, Array | float, Array | None]


class Step(NamedTuple):
    """What a backward step knows of its forward step."""

    gates: Gates  # each [B, H]
    h_prev: Array  # [B, H]
    c_prev: Array | None  # [B, H]
    c: Array | None  # [B, H]


class Phase(NamedTuple):
    """One product with rows of W_hh and the arithmetic that follows it.

    ``pointwise(a_x, a_h, gates, h_prev, c_prev)``, with the gates of the phases before;
    ``pointwise_backward(d, dh, dc, step)``, d being the gradient of the phase's result.
    ``operand(step)`` is the vector that the phase multiplied by W_hh.
    """

    first: int  # gate blocks first..last-1 of W_hh
    last: int
    pointwise: Callable[[Gates, Gates, Gates, Array, Array | None], Forward]
    pointwise_backward: Callable[[Array, Array, Array | None, Step], Backward]
    operand: Callable[[Step], Array] = lambda step: step.h_prev


class Cell(NamedTuple):
    """A row of the table of cells."""

    num_gates: int  # G, blocks in W_ih and W_hh
    num_taped: int  # blocks in the tape's gates
    phases: tuple[Phase, ...]
    output: Callable[[Gates, Array | None, Array | None], Array]  # tape -> every h_t
    tapes_h: bool = False
    tapes_c: bool = False


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), exact in the tails: exp is only taken of -|x|."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


# Elman: h = phi(a); the tape keeps h as the only gate.


def elman_pointwise(phi: Callable[[Array], Array]) -> Callable[..., Forward]:
    def pointwise(a_x: Gates, a_h: Gates, *_: object) -> Forward:
        h = phi(a_x[0] + a_h[0])
        return (h,), h, None

    return pointwise


def elman_pointwise_backward(dphi: Callable[[Array, Array], Array]) -> Callable[..., Backward]:
    def pointwise_backward(d: Array, dh: Array, dc: None, step: Step) -> Backward:
        da = dphi(d, step.gates[0])
        return (da,), (da,), 0.0, None

    return pointwise_backward


def relu(a: Array) -> Array:
    return np.asarray(np.maximum(a, 0))


def relu_backward(d: Array, h: Array) -> Array:
    return np.where(h > 0, d, 0)


def tanh_backward(d: Array, h: Array) -> Array:
    return np.asarray(d * (1 - h * h))


def sigmoid_backward(d: Array, s: Array) -> Array:
    return np.asarray(d * (s * (1 - s)))


# LSTM: c = f * c_prev + i * g, h = o * tanh(c).


def lstm_pointwise(
    a_x: Gates, a_h: Gates, _: Gates, h_prev: Array, c_prev: Array | None
) -> Forward:
    assert c_prev is not None
    a_i, a_f, a_g, a_o = (x + h for x, h in zip(a_x, a_h, strict=True))
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    c = f * c_prev + i * g
    return (i, f, g, o), o * np.tanh(c), c


def lstm_pointwise_backward(d: Array, dh: Array, dc: Array | None, step: Step) -> Backward:
    assert step.c_prev is not None
    assert step.c is not None
    assert dc is not None
    i, f, g, o = step.gates
    tanh_c = np.tanh(step.c)
    dc = dc + tanh_backward(dh * o, tanh_c)
    da = (
        sigmoid_backward(dc * g, i),
        sigmoid_backward(dc * step.c_prev, f),
        tanh_backward(dc * i, g),
        sigmoid_backward(dh * tanh_c, o),
    )
    return da, da, 0.0, dc * f


# GRU, reset after: n = tanh(a_xn + r * q), q = W_hn h_prev + b_hn, h = (1 - z) * n + z * h_prev.


def gru_pointwise(a_x: Gates, a_h: Gates, _: Gates, h_prev: Array, c_prev: Array | None) -> Forward:
    r = sigmoid(a_x[0] + a_h[0])
    z = sigmoid(a_x[1] + a_h[1])
    q = a_h[2]
    n = np.tanh(a_x[2] + r * q)
    return (r, z, n, q), (1 - z) * n + z * h_prev, None


def gru_pointwise_backward(d: Array, dh: Array, dc: Array | None, step: Step) -> Backward:
    r, z, n, q = step.gates
    da_n = tanh_backward(dh * (1 - z), n)
    da_r = sigmoid_backward(da_n * q, r)
    da_z = sigmoid_backward(dh * (step.h_prev - n), z)
    return (da_r, da_z, da_n), (da_r, da_z, da_n * r), dh * z, None


# GRU, reset before: two phases, r and z first, then n = tanh(a_xn + W_hn (r * h_prev) + b_hn).


def gru_gates_pointwise(
    a_x: Gates, a_h: Gates, _: Gates, h_prev: Array, c_prev: Array | None
) -> Forward:
    r = sigmoid(a_x[0] + a_h[0])
    z = sigmoid(a_x[1] + a_h[1])
    return (r, z), r * h_prev, None


def gru_gates_pointwise_backward(d: Array, dh: Array, dc: Array | None, step: Step) -> Backward:
    r, z, n = step.gates
    da_r = sigmoid_backward(d * step.h_prev, r)
    da_z = sigmoid_backward(dh * (step.h_prev - n), z)
    return (da_r, da_z), (da_r, da_z), dh * z + d * r, None


def gru_candidate_pointwise(
    a_x: Gates, a_h: Gates, gates: Gates, h_prev: Array, c_prev: Array | None
) -> Forward:
    _, z = gates
    n = np.tanh(a_x[0] + a_h[0])
    return (n,), (1 - z) * n + z * h_prev, None


def gru_candidate_pointwise_backward(d: Array, dh: Array, dc: Array | None, step: Step) -> Backward:
    _, z, n = step.gates
    da_n = tanh_backward(dh * (1 - z), n)
    return (da_n,), (da_n,), 0.0, None


def _elman(phi: Callable[[Array], Array], dphi: Callable[[Array, Array], Array]) -> Cell:
    phase = Phase(0, 1, elman_pointwise(phi), elman_pointwise_backward(dphi))
    return Cell(1, 1, (phase,), lambda gates, h, c: gates[0])


def _taped_h(gates: Gates, h: Array | None, c: Array | None) -> Array:
    assert h is not None
    return h


def _lstm_output(gates: Gates, h: Array | None, c: Array | None) -> Array:
    assert c is not None
    return np.asarray(gates[3] * np.tanh(c))


CELLS = {
    "rnn_tanh": _elman(np.tanh, tanh_backward),
    "rnn_relu": _elman(relu, relu_backward),
    "gru": Cell(
        3, 4, (Phase(0, 3, gru_pointwise, gru_pointwise_backward),), _taped_h, tapes_h=True
    ),
    "gru_reset_before": Cell(
        3,
        3,
        (
            Phase(0, 2, gru_gates_pointwise, gru_gates_pointwise_backward),
            Phase(
                2,
                3,
                gru_candidate_pointwise,
                gru_candidate_pointwise_backward,
                lambda step: step.gates[0] * step.h_prev,
            ),
        ),
        _taped_h,
        tapes_h=True,
    ),
    "lstm": Cell(
        4,
        4,
        (Phase(0, 4, lstm_pointwise, lstm_pointwise_backward),),
        _lstm_output,
        tapes_c=True,
    ),
}
