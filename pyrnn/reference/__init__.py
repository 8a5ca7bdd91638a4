"""The operations of :mod:`pyrnn.ops` in plain NumPy: same names, same signatures.

Computes in the dtype it is given, so float64 input gives the authority that the
kernels are tested against. Equation -> :mod:`.cells` -> :mod:`.scan`. Arguments are
taken as :mod:`pyrnn.ops` has checked them.
"""

from __future__ import annotations

from typing import Any, cast

from ..tape import Array, CheckpointTape, GruGrads, LstmGrads, RnnGrads, Tape
from ..variants import ActivationLike, variant_of
from .scan import scan_backward, scan_forward

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
    """See :func:`pyrnn.ops.rnn_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.eye(1)
    >>> y, h_n, tape = pyrnn.reference.rnn_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> y.ravel().round(4).tolist()
    [0.7616, 0.9427]
    """
    cell, variant = variant_of(
        "rnn",
        (h0.shape[1], h0.shape[1]),
        h0.dtype,
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
    y, h_n, _, _, tape = scan_forward(
        cell, x, h0, None, w_ih, w_hh, b_ih, b_hh, lengths, reverse, save, checkpoint, variant
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
    """See :func:`pyrnn.ops.gru_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((3, 1))
    >>> y, h_n, tape = pyrnn.reference.gru_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> y.ravel().round(4).tolist()
    [0.2048, 0.3468]
    """
    cell, variant = variant_of(
        "gru",
        (h0.shape[1], h0.shape[1]),
        h0.dtype,
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
    y, h_n, _, _, tape = scan_forward(
        cell, x, h0, None, w_ih, w_hh, b_ih, b_hh, lengths, reverse, save, checkpoint, variant
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
    """See :func:`pyrnn.ops.lstm_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w, s = np.ones((4, 1)), np.zeros((1, 1))
    >>> y, h_n, c_n, tape = pyrnn.reference.lstm_forward(np.ones((2, 1, 1)), s, s, w, w)
    >>> y.ravel().round(4).tolist()
    [0.3696, 0.6505]
    """
    cell, variant = variant_of(
        "lstm",
        (c0.shape[1], h0.shape[1]),
        h0.dtype,
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
    y, h_n, c_n, cells, tape = scan_forward(
        cell, x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, reverse, save, checkpoint, variant
    )
    return (y, h_n, c_n, cells, tape) if return_cells else (y, h_n, c_n, tape)


def mgu_forward(
    x: Array,
    h0: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    *,
    activation: ActivationLike = "tanh",
    gate_activation: ActivationLike = "sigmoid",
    clip: float | None = None,
    zoneout: float = 0.0,
    recurrent_dropout: float = 0.0,
    key: tuple[int, int, int] | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
    save: bool = True,
    checkpoint: int | None = None,
) -> tuple[Array, Array, Tape | CheckpointTape | None]:
    """See :func:`pyrnn.ops.mgu_forward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((2, 1))
    >>> y, h_n, tape = pyrnn.reference.mgu_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> y.ravel().round(4).tolist()
    [0.5568, 0.8383]
    """
    cell, variant = variant_of(
        "mgu",
        (h0.shape[1], h0.shape[1]),
        h0.dtype,
        activation=activation,
        gate_activation=gate_activation,
        clip=clip,
        zoneout=zoneout,
        recurrent_dropout=recurrent_dropout,
        key=key,
    )
    y, h_n, _, _, tape = scan_forward(
        cell, x, h0, None, w_ih, w_hh, b_ih, b_hh, lengths, reverse, save, checkpoint, variant
    )
    return y, h_n, tape


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
    g = scan_backward(tape, dy, dh_n, None)
    return RnnGrads(g.dx, g.dh0, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, **g.of_variant)


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
    g = scan_backward(tape, dy, dh_n, None)
    return GruGrads(g.dx, g.dh0, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, **g.of_variant)


def mgu_backward(
    tape: Tape | CheckpointTape, dy: Array | None = None, dh_n: Array | None = None
) -> RnnGrads:
    """See :func:`pyrnn.ops.mgu_backward`.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> w = np.ones((2, 1))
    >>> y, h_n, tape = pyrnn.reference.mgu_forward(np.ones((2, 1, 1)), np.zeros((1, 1)), w, w)
    >>> pyrnn.reference.mgu_backward(tape, np.ones_like(y)).dh0.shape
    (1, 1)
    """
    g = scan_backward(tape, dy, dh_n, None)
    return RnnGrads(g.dx, g.dh0, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, **g.of_variant)


def lstm_backward(
    tape: Tape | CheckpointTape,
    dy: Array | None = None,
    dh_n: Array | None = None,
    dc_n: Array | None = None,
    dcells: Array | None = None,
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
    g = scan_backward(tape, dy, dh_n, dc_n, dcells)
    dc0 = cast(Array, g.dc0)
    return LstmGrads(g.dx, g.dh0, dc0, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, **g.of_variant)
