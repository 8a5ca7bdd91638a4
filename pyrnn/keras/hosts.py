"""Arrays of Keras's backends: the few things done to them, and the operation on the kernels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ..checks import Array
from ..ops import FORWARD
from .parameters import Layer, NotExpressible


class NumpyHost:
    """``KERAS_BACKEND=numpy``, which has no gradients."""

    # What a masked step gives ahead of the first valid one: the initial state, not 0.
    starts_from_state = True

    def array(self, value: Any) -> Any:
        """A tensor, or the value of a variable."""
        if isinstance(value, np.ndarray):
            return value  # Keras would copy it
        # A new variable of float64 holds what its initialiser drew in float32.
        return np.asarray(keras.ops.convert_to_tensor(value), getattr(value, "dtype", None))

    def check(self, array: Any) -> None:
        if array.dtype not in (np.float32, np.float64):
            raise NotExpressible(f"dtype {array.dtype}")

    def cast(self, array: Any, like: Any) -> Any:
        return array.astype(like.dtype)

    def is_integer(self, array: Any) -> bool:
        return bool(array.dtype.kind in "biu")

    def mask(self, value: Any) -> Array:
        return np.asarray(value, bool)

    def concatenate(self, parts: list[Any]) -> Any:
        return np.concatenate(parts)

    def take(self, array: Any, index: Array) -> Any:
        """Steps of each row: (T, B, K) by (T, B)."""
        return array[index, np.arange(index.shape[1])]

    def where(self, condition: Array, a: Any, b: Any) -> Any:
        return np.where(condition[..., None], a, b)

    def zeros(self, like: Any) -> Any:
        return np.zeros_like(like)

    def flipped(self, array: Any) -> Any:
        return array[::-1]

    def run(
        self,
        layer: Layer,
        x: Any,
        states: list[Any],
        weights: list[Any],
        lengths: Array | None,
        reverse: bool,
    ) -> tuple[Any, list[Any]]:
        """y (T, B, H) and the last states."""
        y, *after, _ = FORWARD[layer.family](
            x, *states, *weights, lengths=lengths, reverse=reverse, save=False, **layer.options
        )
        return y, after


class TorchHost:
    """``KERAS_BACKEND=torch``, on a CPU, with gradients."""

    starts_from_state = False

    def array(self, value: Any) -> Any:
        return keras.ops.convert_to_tensor(value)

    def check(self, array: Any) -> None:
        if array.device.type != "cpu":
            raise NotExpressible(f"device {array.device.type}")
        name = str(array.dtype).removeprefix("torch.")
        if name not in ("float32", "float64"):
            raise NotExpressible(f"dtype {name}")

    def cast(self, array: Any, like: Any) -> Any:
        return array.to(like.dtype)

    def is_integer(self, array: Any) -> bool:
        return not (array.dtype.is_floating_point or array.dtype.is_complex)

    def mask(self, value: Any) -> Array:
        tensor = keras.ops.convert_to_tensor(value)
        if tensor.device.type != "cpu":
            raise NotExpressible(f"device {tensor.device.type}")
        return np.asarray(tensor.detach().numpy(), bool)

    def concatenate(self, parts: list[Any]) -> Any:
        import torch

        return torch.cat(parts)

    def take(self, array: Any, index: Array) -> Any:
        import torch

        return array[torch.from_numpy(index), torch.arange(index.shape[1])]

    def where(self, condition: Array, a: Any, b: Any) -> Any:
        import torch

        return torch.where(torch.from_numpy(condition)[..., None], a, b)

    def zeros(self, like: Any) -> Any:
        return like.new_zeros(like.shape)

    def flipped(self, array: Any) -> Any:
        return array.flip(0)

    def run(
        self,
        layer: Layer,
        x: Any,
        states: list[Any],
        weights: list[Any],
        lengths: Array | None,
        reverse: bool,
    ) -> tuple[Any, list[Any]]:
        from .autograd import apply

        options = {"lengths": lengths, "reverse": reverse, **layer.options}
        y, *after = apply(layer.family, options, x, states, weights)
        return y, after


Host = NumpyHost | TorchHost


def host() -> Host:
    """That of the backend in use."""
    name = keras.config.backend()
    if name == "numpy":
        return NumpyHost()
    if name == "torch":
        return TorchHost()
    raise RuntimeError(
        f"pyrnn.keras: expected KERAS_BACKEND to be numpy or torch, got {name}; set it ahead of "
        "the first import of keras"
    )
