"""ONNX's list of activations: value and slope, with its alpha and beta.

At a kink the slope is that of the side which is constant, or of x > 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..tape import Array
from ..variants import Activation


class Opened(NamedTuple):
    """An activation at a sum: value and slope, each of the shape of the sum."""

    value: Array
    slope: Array


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), exact in the tails: exp is only taken of -|x|."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


def sigmoid_slope(s: Array) -> Array:
    return np.asarray(s * (1 - s))


def tanh_slope(y: Array) -> Array:
    return np.asarray(1 - y * y)


def _tanh(x: Array, alpha: float, beta: float) -> Opened:
    y = np.tanh(x)
    return Opened(y, tanh_slope(y))


def _sigmoid(x: Array, alpha: float, beta: float) -> Opened:
    s = sigmoid(x)
    return Opened(s, sigmoid_slope(s))


def _relu(x: Array, alpha: float, beta: float) -> Opened:
    return Opened(np.maximum(x, 0), _where(x > 0, 1, 0, x))


def _affine(x: Array, alpha: float, beta: float) -> Opened:
    return Opened(alpha * x + beta, np.full_like(x, alpha))


def _leaky_relu(x: Array, alpha: float, beta: float) -> Opened:
    return Opened(np.where(x < 0, alpha * x, x), _where(x < 0, alpha, 1, x))


def _thresholded_relu(x: Array, alpha: float, beta: float) -> Opened:
    return Opened(np.where(x <= alpha, 0, x), _where(x > alpha, 1, 0, x))


def _scaled_tanh(x: Array, alpha: float, beta: float) -> Opened:
    y = np.tanh(beta * x)
    return Opened(alpha * y, alpha * beta * tanh_slope(y))


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Opened:
    line = alpha * x + beta
    return Opened(np.clip(line, 0, 1), _where((line > 0) & (line < 1), alpha, 0, x))


def _elu(x: Array, alpha: float, beta: float) -> Opened:
    below = np.minimum(x, 0)
    return Opened(
        np.where(x < 0, alpha * np.expm1(below), x), np.where(x < 0, alpha * np.exp(below), 1)
    )


def _softsign(x: Array, alpha: float, beta: float) -> Opened:
    d = 1 + np.abs(x)
    return Opened(x / d, 1 / (d * d))


def _softplus(x: Array, alpha: float, beta: float) -> Opened:
    return Opened(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), sigmoid(x))


def _identity(x: Array, alpha: float, beta: float) -> Opened:
    return Opened(x, np.ones_like(x))


def _where(condition: Array, yes: float, no: float, like: Array) -> Array:
    return np.where(condition, yes, no).astype(like.dtype)


_FUNCTIONS: dict[str, Callable[[Array, float, float], Opened]] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "relu": _relu,
    "affine": _affine,
    "leaky_relu": _leaky_relu,
    "thresholded_relu": _thresholded_relu,
    "scaled_tanh": _scaled_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "elu": _elu,
    "softsign": _softsign,
    "softplus": _softplus,
    "identity": _identity,
}


def opened(activation: Activation, x: Array) -> Opened:
    """Value and slope of an activation at x."""
    name, alpha, beta = activation
    return _FUNCTIONS[name](x, alpha, beta)
