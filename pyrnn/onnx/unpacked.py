"""LSTM nodes that the kernels do not have, in NumPy: g and h that differ, f = 1 - i by any f.

    i = f(a_i)   f = f(a_f) or 1 - i   c_t = f * c_{t-1} + i * g(a_g)   h_t = f(a_o) * h(c_t)
The kernels have one activation for g and h, and i = 1 - f, which is the same cell with a_i negated
where 1 - f(a) = f(-a).
"""

from __future__ import annotations

from ..reference.activations import opened
from ..reference.cells import Before, Cell, Forward, Gates, Phase, lstm_pointwise_backward
from ..reference.rules import Rule
from ..reference.scan import scan_forward
from ..tape import Array, LayerInputs
from ..variants import Activation, Variant
from .attributes import Settings


def is_odd_around_half(activation: Activation) -> bool:
    """Whether 1 - f(a) = f(-a)."""
    name, _, beta = activation
    return name == "sigmoid" or (name in ("hard_sigmoid", "affine") and beta == 0.5)


def needs_numpy(settings: Settings) -> bool:
    if settings.kind != "LSTM":
        return False
    return any(
        g != h or (settings.coupled and not is_odd_around_half(f))
        for f, g, h in settings.activations
    )


def run_lstm(
    settings: Settings,
    k: int,
    variant: Variant | None,
    x: Array,
    layer: LayerInputs,
    lengths: Array | None,
    reverse: bool,
) -> tuple[Array, ...]:
    """y, h_n and c_n of direction k; weights and variant are those of an uncoupled LSTM."""
    *_, outward = settings.activations[k]

    def pointwise(rule: Rule, a_x: Gates, a_h: Gates, _: Gates, before: Before) -> Forward:
        c_prev = before.c_prev
        assert c_prev is not None
        a_i, a_f, a_g, a_o = (x + h for x, h in zip(a_x, a_h, strict=True))
        i = rule.gate(rule.with_peephole(0, a_i, c_prev))
        f = 1 - i if settings.coupled else rule.gate(rule.with_peephole(1, a_f, c_prev))
        c = f * c_prev + i * rule.candidate(a_g)
        o = rule.gate(rule.with_peephole(2, a_o, c))
        return Forward((), o * opened(outward, c).value, c)

    # Nothing is saved, so nothing runs backwards.
    cell = Cell(4, 0, (Phase(0, 4, pointwise, lstm_pointwise_backward),), has_c=True)
    own = cell, Rule("lstm", variant)
    y, h_n, c_n, *_ = scan_forward("lstm", x, *layer, lengths, reverse, False, None, variant, own)
    assert c_n is not None
    return y, h_n, c_n
