"""The operations of :mod:`pyrnn.ops` in plain NumPy: same names, same signatures.

Computes in the dtype it is given, so float64 input gives the authority that the
kernels are tested against. Equation -> :mod:`.cells` -> :mod:`.scan`. Arguments are
taken as :mod:`pyrnn.ops` has checked them.
"""

from __future__ import annotations

from typing import cast

from ..tape import Array, CheckpointTape, GruGrads, LstmGrads, RnnGrads, Tape
from .scan import scan_backward, scan_forward

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]


def rnn_forward(
    x: Array,
    h0: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    lengths: Array | None = None,
    reverse: bool = False,
    save: bool = True,
    checkpoint: int | None = None,
) -> tuple[Array, Array, Tape | CheckpointTape | None]:
    """See :func:`pyrnn.ops.rnn_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.eye(1)
    >>> y, h_n, tape = pyrnn.reference.rnn_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> y.ravel().round(4).tolist()
    [0.7616, 0.9427]
    """
    y, h_n, _, tape = scan_forward(
        f"rnn_{nonlinearity}",
        x,
        h0,
        None,
        w_ih,
        w_hh,
        b_ih,
        b_hh,
        lengths,
        reverse,
        save,
        checkpoint,
    )
    return y, h_n, tape


def gru_forward(
    x: Array,
    h0: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    reset_after: bool = True,
    lengths: Array | None = None,
    reverse: bool = False,
    save: bool = True,
    checkpoint: int | None = None,
) -> tuple[Array, Array, Tape | CheckpointTape | None]:
    """See :func:`pyrnn.ops.gru_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((3, 1))
    >>> y, h_n, tape = pyrnn.reference.gru_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> y.ravel().round(4).tolist()
    [0.2048, 0.3468]
    """
    cell = "gru" if reset_after else "gru_reset_before"
    y, h_n, _, tape = scan_forward(
        cell, x, h0, None, w_ih, w_hh, b_ih, b_hh, lengths, reverse, save, checkpoint
    )
    return y, h_n, tape


def lstm_forward(
    x: Array,
    h0: Array,
    c0: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    save: bool = True,
    checkpoint: int | None = None,
) -> tuple[Array, Array, Array, Tape | CheckpointTape | None]:
    """See :func:`pyrnn.ops.lstm_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w, s = np.ones((4, 1)), np.zeros((1, 1))
    >>> y, h_n, c_n, tape = pyrnn.reference.lstm_forward(np.ones((2, 1, 1)), s, s, w, w)
    >>> y.ravel().round(4).tolist()
    [0.3696, 0.6505]
    """
    y, h_n, c_n, tape = scan_forward(
        "lstm", x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, save, checkpoint
    )
    return y, h_n, cast(Array, c_n), tape


def rnn_backward(
    tape: Tape | CheckpointTape, dy: Array | None = None, dh_n: Array | None = None
) -> RnnGrads:
    """See :func:`pyrnn.ops.rnn_backward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.eye(1)
    >>> y, h_n, tape = pyrnn.reference.rnn_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> pyrnn.reference.rnn_backward(tape, np.ones_like(y)).dw_hh.round(4).tolist()
    [[0.0848]]
    """
    dx, dh0, _, dw_ih, dw_hh, db_ih, db_hh = scan_backward(tape, dy, dh_n, None)
    return RnnGrads(dx, dh0, dw_ih, dw_hh, db_ih, db_hh)


def gru_backward(
    tape: Tape | CheckpointTape, dy: Array | None = None, dh_n: Array | None = None
) -> GruGrads:
    """See :func:`pyrnn.ops.gru_backward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((3, 1))
    >>> y, h_n, tape = pyrnn.reference.gru_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> pyrnn.reference.gru_backward(tape, np.ones_like(y)).dh0.shape
    (1, 1)
    """
    dx, dh0, _, dw_ih, dw_hh, db_ih, db_hh = scan_backward(tape, dy, dh_n, None)
    return GruGrads(dx, dh0, dw_ih, dw_hh, db_ih, db_hh)


def lstm_backward(
    tape: Tape | CheckpointTape,
    dy: Array | None = None,
    dh_n: Array | None = None,
    dc_n: Array | None = None,
) -> LstmGrads:
    """See :func:`pyrnn.ops.lstm_backward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w, s = np.ones((4, 1)), np.zeros((1, 1))
    >>> y, h_n, c_n, tape = pyrnn.reference.lstm_forward(np.ones((2, 1, 1)), s, s, w, w)
    >>> pyrnn.reference.lstm_backward(tape, dc_n=np.ones_like(c_n)).dc0.shape
    (1, 1)
    """
    dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh = scan_backward(tape, dy, dh_n, dc_n)
    return LstmGrads(dx, dh0, cast(Array, dc0), dw_ih, dw_hh, db_ih, db_hh)
