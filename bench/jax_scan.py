"""The three cells in JAX: input projection first, then lax.scan over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from cases import Case

_Step = Callable[[Any, Any, Any, Any], Any]


def _lstm(projected: Any, states: Any, w_hh: Any, b_hh: Any) -> Any:
    h, c = states
    i, f, g, o = jnp.split(projected + h @ w_hh.T + b_hh, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(projected: Any, states: Any, w_hh: Any, b_hh: Any) -> Any:
    (h,) = states
    x_r, x_z, x_n = jnp.split(projected, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(h @ w_hh.T + b_hh, 3, axis=-1)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


def _rnn(projected: Any, states: Any, w_hh: Any, b_hh: Any) -> Any:
    (h,) = states
    return (jnp.tanh(projected + h @ w_hh.T + b_hh),)


_STEPS: dict[str, _Step] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


def forward(case: Case) -> Callable[[Any, Any, Any], Any]:
    """(params, x, states) -> (y, final states), each of PyTorch's shape."""
    step = _STEPS[case.cell]

    def scan(params: Any, suffix: str, x: Any, states: Any, reverse: bool) -> Any:
        w_hh, b_hh = params[f"weight_hh_{suffix}"], params[f"bias_hh_{suffix}"]
        projected = x @ params[f"weight_ih_{suffix}"].T + params[f"bias_ih_{suffix}"]

        def body(carry: Any, at_t: Any) -> Any:
            after = step(at_t, carry, w_hh, b_hh)
            return after, after[0]

        return jax.lax.scan(body, states, projected, reverse=reverse)

    def run(params: Any, x: Any, states: Any) -> Any:
        finals = []
        for layer in range(case.num_layers):
            outputs = []
            for direction in range(case.directions):
                index = layer * case.directions + direction
                suffix = f"l{layer}" + ("_reverse" if direction else "")
                final, y = scan(params, suffix, x, tuple(s[index] for s in states), direction == 1)
                finals.append(final)
                outputs.append(y)
            x = jnp.concatenate(outputs, axis=-1) if case.bidirectional else outputs[0]
        return x, tuple(jnp.stack(s) for s in zip(*finals, strict=True))

    return run


def forward_backward(case: Case) -> Callable[[Any, Any, Any, Any], Any]:
    """(params, x, states, dy) -> (y, gradients of (params, x, states))."""
    run = forward(case)

    def both(params: Any, x: Any, states: Any, dy: Any) -> Any:
        y, pull, _ = jax.vjp(run, params, x, states, has_aux=True)
        return y, pull(dy)

    return both
