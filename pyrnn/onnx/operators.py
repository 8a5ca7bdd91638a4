"""ONNX's RNN, GRU and LSTM as operators of ``onnx.reference.ReferenceEvaluator``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from onnx.reference.op_run import OpRun

from ..checks import checked_array, shape_text, with_dtype
from ..tape import Array
from .attributes import Settings, check_sizes, settings_of
from .packed import Packed, is_constant, same_bits

# Types that the kernels do not compute in: up to float32, and back.
_NARROW = ("float16", "bfloat16")


class _Kept(NamedTuple):
    """Packed weights, and what they were packed from."""

    settings: Settings
    weights: tuple[Array | None, ...]  # W, R, B, P: themselves where constant, else copies
    packed: Packed

    def of(self, settings: Settings, weights: tuple[Array | None, ...]) -> bool:
        pairs = zip(weights, self.weights, strict=True)
        return settings == self.settings and all(
            new is old or same_bits(new, old) for new, old in pairs
        )


class _Operator(OpRun):
    """Packs the weights at the first run, and again where they have changed."""

    _states: tuple[str, ...] = ("initial_h",)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._kept: _Kept | None = None
        self._settings: Settings | None = None

    def _run(
        self,
        X: Array,
        W: Array,
        R: Array,
        B: Array | None = None,
        sequence_lens: Array | None = None,
        initial_h: Array | None = None,
        initial_c: Array | None = None,
        P: Array | None = None,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        settings = self._settings
        if settings is None:
            settings = settings_of(type(self).__name__, attributes)
            if not self.has_linked_attribute:  # which each call of a function may set otherwise
                self._settings = settings
        packed = self._packed(settings, (W, R, B, P))
        x = _of_type("X", X, W.dtype, packed)
        if x.ndim != 3 or x.shape[2] != W.shape[2]:
            axes = "B, T" if settings.batch_first else "T, B"
            raise ValueError(
                f"X: expected shape ({axes}, I) with I = {W.shape[2]}, got {shape_text(X.shape)}"
            )
        x = x.swapaxes(0, 1) if settings.batch_first else x
        seq_len, batch_size, _ = x.shape
        states = [
            _state(name, given, settings, batch_size, W.dtype, packed)
            for name, given in zip(self._states, (initial_h, initial_c), strict=False)
        ]
        lengths = _lengths(sequence_lens, seq_len, batch_size)
        y, last = packed(x, states, lengths)
        # As ONNX Runtime: of a row without a step the final state is 0, whatever the initial one.
        if seq_len == 0 or (lengths is not None and not lengths.all()):
            empty = slice(None) if seq_len == 0 else lengths == 0
            for state in last:
                state[:, empty] = 0
        if settings.batch_first:
            y = y.transpose(2, 0, 1, 3)
            last = [state.swapaxes(0, 1) for state in last]
        outputs = (y, *last)[: len(self.onnx_node.output)]
        return tuple(output.astype(X.dtype, copy=False) for output in outputs)

    def _packed(self, settings: Settings, weights: tuple[Array | None, ...]) -> Packed:
        kept = self._kept
        if kept is None or not kept.of(settings, weights):
            own = tuple(
                array if array is None or is_constant(array) else array.copy() for array in weights
            )
            named = zip(("W", "R", "B", "P"), own, strict=True)
            given = {name: array for name, array in named if array is not None}
            packed = Packed(settings, _checked(settings, given))
            # One assignment, so that another thread meets all of it or nothing.
            kept = self._kept = _Kept(settings, own, packed)
        return kept.packed


class RNN(_Operator):
    """Elman network of opset 1 to 22."""


class GRU(_Operator):
    """Gated recurrent unit of opset 1 to 22."""


class LSTM(_Operator):
    """Long short-term memory of opset 1 to 22."""

    _states = ("initial_h", "initial_c")


reference_ops: list[type[OpRun]] = [RNN, GRU, LSTM]


def _checked(settings: Settings, given: Mapping[str, Array]) -> dict[str, Array]:
    """W, R, B and P in the type that the kernels compute in."""
    w, r = given["W"], given["R"]
    wide = np.dtype("float32") if w.dtype.name in _NARROW else w.dtype
    if wide.name not in ("float32", "float64"):
        raise TypeError(f"W: expected float16, bfloat16, float32 or float64, got {w.dtype.name}")
    check_sizes(settings, r)
    return {
        name: with_dtype(name, array, w.dtype).astype(wide, copy=False)
        for name, array in given.items()
    }


def _of_type(name: str, array: Array, dtype: np.dtype[Any], packed: Packed) -> Array:
    return with_dtype(name, array, dtype).astype(packed.dtype, copy=False)


def _state(
    name: str,
    given: Array | None,
    settings: Settings,
    batch_size: int,
    dtype: np.dtype[Any],
    packed: Packed,
) -> Array:
    """The initial state as (D, B, H); absent, it is 0."""
    shape = (settings.directions, batch_size, packed.hidden_size)
    if given is None:
        return np.zeros(shape, packed.dtype)
    symbols = "(D, B, H)"
    if settings.batch_first:
        symbols, shape = "(B, D, H)", (shape[1], shape[0], shape[2])
    state = checked_array(name, given, dtype, symbols, shape).astype(packed.dtype, copy=False)
    return state.swapaxes(0, 1) if settings.batch_first else state


def _lengths(given: Array | None, seq_len: int, batch_size: int) -> Array | None:
    if given is None:
        return None
    lengths = np.asarray(given)
    fits = lengths.shape == (batch_size,) and lengths.dtype.kind in "iu"
    if not fits or ((lengths < 0) | (lengths > seq_len)).any():
        raise ValueError(
            f"sequence_lens: expected (B) = ({batch_size},) integers in 0..{seq_len}, "
            f"got {lengths.dtype.name} of shape {shape_text(lengths.shape)}"
            + (f", {lengths.min()} to {lengths.max()}" if fits else "")
        )
    return lengths
