"""Truncated backpropagation through time: long sequences in memory that does not grow with them.

Every k1 steps, the loss of these newest k1 steps goes back through the last k2 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .checks import checked_array, checked_integer, shape_text
from .layer_tape import LayerGrads, LayerTape
from .stack import Recurrent
from .tape import Array

__all__ = ["TbpttChunk", "tbptt"]

Loss: TypeAlias = Callable[[Array, slice], tuple[float, npt.ArrayLike]]


class TbpttChunk(NamedTuple):
    """What :func:`tbptt` yields every k1 steps.

    Attributes
    ----------
    loss : float
        What ``loss`` returned for the newest steps.
    grads : LayerGrads
        Gradients of that loss through the last k2 steps, by the parameters, by x at these steps
        (None for tokens) and by the state ahead of them.
    state : ndarray or tuple of two ndarrays
        The state after the newest step.
    steps : slice
        The newest steps, on the time axis of x.
    """

    loss: float
    grads: LayerGrads[Any]
    state: Any
    steps: slice


def tbptt(
    layer: Recurrent[Any],
    x: npt.ArrayLike,
    loss: Loss,
    *,
    k1: int,
    k2: int | None = None,
    state: Any = None,
    lengths: npt.ArrayLike | None = None,
) -> Iterator[TbpttChunk]:
    """Truncated BPTT over x, k1 steps at a time, the state carried on.

    For each chunk of k1 steps the iterator runs the layer, asks ``loss`` for the loss and its
    gradient, sends the gradient back through the last k2 steps, and yields; parameters are meant
    to be updated before it goes on. Every step's loss counts once. With ``k2 = k1`` no step is
    computed twice. With ``k2 > k1`` the k2 steps are computed anew for each chunk, from the state
    kept ahead of them, with the parameters (and dropout masks) of the moment. With ``k2 < k1``
    the gradient of a chunk's earlier steps is dropped.

    Parameters
    ----------
    layer : RNN, GRU or LSTM
        Of one direction.
    x : array
        As for the layer: (T, B, I), tokens (T, B), with ``batch_first`` or without a batch.
    loss : callable
        ``loss(y, steps) -> (value, dy)``: y of the newest steps as the layer lays it out, the
        slice of the time axis they stand at, and the gradient of the value by y.
    k1 : int
        Steps in a chunk; the last one may be shorter.
    k2 : int, optional
        Steps that a gradient goes back, k1 by default. Up to k1 it stays within the chunk, also
        within a shorter last one.
    state : ndarray or tuple of two ndarrays, optional
        Initial state, as for the layer.
    lengths : array of integers, optional
        (B), each in 0..T.

    Returns
    -------
    iterator of TbpttChunk
        ``loss``, ``grads``, ``state``, ``steps``.

    Raises
    ------
    ValueError
        A bidirectional layer, whose reverse state cannot be carried on; a wrong shape, ``k1`` or
        ``k2``.
    TypeError
        ``layer`` is no recurrent layer, or a wrong dtype.
    IndexError
        A token outside 0..I-1.

    Notes
    -----
    Williams & Peng, "An efficient gradient-based algorithm for on-line training of recurrent
    network trajectories", Neural Computation 2 (1990): BPTT(k2; k1). Sutskever, "Training
    recurrent neural networks", 2013, section 2.8.6, names the two numbers.

    Examples
    --------
    Mean square of y, over 20 steps in chunks of 8:

    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.GRU(2, 3, rng=0)
    >>> adam = pyrnn.Adam(layer.params)
    >>> x = np.ones((20, 1, 2), "float32")
    >>> for chunk in pyrnn.tbptt(layer, x, lambda y, steps: (np.mean(y**2), 2 * y / y.size), k1=8):
    ...     adam.step(chunk.grads)
    ...     print(chunk.steps)
    slice(0, 8, None)
    slice(8, 16, None)
    slice(16, 20, None)
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(f"layer: expected an RNN, GRU or LSTM, got {type(layer).__name__}")
    if layer.bidirectional:
        raise ValueError(f"layer: expected one direction, got {layer!r}")
    k1 = checked_integer("k1", k1, 1)
    k2 = k1 if k2 is None else checked_integer("k2", k2, 1)
    x = np.asarray(x)
    axis = int(layer.batch_first and x.ndim + (x.dtype.kind in "iu") == 3)
    if x.ndim <= axis:
        raise ValueError(f"x: expected a time axis, got shape {shape_text(x.shape)}")
    if lengths is not None:
        lengths = np.asarray(lengths)
        if lengths.dtype.kind not in "iu":
            raise TypeError(f"lengths: expected integers, got {lengths.dtype.name}")
        lengths = lengths.astype(np.int64)
        if lengths.size and (lengths.min() < 0 or lengths.max() > x.shape[axis]):
            raise ValueError(
                f"lengths: expected values in 0..T = 0..{x.shape[axis]}, "
                f"got {lengths.min()}..{lengths.max()}"
            )
    return _chunks(_Sequence(layer, x, axis, lengths), loss, k1, k2, state)


class _Piece(NamedTuple):
    """Steps start..stop, run in one ``forward``."""

    start: int
    stop: int
    y: Array
    state: Any
    tape: LayerTape


class _Sequence:
    """A layer and the sequence it runs over, cut along the time axis."""

    def __init__(self, layer: Recurrent[Any], x: Array, axis: int, lengths: Array | None) -> None:
        self.layer, self.x, self.axis, self.lengths = layer, x, axis, lengths

    def cut(self, array: Array, start: int, stop: int) -> Array:
        return array[:, start:stop] if self.axis else array[start:stop]

    def run(self, start: int, stop: int, state: Any) -> _Piece:
        lengths = None
        if self.lengths is not None:
            lengths = np.clip(self.lengths - start, 0, stop - start)
        x = self.cut(self.x, start, stop)
        return _Piece(start, stop, *self.layer.forward(x, state, lengths))

    def back(self, pieces: list[_Piece], dy: Array, begin: int) -> LayerGrads[Any]:
        """From dy at the steps from ``begin`` on, back through the pieces."""
        dstate, made = None, []
        for piece in reversed(pieces):
            part = None
            if piece.start >= begin:
                part = self.cut(dy, piece.start - begin, piece.stop - begin)
            elif piece.stop > begin:
                part = np.zeros_like(piece.y)
                self.cut(part, begin - piece.start, piece.stop)[...] = self.cut(
                    dy, 0, piece.stop - begin
                )
            made.append(self.layer.backward(piece.tape, part, dstate))
            dstate = made[-1].state
        if len(made) == 1:
            return made[0]
        made.reverse()
        dx = [grads.x for grads in made if grads.x is not None]
        params = {
            name: sum((grads.params[name] for grads in made[1:]), made[0].params[name])
            for name in made[0].params
        }
        return LayerGrads(params, np.concatenate(dx, axis=self.axis) if dx else None, dstate)


def _chunks(sequence: _Sequence, loss: Loss, k1: int, k2: int, state: Any) -> Iterator[TbpttChunk]:
    total, axis = sequence.x.shape[sequence.axis], sequence.axis
    # ``state`` is that ahead of step ``at``: where the window of the next chunk starts, or the
    # chunk itself if the window is the shorter one.
    at = 0
    for begin in range(0, total, k1):
        end = min(begin + k1, total)
        low = max(end - k2, 0 if k2 > k1 else begin)
        next_at = end if k2 <= k1 or end == total else max(min(end + k1, total) - k2, 0)
        marks = sorted({at, low, next_at, end})
        pieces: list[_Piece] = []
        for start, stop in pairwise(marks):
            pieces.append(sequence.run(start, stop, state if not pieces else pieces[-1].state))

        newest = [
            sequence.cut(piece.y, max(begin - piece.start, 0), piece.stop)
            for piece in pieces
            if piece.stop > begin
        ]
        y = newest[0] if len(newest) == 1 else np.concatenate(newest, axis=axis)
        steps = slice(begin, end)
        value, dy = loss(y, steps)
        dy = checked_array("dy of loss", dy, y.dtype, "that of y", y.shape)
        grads = sequence.back([piece for piece in pieces if piece.start >= low], dy, begin)
        after = pieces[-1].state

        at = next_at
        state = next((piece.state for piece in pieces if piece.stop == at), state)
        del pieces, newest, y, dy  # or they would stay while the caller works
        yield TbpttChunk(float(value), grads, after, steps)
