"""What a variant says of a step: activations, clips, peepholes, projection, norms and masks.

The cells are written against a rule; that of the plain cell applies none of the options. Its
gradients, those of the variant's arrays, add up in ``grads`` while the time loop runs backwards.
"""

from __future__ import annotations

import numpy as np

from ..tape import Array
from ..variants import (
    CLIP_MARK,
    NONLINEARITIES,
    TANH,
    VARIANT_ARRAYS,
    Activation,
    Variant,
    tapes_sums,
)
from . import masks
from .activations import Opened, opened, sigmoid_slope, tanh_slope
from .norm import normalise, normalise_backward

# The part of a state that zoneout keeps: a mask [B, H], or the expectation of one.
Kept = Array | float


class Rule:
    """That of one call; see :class:`pyrnn.variants.Variant` for what it may say."""

    def __init__(self, cell: str, variant: Variant | None) -> None:
        plain = Variant(activation=NONLINEARITIES.get(cell, TANH))
        self.variant = plain if variant is None else variant
        self.tapes_sums = tapes_sums(cell, variant)
        self.marks = self.variant.clip > 0 and not self.tapes_sums
        arrays = {name: getattr(self.variant, name) for name in VARIANT_ARRAYS}
        self.grads = {
            f"d{name}": np.zeros_like(array, order="C")
            for name, array in arrays.items()
            if array is not None
        }

    # Activations. With `tapes_sums` the tape has a, else the activation of a. That of a clipped a
    # is marked: a gate is not below 0, and a candidate not above 1.

    def gate(self, a: Array) -> Array:
        return opened(self.variant.gate_activation, self._clipped(a)).value

    def candidate(self, a: Array) -> Array:
        return opened(self.variant.activation, self._clipped(a)).value

    def taped_gate(self, a: Array, value: Array) -> Array:
        if self.marks:
            return np.where(self._beyond(a), -value, value)
        return a if self.tapes_sums else value

    def taped_candidate(self, a: Array, value: Array) -> Array:
        if self.marks:
            return np.where(self._beyond(a), CLIP_MARK * value, value)
        return a if self.tapes_sums else value

    def open_gate(self, taped: Array) -> Opened:
        if self.tapes_sums:
            return self._open_sum(self.variant.gate_activation, taped)
        if self.marks:
            value = np.abs(taped)
            return Opened(value, np.where(taped < 0, 0, sigmoid_slope(value)))
        return Opened(taped, sigmoid_slope(taped))

    def open_candidate(self, taped: Array) -> Opened:
        if self.tapes_sums:
            return self._open_sum(self.variant.activation, taped)
        if self.marks:
            marked = np.abs(taped) > 1
            value = np.where(marked, taped / CLIP_MARK, taped)
            return Opened(value, np.where(marked, 0, tanh_slope(value)))
        return Opened(taped, tanh_slope(taped))

    def through_candidate(self, taped: Array, d: Array) -> Array:
        if not self.tapes_sums and self.variant.activation[0] == "relu":
            return np.where(taped > 0, d, 0)
        return d * self.open_candidate(taped).slope

    def _open_sum(self, activation: Activation, a: Array) -> Opened:
        value, slope = opened(activation, self._clipped(a))
        if self.variant.clip > 0:
            slope = np.where(self._beyond(a), 0, slope)
        return Opened(value, slope)

    def _beyond(self, a: Array) -> Array:
        return np.asarray(np.abs(a) > self.variant.clip)

    def _clipped(self, a: Array) -> Array:
        clip = self.variant.clip
        return np.clip(a, -clip, clip) if clip > 0 else a

    # The cell of the LSTM.

    def with_peephole(self, k: int, a: Array, c: Array) -> Array:
        """a + p_k c, for row k of the peepholes."""
        w = self.variant.w_peephole
        if w is None:
            return a
        return np.asarray(a + (w[k] * c if w.ndim == 2 else c @ w[k].T))

    def through_peephole(self, k: int, da: Array, c: Array) -> Array | float:
        """What da adds to dc."""
        w = self.variant.w_peephole
        if w is None:
            return 0.0
        dw = self.grads["dw_peephole"]
        if w.ndim == 2:
            dw[k] += (da * c).sum(axis=0)
            return np.asarray(w[k] * da)
        dw[k] += da.T @ c
        return np.asarray(da @ w[k])

    def clip_cell(self, c: Array) -> Array:
        clip = self.variant.cell_clip
        return np.clip(c, -clip, clip) if clip > 0 else c

    def through_clip(self, c: Array, d: Array) -> Array:
        clip = self.variant.cell_clip
        return np.where(np.abs(c) > clip, 0, d) if clip > 0 else d

    def output(self, c: Array) -> Array:
        """The activation of c, or of c normalised."""
        return opened(self.variant.activation, self.normed("c", c)[0]).value

    def through_output(self, c: Array, d: Array) -> Array:
        a, norm, rstd = self.normed("c", c)
        return self.through_norm("c", d * opened(self.variant.activation, a).slope, norm, rstd)

    def project(self, u: Array) -> Array:
        """h = W_hr u, or u."""
        w = self.variant.w_hr
        return u if w is None else u @ w.T

    def through_projection(self, u: Array, dh: Array) -> Array:
        w = self.variant.w_hr
        if w is None:
            return dh
        self.grads["dw_hr"] += dh.T @ u
        return dh @ w

    # Layer normalisation of "ih" (W_ih x), "hh" (W_hh h) and "c".

    @property
    def normalises(self) -> bool:
        return self.variant.ln_ih_weight is not None

    def normed(self, what: str, a: Array) -> tuple[Array, Array | None, Array | None]:
        """The value, and norm [..., N] and rstd [..., 1]; a, None and None without."""
        weight = getattr(self.variant, f"ln_{what}_weight")
        if weight is None:
            return a, None, None
        norm, rstd = normalise(a)
        return norm * weight + getattr(self.variant, f"ln_{what}_bias"), norm, rstd

    def through_norm(self, what: str, d: Array, norm: Array | None, rstd: Array | None) -> Array:
        if norm is None or rstd is None:
            return d
        self.grads[f"dln_{what}_weight"] += (d * norm).sum(axis=0)
        self.grads[f"dln_{what}_bias"] += d.sum(axis=0)
        return normalise_backward(d * getattr(self.variant, f"ln_{what}_weight"), norm, rstd)

    # Masks.

    def kept(self, t: int, rows: Array, size_h: int, size_c: int) -> tuple[Kept, Kept]:
        """What zoneout keeps of h_{t-1} and of c_{t-1}."""
        v = self.variant
        if v.key is None or not (v.zoneout_h > 0 or v.zoneout_c > 0):
            return v.zoneout_h, v.zoneout_c
        return masks.zoneout_masks(v.key, t, rows, size_h, size_c, v.zoneout_h, v.zoneout_c)

    def mask(self, batch_size: int, size: int, dtype: np.dtype[np.floating]) -> Array | None:
        """That of recurrent dropout on h_{t-1}, [B, P]; None where nothing is dropped."""
        v = self.variant
        if v.key is None or v.recurrent_dropout == 0:
            return None
        rows = np.arange(batch_size)
        return masks.dropout_mask(v.key, rows, size, v.recurrent_dropout, dtype)


def masked(mask: Array | None, h: Array) -> Array:
    """h as W_hh sees it; a dropped infinity is 0."""
    return h if mask is None else np.where(mask == 0, 0, mask * h)


def settle(kept: Kept, before: Array, fresh: Array) -> Array:
    """h_t out of h_{t-1} and h~, c_t likewise: zoneout (Krueger et al., arXiv:1606.01305)."""
    if isinstance(kept, float) and 0 < kept < 1:
        return kept * before + (1 - kept) * fresh
    return np.where(kept, before, fresh)


def unsettle(kept: Kept, d: Array) -> tuple[Array, Array]:
    """The gradients of the fresh state and of the state before."""
    if isinstance(kept, float) and 0 < kept < 1:
        return (1 - kept) * d, kept * d
    return np.where(kept, 0, d), np.where(kept, d, 0)
