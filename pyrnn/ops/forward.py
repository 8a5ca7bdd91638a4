"""The operations forward: keywords to a cell and its variant."""

from __future__ import annotations

from operator import is_
from typing import Any

import numpy as np

from .. import dispatch
from ..tape import Array, CheckpointTape, LayerInputs, Tape
from ..variants import NUM_GATES, ActivationLike, Variant, variant_of


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
        "rnn", rnn_forward, w_hh,
        nonlinearity, clip, ln_ih_weight, ln_ih_bias, ln_hh_weight, ln_hh_bias, zoneout,
        recurrent_dropout, key,
    )  # fmt: skip
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
        "gru", gru_forward, w_hh,
        reset_after, activation, gate_activation, clip, ln_ih_weight, ln_ih_bias, ln_hh_weight,
        ln_hh_bias, zoneout, recurrent_dropout, key,
    )  # fmt: skip
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
        "lstm", lstm_forward, w_hh,
        activation, gate_activation, clip, coupled, cell_clip, w_peephole, w_hr, ln_ih_weight,
        ln_ih_bias, ln_hh_weight, ln_hh_bias, ln_c_weight, ln_c_bias, zoneout, recurrent_dropout,
        key,
    )  # fmt: skip
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
        "mgu", mgu_forward, w_hh,
        activation, gate_activation, clip, zoneout, recurrent_dropout, key,
    )  # fmt: skip
    made = dispatch.forward(
        cell, variant, x, LayerInputs(h0, None, w_ih, w_hh, b_ih, b_hh),
        lengths, reverse, save, checkpoint,
    )  # fmt: skip
    return made.y, made.h_n, made.tape


def _variant(family: str, operation: Any, w_hh: Array, *values: Any) -> tuple[str, Variant | None]:
    """``values`` are those of the first keywords of the operation."""
    defaults = operation.__kwdefaults__
    # A plain call is the common one, and as short as some steps.
    plain = all(map(is_, values, defaults.values()))
    if plain or not isinstance(w_hh, np.ndarray) or w_hh.ndim != 2:
        return _PLAIN[family], None  # a wrong w_hh is refused with the other arguments
    keywords = dict(zip(defaults, values, strict=False))
    gates = NUM_GATES["lstm_coupled" if keywords.get("coupled") else _PLAIN[family]]
    sizes = w_hh.shape[0] // gates, w_hh.shape[1]
    return variant_of(family, sizes, w_hh.dtype, **keywords)


_PLAIN = {"rnn": "rnn_tanh", "gru": "gru", "mgu": "mgu", "lstm": "lstm"}
