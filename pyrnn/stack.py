"""Layers above layers and directions side by side, written once for every cell.

Layer l > 0 takes the S*H columns of the layer below, forward half first; states are (L*S, B, H) in
the order layer 0 forward, layer 0 reverse, layer 1 forward, ...
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from operator import itemgetter
from typing import Any, ClassVar, Generic, cast

import numpy as np
import numpy.typing as npt

from . import checkpoint as chunks
from .backends import use_reference
from .checks import checked_array, checked_dtype, checked_integer, checked_number
from .frozen import Frozen
from .initialisation import INITIALISATIONS, generator, orthogonal, uniform
from .layer_tape import LayerGrads, LayerTape, State
from .layout import Stacked, checked_lengths, from_time_major, to_time_major
from .module import Module
from .passes import Pass, PassBack, backward_passes, forward_passes
from .tape import Array, CheckpointTape, LayerInputs
from .weights import GATES, parameter_names, parameter_shapes


class Recurrent(Module, Stacked, Generic[State]):
    """Base of RNN, GRU and LSTM, which add only their cell."""

    # What a cell says: its gates in weights.GATES, its states, the operation for one layer in one
    # direction, and which attributes are keywords of that operation.
    _cell: ClassVar[str]
    _forward_op: ClassVar[Callable[..., tuple[Any, ...]]]
    _backward_op: ClassVar[Callable[..., tuple[Any, ...]]]
    _options: ClassVar[tuple[str, ...]] = ()

    @property
    def _kernel(self) -> str:
        """The name of the cell in the kernels."""
        raise NotImplementedError

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: npt.DTypeLike,
        rng: int | np.random.Generator | None,
        init: str,
    ) -> None:
        self.input_size = checked_integer("input_size", input_size, 1)
        self.hidden_size = checked_integer("hidden_size", hidden_size, 1)
        self.num_layers = checked_integer("num_layers", num_layers, 1)
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = checked_number("dropout", dropout, 0.0, 1.0)
        self.bidirectional = bool(bidirectional)
        self.dtype = checked_dtype(dtype)
        self.rng = generator(rng)
        if init not in INITIALISATIONS:
            raise ValueError(f"init: expected one of {', '.join(INITIALISATIONS)}, got {init!r}")
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout={self.dropout} stands between layers and does nothing with num_layers=1",
                stacklevel=3,
            )
        self._names = [
            parameter_names(layer, reverse, self.bias)
            for layer in range(self.num_layers)
            for reverse in (False, True)[: self._directions]
        ]
        self._weights = [itemgetter(*names) for names in self._names]
        self.params = {}
        gates, size = len(GATES[self._cell]), self.hidden_size
        for k, names in enumerate(self._names):
            width = self.input_size if k < self._directions else self._directions * size
            shapes = parameter_shapes(gates, width, size, self.bias)
            for name, shape in zip(names, shapes, strict=True):
                if init == "orthogonal" and name.startswith("weight_hh"):
                    self.params[name] = orthogonal(self.rng, gates, size, self.dtype)
                else:
                    self.params[name] = uniform(self.rng, shape, size, self.dtype)

    def __call__(
        self, x: npt.ArrayLike, state: State | None = None, lengths: npt.ArrayLike | None = None
    ) -> tuple[Array, State]:
        """Run without keeping anything for a backward pass, and without dropout.

        Parameters
        ----------
        x : array
            (T, B, I), or (B, T, I) with ``batch_first``, or (T, I), of the dtype of the layer; or
            integer tokens of these shapes without the last axis, which stand for one-hot vectors.
        state : ndarray or tuple of two ndarrays, optional
            Initial state: h (L*S, B, H), for the LSTM (h, c); for x without a batch (L*S, H).
            None stands for 0.
        lengths : array of integers, optional
            (B), each in 0..T, in any order. Past its length a row's y is 0.

        Returns
        -------
        y : ndarray
            (T, B, S*H), or as x is laid out: every h_t of the last layer, forward half first.
        state : ndarray or tuple of two ndarrays
            The state after each row's last step, in the shape of ``state``.

        Raises
        ------
        ValueError
            A wrong shape or length.
        TypeError
            Another dtype than the layer's or integer tokens.
        IndexError
            A token outside 0..I-1.
        """
        y, last, _ = self._run(x, state, lengths, False)
        return y, last

    def forward(
        self,
        x: npt.ArrayLike,
        state: State | None = None,
        lengths: npt.ArrayLike | None = None,
        *,
        checkpoint: int | None = None,
    ) -> tuple[Array, State, LayerTape]:
        """Run for training: with dropout, and with a tape for :meth:`backward`.

        The tape refers to x and the parameters without copying them. Both must keep their values
        until the last ``backward`` with this tape: update parameters after it.

        Parameters
        ----------
        x, state, lengths
            As for calling the layer.
        checkpoint : int, optional
            Keep the states every so many steps only: the backward pass computes what lies between
            anew and gives the same bits, in less memory and a third more time. A stack in one
            direction without dropout keeps ``ceil(T / checkpoint) - 1`` times the states of all
            layers; else each operation does, and what the layers pass up is kept beside that.

        Returns
        -------
        y, state
            As from calling the layer.
        tape : LayerTape
            It belongs to the caller, who may use it several times or throw it away.

        Raises
        ------
        ValueError, TypeError, IndexError
            As for calling the layer.
        """
        steps = None if checkpoint is None else checked_integer("checkpoint", checkpoint, 1)
        y, last, tape = self._run(x, state, lengths, True, steps)
        return y, last, cast(LayerTape, tape)

    def backward(
        self,
        tape: LayerTape,
        dy: npt.ArrayLike | None = None,
        dstate: Any = None,
    ) -> LayerGrads[State]:
        """Backpropagation through time.

        Parameters
        ----------
        tape : LayerTape
            From this layer's :meth:`forward`.
        dy : array, optional
            Gradient of the loss by y, in its shape; None stands for 0.
        dstate : array, or tuple of two arrays, optional
            Gradient of the loss by the final state, in its shape; for the LSTM (dh, dc). None
            stands for 0, also within the tuple.

        Returns
        -------
        LayerGrads
            ``x``, ``state`` and ``params``, new arrays.

        Raises
        ------
        ValueError
            A tape of another layer, or a wrong shape.
        TypeError
            No tape, or another dtype than the layer's.
        """
        self._own(tape, LayerTape)
        tapes, layout, dropout = tape.tapes, tape.layout, tape.dropout
        size, count = self.hidden_size, self._directions
        seq_len, batch = tapes[0].x.shape[:2]
        dabove: Array | None = None
        if dy is not None:
            shape: tuple[int, ...] = (seq_len, batch, count * size)
            if layout != "T, B":
                shape = (seq_len, shape[2]) if layout == "T" else (batch, seq_len, shape[2])
            dabove = checked_array("dy", dy, self.dtype, f"({layout}, S·H)", shape)
            dabove = to_time_major(dabove, layout)
        dlast: list[Any] = [None] * len(self._states)
        if dstate is not None:
            dlast = self._split("dstate", dstate, batch, layout)

        if len(tapes) < len(self._names):
            (of_stack,) = tapes
            assert isinstance(of_stack, CheckpointTape)
            if not use_reference():
                return self._backward_in_chunks(of_stack, dabove, dlast, layout)
            tapes = tuple(chunks.unstacked(of_stack))
        dfirst: list[Any] = [None] * len(tapes)
        dparams: dict[str, Array] = {}
        for group in reversed(self._groups(dropout is not None)):
            backwards = group if count == 2 else group[::-1]
            passes = []
            for k in backwards:
                part = dabove
                if dabove is not None and count == 2:
                    part = dabove[..., k % 2 * size : (k % 2 + 1) * size]
                passes.append(
                    PassBack(tapes[k], part, [None if d is None else d[k] for d in dlast])
                )
            dx: Array | None = None
            gradients = backward_passes(self._backward_op, passes, count == 1)
            for k, (of_x, *others) in zip(backwards, gradients, strict=True):
                dfirst[k] = others[: len(dlast)]
                # Without biases the names are fewer than the gradients.
                dparams.update(zip(self._names[k], others[len(dlast) :], strict=False))
                if count == 1 or k % 2 == 0:
                    dx = of_x
                elif dx is not None:
                    with np.errstate(invalid="ignore", over="ignore"):
                        dx += of_x
            layer = group[0] // count
            if layer > 0 and dropout is not None and dx is not None:
                dx = _drop(dx, layer, *dropout)
            dabove = dx
        return LayerGrads(
            {name: dparams[name] for names in self._names for name in names},
            None if dabove is None else from_time_major(dabove, layout),
            self._join(dfirst, layout),
        )

    def _backward_in_chunks(
        self, tape: CheckpointTape, dy: Array | None, dlast: list[Any], layout: str
    ) -> LayerGrads[State]:
        of_layers: list[Any] = [
            (*(None if d is None else d[k] for d in dlast), None)[:2]
            for k in range(self.num_layers)
        ]
        dx, dfirst, sums = chunks.backward(tape, dy, of_layers)
        return LayerGrads(
            {
                name: cast(Array, array)
                for names, of_layer in zip(self._names, sums, strict=True)
                for name, array in zip(names, of_layer, strict=False)
            },
            None if dx is None else from_time_major(dx, layout),
            self._join([d[: len(dlast)] for d in dfirst], layout),
        )

    def freeze(self, precision: str = "float32") -> Frozen[State]:
        """An immutable copy for inference, its weights packed for the kernels once.

        Parameters
        ----------
        precision : {"float32", "float64", "bfloat16", "int8"}
            How the weights are kept. It also says the dtype of x, states and results, whatever
            that of this layer is: float64 for "float64", else float32. The weights are converted
            once, here.

        Returns
        -------
        Frozen
            To be called like the layer, and the source of streams. Later changes of ``params`` do
            not reach it.

        Raises
        ------
        ValueError
            Another precision, or a parameter of a wrong shape.
        TypeError
            A parameter that is not of the layer's dtype.

        Examples
        --------
        >>> import numpy as np, pyrnn
        >>> frozen = pyrnn.GRU(3, 4, rng=0).freeze()
        >>> y, h = frozen(np.zeros((5, 2, 3), "float32"))
        >>> y.shape
        (5, 2, 4)
        """
        return Frozen(self, precision)

    def _keywords(self) -> dict[str, Any]:
        """What the operation takes beside arrays."""
        return {name: getattr(self, name) for name in self._options}

    def _run(
        self,
        x_like: npt.ArrayLike,
        state: Any,
        lengths: npt.ArrayLike | None,
        train: bool,
        steps: int | None = None,
    ) -> tuple[Array, State, LayerTape | None]:
        x, layout = self._checked_input(np.asarray(x_like))
        batch, count = x.shape[1], self._directions
        first = None if state is None else self._split("state", state, batch, layout)
        lengths = checked_lengths(lengths, layout)
        if self._in_chunks(x, layout, train, steps):
            return self._run_in_chunks(x, layout, first, lengths, steps)
        if count == 2:
            x = np.ascontiguousarray(x)  # once, and not in the operation of each direction
        options = self._keywords()
        dropout = None

        zeros = np.zeros((batch, self.hidden_size), self.dtype) if first is None else None
        tapes, last = [], []
        for group in self._groups(train and self.dropout > 0):
            layer = group[0] // count
            if layer > 0 and train and self.dropout > 0:
                if dropout is None:
                    # One draw, which NumPy makes under a lock: threads may share the layer.
                    dropout = int(self.rng.integers(2**63)), self.dropout
                x = _drop(x, layer, *dropout)
            passes = []
            for k in group:
                states: list[Any] = [zeros] * len(self._states)
                if first is not None:
                    states = [s[k] for s in first]
                own_x = x if count == 2 or k == group[0] else None
                passes.append(Pass(own_x, states, self._weights[k](self.params), k % count == 1))
            made_here = forward_passes(self._forward_op, options, passes, lengths, train, steps)
            for _, *after, tape in made_here:
                last.append(after)
                tapes.append(tape)
            ys = [result[0] for result in made_here]
            x = ys[-1] if count == 1 else np.concatenate(ys, axis=2)
        made = LayerTape(self, tuple(tapes), layout, dropout) if train else None
        return from_time_major(x, layout), self._join(last, layout), made

    def _groups(self, dropout: bool) -> list[list[int]]:
        """What runs side by side: both directions of a layer, or layers with nothing between."""
        rows = list(range(len(self._names)))
        if self._directions == 1 and not dropout:
            return [rows]
        return [rows[k : k + self._directions] for k in rows[:: self._directions]]

    def _in_chunks(self, x: Array, layout: str, train: bool, steps: int | None) -> bool:
        """Whether all layers run chunk by chunk, and none keeps what it passes up."""
        if self.bidirectional or use_reference():
            return False
        if train:
            return steps is not None and self.num_layers > 1 and self.dropout == 0
        long = x.shape[0] > 2 * chunks.steps_of_inference(x.shape[1])
        return long and (self.num_layers > 1 or layout == "B, T")

    def _run_in_chunks(
        self, x: Array, layout: str, first: Any, lengths: Array | None, steps: int | None
    ) -> tuple[Array, State, LayerTape | None]:
        """With steps for training, without for inference."""
        zeros = [np.zeros((x.shape[1], self.hidden_size), self.dtype)] * len(self._states)
        layers = []
        for k, weights_of in enumerate(self._weights):
            h0, c0 = (*(zeros if first is None else [s[k] for s in first]), None)[:2]
            weights = (*weights_of(self.params), None, None)[:4]
            layers.append(LayerInputs(h0, c0, *weights))
        made = None
        if steps is None:
            y, last = chunks.infer(self._kernel, x, layers, lengths, False, layout == "B, T")
            y = y[:, 0] if layout == "T" else y
        else:
            y, last, tape = chunks.forward(self._kernel, x, layers, lengths, False, steps, True)
            y = from_time_major(y, layout)
            made = LayerTape(self, (cast(CheckpointTape, tape),), layout, None)
        return y, self._join([s[: len(self._states)] for s in last], layout), made


def _drop(array: Array, layer: int, seed: int, probability: float) -> Array:
    """``array`` times the mask of one layer: 0 with the probability, else 1 / (1 - probability).

    A counter-based generator makes the mask, so that a backward pass can draw it again.
    """
    philox = np.random.Philox(key=seed + (layer << 64))
    drawn = np.random.Generator(philox).random(array.shape, dtype=np.float32)
    scale = 0.0 if probability == 1.0 else 1.0 / (1.0 - probability)
    mask = np.multiply(drawn >= probability, scale, dtype=array.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.multiply(array, mask, out=mask)
