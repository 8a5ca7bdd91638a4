"""The operations: one layer, one direction, forward and backpropagation through time.

Each has a twin of the same name and signature in :mod:`pyrnn.reference`. The
equations are those of ``docs/equations.md``; gate blocks are stacked in
PyTorch's order (LSTM i, f, g, o; GRU r, z, n).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from . import dispatch
from .tape import Array, CheckpointTape, GruGrads, LayerInputs, LstmGrads, RnnGrads, Tape
from .variants import ActivationLike, Variant, variant_of

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "mgu_backward",
    "mgu_forward",
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
    nonlinearity: ActivationLike = "tanh",
    clip: float | None = None,
    ln_ih_weight: Array | None = None,
    ln_ih_bias: Array | None = None,
    ln_hh_weight: Array | None = None,
    ln_hh_bias: Array | None = None,
    zoneout: float = 0.0,
    recurrent_dropout: float = 0.0,
    key: tuple[int, int, int] | None = None,
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
    cell, variant = _variant(
        "rnn",
        w_hh,
        nonlinearity=nonlinearity,
        clip=clip,
        ln_ih_weight=ln_ih_weight,
        ln_ih_bias=ln_ih_bias,
        ln_hh_weight=ln_hh_weight,
        ln_hh_bias=ln_hh_bias,
        zoneout=zoneout,
        recurrent_dropout=recurrent_dropout,
        key=key,
    )
    made = dispatch.forward(
        cell, variant, x, LayerInputs(h0, None, w_ih, w_hh, b_ih, b_hh),
        lengths, reverse, save, checkpoint,
    )  # fmt: skip
    return made.y, made.h_n, made.tape


def gru_forward(
    x: Array,
    h0: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    reset_after: bool = True,
    activation: ActivationLike = "tanh",
    gate_activation: ActivationLike = "sigmoid",
    clip: float | None = None,
    ln_ih_weight: Array | None = None,
    ln_ih_bias: Array | None = None,
    ln_hh_weight: Array | None = None,
    ln_hh_bias: Array | None = None,
    zoneout: float = 0.0,
    recurrent_dropout: float = 0.0,
    key: tuple[int, int, int] | None = None,
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
    cell, variant = _variant(
        "gru",
        w_hh,
        reset_after=reset_after,
        activation=activation,
        gate_activation=gate_activation,
        clip=clip,
        ln_ih_weight=ln_ih_weight,
        ln_ih_bias=ln_ih_bias,
        ln_hh_weight=ln_hh_weight,
        ln_hh_bias=ln_hh_bias,
        zoneout=zoneout,
        recurrent_dropout=recurrent_dropout,
        key=key,
    )
    made = dispatch.forward(
        cell, variant, x, LayerInputs(h0, None, w_ih, w_hh, b_ih, b_hh),
        lengths, reverse, save, checkpoint,
    )  # fmt: skip
    return made.y, made.h_n, made.tape


def lstm_forward(
    x: Array,
    h0: Array,
    c0: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    activation: ActivationLike = "tanh",
    gate_activation: ActivationLike = "sigmoid",
    clip: float | None = None,
    coupled: bool = False,
    cell_clip: float | None = None,
    w_peephole: Array | None = None,
    w_hr: Array | None = None,
    ln_ih_weight: Array | None = None,
    ln_ih_bias: Array | None = None,
    ln_hh_weight: Array | None = None,
    ln_hh_bias: Array | None = None,
    ln_c_weight: Array | None = None,
    ln_c_bias: Array | None = None,
    zoneout: float | tuple[float, float] = 0.0,
    recurrent_dropout: float = 0.0,
    key: tuple[int, int, int] | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
    save: bool = True,
    checkpoint: int | None = None,
    return_cells: bool = False,
) -> tuple[Any, ...]:
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
    cell, variant = _variant(
        "lstm",
        w_hh,
        activation=activation,
        gate_activation=gate_activation,
        clip=clip,
        coupled=coupled,
        cell_clip=cell_clip,
        w_peephole=w_peephole,
        w_hr=w_hr,
        ln_ih_weight=ln_ih_weight,
        ln_ih_bias=ln_ih_bias,
        ln_hh_weight=ln_hh_weight,
        ln_hh_bias=ln_hh_bias,
        ln_c_weight=ln_c_weight,
        ln_c_bias=ln_c_bias,
        zoneout=zoneout,
        recurrent_dropout=recurrent_dropout,
        key=key,
    )
    made = dispatch.forward(
        cell, variant, x, LayerInputs(h0, c0, w_ih, w_hh, b_ih, b_hh),
        lengths, reverse, save, checkpoint, return_cells,
    )  # fmt: skip
    states = made.y, made.h_n, made.c_n
    return (*states, made.cells, made.tape) if return_cells else (*states, made.tape)


def mgu_forward(
    x: Array,
    h0: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    activation: Activation = "tanh",
    gate_activation: Activation = "sigmoid",
    clip: float | None = None,
    zoneout: float = 0.0,
    recurrent_dropout: float = 0.0,
    key: tuple[int, int, int] | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
    save: bool = True,
    checkpoint: int | None = None,
) -> tuple[Array, Array, Tape | CheckpointTape | None]:
    """Minimal gated unit: ``h_t = (1 - f) * h_{t-1} + f * n``.

    ``f = sigmoid(W_if x + b_if + W_hf h + b_hf)`` and
    ``n = tanh(W_in x + b_in + W_hn (f * h) + b_hn)``.

    Parameters
    ----------
    x : ndarray
        (T, B, I) float32 or float64, or integer tokens (T, B) in 0..I-1.
    h0 : ndarray
        (B, H) initial state.
    w_ih, w_hh : ndarray
        (2*H, I) and (2*H, H), blocks f, n.
    b_ih, b_hh : ndarray or None
        (2*H).
    activation, gate_activation : str or tuple
        What n and f go through, as for :func:`gru_forward`.
    clip, zoneout, recurrent_dropout, key, lengths, reverse, save, checkpoint
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
    Zhou, Wu, Zhang & Zhou, "Minimal gated unit for recurrent neural networks", International
    Journal of Automation and Computing 13 (2016).

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((2, 1))
    >>> y, h_n, tape = pyrnn.ops.mgu_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> y.ravel().round(4).tolist()
    [0.5568, 0.8383]
    """
    cell, variant = _variant(
        "mgu",
        w_hh,
        activation=activation,
        gate_activation=gate_activation,
        clip=clip,
        zoneout=zoneout,
        recurrent_dropout=recurrent_dropout,
        key=key,
    )
    made = dispatch.forward(
        cell, variant, x, LayerInputs(h0, None, w_ih, w_hh, b_ih, b_hh),
        lengths, reverse, save, checkpoint,
    )  # fmt: skip
    return made.y, made.h_n, made.tape


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


_DEFAULTS: dict[str, Any] = {
    "nonlinearity": "tanh",
    "activation": "tanh",
    "gate_activation": "sigmoid",
    "reset_after": True,
    "coupled": False,
    "zoneout": 0.0,
    "recurrent_dropout": 0.0,
}
_PLAIN = {"rnn": "rnn_tanh", "gru": "gru", "mgu": "mgu", "lstm": "lstm"}


def _variant(family: str, w_hh: Array, **keywords: Any) -> tuple[str, Variant | None]:
    # A plain call is the common one, and as short as some steps.
    given = {name: value for name, value in keywords.items() if value is not _DEFAULTS.get(name)}
    if not given or not isinstance(w_hh, np.ndarray) or w_hh.ndim != 2:
        return _PLAIN[family], None  # a wrong w_hh is refused with the other arguments
    gates = {"rnn": 1, "gru": 3, "mgu": 2, "lstm": 3 if given.get("coupled") else 4}[family]
    sizes = w_hh.shape[0] // gates, w_hh.shape[1]
    return variant_of(family, sizes, w_hh.dtype, **given)


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
