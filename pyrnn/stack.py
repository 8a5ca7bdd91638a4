"""Layers above layers and directions side by side, written once for every cell.

Layer l > 0 takes the S*H columns of the layer below, forward half first; states are (L*S, B, H) in
the order layer 0 forward, layer 0 reverse, layer 1 forward, ...
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, cast

import numpy as np
import numpy.typing as npt

from . import _core
from . import checkpoint as chunks
from .backends import use_reference
from .checks import checked_dtype, checked_integer, checked_number
from .dropout import drawn_seed, drop
from .frozen import Frozen
from .initialisation import INITIALISATIONS, generator, starting_value
from .kernel_variant import named_gradients, with_arrays
from .layer_tape import LayerGrads, LayerTape, State
from .layout import Stacked, checked_lengths, from_time_major
from .module import Module
from .parameters import PartNames, merged, parameter_shapes
from .passes import Pass, PassBack, backward_passes, forward_passes, side_by_side
from .tape import Array, CheckpointTape, LayerInputs, Tape
from .variants import NONLINEARITIES, NUM_GATES, TANH, Variant, variant_of


class Recurrent(Module, Stacked, Generic[State]):
    """Base of RNN, GRU and LSTM, which add only their cell."""

    # What a cell says: the family of its operation, its states, and which attributes are keywords.
    _family: ClassVar[str]
    _options: ClassVar[tuple[str, ...]]

    layer_norm = False
    peephole: str | None = None
    # Where layers are made for one call each: of each part, the weights that many calls read; and
    # the seed of its masks, which else the layer draws.
    _kept: Sequence[_core.KeptWeights] | None = None
    _given_seed: int | None = None

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
        keywords = {name: getattr(self, name) for name in self._options}
        sizes = self.hidden_size, self._columns
        self._kernel, self._inferring = variant_of(self._family, sizes, self.dtype, **keywords)
        _, self._training = variant_of(self._family, sizes, self.dtype, **keywords, key=(0, 0, 0))
        self._without_options = Variant(activation=NONLINEARITIES.get(self._kernel, TANH))
        self._rows = list(range(self._parts))
        count = self._directions
        self._layers = [self._rows[k : k + count] for k in self._rows[::count]]
        self._names: list[PartNames] = []
        self._variants: dict[int, Variant] = {}  # of the parts, as last made without masks
        self.params = {}
        for k in range(self._parts):
            suffix = f"_l{k // self._directions}" + "_reverse" * (k % self._directions)
            shapes = self._shapes(k)
            names = PartNames(shapes, suffix)
            self._names.append(names)
            for kind, shape in shapes.items():
                self.params[names.kinds[kind]] = starting_value(
                    kind, self.rng, shape, self.hidden_size, self.dtype, init == "orthogonal"
                )

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
        size, count = self._columns, self._directions
        seq_len, batch = tapes[0].x.shape[:2]
        dabove = None if dy is None else self._checked_dy(dy, seq_len, batch, layout)
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
        dparams: list[dict[str, Array]] = [{}] * len(tapes)
        for group in reversed(self._groups(dropout is not None)):
            backwards = group if count == 2 else group[::-1]
            passes = []
            for k in backwards:
                part = dabove
                if dabove is not None and count == 2:
                    part = dabove[..., k % 2 * size : (k % 2 + 1) * size]
                passes.append(
                    PassBack(
                        tapes[k], part, [None if d is None else d[k] for d in dlast],
                        self._kept_of(k),
                    )
                )  # fmt: skip
            dx: Array | None = None
            for k, g in zip(backwards, backward_passes(passes, count == 1), strict=True):
                dfirst[k] = (g.dh0, g.dc0)[: len(dlast)]
                dparams[k] = self._named(k, g.dw_ih, g.dw_hh, g.db_ih, g.db_hh, g.of_variant)
                if count == 1 or k % 2 == 0:
                    dx = g.dx
                elif dx is not None:
                    with np.errstate(invalid="ignore", over="ignore"):
                        dx += g.dx
            layer = group[0] // count
            if layer > 0 and dropout is not None and dx is not None:
                dx = drop(dx, layer, *dropout)
            dabove = dx
        return LayerGrads(
            merged(dparams),
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
        dparams = []
        for k, of_layer in enumerate(sums):
            dw_ih, dw_hh, db_ih, db_hh, *others = of_layer
            dparams.append(self._named(k, dw_ih, dw_hh, db_ih, db_hh, named_gradients(others)))
        return LayerGrads(
            merged(dparams),
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

    def _shapes(self, k: int) -> dict[str, tuple[int, ...]]:
        """Shape of each kind of parameter of part k."""
        width = self.input_size if k < self._directions else self._directions * self._columns
        sides = ("ih", "hh", "c") if "c" in self._states else ("ih", "hh")
        return parameter_shapes(
            NUM_GATES[self._kernel], width, self.hidden_size, self.proj_size, self.bias,
            self.peephole, sides if self.layer_norm else (),
        )  # fmt: skip

    def _layer(self, k: int, states: Sequence[Array]) -> LayerInputs:
        """States and the present parameters of part k."""
        h0, c0 = (*states, None)[:2]
        return LayerInputs(h0, c0, *self._names[k].weights(self.params))  # type: ignore[arg-type]

    def _variant(self, k: int, seed: int | None) -> Variant | None:
        """What part k has beyond that; with a seed, masks are drawn."""
        base = self._inferring if seed is None else self._training
        names = self._names[k].arrays
        if base is None:
            if not names:
                return None
            base = self._without_options
        key = None
        if seed is not None and base.key is not None:
            key = seed, k // self._directions, k % self._directions
        if not names and key == base.key:
            return base
        params = self.params
        known = self._variants.get(k) if key is None else None
        if known and all(getattr(known, field) is params[name] for field, name in names):
            return known
        made = with_arrays(base, {field: params[name] for field, name in names}, key)
        if key is None:
            self._variants[k] = made
        return made

    def _kept_of(self, k: int) -> _core.KeptWeights | None:
        return None if self._kept is None else self._kept[k]

    def _seed(self) -> int | None:
        """Of all masks of one call for training; None where none is drawn."""
        draws = self._training is not None and self._training.key is not None
        if not draws and (self.dropout == 0.0 or self.num_layers == 1):
            return None
        return drawn_seed(self.rng) if self._given_seed is None else self._given_seed

    def _named(
        self,
        k: int,
        dw_ih: Array | None,
        dw_hh: Array | None,
        db_ih: Array | None,
        db_hh: Array | None,
        of_variant: dict[str, Array],
    ) -> dict[str, Array]:
        """Gradients of part k by the names of the parameters."""
        names = self._names[k]
        # Without biases there are two names.
        found: Any = zip(names.plain, (dw_ih, dw_hh, db_ih, db_hh), strict=False)
        named: dict[str, Array] = dict(found)
        for field, name in names.arrays:
            named[name] = of_variant["d" + field]
        return named

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
        seed = self._seed() if train else None
        dropout = None
        zeros = self._zeros(batch) if first is None else []
        tapes, last = [], []
        for group in self._groups(train and self.dropout > 0):
            layer = group[0] // count
            if layer > 0 and seed is not None and self.dropout > 0:
                dropout = seed, self.dropout
                x = drop(x, layer, *dropout)
            passes = []
            for k in group:
                states = zeros if first is None else [s[k] for s in first]
                own_x = x if count == 2 or k == group[0] else None
                passes.append(
                    Pass(
                        own_x, self._layer(k, states), self._variant(k, seed), k % count == 1,
                        self._kept_of(k),
                    )
                )  # fmt: skip
            made_here = forward_passes(self._kernel, passes, lengths, train, steps)
            for result in made_here:
                last.append((result.h_n, result.c_n)[: len(self._states)])
                tapes.append(cast(Tape, result.tape))
            ys = [result.y for result in made_here]
            x = ys[-1] if count == 1 else side_by_side(ys)
            # What no tape holds serves the next layer.
            del passes, own_x, made_here, result, ys
        made = LayerTape(self, tuple(tapes), layout, dropout) if train else None
        return from_time_major(x, layout), self._join(last, layout), made

    def _groups(self, dropout: bool) -> list[list[int]]:
        """What runs side by side: both directions of a layer, or layers with nothing between."""
        return self._layers if dropout or self.bidirectional else [self._rows]

    def _in_chunks(self, x: Array, layout: str, train: bool, steps: int | None) -> bool:
        """Whether all layers run chunk by chunk, and none keeps what it passes up."""
        if self.bidirectional or use_reference():
            return False
        if train:
            return steps is not None and self.num_layers > 1 and self.dropout == 0
        if self.num_layers == 1 and layout != "B, T":
            return False
        return len(x) > 2 * chunks.steps_of_inference(x.shape[1])

    def _run_in_chunks(
        self, x: Array, layout: str, first: Any, lengths: Array | None, steps: int | None
    ) -> tuple[Array, State, LayerTape | None]:
        """With steps for training, without for inference."""
        zeros = self._zeros(x.shape[1])
        parts = range(self._parts)
        layers = [self._layer(k, zeros if first is None else [s[k] for s in first]) for k in parts]
        seed = None if steps is None else self._seed()
        variants = [self._variant(k, seed) for k in parts]
        made = None
        if steps is None:
            y, last = chunks.infer(
                self._kernel, variants, x, layers, lengths, False, layout == "B, T",
                self._kept or (),
            )  # fmt: skip
            y = y[:, 0] if layout == "T" else y
        else:
            y, last, tape, _ = chunks.forward(
                self._kernel, variants, x, layers, lengths, False, steps, True
            )
            y = from_time_major(y, layout)
            made = LayerTape(self, (cast(CheckpointTape, tape),), layout, None)
        return y, self._join([s[: len(self._states)] for s in last], layout), made
