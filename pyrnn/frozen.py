"""Frozen layers: weights packed once, for inference over whole sequences and step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from . import checkpoint as chunks
from ._core import (
    Frozen_float32,
    Frozen_float64,
    Stream_float32,
    check_lengths,
    precisions,
)
from .backends import use_reference
from .checks import checked_array
from .layout import Stacked, checked_lengths, from_time_major
from .tape import Array
from .weights import GATES, parameter_shapes

if TYPE_CHECKING:
    from ._stream import Stream
    from .stack import Recurrent

State = TypeVar("State")


class Frozen(Stacked, Generic[State]):
    """An immutable layer for inference: what ``layer.freeze(precision)`` makes.

    Any number of threads may call it and its streams at once. It can be pickled, and unpickled on
    a processor of another kind.

    Parameters
    ----------
    layer : RNN, GRU or LSTM
        Its parameters are copied.
    precision : {"float32", "float64", "bfloat16", "int8"}
        How the weights are kept. With the last two x, states and results are float32, as is all
        arithmetic but the two products of a step: those round x and h like the weights, bfloat16
        to the nearest, int8 to multiples of each row's largest magnitude / 127.

    Attributes
    ----------
    precision : str
        As given.
    dtype : numpy.dtype
        Of x, states and results.
    nbytes : int
        Bytes of the packed weights, all that is kept of them: the parameters, both biases as their
        sum, and zeros that fill H up to whole cache lines.
    input_size, hidden_size, num_layers, batch_first, bidirectional
        As of the layer.

    Raises
    ------
    ValueError
        Another precision, or a parameter of a wrong shape; for int8 more than 133,144 inputs or
        units, whose sums could overflow.
    TypeError
        A parameter that is not of the layer's dtype.

    Notes
    -----
    With ``backend("reference")`` in force a call runs in NumPy on the unpacked weights: those of
    bfloat16 and int8 are rounded, while x and h are not.

    In int8, NaN or inf in a row of weights, or in one sequence's x or h of a step, makes every
    result of that row NaN.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.LSTM(3, 4, num_layers=2, rng=0)
    >>> frozen = layer.freeze()
    >>> x = np.ones((5, 2, 3), "float32")
    >>> y, (h, c) = frozen(x)
    >>> bool((y == layer(x)[0]).all())
    True
    """

    def __init__(self, layer: Recurrent[State], precision: str = "float32") -> None:
        dtypes = precisions()
        if precision not in dtypes:
            raise ValueError(f"precision: expected one of {', '.join(dtypes)}, got {precision!r}")
        self.precision = precision
        self.dtype = np.dtype(dtypes[precision])
        self.input_size = layer.input_size
        self.hidden_size = layer.hidden_size
        self.num_layers = layer.num_layers
        self.batch_first = layer.batch_first
        self.bidirectional = layer.bidirectional
        self._text = repr(layer)
        self._states = layer._states
        self._kernel = layer._kernel
        self._options = layer._keywords()
        self._forward_op: Callable[..., tuple[Any, ...]] = layer._forward_op
        gates, parts = len(GATES[layer._cell]), []
        for k, names in enumerate(layer._names):
            width = self.input_size if k < self._directions else self._directions * self.hidden_size
            shapes = parameter_shapes(gates, width, self.hidden_size, layer.bias)
            arrays = [
                checked_array(name, layer.params[name], layer.dtype, symbols, shape)
                for name, symbols, shape in zip(names, _SYMBOLS, shapes, strict=False)
            ]
            parts.append((*arrays, *[None] * (4 - len(arrays))))
        self._pack(parts)

    def __call__(
        self, x: npt.ArrayLike, state: State | None = None, lengths: npt.ArrayLike | None = None
    ) -> tuple[Array, State]:
        """Run like the layer, with the same arguments, results and errors.

        Parameters
        ----------
        x : array
            (T, B, I), or (B, T, I) with ``batch_first``, or (T, I), of ``dtype``; or integer tokens
            of these shapes without the last axis.
        state : ndarray or tuple of two ndarrays, optional
            Initial state: h (L*S, B, H), for the LSTM (h, c); for x without a batch (L*S, H).
            None stands for 0.
        lengths : array of integers, optional
            (B), each in 0..T, in any order. Past its length a row's y is 0.

        Returns
        -------
        y : ndarray
            (T, B, S*H), or as x is laid out.
        state : ndarray or tuple of two ndarrays
            The state after each row's last step, in the shape of ``state``.

        Raises
        ------
        ValueError
            A wrong shape or length.
        TypeError
            Another dtype than ``dtype`` or integer tokens.
        IndexError
            A token outside 0..I-1.
        """
        x, layout = self._checked_input(np.asarray(x))
        batch, count = x.shape[1], self._directions
        zeros = np.zeros((batch, self.hidden_size), self.dtype)
        states = [[zeros] * len(self._states)] * self._parts
        if state is not None:
            given = self._split("state", state, batch, layout)
            states = [list(of_k) for of_k in zip(*given, strict=True)]
        lengths = checked_lengths(lengths, layout)
        steps = chunks.steps_of_inference(batch)
        if count == 1 and self.num_layers > 1 and len(x) > 2 * steps:
            y, states = self._run_in_chunks(x, states, lengths, steps)
        else:
            y, states = self._run(x, states, lengths)
        return from_time_major(y, layout), self._join(states, layout)

    def stream(self, batch_size: int = 1) -> Stream:
        """The layer fed one step at a time: ``h = stream.step(x_t)``.

        Parameters
        ----------
        batch_size : int
            B: sequences that advance together.

        Returns
        -------
        Stream
            Starting from a state of 0.

        Raises
        ------
        ValueError
            A bidirectional layer, which needs the end of a sequence before its first output; or a
            negative ``batch_size``.
        """
        from ._stream import Stream  # not at the top: importing pyrnn brings NumPy alone

        return Stream(self, batch_size)

    @property
    def nbytes(self) -> int:
        return self._packed.nbytes

    def __repr__(self) -> str:
        return f"{self._text}.freeze({self.precision!r})"

    def __getstate__(self) -> dict[str, Any]:
        # The packed form is of one version and one processor; parameters are of none.
        kept = {name: value for name, value in vars(self).items() if name != "_packed"}
        return kept | {"parts": [self._packed.unpack(k) for k in range(self._parts)]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        parts = state.pop("parts")
        vars(self).update(state)
        self._pack(parts)

    def _pack(self, parts: list[tuple[Array | None, ...]]) -> None:
        converted = [
            (*(a if a is None else np.ascontiguousarray(a, self.dtype) for a in part), None)
            for part in parts
        ]
        kind = Frozen_float32 if self.dtype == np.float32 else Frozen_float64
        self._packed: Frozen_float32 = kind(
            self._kernel, self.precision, self.input_size, self.hidden_size, self._directions,
            converted,
        )  # fmt: skip

    def _run(
        self, x: Array, states: list[list[Array]], lengths: npt.ArrayLike | None
    ) -> tuple[Array, list[list[Array]]]:
        """y, and the states after it: of layers above each other in one call, or layer by layer."""
        count = self._directions
        parts = self._parts if count == 1 else count
        last: list[list[Array]] = []
        for k in range(0, self._parts, parts):
            results = self._run_parts(k, x, states[k : k + parts], lengths)
            last += [[after for after in afters if after is not None] for _, *afters in results]
            x = results[-1][0] if count == 1 else np.concatenate([y for y, *_ in results], axis=2)
        return x, last

    def _run_in_chunks(
        self, x: Array, states: list[list[Array]], lengths: Array | None, steps: int
    ) -> tuple[Array, list[list[Array]]]:
        """The same bits without a whole sequence of any lower layer."""
        if lengths is not None and not use_reference():
            lengths = check_lengths(lengths, len(x), x.shape[1])
        y = np.empty((len(x), x.shape[1], self.hidden_size), self.dtype)
        for start in range(0, len(x), steps):
            some = x[start : start + steps]
            left = None if lengths is None else np.clip(lengths - start, 0, len(some))
            y[start : start + steps], states = self._run(some, states, left)
        return y, states

    def _run_parts(
        self, k: int, x: Array, states: list[list[Array]], lengths: npt.ArrayLike | None
    ) -> list[tuple[Array, ...]]:
        if not use_reference():
            return self._packed.forward(k, x, states, lengths)
        results: list[tuple[Array, ...]] = []
        for i, of_part in enumerate(states, k):
            y, *after, _ = self._forward_op(
                results[-1][0] if results and self._directions == 1 else x, *of_part,
                *self._packed.unpack(i), lengths=lengths, reverse=i % self._directions == 1,
                save=False, **self._options,
            )  # fmt: skip
            results.append((y, *after))
        return results

    # --- for the stream, which is compiled ---

    def _new_stream(self, batch_size: int) -> Stream_float32:
        if self.bidirectional:
            raise ValueError(
                "stream: expected a layer of one direction, got a bidirectional one, whose first "
                "output depends on the last input"
            )
        return self._packed.stream(batch_size)

    def _checked_state(self, state: Any, batch_size: int) -> list[Array | None]:
        """h and c (L, B, H), each None for 0; c also for a cell without."""
        if state is None:
            return [None, None]
        whole = state[0] if isinstance(state, (tuple, list)) and state else state
        layout = "T" if batch_size == 1 and np.ndim(whole) == 2 else "T, B"
        parts = self._split("state", state, batch_size, layout)
        return [*parts, *[None] * (2 - len(parts))]


_SYMBOLS = ("(G·H, I)", "(G·H, H)", "(G·H,)", "(G·H,)")
