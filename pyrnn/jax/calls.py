"""What runs when XLA calls back: an operation of ``pyrnn.ops`` on XLA's buffers.

Under ``vmap`` every array has more axes in front, each of the size of the batch or 1. Where the
weights are the same for all, such axes become rows of the operation's own batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..checks import Array
from ..ops import BACKWARD, FORWARD
from ..tape import Tape
from ..variants import NUM_GATES, VARIANT_ARRAYS, variant_of

# What a tape stores, each (T, B, ...), in the order in which it is handed on.
STORED = ("gates", "h", "c", "norm_ih", "norm_hh", "rstd")
_WITH_ROWS = ("x", "h0", "c0", "lengths")  # the rest are parameters

Signature = tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype of each array


@dataclass(frozen=True)
class Spec:
    """One operation, as a key: what XLA compiles once for each."""

    family: str
    names: tuple[str, ...]  # of the arrays, in order
    options: tuple[tuple[str, Any], ...]  # keywords of pyrnn.ops
    reverse: bool

    @property
    def states(self) -> int:
        return 2 if self.family == "lstm" else 1

    def run(self, arrays: dict[str, Array], save: bool) -> tuple[Any, ...]:
        return tuple(
            FORWARD[self.family](**arrays, **dict(self.options), reverse=self.reverse, save=save)
        )


@lru_cache(maxsize=256)
def results_of(spec: Spec, signature: Signature) -> tuple[list[Any], dict[str, Any]]:
    """Shape and dtype of every result and of what the tape stores, by a run over a single step.

    That run also refuses what the operation refuses, ahead of XLA, which has no such messages.
    """
    shapes = dict(zip(spec.names, signature, strict=True))
    (seq_len, *of_step), dtype = shapes["x"]
    shapes["x"] = (1, *of_step), dtype
    arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes.items()}
    *results, tape = spec.run(arrays, save=True)
    stored = {name: getattr(tape, name) for name in STORED}
    of_time = {k: ((seq_len, *v.shape[1:]), v.dtype) for k, v in stored.items() if v is not None}
    y, *states = results
    found = [((seq_len, *y.shape[1:]), y.dtype), *((s.shape, s.dtype) for s in states)]
    return found, of_time


@dataclass(frozen=True)
class Forward:
    """Writes y and the last states, then what the tape stores if it is to be kept."""

    spec: Spec
    ranks: tuple[int, ...]  # of the arrays ahead of vmap
    save: bool

    def __call__(self, _: Any, out: Any, *buffers: Any) -> None:
        arrays = [np.asarray(buffer) for buffer in buffers]
        outs = [np.asarray(buffer) for buffer in out]
        lead = _lead(arrays, self.ranks)
        if not lead:
            for place, made in zip(outs, self._run(_named(self.spec, arrays)), strict=True):
                place[...] = made
            return
        flat = _flat(arrays, self.ranks, lead)
        named = _named(self.spec, flat)
        count = prod(lead)
        places = [o.reshape(count, *o.shape[len(lead) :]) for o in outs]
        if all(len(a) == 1 for name, a in named.items() if name not in _WITH_ROWS):
            rows = named["h0"].shape[1]
            whole = {name: _as_rows(name, a, count) for name, a in named.items()}
            for k, (place, made) in enumerate(zip(places, self._run(whole), strict=True)):
                if 1 <= k <= self.spec.states:  # (N*B, H)
                    place[...] = made.reshape(count, rows, *made.shape[1:])
                else:  # (T, N*B, ...)
                    split = made.reshape(len(made), count, rows, *made.shape[2:])
                    place[...] = split.swapaxes(0, 1)
            return
        for n in range(count):
            one = {name: a[n if len(a) > 1 else 0] for name, a in named.items()}
            for place, made in zip(places, self._run(one), strict=True):
                place[n] = made

    def _run(self, arrays: dict[str, Array]) -> list[Array]:
        *results, tape = self.spec.run(arrays, self.save)
        if self.save:
            stored = [getattr(tape, name) for name in STORED]
            results += [array for array in stored if array is not None]
        return results


@dataclass(frozen=True)
class Backward:
    """Writes the gradients of the arrays that are no integers."""

    spec: Spec
    ranks: tuple[int, ...]  # of the arrays, of what the tape stores, of the incoming gradients
    stored: tuple[str, ...]

    def __call__(self, _: Any, out: Any, *buffers: Any) -> None:
        arrays = [np.asarray(buffer) for buffer in buffers]
        outs = [np.asarray(buffer) for buffer in out]
        lead = _lead(arrays, self.ranks)
        if not lead:
            for place, made in zip(outs, self._run(arrays), strict=True):
                place[...] = made
            return
        flat = _flat(arrays, self.ranks, lead)
        places = [o.reshape(prod(lead), *o.shape[len(lead) :]) for o in outs]
        # One by one: whoever maps over gradients wants those of the weights for each.
        for n in range(prod(lead)):
            one = [a[n if len(a) > 1 else 0] for a in flat]
            for place, made in zip(places, self._run(one), strict=True):
                place[n] = made

    def _run(self, arrays: list[Array]) -> list[Array]:
        spec = self.spec
        count, kept = len(spec.names), len(self.stored)
        named = _named(spec, arrays[:count])
        stored = dict(zip(self.stored, arrays[count : count + kept], strict=True))
        grads = BACKWARD[spec.family](tape_of(spec, named, stored), *arrays[count + kept :])
        return [getattr(grads, f"d{name}") for name in spec.names if differentiable(named[name])]


def differentiable(array: Any) -> bool:
    """Tokens and lengths are not."""
    return np.dtype(array.dtype).kind not in "iu"


def tape_of(spec: Spec, arrays: dict[str, Array], stored: dict[str, Array]) -> Tape:
    """The tape of a forward pass that ran in another call."""
    options = dict(spec.options)
    w_hh, lengths = arrays["w_hh"], arrays.get("lengths")
    cell = "lstm_coupled" if options.get("coupled") else spec.family
    sizes = w_hh.shape[0] // NUM_GATES[cell], w_hh.shape[1]
    options |= {name: arrays[name] for name in VARIANT_ARRAYS if name in arrays}
    cell, variant = variant_of(spec.family, sizes, w_hh.dtype, **options)
    values: dict[str, Any] = dict.fromkeys(field.name for field in fields(Tape))
    values |= {name: array for name, array in arrays.items() if name in values} | stored
    values |= {"cell": cell, "variant": variant, "reverse": spec.reverse}
    values["lengths"] = None if lengths is None else np.ascontiguousarray(lengths, np.int64)
    return Tape(**values)


def _named(spec: Spec, arrays: list[Array]) -> dict[str, Array]:
    return dict(zip(spec.names, arrays, strict=True))


def _lead(arrays: list[Array], ranks: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that vmap put in front."""
    fronts = {a.shape[: a.ndim - rank] for a, rank in zip(arrays, ranks, strict=True)}
    return np.broadcast_shapes(*fronts) if fronts != {()} else ()


def _flat(arrays: list[Array], ranks: tuple[int, ...], lead: tuple[int, ...]) -> list[Array]:
    """Each with a single axis in front, of the size of all of vmap's or 1."""
    flat = []
    for array, rank in zip(arrays, ranks, strict=True):
        front, own = array.shape[: array.ndim - rank], array.shape[array.ndim - rank :]
        if prod(front) > 1 and front != lead:
            array, front = np.broadcast_to(array, (*lead, *own)), lead
        flat.append(array.reshape(prod(front), *own))
    return flat


def _as_rows(name: str, array: Array, count: int) -> Array:
    """N sequences of B rows as N*B rows; a parameter as it is."""
    if name not in _WITH_ROWS:
        return np.asarray(array[0])
    if len(array) < count:
        array = np.broadcast_to(array, (count, *array.shape[1:]))
    if name == "x":  # (N, T, B, ...)
        rows = count * array.shape[2]  # in numbers: -1 means nothing beside a size of 0
        return np.reshape(array.swapaxes(0, 1), (array.shape[1], rows, *array.shape[3:]))
    return np.reshape(array, (count * array.shape[1], *array.shape[2:]))
