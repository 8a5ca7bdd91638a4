"""The cells: what happens at one step between the matrix products, and its derivative.

    Elman  h = phi(a)                  LSTM  c = f * c_prev + i * g,  h = o * tanh(c)
    GRU    h = (1 - z) * n + z * h_prev
with a = a_x + a_h, a_x = W_ih x + b_ih, a_h = W_hh h_prev + b_hh, gates sigmoid(a) or tanh(a).
A step has one phase (product with W_hh, then pointwise), the reset-before GRU has two. What a
variant does otherwise, the rule says (:mod:`.rules`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..tape import Array
from ..variants import NUM_GATES
from .activations import Opened
from .rules import Rule

Gates = tuple[Array, ...]  # each [B, H]


class Before(NamedTuple):
    """What a step starts from."""

    h_prev: Array  # [B, P]
    operand: Array  # [B, P] h_prev as W_hh sees it: masked by recurrent dropout
    c_prev: Array | None  # [B, H]


class Forward(NamedTuple):
    """What a phase gives."""

    gates: Gates  # to tape
    result: Array  # [B, H] h~, or what the next phase multiplies by W_hh
    c: Array | None = None  # [B, H] c~


class Step(NamedTuple):
    """What a backward step knows of its forward step."""

    gates: Gates  # as taped, each [B, H]
    h_prev: Array  # [B, P]
    operand: Array  # [B, P]
    c_prev: Array | None  # [B, H]


class Backward(NamedTuple):
    """The gradients that a phase gives."""

    da_x: Gates
    da_h: Gates
    dh_prev: Array | float = 0.0  # its direct part
    d_operand: Array | float = 0.0  # beside what comes through W_hh
    dc_prev: Array | None = None


class Phase(NamedTuple):
    """One product with rows of W_hh and the arithmetic that follows it.

    ``pointwise(rule, a_x, a_h, gates, before)``, with the taped gates of the phases before;
    ``pointwise_backward(rule, d, dh, dc, step)``, d being the gradient of the phase's result.
    ``operand(rule, step)`` is the vector that the phase multiplied by W_hh.
    """

    first: int  # gate blocks first..last-1 of W_hh
    last: int
    pointwise: Callable[[Rule, Gates, Gates, Gates, Before], Forward]
    pointwise_backward: Callable[[Rule, Array, Array, Array | None, Step], Backward]
    operand: Callable[[Rule, Step], Array] = lambda rule, step: step.operand


class Cell(NamedTuple):
    """A row of the table of cells."""

    num_gates: int  # G, blocks in W_ih and W_hh
    num_taped: int  # blocks in the tape's gates
    phases: tuple[Phase, ...]
    # Every h_t out of the tape's gates and c, where h is not on the tape.
    output: Callable[[Rule, Gates, Array | None], Array] | None = None
    # What a projection multiplies by W_hr.
    hidden: Callable[[Rule, Step], Array] | None = None
    has_c: bool = False


# Elman: h = phi(a); the tape keeps h as the only gate.


def elman_pointwise(rule: Rule, a_x: Gates, a_h: Gates, _: Gates, before: Before) -> Forward:
    a = a_x[0] + a_h[0]
    h = rule.candidate(a)
    return Forward((rule.taped_candidate(a, h),), h)


def elman_pointwise_backward(
    rule: Rule, d: Array, dh: Array, dc: Array | None, step: Step
) -> Backward:
    da = rule.through_candidate(step.gates[0], d)
    return Backward((da,), (da,))


def _elman_output(rule: Rule, gates: Gates, c: Array | None) -> Array:
    return gates[0]


# LSTM: c = f * c_prev + i * g, h = o * tanh(c). The coupled one has no a_i: i = 1 - f.
# Rows of the peepholes are i, f, o or f, o: row 0 is that of i where there is one.


def lstm_pointwise(rule: Rule, a_x: Gates, a_h: Gates, _: Gates, before: Before) -> Forward:
    c_prev = before.c_prev
    assert c_prev is not None
    *a_i, a_f, a_g, a_o = (x + h for x, h in zip(a_x, a_h, strict=True))
    a_i = [rule.with_peephole(0, a, c_prev) for a in a_i]
    a_f = rule.with_peephole(-2, a_f, c_prev)
    f, g = rule.gate(a_f), rule.candidate(a_g)
    gates_i = [rule.gate(a) for a in a_i]
    i = gates_i[0] if gates_i else 1 - f
    c = rule.clip_cell(f * c_prev + i * g)
    a_o = rule.with_peephole(-1, a_o, c)
    o = rule.gate(a_o)
    taped_i = [rule.taped_gate(a, gate) for a, gate in zip(a_i, gates_i, strict=True)]
    taped = (
        *taped_i,
        rule.taped_gate(a_f, f),
        rule.taped_candidate(a_g, g),
        rule.taped_gate(a_o, o),
    )
    return Forward(taped, o * rule.output(c), c)


def lstm_pointwise_backward(
    rule: Rule, d: Array, dh: Array, dc: Array | None, step: Step
) -> Backward:
    assert step.c_prev is not None
    assert dc is not None
    i, f, g, o, c_sum = _lstm_inner(rule, step.gates, step.c_prev)
    c = rule.clip_cell(c_sum)
    da_o = dh * rule.output(c) * o.slope
    dc = dc + rule.through_output(c, dh * o.value)
    dc = rule.through_clip(c_sum, dc + rule.through_peephole(-1, da_o, c))
    da_g = dc * i.value * g.slope
    dc_prev = dc * f.value
    if len(step.gates) == 4:
        da_f = dc * step.c_prev * f.slope
        da_i: Gates = (dc * g.value * i.slope,)
        dc_prev = dc_prev + rule.through_peephole(0, da_i[0], step.c_prev)
    else:
        da_f = dc * (step.c_prev - g.value) * f.slope
        da_i = ()
    dc_prev = dc_prev + rule.through_peephole(-2, da_f, step.c_prev)
    da = (*da_i, da_f, da_g, da_o)
    return Backward(da, da, dc_prev=dc_prev)


def _lstm_hidden(rule: Rule, step: Step) -> Array:
    assert step.c_prev is not None
    _, _, _, o, c_sum = _lstm_inner(rule, step.gates, step.c_prev)
    return o.value * rule.output(rule.clip_cell(c_sum))


def _lstm_inner(
    rule: Rule, gates: Gates, c_prev: Array
) -> tuple[Opened, Opened, Opened, Opened, Array]:
    """i, f, g, o and c~ ahead of cell_clip, from the tape."""
    *taped_i, taped_f, taped_g, taped_o = gates
    f, g, o = rule.open_gate(taped_f), rule.open_candidate(taped_g), rule.open_gate(taped_o)
    i = rule.open_gate(taped_i[0]) if taped_i else Opened(1 - f.value, -f.slope)
    return i, f, g, o, f.value * c_prev + i.value * g.value


def _lstm_output(rule: Rule, gates: Gates, c: Array | None) -> Array:
    assert c is not None
    return rule.open_gate(gates[-1]).value * rule.output(c)


# GRU, reset after: n = tanh(a_xn + r * q), q = W_hn h_prev + b_hn, h = (1 - z) * n + z * h_prev.


def gru_pointwise(rule: Rule, a_x: Gates, a_h: Gates, _: Gates, before: Before) -> Forward:
    a_r, a_z = a_x[0] + a_h[0], a_x[1] + a_h[1]
    r, z = rule.gate(a_r), rule.gate(a_z)
    q = a_h[2]
    a_n = a_x[2] + r * q
    n = rule.candidate(a_n)
    taped = (rule.taped_gate(a_r, r), rule.taped_gate(a_z, z), rule.taped_candidate(a_n, n))
    return Forward((*taped, q), (1 - z) * n + z * before.h_prev)


def gru_pointwise_backward(
    rule: Rule, d: Array, dh: Array, dc: Array | None, step: Step
) -> Backward:
    r, z = rule.open_gate(step.gates[0]), rule.open_gate(step.gates[1])
    n, q = rule.open_candidate(step.gates[2]), step.gates[3]
    da_n = dh * (1 - z.value) * n.slope
    da_r = da_n * q * r.slope
    da_z = dh * (step.h_prev - n.value) * z.slope
    return Backward((da_r, da_z, da_n), (da_r, da_z, da_n * r.value), dh * z.value)


# GRU, reset before: two phases, r and z first, then n = tanh(a_xn + W_hn (r * h_prev) + b_hn).


def gru_gates_pointwise(rule: Rule, a_x: Gates, a_h: Gates, _: Gates, before: Before) -> Forward:
    a_r, a_z = a_x[0] + a_h[0], a_x[1] + a_h[1]
    r, z = rule.gate(a_r), rule.gate(a_z)
    return Forward((rule.taped_gate(a_r, r), rule.taped_gate(a_z, z)), r * before.operand)


def gru_gates_pointwise_backward(
    rule: Rule, d: Array, dh: Array, dc: Array | None, step: Step
) -> Backward:
    r, z = rule.open_gate(step.gates[0]), rule.open_gate(step.gates[1])
    n = rule.open_candidate(step.gates[2])
    da_r = d * step.operand * r.slope
    da_z = dh * (step.h_prev - n.value) * z.slope
    return Backward((da_r, da_z), (da_r, da_z), dh * z.value, d * r.value)


def gru_candidate_pointwise(
    rule: Rule, a_x: Gates, a_h: Gates, gates: Gates, before: Before
) -> Forward:
    z = rule.open_gate(gates[1]).value
    a_n = a_x[0] + a_h[0]
    n = rule.candidate(a_n)
    return Forward((rule.taped_candidate(a_n, n),), (1 - z) * n + z * before.h_prev)


def gru_candidate_pointwise_backward(
    rule: Rule, d: Array, dh: Array, dc: Array | None, step: Step
) -> Backward:
    z, n = rule.open_gate(step.gates[1]), rule.open_candidate(step.gates[2])
    da_n = dh * (1 - z.value) * n.slope
    return Backward((da_n,), (da_n,))


def _reset_operand(rule: Rule, step: Step) -> Array:
    return rule.open_gate(step.gates[0]).value * step.operand


# Minimal gated unit: f, then n = tanh(a_xn + W_hn (f * h_prev) + b_hn),
# h = (1 - f) * h_prev + f * n.


def mgu_pointwise(rule: Rule, a_x: Gates, a_h: Gates, _: Gates, before: Before) -> Forward:
    a_f = a_x[0] + a_h[0]
    f = rule.gate(a_f)
    return Forward((rule.taped_gate(a_f, f),), f * before.operand)


def mgu_pointwise_backward(
    rule: Rule, d: Array, dh: Array, dc: Array | None, step: Step
) -> Backward:
    f, n = rule.open_gate(step.gates[0]), rule.open_candidate(step.gates[1])
    da_f = (dh * (n.value - step.h_prev) + d * step.operand) * f.slope
    return Backward((da_f,), (da_f,), dh * (1 - f.value), d * f.value)


def mgu_candidate_pointwise(
    rule: Rule, a_x: Gates, a_h: Gates, gates: Gates, before: Before
) -> Forward:
    f = rule.open_gate(gates[0]).value
    a_n = a_x[0] + a_h[0]
    n = rule.candidate(a_n)
    return Forward((rule.taped_candidate(a_n, n),), (1 - f) * before.h_prev + f * n)


def mgu_candidate_pointwise_backward(
    rule: Rule, d: Array, dh: Array, dc: Array | None, step: Step
) -> Backward:
    f, n = rule.open_gate(step.gates[0]), rule.open_candidate(step.gates[1])
    da_n = dh * f.value * n.slope
    return Backward((da_n,), (da_n,))


def _elman(name: str) -> Cell:
    phase = Phase(0, 1, elman_pointwise, elman_pointwise_backward)
    return Cell(NUM_GATES[name], 1, (phase,), _elman_output)


def _lstm(name: str) -> Cell:
    gates = NUM_GATES[name]
    phase = Phase(0, gates, lstm_pointwise, lstm_pointwise_backward)
    return Cell(gates, gates, (phase,), _lstm_output, _lstm_hidden, has_c=True)


CELLS = {
    "rnn_tanh": _elman("rnn_tanh"),
    "rnn_relu": _elman("rnn_relu"),
    "rnn": _elman("rnn"),
    "gru": Cell(3, 4, (Phase(0, 3, gru_pointwise, gru_pointwise_backward),)),
    "gru_reset_before": Cell(
        3,
        3,
        (
            Phase(0, 2, gru_gates_pointwise, gru_gates_pointwise_backward),
            Phase(2, 3, gru_candidate_pointwise, gru_candidate_pointwise_backward, _reset_operand),
        ),
    ),
    "mgu": Cell(
        2,
        2,
        (
            Phase(0, 1, mgu_pointwise, mgu_pointwise_backward),
            Phase(1, 2, mgu_candidate_pointwise, mgu_candidate_pointwise_backward, _reset_operand),
        ),
    ),
    "lstm": _lstm("lstm"),
    "lstm_coupled": _lstm("lstm_coupled"),
}
