"""Frozen layers: weights packed once, for inference over whole sequences and step by step."""

from __future__ import annotations

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
from .dispatch import forward
from .kernel_variant import kernel_variant, variant_arrays, with_arrays
from .layout import Stacked, checked_lengths, from_time_major
from .parameters import ARRAYS, PLAIN
from .passes import side_by_side
from .tape import Array, LayerInputs
from .variants import VARIANT_ARRAYS, Variant

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
        Bytes of the weights as they are kept: the parameters packed, both biases as their sum, and
        zeros that fill H up to whole cache lines; those of variants also as they were given.
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
        self.proj_size = layer.proj_size
        self.num_layers = layer.num_layers
        self.batch_first = layer.batch_first
        self.bidirectional = layer.bidirectional
        self._text = repr(layer)
        self._states = layer._states
        self._kernel = layer._kernel
        self._variants: list[Variant | None] = []
        parts = []
        for k, names in enumerate(layer._names):
            shapes = layer._shapes(k)
            arrays = {
                kind: checked_array(
                    name, layer.params[name], layer.dtype, self._symbols(kind), shapes[kind]
                )
                for kind, name in names.kinds.items()
            }
            parts.append(tuple(arrays.get(kind) for kind in PLAIN))
            variant = layer._variant(k, None)
            self._variants.append(None if variant is None else self._converted(variant))
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
        if lengths is None and not self.batch_first and not use_reference():
            # A short call of plain arrays takes longer here than in the kernels.
            made = self._packed.infer(x, state)
            if made is not None:
                return made
        x, layout = self._checked_input(np.asarray(x))
        batch, count = x.shape[1], self._directions
        if state is None:
            states = [self._zeros(batch)] * self._parts
        else:
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
        arrays = [array for variant in self._variants for array in variant_arrays(variant)]
        return self._packed.nbytes + sum(a.nbytes for a in arrays if a is not None)

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

    def _symbols(self, kind: str) -> str:
        symbols = _SYMBOLS[ARRAYS[kind]]
        return symbols if self.proj_size else symbols.replace("P", "H")

    def _converted(self, variant: Variant) -> Variant:
        """With copies of its arrays in the dtype of the frozen layer."""
        arrays = {name: getattr(variant, name) for name in VARIANT_ARRAYS}
        copies = {n: np.array(a, self.dtype, order="C") for n, a in arrays.items() if a is not None}
        return with_arrays(variant, copies, None)

    def _pack(self, parts: list[tuple[Array | None, ...]]) -> None:
        converted = [
            (
                *(a if a is None else np.ascontiguousarray(a, self.dtype) for a in part),
                kernel_variant(variant),
            )
            for part, variant in zip(parts, self._variants, strict=True)
        ]
        kind = Frozen_float32 if self.dtype == np.float32 else Frozen_float64
        self._packed: Frozen_float32 = kind(
            self._kernel, self.precision, self.input_size, self.hidden_size, self._columns,
            self._directions, converted,
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
            x = results[-1][0] if count == 1 else side_by_side([y for y, *_ in results])
            del results  # its memory serves the next layer
        return x, last

    def _run_in_chunks(
        self, x: Array, states: list[list[Array]], lengths: Array | None, steps: int
    ) -> tuple[Array, list[list[Array]]]:
        """The same bits without a whole sequence of any lower layer."""
        if lengths is not None and not use_reference():
            lengths = check_lengths(lengths, len(x), x.shape[1])
        y = np.empty((len(x), x.shape[1], self._columns), self.dtype)
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
            h0, c0 = of_part if len(of_part) == 2 else (of_part[0], None)
            layer = LayerInputs(h0, c0, *self._packed.unpack(i))
            made = forward(
                self._kernel, self._variants[i],
                results[-1][0] if results and self._directions == 1 else x,
                layer, None if lengths is None else np.asarray(lengths),
                i % self._directions == 1, save=False,
            )  # fmt: skip
            after = (made.h_n,) if made.c_n is None else (made.h_n, made.c_n)
            results.append((made.y, *after))
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


_SYMBOLS = {
    "w_ih": "(G·H, I)",
    "w_hh": "(G·H, P)",
    "w_hr": "(P, H)",
    "w_peephole": "(G-1, H[, H])",
    **dict.fromkeys(("b_ih", "b_hh", *VARIANT_ARRAYS[2:6]), "(G·H,)"),
    **dict.fromkeys(VARIANT_ARRAYS[6:], "(H,)"),
}
