"""An operation as JAX sees it: a call with a derivative of its own."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental.buffer_callback import buffer_callback

from .calls import Backward, Forward, Spec, differentiable, results_of


def _described(spec: Spec, arrays: tuple[Any, ...]) -> Any:
    signature = tuple((tuple(a.shape), np.dtype(a.dtype).name) for a in arrays)
    return results_of(spec, signature)


def _call(callback: Any, described: list[Any], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    wanted = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in described)
    # Arrays that vmap does not map come with an axis of 1, and are not repeated.
    return tuple(buffer_callback(callback, wanted, vmap_method="expand_dims")(*arrays))


def _primal(spec: Spec, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    results, _ = _described(spec, arrays)
    ranks = tuple(array.ndim for array in arrays)
    return _call(Forward(spec, ranks, save=False), results, arrays)


def _with_tape(spec: Spec, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    results, stored = _described(spec, arrays)
    ranks = tuple(array.ndim for array in arrays)
    return _call(Forward(spec, ranks, save=True), [*results, *stored.values()], arrays)


def _gradients(spec: Spec, kept: Any, incoming: tuple[Any, ...]) -> tuple[Any, ...]:
    arrays, stored = kept
    _, described = _described(spec, arrays)
    inputs = (*arrays, *stored, *incoming)
    callback = Backward(spec, tuple(array.ndim for array in inputs), tuple(described))
    wanted = [(a.shape, a.dtype) for a in arrays if differentiable(a)]
    found = iter(_call(callback, wanted, inputs))
    grads = tuple(
        # JAX's gradient of an integer.
        next(found) if differentiable(a) else np.zeros(a.shape, jax.dtypes.float0)
        for a in arrays
    )
    return (grads,)


def _refuse(spec: Spec, *_: Any) -> Any:
    raise NotImplementedError(
        f"pyrnn.jax.{spec.family}: expected first derivatives, got a derivative of a gradient; "
        "a loop of jax.lax.scan has second ones"
    )


def _once(function: Any) -> Any:
    """A part of a first derivative: it has none itself, and says so."""
    wrapped = jax.custom_vjp(function, nondiff_argnums=(0,))
    wrapped.defvjp(lambda *arguments: (function(*arguments), None), _refuse)
    return wrapped


_with_tape_once, _gradients_once = _once(_with_tape), _once(_gradients)


def _forward_rule(spec: Spec, arrays: tuple[Any, ...]) -> tuple[Any, Any]:
    made = _with_tape_once(spec, arrays)
    count = 1 + spec.states
    return made[:count], (arrays, made[count:])


_scan = jax.custom_vjp(_primal, nondiff_argnums=(0,))
_scan.defvjp(_forward_rule, lambda *arguments: _gradients_once(*arguments))

# (Spec, arrays) -> y and the last states; compiled once for each operation and shape.
scan = jax.jit(_scan, static_argnums=0)
