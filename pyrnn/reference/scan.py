"""The only time loop, forward and backward, generic over the cells.

    a_x = W_ih x + b_ih for all steps at once; then step by step a_h = W_hh h_{t-1} + b_hh and the
    cell's pointwise part; backward the same in reverse, then dw = da^T (operand) for all steps.
Step t runs the rows with t < length, so padding is never touched, in either direction.
"""

from __future__ import annotations

import numpy as np

from ..tape import Array, CheckpointTape, LayerInputs, Tape
from .cells import CELLS, Cell, Gates, Step

Rows = slice | Array  # the rows of a batch that run at a step, or the valid flat positions

AllGrads = tuple[
    Array | None, Array, Array | None, Array, Array, Array | None, Array | None
]  # dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh


def scan_forward(
    name: str,
    x: Array,  # [T, B, I] or tokens [T, B]
    h0: Array,  # [B, H]
    c0: Array | None,  # [B, H]
    w_ih: Array,  # [G*H, I]
    w_hh: Array,  # [G*H, H]
    b_ih: Array | None,  # [G*H]
    b_hh: Array | None,  # [G*H]
    lengths: Array | None,  # [B]
    reverse: bool,
    save: bool,
    checkpoint: int | None = None,
) -> tuple[Array, Array, Array | None, Tape | CheckpointTape | None]:
    """y [T, B, H], h_n [B, H], c_n [B, H] or None, tape or None."""
    cell = CELLS[name]
    seq_len, batch_size = x.shape[:2]
    hidden_size = w_hh.shape[1]
    if lengths is not None:
        lengths = np.asarray(lengths).astype(np.int64)
    with np.errstate(all="ignore"):
        a_x = _input_product(x, w_ih, _valid(seq_len, batch_size, lengths))
        if b_ih is not None:
            a_x += b_ih
        h, c = h0.copy(), None if c0 is None else c0.copy()
        y = np.zeros((seq_len, batch_size, hidden_size), w_hh.dtype)
        gates = cells = None
        kept: list[tuple[Array, Array | None]] = []
        if save and checkpoint is None:
            gates = np.zeros((seq_len, batch_size, cell.num_taped * hidden_size), w_hh.dtype)
            cells = np.zeros_like(y) if cell.tapes_c else None
        for t in _times(seq_len, reverse):
            if save and checkpoint is not None and _starts_chunk(t, seq_len, checkpoint, reverse):
                kept.append((h.copy(), None if c is None else c.copy()))
            rows = _running(t, lengths)
            taped, h[rows], c_t = _step(
                cell, a_x[t, rows], h[rows], None if c is None else c[rows], w_hh, b_hh
            )
            y[t, rows] = h[rows]
            if c is not None:
                c[rows] = c_t
            if gates is not None:
                gates[t, rows] = np.concatenate(taped, axis=1)
            if cells is not None:
                cells[t, rows] = c_t
    if save and checkpoint is not None:
        shape = (len(kept), 1, *h0.shape)
        kept_h = np.array([h for h, _ in kept], h0.dtype).reshape(shape)
        kept_c = None if c0 is None else np.array([c for _, c in kept], c0.dtype).reshape(shape)
        layer = LayerInputs(h0, c0, w_ih, w_hh, b_ih, b_hh)
        states = CheckpointTape(
            name, x, (layer,), lengths, bool(reverse), checkpoint, kept_h, kept_c
        )
        return y, h, c, states
    if gates is None:
        return y, h, c, None
    hs = y.copy() if cell.tapes_h else None
    tape = Tape(name, x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, bool(reverse), gates, hs, cells)
    return y, h, c, tape


def scan_backward(
    tape: Tape | CheckpointTape,
    dy: Array | None,  # [T, B, H]
    dh_n: Array | None,  # [B, H]
    dc_n: Array | None,  # [B, H]
) -> AllGrads:
    """Gradients of everything that went into :func:`scan_forward`.

    A tape of states alone is filled anew, all of it at once: plain, and the same bits.
    """
    if isinstance(tape, CheckpointTape):
        (layer,) = tape.layers
        *_, whole = scan_forward(tape.cell, tape.x, *layer, tape.lengths, tape.reverse, True)
        assert isinstance(whole, Tape)
        tape = whole
    cell, w_hh, lengths = CELLS[tape.cell], tape.w_hh, tape.lengths
    seq_len, batch_size = tape.x.shape[:2]
    hidden_size = w_hh.shape[1]
    dtype = w_hh.dtype

    with np.errstate(all="ignore"):
        h_t = cell.output(_blocks(tape.gates, cell.num_taped), tape.h, tape.c)
        h_prev = _previous(h_t, tape.h0, lengths, tape.reverse)
        c_prev = None
        if tape.c is not None and tape.c0 is not None:
            c_prev = _previous(tape.c, tape.c0, lengths, tape.reverse)

        dh = np.zeros_like(tape.h0) if dh_n is None else dh_n.copy()
        dc = None
        if tape.c0 is not None:
            dc = np.zeros_like(tape.c0) if dc_n is None else dc_n.copy()
        da_x = np.zeros((seq_len, batch_size, cell.num_gates * hidden_size), dtype)
        da_h = np.zeros_like(da_x)
        operands = np.zeros((len(cell.phases), seq_len, batch_size, hidden_size), dtype)

        for t in _times(seq_len, not tape.reverse):
            rows = _running(t, lengths)
            step = Step(
                _blocks(tape.gates[t, rows], cell.num_taped),
                h_prev[t, rows],
                None if c_prev is None else c_prev[t, rows],
                None if tape.c is None else tape.c[t, rows],
            )
            dh_t = dh[rows] if dy is None else dh[rows] + dy[t, rows]
            da_x[t, rows], da_h[t, rows], dh[rows], dc_prev = _step_backward(
                cell, dh_t, None if dc is None else dc[rows], step, w_hh
            )
            if dc is not None:
                dc[rows] = dc_prev
            for operand, phase in zip(operands, cell.phases, strict=True):
                operand[t, rows] = phase.operand(step)

        valid = _valid(seq_len, batch_size, lengths)
        da_x, da_h, operands = (
            a.reshape(*a.shape[:-3], seq_len * batch_size, a.shape[-1])
            for a in (da_x, da_h, operands)
        )
        dx, dw_ih = _input_product_backward(tape.x, tape.w_ih, da_x, valid)
        dw_hh = np.empty_like(w_hh, order="C")
        for operand, phase in zip(operands, cell.phases, strict=True):
            columns = slice(phase.first * hidden_size, phase.last * hidden_size)
            dw_hh[columns] = da_h[:, columns].T @ operand
        db_ih = None if tape.b_ih is None else da_x.sum(axis=0)
        db_hh = None if tape.b_hh is None else da_h.sum(axis=0)
    return dx, dh, dc, dw_ih, dw_hh, db_ih, db_hh


def _step(
    cell: Cell,
    a_x: Array,  # [B, G*H]
    h_prev: Array,  # [B, H]
    c_prev: Array | None,  # [B, H]
    w_hh: Array,  # [G*H, H]
    b_hh: Array | None,  # [G*H]
) -> tuple[Gates, Array, Array | None]:
    """Gates to tape (each [B, H]), h_t, c_t."""
    a_x_blocks = _blocks(a_x, cell.num_gates)
    gates: Gates = ()
    operand, c = h_prev, c_prev
    for phase in cell.phases:
        rows = slice(phase.first * h_prev.shape[1], phase.last * h_prev.shape[1])
        a_h = operand @ w_hh[rows].T
        if b_hh is not None:
            a_h += b_hh[rows]
        new, operand, c = phase.pointwise(
            a_x_blocks[phase.first : phase.last],
            _blocks(a_h, phase.last - phase.first),
            gates,
            h_prev,
            c_prev,
        )
        gates += new
    return gates, operand, c


def _step_backward(
    cell: Cell,
    dh: Array,  # [B, H]
    dc: Array | None,  # [B, H]
    step: Step,
    w_hh: Array,  # [G*H, H]
) -> tuple[Array, Array, Array, Array | None]:
    """da_x, da_h [B, G*H], dh_prev, dc_prev [B, H]."""
    da_x: Gates = ()
    da_h: Gates = ()
    d, dh_prev = dh, np.zeros_like(dh)
    dc_prev = dc
    for phase in reversed(cell.phases):
        rows = slice(phase.first * dh.shape[1], phase.last * dh.shape[1])
        new_x, new_h, direct, dc_prev = phase.pointwise_backward(d, dh, dc, step)
        da_x, da_h = new_x + da_x, new_h + da_h
        d = np.concatenate(new_h, axis=1) @ w_hh[rows]
        dh_prev += direct
    return np.concatenate(da_x, axis=1), np.concatenate(da_h, axis=1), dh_prev + d, dc_prev


def _input_product(x: Array, w_ih: Array, valid: Rows) -> Array:
    """W_ih x_t for every step, [T, B, G*H]; for tokens the columns of W_ih, the same as one-hot."""
    a_x = np.zeros((x.shape[0] * x.shape[1], w_ih.shape[0]), w_ih.dtype)
    if x.ndim == 2:
        tokens = x.reshape(-1)[valid]
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < w_ih.shape[1]):
            raise IndexError(f"x: expected tokens in 0..{w_ih.shape[1] - 1}")
        a_x[valid] = w_ih.T[tokens]
    else:
        a_x[valid] = x.reshape(len(a_x), x.shape[2])[valid] @ w_ih.T
    return a_x.reshape(*x.shape[:2], w_ih.shape[0])


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
