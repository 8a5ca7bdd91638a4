"""The only time loop, forward and backward, generic over the cells and their variants.

    a_x = W_ih x + b_ih for all steps at once; then step by step a_h = W_hh h_{t-1} + b_hh and the
    cell's pointwise part; backward the same in reverse, then dw = da^T (operand) for all steps.
Step t runs the rows with t < length, so padding is never touched, in either direction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..tape import Array, CheckpointTape, Gradients, LayerInputs, Tape
from ..variants import Variant, tapes_h
from .cells import CELLS, Before, Cell, Gates, Step
from .rules import Rule, masked, settle, unsettle

Rows = slice | Array  # the rows of a batch that run at a step, or the valid flat positions


def scan_forward(
    name: str,
    x: Array,  # [T, B, I] or tokens [T, B]
    h0: Array,  # [B, P]
    c0: Array | None,  # [B, H]
    w_ih: Array,  # [G*H, I]
    w_hh: Array,  # [G*H, P]
    b_ih: Array | None,  # [G*H]
    b_hh: Array | None,  # [G*H]
    lengths: Array | None,  # [B]
    reverse: bool,
    save: bool,
    checkpoint: int | None = None,
    variant: Variant | None = None,
    own: tuple[Cell, Rule] | None = None,
) -> tuple[Array, Array, Array | None, Array | None, Tape | CheckpointTape | None]:
    """y [T, B, P], h_n [B, P], c_n [B, H] or None, every c_t [T, B, H] or None, tape or None.

    ``own`` stands in for the cell of that name and the rule of that variant, with ``save`` False.
    """
    cell, rule = own or (CELLS[name], Rule(name, variant))
    seq_len, batch_size = x.shape[:2]
    hidden_size, proj_size = w_hh.shape[0] // cell.num_gates, w_hh.shape[1]
    dtype = w_hh.dtype
    if lengths is not None:
        lengths = np.asarray(lengths).astype(np.int64)
    valid = _valid(seq_len, batch_size, lengths)

    def zeros(columns: int) -> Array:
        return np.zeros((seq_len, batch_size, columns), dtype)

    with np.errstate(all="ignore"):
        a_x, norm_ih, rstd_ih = _input_sums(rule, x, w_ih, valid)
        if b_ih is not None:
            a_x += b_ih
        mask = rule.mask(batch_size, proj_size, dtype)
        h, c = h0.copy(), None if c0 is None else c0.copy()
        y = zeros(proj_size)
        cells = None if c is None else zeros(hidden_size)
        gates = norm_hh = rstd = None
        if save and checkpoint is None:
            gates = zeros(cell.num_taped * hidden_size)
            if rstd_ih is not None:
                norm_hh, rstd = zeros(len(w_hh)), zeros(2)
                rstd[..., :1] = rstd_ih
        kept: list[tuple[Array, Array | None]] = []
        for t in _times(seq_len, reverse):
            if save and checkpoint is not None and _starts_chunk(t, seq_len, checkpoint, reverse):
                kept.append((h.copy(), None if c is None else c.copy()))
            rows = _running(t, lengths)
            before = Before(
                h[rows],
                masked(None if mask is None else mask[rows], h[rows]),
                None if c is None else c[rows],
            )
            taped, fresh_h, fresh_c, norms = _step(cell, rule, a_x[t, rows], before, w_hh, b_hh)
            kept_h, kept_c = rule.kept(t, _numbers(rows, batch_size), proj_size, hidden_size)
            y[t, rows] = h[rows] = settle(kept_h, before.h_prev, fresh_h)
            if c is not None and before.c_prev is not None and fresh_c is not None:
                c[rows] = settle(kept_c, before.c_prev, fresh_c)
                if cells is not None:
                    cells[t, rows] = c[rows]
            if gates is not None:
                gates[t, rows] = np.concatenate(taped, axis=1)
            if norms is not None and norm_hh is not None and rstd is not None:
                norm_hh[t, rows], rstd[t, rows, 1:] = norms
    tape: Tape | CheckpointTape | None = None
    if gates is not None:
        hs = y.copy() if tapes_h(name, variant) else None
        cs = None if cells is None else cells.copy()
        tape = Tape(
            name, x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, bool(reverse),
            gates, hs, cs, variant, norm_ih, norm_hh, rstd,
        )  # fmt: skip
    elif save and checkpoint is not None:
        kept_hs = np.array([h for h, _ in kept], dtype).reshape(len(kept), 1, *h0.shape)
        kept_cs = None
        if c0 is not None:
            kept_cs = np.array([c for _, c in kept], dtype).reshape(len(kept), 1, *c0.shape)
        layer = LayerInputs(h0, c0, w_ih, w_hh, b_ih, b_hh)
        variants = () if variant is None else (variant,)
        tape = CheckpointTape(
            name, x, (layer,), lengths, bool(reverse), checkpoint, kept_hs, kept_cs, variants
        )
    return y, h, c, cells, tape


def scan_backward(
    tape: Tape | CheckpointTape,
    dy: Array | None,  # [T, B, P]
    dh_n: Array | None,  # [B, P]
    dc_n: Array | None,  # [B, H]
    dcells: Array | None = None,  # [T, B, H]
) -> Gradients:
    """Gradients of everything that went into :func:`scan_forward`.

    A tape of states alone is filled anew, all of it at once: plain, and the same bits.
    """
    if isinstance(tape, CheckpointTape):
        (layer,) = tape.layers
        variant = tape.variants[0] if tape.variants else None
        *_, whole = scan_forward(
            tape.cell, tape.x, *layer, tape.lengths, tape.reverse, True, None, variant
        )
        assert isinstance(whole, Tape)
        tape = whole
    cell, rule = CELLS[tape.cell], Rule(tape.cell, tape.variant)
    w_hh, lengths = tape.w_hh, tape.lengths
    seq_len, batch_size = tape.x.shape[:2]
    hidden_size, proj_size = w_hh.shape[0] // cell.num_gates, w_hh.shape[1]
    dtype = w_hh.dtype
    valid = _valid(seq_len, batch_size, lengths)

    with np.errstate(all="ignore"):
        h_t = tape.h
        if h_t is None:
            assert cell.output is not None
            h_t = cell.output(rule, _blocks(tape.gates, cell.num_taped), tape.c)
        h_prev = _previous(h_t, tape.h0, lengths, tape.reverse)
        c_prev = None
        if tape.c is not None and tape.c0 is not None:
            c_prev = _previous(tape.c, tape.c0, lengths, tape.reverse)
        mask = rule.mask(batch_size, proj_size, dtype)

        dh = np.zeros_like(tape.h0) if dh_n is None else dh_n.copy()
        dc = None
        if tape.c0 is not None:
            dc = np.zeros_like(tape.c0) if dc_n is None else dc_n.copy()
        da_x = np.zeros((seq_len, batch_size, len(w_hh)), dtype)
        da_h = np.zeros_like(da_x)
        dproducts = np.zeros_like(da_x)  # of W_hh and its operand
        operands = np.zeros((len(cell.phases), seq_len, batch_size, proj_size), dtype)

        for t in _times(seq_len, not tape.reverse):
            rows = _running(t, lengths)
            of_rows = None if mask is None else mask[rows]
            step = Step(
                _blocks(tape.gates[t, rows], cell.num_taped),
                h_prev[t, rows],
                masked(of_rows, h_prev[t, rows]),
                None if c_prev is None else c_prev[t, rows],
            )
            kept_h, kept_c = rule.kept(t, _numbers(rows, batch_size), proj_size, hidden_size)
            fresh_dh, dh_prev = unsettle(kept_h, dh[rows] if dy is None else dh[rows] + dy[t, rows])
            fresh_dc = dc_kept = None
            if dc is not None:
                dc_t = dc[rows] if dcells is None else dc[rows] + dcells[t, rows]
                fresh_dc, dc_kept = unsettle(kept_c, dc_t)
            norms = None
            if tape.norm_hh is not None and tape.rstd is not None:
                norms = tape.norm_hh[t, rows], tape.rstd[t, rows, 1:]
            back = _step_backward(cell, rule, fresh_dh, fresh_dc, step, w_hh, norms)
            da_x[t, rows], da_h[t, rows], dproducts[t, rows] = back.da_x, back.da_h, back.dproduct
            dh[rows] = dh_prev + back.dh_prev + masked(of_rows, back.d_operand)
            if dc is not None and dc_kept is not None and back.dc_prev is not None:
                dc[rows] = dc_kept + back.dc_prev
            for operand, phase in zip(operands, cell.phases, strict=True):
                operand[t, rows] = phase.operand(rule, step)

        da_x, da_h, dproducts, operands = (
            a.reshape(*a.shape[:-3], seq_len * batch_size, a.shape[-1])
            for a in (da_x, da_h, dproducts, operands)
        )
        dproduct_x = _through_input_norm(rule, tape, da_x, valid)
        dx, dw_ih = _input_product_backward(tape.x, tape.w_ih, dproduct_x, valid)
        dw_hh = np.empty_like(w_hh, order="C")
        for operand, phase in zip(operands, cell.phases, strict=True):
            columns = slice(phase.first * hidden_size, phase.last * hidden_size)
            dw_hh[columns] = dproducts[:, columns].T @ operand
        db_ih = None if tape.b_ih is None else da_x.sum(axis=0)
        db_hh = None if tape.b_hh is None else da_h.sum(axis=0)
    return Gradients(dx, dh, dc, dw_ih, dw_hh, db_ih, db_hh, rule.grads)


def _step(
    cell: Cell,
    rule: Rule,
    a_x: Array,  # [B, G*H]
    before: Before,
    w_hh: Array,  # [G*H, P]
    b_hh: Array | None,  # [G*H]
) -> tuple[Gates, Array, Array | None, tuple[Array, Array] | None]:
    """Gates to tape (each [B, H]), h~ [B, P], c~ [B, H], norm [B, G*H] and rstd [B, 1]."""
    hidden_size = len(w_hh) // cell.num_gates
    a_x_blocks = _blocks(a_x, cell.num_gates)
    gates: Gates = ()
    operand, c, norms = before.operand, None, None
    for phase in cell.phases:
        rows = slice(phase.first * hidden_size, phase.last * hidden_size)
        a_h, norm, rstd = rule.normed("hh", operand @ w_hh[rows].T)
        if norm is not None and rstd is not None:
            norms = norm, rstd
        if b_hh is not None:
            a_h = a_h + b_hh[rows]
        new, operand, c = phase.pointwise(
            rule,
            a_x_blocks[phase.first : phase.last],
            _blocks(a_h, phase.last - phase.first),
            gates,
            before,
        )
        gates += new
    return gates, rule.project(operand), c, norms


class _StepGrads(NamedTuple):
    da_x: Array  # [B, G*H]
    da_h: Array  # [B, G*H]
    dproduct: Array  # [B, G*H] of W_hh and its operand: da_h but for layer norm
    dh_prev: Array | float  # [B, P] the direct part
    d_operand: Array  # [B, P] through W_hh
    dc_prev: Array | None  # [B, H]


def _step_backward(
    cell: Cell,
    rule: Rule,
    dh: Array,  # [B, P]
    dc: Array | None,  # [B, H]
    step: Step,
    w_hh: Array,  # [G*H, P]
    norms: tuple[Array, Array] | None,  # [B, G*H], [B, 1]
) -> _StepGrads:
    if cell.hidden is not None and rule.variant.w_hr is not None:
        dh = rule.through_projection(cell.hidden(rule, step), dh)
    hidden_size = len(w_hh) // cell.num_gates
    da_x: Gates = ()
    da_h: Gates = ()
    dproducts: Gates = ()
    d, dh_prev = dh, np.zeros_like(step.h_prev)
    dc_prev = dc
    for phase in reversed(cell.phases):
        rows = slice(phase.first * hidden_size, phase.last * hidden_size)
        back = phase.pointwise_backward(rule, d, dh, dc, step)
        da_x, da_h = back.da_x + da_x, back.da_h + da_h
        dproduct = rule.through_norm(
            "hh", np.concatenate(back.da_h, axis=1), *(norms or (None, None))
        )
        dproducts = (dproduct, *dproducts)
        d = dproduct @ w_hh[rows] + back.d_operand
        dh_prev += back.dh_prev
        dc_prev = back.dc_prev
    of_x, of_h, of_product = (np.concatenate(a, axis=1) for a in (da_x, da_h, dproducts))
    return _StepGrads(of_x, of_h, of_product, dh_prev, d, dc_prev)


def _input_sums(
    rule: Rule, x: Array, w_ih: Array, valid: Rows
) -> tuple[Array, Array | None, Array | None]:
    """W_ih x_t for every step, normalised or not; norm [T, B, G*H] and rstd [T, B, 1]."""
    leading = x.shape[:2]
    a_x = _input_product(x, w_ih, valid)
    norm = rstd = None
    if rule.normalises:
        norm, rstd = np.zeros_like(a_x), np.zeros_like(a_x[:, :1])
        a_x[valid], norm[valid], rstd[valid] = rule.normed("ih", a_x[valid])
        norm, rstd = norm.reshape(*leading, len(w_ih)), rstd.reshape(*leading, 1)
    return a_x.reshape(*leading, len(w_ih)), norm, rstd


def _through_input_norm(rule: Rule, tape: Tape, da_x: Array, valid: Rows) -> Array:
    """The gradient of W_ih x, [T*B, G*H], from that of its normalised form."""
    if tape.norm_ih is None or tape.rstd is None:
        return da_x
    norm, rstd = tape.norm_ih.reshape(da_x.shape), tape.rstd.reshape(-1, 2)[:, :1]
    dproduct = np.zeros_like(da_x)
    dproduct[valid] = rule.through_norm("ih", da_x[valid], norm[valid], rstd[valid])
    return dproduct


def _input_product(x: Array, w_ih: Array, valid: Rows) -> Array:
    """W_ih x_t for every step, [T*B, G*H]; for tokens the columns of W_ih, the same as one-hot."""
    a_x = np.zeros((x.shape[0] * x.shape[1], w_ih.shape[0]), w_ih.dtype)
    if x.ndim == 2:
        tokens = x.reshape(-1)[valid]
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < w_ih.shape[1]):
            raise IndexError(f"x: expected tokens in 0..{w_ih.shape[1] - 1}")
        a_x[valid] = w_ih.T[tokens]
    else:
        a_x[valid] = x.reshape(len(a_x), x.shape[2])[valid] @ w_ih.T
    return a_x


def _input_product_backward(
    x: Array,  # [T, B, I] or tokens [T, B]
    w_ih: Array,  # [G*H, I]
    da_x: Array,  # [T*B, G*H]
    valid: Rows,
) -> tuple[Array | None, Array]:
    """dx (None for tokens), dw_ih."""
    if x.ndim == 2:
        dw_ih_t = np.zeros(w_ih.shape[::-1], w_ih.dtype)  # [I, G*H]
        np.add.at(dw_ih_t, x.reshape(-1)[valid], da_x[valid])
        return None, np.ascontiguousarray(dw_ih_t.T)
    dx = np.zeros((len(da_x), x.shape[2]), w_ih.dtype)
    dx[valid] = da_x[valid] @ w_ih
    dw_ih = da_x[valid].T @ x.reshape(dx.shape)[valid]
    return dx.reshape(x.shape), np.ascontiguousarray(dw_ih)


def _times(seq_len: int, reverse: bool) -> range:
    return range(seq_len - 1, -1, -1) if reverse else range(seq_len)


def _starts_chunk(t: int, seq_len: int, steps: int, reverse: bool) -> bool:
    """Whether a chunk of steps, but not the one that runs first, starts with step t."""
    return (t + 1) % steps == 0 and t + 1 < seq_len if reverse else t % steps == 0 and t > 0


def _running(t: int, lengths: Array | None) -> Rows:
    return slice(None) if lengths is None else np.flatnonzero(lengths > t)


def _numbers(rows: Rows, batch_size: int) -> Array:
    return np.arange(batch_size) if isinstance(rows, slice) else rows


def _valid(seq_len: int, batch_size: int, lengths: Array | None) -> Rows:
    """Positions in [T*B] that are not padding."""
    if lengths is None:
        return slice(None)
    return np.flatnonzero(np.arange(seq_len)[:, None] < lengths)


def _previous(
    state: Array,  # [T, B, H], every h_t or c_t
    state0: Array,  # [B, H]
    lengths: Array | None,
    reverse: bool,
) -> Array:
    """The state that step t started from, [T, B, H]; arbitrary in the padding."""
    if not reverse:
        return np.concatenate([state0[None], state])[:-1]
    previous = np.concatenate([state, state0[None]])[1:]
    if lengths is not None:
        rows = np.flatnonzero(lengths > 0)
        previous[lengths[rows] - 1, rows] = state0[rows]
    return previous


def _blocks(a: Array, count: int) -> Gates:
    """[..., count*H] -> count times [..., H]."""
    return tuple(np.split(a, count, axis=-1))
