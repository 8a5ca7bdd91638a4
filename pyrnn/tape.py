"""What a forward pass keeps for its backward pass, and what a backward pass returns.

The kernels and the NumPy reference fill the same structures, so either can
read the other's tape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .checks import Array as Array
from .variants import Variant


@dataclass(frozen=True, eq=False)
class Tape:
    """Read-only record of one forward pass of one layer in one direction.

    ``gates`` holds the gates after their activation, in the order of the
    parameters; a reset-after GRU adds ``W_hn h + b_hn`` as a fourth block. Of a
    variant whose gates do not tell their slopes (:func:`pyrnn.variants.tapes_sums`)
    it holds the sums ahead of clip and activation. With ``clip``, a gate whose sum was
    clipped has the other sign, and a candidate is ``2**64`` times its value.
    The inputs and the weights are referenced, not copied: they must keep
    their values until the last ``*_backward`` call on this tape.

    Attributes
    ----------
    cell : str
        One of ``"rnn_tanh"``, ``"rnn_relu"``, ``"rnn"`` (any other nonlinearity), ``"gru"``,
        ``"gru_reset_before"``, ``"lstm"``, ``"lstm_coupled"``.
    x : ndarray
        Input (T, B, I), or integer tokens (T, B).
    h0, c0 : ndarray
        Initial states (B, P) and (B, H), P being H without a projection; ``c0`` is None but for
        the LSTM.
    w_ih, w_hh, b_ih, b_hh : ndarray
        Parameters (G*H, I), (G*H, P), (G*H), (G*H); a bias may be None.
    lengths : ndarray or None
        int64 (B).
    reverse : bool
        Whether time ran from each row's last valid step to its first.
    gates : ndarray
        (T, B, G*H), for the reset-after GRU (T, B, 4*H).
    h : ndarray or None
        Every h_t, (T, B, P), where :func:`pyrnn.variants.tapes_h` says so.
    c : ndarray or None
        LSTM only: every c_t, (T, B, H).
    variant : Variant or None
        None for the plain cell.
    norm_ih, norm_hh : ndarray or None
        Layer norm only: W_ih x and W_hh h normalised, ahead of gain and bias, (T, B, G*H).
    rstd : ndarray or None
        Layer norm only: 1 / sqrt(variance + eps) of both, (T, B, 2).
    """

    cell: str
    x: Array
    h0: Array
    c0: Array | None
    w_ih: Array
    w_hh: Array
    b_ih: Array | None
    b_hh: Array | None
    lengths: Array | None
    reverse: bool
    gates: Array
    h: Array | None
    c: Array | None
    variant: Variant | None = None
    norm_ih: Array | None = None
    norm_hh: Array | None = None
    rstd: Array | None = None

    def __post_init__(self) -> None:
        for stored in self._stored():
            stored.flags.writeable = False

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.w_hh.dtype

    @property
    def nbytes(self) -> int:
        """Bytes stored beside the inputs: per step and row, the plain LSTM keeps 5*H
        values, the GRU 5*H (4*H with reset_after=False), the Elman cell H."""
        return sum(stored.nbytes for stored in self._stored())

    def _stored(self) -> list[Array]:
        arrays = (self.gates, self.h, self.c, self.norm_ih, self.norm_hh, self.rstd)
        return [array for array in arrays if array is not None]


class LayerInputs(NamedTuple):
    """What one layer takes beside its input; shapes as in :class:`Tape`."""

    h0: Array
    c0: Array | None
    w_ih: Array
    w_hh: Array
    b_ih: Array | None
    b_hh: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointTape:
    """Read-only record of a forward pass that keeps the states every ``steps`` steps only.

    The backward pass computes one chunk of ``steps`` steps after the other anew. Chunk ``n`` of
    a sequence of T steps is steps ``[n*steps, min(T, (n+1)*steps))``; with ``reverse`` the last
    one runs first. The inputs and the weights are referenced, not copied: they must keep their
    values until the last backward call on this tape.

    Attributes
    ----------
    cell : str
        As in :class:`Tape`.
    x : ndarray
        Input of the lowest layer (T, B, I), or integer tokens (T, B).
    layers : tuple of LayerInputs
        Initial states and parameters of each layer, the lowest first; an operation has one.
    lengths : ndarray or None
        int64 (B).
    reverse : bool
        Whether time ran from each row's last valid step to its first.
    steps : int
        Steps of a chunk.
    h, c : ndarray
        (N, L, B, P) and (N, L, B, H): the states of every layer ahead of each chunk but the one
        that ran first, in the order in which they ran; N is ``max(ceil(T / steps) - 1, 0)``. ``c``
        is None but for the LSTM.
    variants : tuple of Variant or None
        That of each layer; empty where all are plain.
    """

    cell: str
    x: Array
    layers: tuple[LayerInputs, ...]
    lengths: Array | None
    reverse: bool
    steps: int
    h: Array
    c: Array | None
    variants: tuple[Variant | None, ...] = ()

    def __post_init__(self) -> None:
        for stored in (self.h, self.c):
            if stored is not None:
                stored.flags.writeable = False

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.h.dtype

    @property
    def nbytes(self) -> int:
        """Bytes stored beside the inputs: N*L*B*H values, twice that for the LSTM."""
        return self.h.nbytes + (0 if self.c is None else self.c.nbytes)


class Gradients(NamedTuple):
    """Of what went into a layer of any cell; ``of_variant`` by name, ``"dw_peephole"`` for one."""

    dx: Array | None
    dh0: Array
    dc0: Array | None
    dw_ih: Array
    dw_hh: Array
    db_ih: Array | None
    db_hh: Array | None
    of_variant: dict[str, Array]


class RnnGrads(NamedTuple):
    """Gradients of an Elman layer, each of the shape of its array; None where there was none."""

    dx: Array | None
    dh0: Array
    dw_ih: Array
    dw_hh: Array
    db_ih: Array | None
    db_hh: Array | None
    dln_ih_weight: Array | None = None
    dln_ih_bias: Array | None = None
    dln_hh_weight: Array | None = None
    dln_hh_bias: Array | None = None


class GruGrads(NamedTuple):
    """Gradients of a GRU layer, each of the shape of its array; None where there was none."""

    dx: Array | None
    dh0: Array
    dw_ih: Array
    dw_hh: Array
    db_ih: Array | None
    db_hh: Array | None
    dln_ih_weight: Array | None = None
    dln_ih_bias: Array | None = None
    dln_hh_weight: Array | None = None
    dln_hh_bias: Array | None = None


class LstmGrads(NamedTuple):
    """Gradients of an LSTM layer, each of the shape of its array; None where there was none."""

    dx: Array | None
    dh0: Array
    dc0: Array
    dw_ih: Array
    dw_hh: Array
    db_ih: Array | None
    db_hh: Array | None
    dw_peephole: Array | None = None
    dw_hr: Array | None = None
    dln_ih_weight: Array | None = None
    dln_ih_bias: Array | None = None
    dln_hh_weight: Array | None = None
    dln_hh_bias: Array | None = None
    dln_c_weight: Array | None = None
    dln_c_bias: Array | None = None
