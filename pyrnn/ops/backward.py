"""The operations backward: gradients by name."""

from __future__ import annotations

from typing import cast

from .. import dispatch
from ..tape import Array, CheckpointTape, GruGrads, LstmGrads, RnnGrads, Tape


def rnn_backward(
    tape: Tape | CheckpointTape, dy: Array | None = None, dh_n: Array | None = None
) -> RnnGrads:
    """Backpropagation through time for :func:`rnn_forward`.

    Parameters
    ----------
    tape : Tape or CheckpointTape
        From :func:`rnn_forward`; it is not changed and may be used again.
    dy : ndarray or None
        (T, B, H), gradient of the loss by y; None counts as 0.
    dh_n : ndarray or None
        (B, H), gradient of the loss by h_n; None counts as 0.

    Returns
    -------
    RnnGrads
        ``dx`` is None for tokens, ``db_ih`` and ``db_hh`` where the bias was None.

    Raises
    ------
    TypeError
        Not a tape, or a gradient of another dtype.
    ValueError
        A tape of another cell, or a gradient of another shape.

    Notes
    -----
    Werbos, "Backpropagation through time", Proceedings of the IEEE 78 (1990).

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.eye(1)
    >>> y, h_n, tape = pyrnn.ops.rnn_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> pyrnn.ops.rnn_backward(tape, np.ones_like(y)).dw_hh.round(4).tolist()
    [[0.0848]]
    """
    g = _backward("rnn", tape, dy, dh_n, None, None)
    return RnnGrads(g.dx, g.dh0, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, **g.of_variant)


def gru_backward(
    tape: Tape | CheckpointTape, dy: Array | None = None, dh_n: Array | None = None
) -> GruGrads:
    """Backpropagation through time for :func:`gru_forward`.

    Parameters, returns and errors are those of :func:`rnn_backward`, with the shapes of
    :func:`gru_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((3, 1))
    >>> y, h_n, tape = pyrnn.ops.gru_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> pyrnn.ops.gru_backward(tape, np.ones_like(y)).dh0.shape
    (1, 1)
    """
    g = _backward("gru", tape, dy, dh_n, None, None)
    return GruGrads(g.dx, g.dh0, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, **g.of_variant)


def mgu_backward(
    tape: Tape | CheckpointTape, dy: Array | None = None, dh_n: Array | None = None
) -> RnnGrads:
    """Backpropagation through time for :func:`mgu_forward`.

    Parameters, returns and errors are those of :func:`rnn_backward`, with the shapes of
    :func:`mgu_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((2, 1))
    >>> y, h_n, tape = pyrnn.ops.mgu_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> pyrnn.ops.mgu_backward(tape, np.ones_like(y)).dh0.shape
    (1, 1)
    """
    g = _backward("mgu", tape, dy, dh_n, None, None)
    return RnnGrads(g.dx, g.dh0, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, **g.of_variant)


def lstm_backward(
    tape: Tape | CheckpointTape,
    dy: Array | None = None,
    dh_n: Array | None = None,
    dc_n: Array | None = None,
    dcells: Array | None = None,
) -> LstmGrads:
    """Backpropagation through time for :func:`lstm_forward`.

    Parameters, returns and errors are those of :func:`rnn_backward`, with the shapes of
    :func:`lstm_forward` and a second state.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((4, 1))
    >>> s = np.zeros((1, 1))
    >>> y, h_n, c_n, tape = pyrnn.ops.lstm_forward(np.ones((2, 1, 1)), s, s, w, w)
    >>> pyrnn.ops.lstm_backward(tape, dc_n=np.ones_like(c_n)).dc0.shape
    (1, 1)
    """
    g = _backward("lstm", tape, dy, dh_n, dc_n, dcells)
    dc0 = cast(Array, g.dc0)
    return LstmGrads(g.dx, g.dh0, dc0, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, **g.of_variant)


def _backward(
    family: str,
    tape: Tape | CheckpointTape,
    dy: Array | None,
    dh_n: Array | None,
    dc_n: Array | None,
    dcells: Array | None,
) -> dispatch.Gradients:
    maker = f"{family}_forward"
    if not isinstance(tape, (Tape, CheckpointTape)):
        raise TypeError(f"tape: expected the tape of {maker}(save=True), got {type(tape).__name__}")
    if not tape.cell.startswith(family):
        raise ValueError(f"tape: expected the tape of {maker}, got one of cell {tape.cell!r}")
    return dispatch.backward(tape, dy, dh_n, dc_n, dcells)
