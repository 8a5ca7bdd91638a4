"""The weights of one node, packed for the kernels once, and a run over them.

    W, R, B, P -> parts, one for each direction -> Y [T, D, B, H], Y_h and Y_c [D, B, H]
What the kernels do not have runs in NumPy: :mod:`.unpacked`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .._core import Frozen_float32, Frozen_float64
from ..backends import use_reference
from ..dispatch import forward
from ..kernel_variant import kernel_variant
from ..parameters import PLAIN
from ..tape import Array, LayerInputs
from ..variants import NONLINEARITIES, Variant, variant_of
from ..weights import from_onnx
from .attributes import Settings
from .unpacked import needs_numpy, run_lstm

# Of the parameters of each direction.
_SUFFIXES = ("_l0", "_l0_reverse")


class Part(NamedTuple):
    """One direction."""

    weights: tuple[Array | None, ...]  # w_ih, w_hh, b_ih, b_hh
    variant: Variant | None
    reverse: bool


class Packed:
    """Runs a node on one set of weights, which it copies."""

    def __init__(self, settings: Settings, arrays: Mapping[str, Array]) -> None:
        self.settings, self.directions = settings, settings.directions
        self.in_numpy = needs_numpy(settings)
        self.hidden_size = size = arrays["R"].shape[-1]
        params = from_onnx(
            arrays, settings.kind, input_forget=settings.coupled and not self.in_numpy
        )
        self.dtype = params["weight_hh_l0"].dtype
        cells = []
        self.parts: list[Part] = []
        for k, suffix in enumerate(_SUFFIXES[: self.directions]):
            keywords = settings.keywords(k)
            if self.in_numpy:
                keywords["coupled"] = False
            if "weight_peephole" + suffix in params:
                keywords["w_peephole"] = params["weight_peephole" + suffix]
            cell, variant = variant_of(settings.kind.lower(), (size, size), self.dtype, **keywords)
            cells.append(cell)
            weights = tuple(params.get(kind + suffix) for kind in PLAIN)
            self.parts.append(Part(weights, variant, settings.direction == "reverse" or k == 1))
        # Elman's cells with a name of their own are one cell where the directions differ.
        self.cell = cells[0] if len(set(cells)) == 1 else "rnn"
        if self.cell == "rnn":
            self.parts = [
                part._replace(variant=part.variant or Variant(activation=NONLINEARITIES[cell]))
                for part, cell in zip(self.parts, cells, strict=True)
            ]
        self._packed = None if self.in_numpy else self._for_kernels()

    def _for_kernels(self) -> Frozen_float32:
        given = [(*part.weights, kernel_variant(part.variant)) for part in self.parts]
        directions = self.directions
        if self.parts[0].reverse:
            # Of a pair the second runs backwards: the first is never run.
            given, directions = given * 2, 2
        w_ih, w_hh = self.parts[0].weights[:2]
        assert w_ih is not None
        assert w_hh is not None
        size = w_hh.shape[1]
        kind = Frozen_float32 if self.dtype == np.float32 else Frozen_float64
        return kind(self.cell, self.dtype.name, w_ih.shape[1], size, size, directions, given)

    def __call__(
        self,
        x: Array,  # [T, B, I]
        states: list[Array],  # h(, c), each [D, B, H]
        lengths: Array | None,  # [B]
    ) -> tuple[Array, list[Array]]:
        """Y [T, D, B, H], and Y_h(, Y_c) [D, B, H]."""
        if self._packed is None or use_reference():
            made = [self._run_part(k, x, states, lengths) for k in range(self.directions)]
        else:
            first = 1 if self.directions == 1 and self.parts[0].reverse else 0
            of_parts = [[state[k] for state in states] for k in range(self.directions)]
            made = self._packed.forward(first, x, of_parts, lengths)
        if len(made) == 1:
            y, *after = made[0]
            return y[:, None], [state[None] for state in after[: len(states)]]
        ys, *afters = zip(*made, strict=True)
        return np.stack(ys, axis=1), [np.stack(after) for after in afters[: len(states)]]

    def _run_part(
        self, k: int, x: Array, states: list[Array], lengths: Array | None
    ) -> tuple[Array, ...]:
        part = self.parts[k]
        h0, c0 = (*(state[k] for state in states), None)[:2]
        layer = LayerInputs(h0, c0, *part.weights)  # type: ignore[arg-type]
        if self.in_numpy:
            return run_lstm(self.settings, k, part.variant, x, layer, lengths, part.reverse)
        made = forward(self.cell, part.variant, x, layer, lengths, part.reverse, save=False)
        return made[:3]  # type: ignore[return-value]


def same_bits(given: Any, kept: Any) -> bool:
    """Whether an array has the shape, the dtype and the bits of another; or both are None."""
    if given is None or kept is None:
        return given is kept
    if given.shape != kept.shape or given.dtype != kept.dtype:
        return False
    words = f"u{given.dtype.itemsize}"
    return bool((given.view(words) == kept.view(words)).all())


def is_constant(array: Array) -> bool:
    """Whether nobody can write to it: it is a view of a bytes object, as initialisers are."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, bytes)
