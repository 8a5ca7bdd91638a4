"""The operations, with the arguments of ``pyrnn.ops`` and no tape."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..variants import VARIANT_ARRAYS, ActivationLike
from .calls import Spec
from .scan import scan


def rnn(
    x: Any,
    h0: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    *,
    nonlinearity: ActivationLike = "tanh",
    clip: float | None = None,
    ln_ih_weight: Any = None,
    ln_ih_bias: Any = None,
    ln_hh_weight: Any = None,
    ln_hh_bias: Any = None,
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """:func:`pyrnn.ops.rnn_forward` under JAX.

    Parameters
    ----------
    x : jax.Array
        (T, B, I), or (T, I) without a batch, float32 or float64 (with ``jax_enable_x64``); or
        integer tokens of these shapes without the last axis, then with a batch in ``h0``.
    h0 : jax.Array or None
        (B, H), or (H); None stands for 0.
    w_ih, w_hh, b_ih, b_hh : jax.Array
        As for the operation; so are the other keywords.
    lengths : jax.Array of integers, optional
        (B), or a number without a batch.
    reverse : bool
        From each row's last valid step to its first.

    Returns
    -------
    y : jax.Array
        (T, B, H), or (T, H).
    h_n : jax.Array
        (B, H), or (H).

    Raises
    ------
    ValueError, TypeError
        A wrong shape or dtype, while JAX traces.
    NotImplementedError
        A second derivative.

    Notes
    -----
    A length outside 0..T, or a token outside 0..I-1, is known while XLA runs only and comes as
    JAX's own error at run time.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, pyrnn.jax
    >>> w = jnp.eye(1)
    >>> loss = lambda w: pyrnn.jax.rnn(jnp.ones((2, 1, 1)), None, w, w)[0].sum()
    >>> round(float(jax.jit(jax.grad(loss))(w)[0, 0]), 4)
    0.6629
    """
    options = {"nonlinearity": nonlinearity, "clip": clip}
    arrays = {"x": x, "h0": h0, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh}
    arrays |= _norms(ln_ih_weight, ln_ih_bias, ln_hh_weight, ln_hh_bias)
    y, h_n = _scan("rnn", arrays, lengths, options, reverse)
    return y, h_n


def gru(
    x: Any,
    h0: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    *,
    reset_after: bool = True,
    activation: ActivationLike = "tanh",
    gate_activation: ActivationLike = "sigmoid",
    clip: float | None = None,
    ln_ih_weight: Any = None,
    ln_ih_bias: Any = None,
    ln_hh_weight: Any = None,
    ln_hh_bias: Any = None,
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """:func:`pyrnn.ops.gru_forward` under JAX; arguments, results and errors as for :func:`rnn`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, pyrnn.jax
    >>> w = jnp.ones((3, 1))
    >>> y, h_n = jax.jit(pyrnn.jax.gru)(jnp.ones((2, 1, 1)), jnp.zeros((1, 1)), w, w)
    >>> [round(float(value), 4) for value in y.ravel()]
    [0.2048, 0.3468]
    """
    options: dict[str, Any] = {"reset_after": bool(reset_after), "clip": clip}
    options |= {"activation": activation, "gate_activation": gate_activation}
    arrays = {"x": x, "h0": h0, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh}
    arrays |= _norms(ln_ih_weight, ln_ih_bias, ln_hh_weight, ln_hh_bias)
    y, h_n = _scan("gru", arrays, lengths, options, reverse)
    return y, h_n


def lstm(
    x: Any,
    h0: Any,
    c0: Any,
    w_ih: Any,
    w_hh: Any,
    b_ih: Any = None,
    b_hh: Any = None,
    *,
    activation: ActivationLike = "tanh",
    gate_activation: ActivationLike = "sigmoid",
    clip: float | None = None,
    coupled: bool = False,
    cell_clip: float | None = None,
    w_peephole: Any = None,
    w_hr: Any = None,
    ln_ih_weight: Any = None,
    ln_ih_bias: Any = None,
    ln_hh_weight: Any = None,
    ln_hh_bias: Any = None,
    ln_c_weight: Any = None,
    ln_c_bias: Any = None,
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any, Any]:
    """:func:`pyrnn.ops.lstm_forward` under JAX; arguments, results and errors as for :func:`rnn`.

    ``c0`` and ``c_n`` are (B, H), or (H).

    Examples
    --------
    Over the batch by ``vmap``, in one call to the kernels:

    >>> import jax, jax.numpy as jnp, pyrnn.jax
    >>> w = jnp.ones((4, 1))
    >>> over = jax.vmap(lambda x: pyrnn.jax.lstm(x, None, None, w, w))
    >>> y, h_n, c_n = over(jnp.ones((5, 2, 1)))
    >>> y.shape, c_n.shape
    ((5, 2, 1), (5, 1))
    """
    options: dict[str, Any] = {"activation": activation, "gate_activation": gate_activation}
    options |= {"clip": clip, "coupled": bool(coupled), "cell_clip": cell_clip}
    extra = (
        w_peephole, w_hr, ln_ih_weight, ln_ih_bias, ln_hh_weight, ln_hh_bias, ln_c_weight,
        ln_c_bias,
    )  # fmt: skip
    variants = dict(zip(VARIANT_ARRAYS, extra, strict=True))
    arrays = {"x": x, "h0": h0, "c0": c0, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh}
    y, h_n, c_n = _scan("lstm", arrays | variants, lengths, options, reverse)
    return y, h_n, c_n


def _norms(*arrays: Any) -> dict[str, Any]:
    """Gain and bias of both sides of the gates, by name."""
    return dict(zip(VARIANT_ARRAYS[2:6], arrays, strict=True))


def _scan(
    family: str, arrays: dict[str, Any], lengths: Any, options: dict[str, Any], reverse: bool
) -> tuple[Any, ...]:
    given = {name: jnp.asarray(a) for name, a in arrays.items() if a is not None}
    x, w_ih, w_hh = given["x"], given["w_ih"], given["w_hh"]
    tokens = np.dtype(x.dtype).kind in "iu"
    rank = x.ndim + tokens
    if rank not in (2, 3):
        wanted = "tokens of shape (T, B) or (T,)" if tokens else "shape (T, B, I) or (T, I)"
        raise ValueError(f"x: expected {wanted}, got {x.shape}")
    if w_ih.ndim != 2 or w_hh.ndim != 2:
        name, array = ("w_ih", w_ih) if w_ih.ndim != 2 else ("w_hh", w_hh)
        raise ValueError(f"{name}: expected a matrix, got shape {array.shape}")
    if lengths is not None:
        given["lengths"] = jnp.asarray(lengths)
    if rank == 2:
        given["x"] = x[:, None]
        for name in ("h0", "c0", "lengths"):
            if name in given:
                given[name] = given[name][None]
    batch = given["x"].shape[1]
    sizes = {"h0": w_hh.shape[1]}
    if family == "lstm":
        w_hr = given.get("w_hr")
        sizes["c0"] = w_hh.shape[1] if w_hr is None else w_hr.shape[-1]
    for name, size in sizes.items():
        given.setdefault(name, jnp.zeros((batch, size), w_hh.dtype))
    spec = Spec(family, tuple(given), _hashable(options), bool(reverse))
    results = tuple(scan(spec, tuple(given.values())))
    if rank == 2:
        y, *states = results
        return (y[:, 0], *(state[0] for state in states))
    return results


def _hashable(options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    def fixed(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    return tuple((name, fixed(value)) for name, value in options.items())
