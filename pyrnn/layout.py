"""How x, y and states of a stack of layers lie in memory: checked, and turned to time first."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import checked_array, shape_text, with_dtype
from .tape import Array


class Stacked:
    """Base of what runs L layers in S directions: the sizes, and the checks against them."""

    input_size: int
    hidden_size: int
    proj_size: int = 0
    num_layers: int
    batch_first: bool
    bidirectional: bool
    dtype: np.dtype[Any]
    # Names of the cell's states.
    _states: tuple[str, ...] = ("h",)
    # As last asked for.
    _zeros_before: list[Array] | None = None

    @cached_property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @cached_property
    def _parts(self) -> int:
        """L*S: layer 0 forward, layer 0 reverse, layer 1 forward, ..."""
        return self.num_layers * self._directions

    @cached_property
    def _columns(self) -> int:
        """P: columns of h."""
        return self.proj_size or self.hidden_size

    def _zeros(self, batch_size: int) -> list[Array]:
        """States of 0, one for each of the cell's, which nothing may write to."""
        zeros = self._zeros_before
        if zeros is None or len(zeros[0]) != batch_size:
            sizes = (self._columns, self.hidden_size)[: len(self._states)]
            zeros = [np.zeros((batch_size, size), self.dtype) for size in sizes]
            for array in zeros:
                array.flags.writeable = False
            self._zeros_before = zeros
        return zeros

    def _checked_input(self, x: Array) -> tuple[Array, str]:
        """x as (T, B, I) or (T, B), and how it was laid out."""
        if x.dtype == self.dtype:
            rank, width = x.ndim, x.shape[-1:]
        elif x.dtype.kind in "iu":
            rank, width = x.ndim + 1, None
        else:
            x = with_dtype("x", x, self.dtype, " or integer tokens")
            rank, width = x.ndim, x.shape[-1:]
        layout = "T" if rank == 2 else "B, T" if self.batch_first else "T, B"
        if rank not in (2, 3) or width not in (None, (self.input_size,)):
            batched = "B, T" if self.batch_first else "T, B"
            wanted = (
                f"tokens of shape ({batched}) or (T,)"
                if width is None
                else f"shape ({batched}, I) or (T, I) with I = {self.input_size}"
            )
            raise ValueError(f"x: expected {wanted}, got {shape_text(x.shape)}")
        return to_time_major(x, layout), layout

    def _checked_dy(self, dy: npt.ArrayLike, seq_len: int, batch: int, layout: str) -> Array:
        """The gradient of y, laid out like it, as (T, B, S*P)."""
        width = self._directions * self._columns
        shape: tuple[int, ...] = (seq_len, batch, width)
        if layout != "T, B":
            shape = (seq_len, width) if layout == "T" else (batch, seq_len, width)
        columns = "S·P" if self.proj_size else "S·H"
        dy = checked_array("dy", dy, self.dtype, f"({layout}, {columns})", shape)
        return to_time_major(dy, layout)

    def _split(self, argument: str, state: Any, batch: int, layout: str) -> list[Any]:
        """``state`` or ``dstate`` checked: (L*S, B, P) of h and, where the cell has it, (L*S, B, H)
        of c."""
        rows, count = self._parts, len(self._states)
        parts = (state,) if count == 1 else state
        if not isinstance(parts, (tuple, list)) or len(parts) != count:
            came = type(parts).__name__
            if isinstance(parts, (tuple, list)):
                came += f" of {len(parts)}"
            raise ValueError(
                f"{argument}: expected a tuple ({', '.join(self._states)}), got {came}"
            )
        unbatched = layout == "T"
        arrays: list[Any] = []
        for i, part in enumerate(parts):
            if part is None and argument == "dstate":
                arrays.append(None)
                continue
            size = self._columns if i == 0 else self.hidden_size
            shape = (rows, size) if unbatched else (rows, batch, size)
            array = np.asarray(part)
            if array.dtype != self.dtype or array.shape != shape:
                name = argument if count == 1 else f"{argument}[{i}]"
                of_h = i == 0 and self.proj_size > 0
                symbols = f"(L·S, {'' if unbatched else 'B, '}{'P' if of_h else 'H'})"
                array = checked_array(name, part, self.dtype, symbols, shape)
            arrays.append(array[:, None] if unbatched else array)
        return arrays

    def _join(self, parts: list[Any], layout: str) -> Any:
        """From states [L*S][state of the cell] of (B, H) to what the caller sees."""
        if len(parts) == 1:
            # Not array[None], whose stride of 0 keeps others from taking the memory over.
            joined = [array.reshape((1, *array.shape)) for array in parts[0]]
        else:
            joined = [np.stack(arrays) for arrays in zip(*parts, strict=True)]
        if layout == "T":
            joined = [array[:, 0] for array in joined]
        return joined[0] if len(joined) == 1 else tuple(joined)


def checked_lengths(lengths: npt.ArrayLike | None, layout: str) -> Array | None:
    """As an array; without a batch one number will do."""
    if lengths is None:
        return None
    array = np.asarray(lengths)
    return array[None] if layout == "T" and array.ndim == 0 else array


def to_time_major(array: Array, layout: str) -> Array:
    """A view."""
    if layout == "T":
        return array[:, None]
    return array.swapaxes(0, 1) if layout == "B, T" else array


def from_time_major(array: Array, layout: str) -> Array:
    if layout == "T":
        return array[:, 0]
    return np.ascontiguousarray(array.swapaxes(0, 1)) if layout == "B, T" else array
