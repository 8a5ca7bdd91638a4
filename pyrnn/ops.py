"""The operations: one layer, one direction, forward and backpropagation through time.

Each has a twin of the same name and signature in :mod:`pyrnn.reference`. The
equations are those of ``docs/equations.md``; gate blocks are stacked in
PyTorch's order (LSTM i, f, g, o; GRU r, z, n).
"""

from __future__ import annotations

from typing import Any, cast

from . import _core, reference
from . import checkpoint as chunks
from .backends import use_reference
from .checks import checked_integer
from .tape import Array, CheckpointTape, GruGrads, LayerInputs, LstmGrads, RnnGrads, Tape

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]

NONLINEARITIES = {"tanh": "rnn_tanh", "relu": "rnn_relu"}


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
    """Elman layer: ``h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``.

    Parameters
    ----------
    x : ndarray
        (T, B, I) float32 or float64, or integer tokens (T, B) in 0..I-1.
    h0 : ndarray
        (B, H) initial state.
    w_ih, w_hh : ndarray
        (H, I) and (H, H).
    b_ih, b_hh : ndarray or None
        (H).
    nonlinearity : {"tanh", "relu"}
        phi.
    lengths : ndarray of integers, optional
        (B), each in 0..T, in any order. Past its length a row's y is 0.
    reverse : bool
        Run from each row's last valid step to its first.
    save : bool
        False: keep nothing for a backward pass.
    checkpoint : int, optional
        Keep the states every so many steps only. The backward pass computes what lies between
        anew, a chunk at a time, and gives the same bits; ``tape.nbytes`` is then that of
        ``ceil(T / checkpoint) - 1`` states.

    Returns
    -------
    y : ndarray
        (T, B, H), every h_t.
    h_n : ndarray
        (B, H), the state after each row's last step.
    tape : Tape, CheckpointTape or None
        For :func:`rnn_backward`.

    Raises
    ------
    ValueError
        A wrong shape, length, ``nonlinearity`` or ``checkpoint``.
    TypeError
        A dtype other than float32, float64 and integer tokens, or a mixture.
    IndexError
        A token outside 0..I-1.

    Notes
    -----
    Elman, "Finding structure in time", Cognitive Science 14 (1990).

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.eye(1)
    >>> y, h_n, tape = pyrnn.ops.rnn_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> y.ravel().round(4).tolist()
    [0.7616, 0.9427]
    """
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
    if use_reference():
        x, h0, _, w_ih, w_hh, b_ih, b_hh, lengths = _core.check_forward(
            NONLINEARITIES[nonlinearity], x, h0, None, w_ih, w_hh, b_ih, b_hh, lengths, None
        )
        return reference.rnn_forward(
            x, h0, w_ih, w_hh, b_ih, b_hh,
            nonlinearity=nonlinearity, lengths=lengths, reverse=reverse, save=save,
            checkpoint=_steps(checkpoint),
        )  # fmt: skip
    y, h_n, _, tape = _forward(
        NONLINEARITIES[nonlinearity], x, LayerInputs(h0, None, w_ih, w_hh, b_ih, b_hh),
        lengths, reverse, save, checkpoint,
    )  # fmt: skip
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
    """GRU layer: ``h_t = (1 - z) * n + z * h_{t-1}``.

    ``r = sigmoid(a_r)``, ``z = sigmoid(a_z)`` with ``a = W_ih x + b_ih + W_hh h + b_hh``, and
    ``n = tanh(W_in x + b_in + r * (W_hn h + b_hn))`` (``reset_after``) or
    ``n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)``.

    Parameters
    ----------
    x : ndarray
        (T, B, I) float32 or float64, or integer tokens (T, B) in 0..I-1.
    h0 : ndarray
        (B, H) initial state.
    w_ih, w_hh : ndarray
        (3*H, I) and (3*H, H), blocks r, z, n.
    b_ih, b_hh : ndarray or None
        (3*H).
    reset_after : bool
        Apply the reset gate after (PyTorch, cuDNN) or before the product with W_hn.
    lengths, reverse, save, checkpoint
        As for :func:`rnn_forward`.

    Returns
    -------
    y, h_n, tape
        As for :func:`rnn_forward`.

    Raises
    ------
    ValueError, TypeError, IndexError
        As for :func:`rnn_forward`.

    Notes
    -----
    Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014
    (reset before); the reset-after form is cuDNN's.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((3, 1))
    >>> y, h_n, tape = pyrnn.ops.gru_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> y.ravel().round(4).tolist()
    [0.2048, 0.3468]
    """
    if use_reference():
        x, h0, _, w_ih, w_hh, b_ih, b_hh, lengths = _core.check_forward(
            gru_name(reset_after), x, h0, None, w_ih, w_hh, b_ih, b_hh, lengths, None
        )
        return reference.gru_forward(
            x, h0, w_ih, w_hh, b_ih, b_hh,
            reset_after=reset_after, lengths=lengths, reverse=reverse, save=save,
            checkpoint=_steps(checkpoint),
        )  # fmt: skip
    y, h_n, _, tape = _forward(
        gru_name(reset_after), x, LayerInputs(h0, None, w_ih, w_hh, b_ih, b_hh),
        lengths, reverse, save, checkpoint,
    )  # fmt: skip
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
    """LSTM layer: ``c_t = f * c_{t-1} + i * g``, ``h_t = o * tanh(c_t)``.

    ``i, f, o = sigmoid(a)`` and ``g = tanh(a)`` with ``a = W_ih x + b_ih + W_hh h + b_hh``.

    Parameters
    ----------
    x : ndarray
        (T, B, I) float32 or float64, or integer tokens (T, B) in 0..I-1.
    h0, c0 : ndarray
        (B, H) initial states.
    w_ih, w_hh : ndarray
        (4*H, I) and (4*H, H), blocks i, f, g, o.
    b_ih, b_hh : ndarray or None
        (4*H).
    lengths, reverse, save, checkpoint
        As for :func:`rnn_forward`.

    Returns
    -------
    y : ndarray
        (T, B, H), every h_t.
    h_n, c_n : ndarray
        (B, H), the states after each row's last step.
    tape : Tape, CheckpointTape or None
        For :func:`lstm_backward`.

    Raises
    ------
    ValueError, TypeError, IndexError
        As for :func:`rnn_forward`.

    Notes
    -----
    Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with the
    forget gate of Gers, Schmidhuber & Cummins (2000).

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((4, 1))
    >>> s = np.zeros((1, 1))
    >>> y, h_n, c_n, tape = pyrnn.ops.lstm_forward(np.ones((2, 1, 1)), s, s, w, w)
    >>> y.ravel().round(4).tolist()
    [0.3696, 0.6505]
    """
    if use_reference():
        x, h0, c0_, w_ih, w_hh, b_ih, b_hh, lengths = _core.check_forward(
            "lstm", x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, None
        )
        return reference.lstm_forward(
            x, h0, cast(Array, c0_), w_ih, w_hh, b_ih, b_hh,
            lengths=lengths, reverse=reverse, save=save,
            checkpoint=_steps(checkpoint),
        )  # fmt: skip
    y, h_n, c_n, tape = _forward(
        "lstm", x, LayerInputs(h0, c0, w_ih, w_hh, b_ih, b_hh),
        lengths, reverse, save, checkpoint,
    )  # fmt: skip
    return y, h_n, cast(Array, c_n), tape


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
    dx, dh0, _, dw_ih, dw_hh, db_ih, db_hh = _backward(
        "rnn_forward", ("rnn_tanh", "rnn_relu"), tape, dy, dh_n, None
    )
    return RnnGrads(dx, dh0, dw_ih, dw_hh, db_ih, db_hh)


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
    dx, dh0, _, dw_ih, dw_hh, db_ih, db_hh = _backward(
        "gru_forward", ("gru", "gru_reset_before"), tape, dy, dh_n, None
    )
    return GruGrads(dx, dh0, dw_ih, dw_hh, db_ih, db_hh)


def lstm_backward(
    tape: Tape | CheckpointTape,
    dy: Array | None = None,
    dh_n: Array | None = None,
    dc_n: Array | None = None,
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
    dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh = _backward(
        "lstm_forward", ("lstm",), tape, dy, dh_n, dc_n
    )
    return LstmGrads(dx, dh0, cast(Array, dc0), dw_ih, dw_hh, db_ih, db_hh)


def tape_inputs(tape: Tape) -> tuple[Any, ...]:
    """What the compiled module takes first of a tape."""
    return (
        tape.x, tape.h0, tape.c0, tape.w_ih, tape.w_hh, tape.b_ih, tape.b_hh, tape.lengths, None,
    )  # fmt: skip


def tape_saved(tape: Tape) -> tuple[Any, ...]:
    """What forward stored."""
    return tape.gates, tape.h, tape.c


def gru_name(reset_after: bool) -> str:
    return "gru" if reset_after else "gru_reset_before"


def _steps(checkpoint: int | None) -> int | None:
    return None if checkpoint is None else checked_integer("checkpoint", checkpoint, 1)


def _forward(
    cell: str,
    x: Array,
    layer: LayerInputs,
    lengths: Array | None,
    reverse: bool,
    save: bool,
    checkpoint: int | None,
) -> tuple[Array, Array, Array | None, Tape | CheckpointTape | None]:
    steps = _steps(checkpoint)
    if steps is not None:
        y, ((h_n, c_n),), states = chunks.forward(cell, x, [layer], lengths, reverse, steps, save)
        return y, h_n, c_n, states
    if not save and chunks.converts(x, layer):
        y, ((h_n, c_n),) = chunks.infer(cell, x, [layer], lengths, reverse)
        return y, h_n, c_n, None
    y, h_n, c_n, inputs, saved = _core.forward(cell, x, *layer, lengths, None, reverse, save)
    if inputs is None or saved is None:
        return y, h_n, c_n, None
    return y, h_n, c_n, Tape(cell, *inputs, reverse, *saved)


def _backward(
    maker: str,
    cells: tuple[str, ...],
    tape: Tape | CheckpointTape,
    dy: Array | None,
    dh_n: Array | None,
    dc_n: Array | None,
) -> tuple[Array | None, Array, Array | None, Array, Array, Array | None, Array | None]:
    if not isinstance(tape, (Tape, CheckpointTape)):
        raise TypeError(f"tape: expected the tape of {maker}(save=True), got {type(tape).__name__}")
    if tape.cell not in cells:
        raise ValueError(f"tape: expected the tape of {maker}, got one of cell {tape.cell!r}")
    if isinstance(tape, CheckpointTape) and len(tape.layers) != 1:
        raise ValueError(f"tape: expected that of one layer, got a stack of {len(tape.layers)}")
    layer: Tape | LayerInputs = tape if isinstance(tape, Tape) else tape.layers[0]
    if use_reference() or isinstance(tape, CheckpointTape):
        dy, dh_n, dc_n, _ = _core.check_backward(
            tape.cell, tape.x, layer.h0, layer.w_hh, dy, dh_n, dc_n, None
        )
    if use_reference():
        if tape.cell == "lstm":
            return reference.lstm_backward(tape, dy, dh_n, dc_n)[:7]
        backward = reference.gru_backward if "gru" in tape.cell else reference.rnn_backward
        dx, dh0, *rest = backward(tape, dy, dh_n)[:6]
        return (dx, dh0, None, *rest)  # type: ignore[return-value]
    if isinstance(tape, CheckpointTape):
        dx, ((dh0, dc0),), (sums,) = chunks.backward(tape, dy, [(dh_n, dc_n)])
        return dx, dh0, dc0, *sums
    return _core.backward(
        tape.cell, tape_inputs(tape), tape_saved(tape), tape.reverse, dy, dh_n, dc_n, None
    )[:7]
