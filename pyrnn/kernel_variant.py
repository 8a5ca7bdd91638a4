"""A variant's arrays, and how the compiled module takes it and gives their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from .tape import Array
from .variants import ACTIVATIONS, VARIANT_ARRAYS, Variant

# Their places in csrc/shapes.hpp.
_KINDS = {name: place for place, name in enumerate(ACTIVATIONS)}

_GRADIENTS = tuple(f"d{name}" for name in VARIANT_ARRAYS)

_arrays_of = attrgetter(*VARIANT_ARRAYS)


def kernel_variant(variant: Variant | None) -> tuple[Any, ...] | None:
    if variant is None:
        return None
    # Made once: both passes of a step ask for it.
    kept: dict[str, Any] = vars(variant)
    made: tuple[Any, ...] | None = kept.get("_for_kernels")
    if made is None:
        made = kept["_for_kernels"] = _made(variant)
    return made


def _made(variant: Variant) -> tuple[Any, ...]:
    return (
        (_KINDS[variant.activation[0]], *variant.activation[1:]),
        (_KINDS[variant.gate_activation[0]], *variant.gate_activation[1:]),
        variant.clip,
        variant.cell_clip,
        variant.zoneout_h,
        variant.zoneout_c,
        variant.recurrent_dropout,
        variant.key,
        variant_arrays(variant),
    )


def variant_arrays(variant: Variant | None) -> tuple[Array | None, ...]:
    """Those of VARIANT_ARRAYS, each None where there is none."""
    if variant is None:
        return (None,) * len(VARIANT_ARRAYS)
    return _arrays_of(variant)


def with_arrays(
    variant: Variant, arrays: Mapping[str, Array], key: tuple[int, int, int] | None
) -> Variant:
    """The variant with arrays of these names, and another key."""
    # Every call that draws masks takes this way; dataclasses.replace takes five times as long.
    made = object.__new__(Variant)
    vars(made).update(vars(variant))
    vars(made).update(arrays, key=key, _for_kernels=None)
    return made


def named_gradients(arrays: Sequence[Array | None]) -> dict[str, Array]:
    """``{"dw_peephole": ...}`` of what there is."""
    named = zip(_GRADIENTS, arrays, strict=True)
    return {name: array for name, array in named if array is not None}
