"""The linear layer ``y = x W^T + b``, as between the states of a network and its scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from .backends import use_reference
from .checks import checked_array, checked_dtype, checked_integer, shape_text, with_dtype
from .initialisation import generator, uniform
from .module import Grads, Module, ModuleTape
from .tape import Array

__all__ = ["Linear"]


@dataclass(slots=True, eq=False)
class LinearGrads(Grads):
    """Gradients of a linear layer.

    Attributes
    ----------
    params : dict of str to ndarray
        Gradients of the parameters, by their names.
    x : ndarray
        Gradient of the input, in its shape.
    """

    x: Array


@dataclass(frozen=True, slots=True, eq=False)
class LinearTape(ModuleTape):
    """Read-only record of one ``forward`` of a linear layer.

    Attributes
    ----------
    owner : Module
        The layer.
    x : ndarray
        Input as rows, (N, in_features).
    weight : ndarray
        The layer's, (out_features, in_features).
    leading : tuple of int
        Shape of the input without its last axis.
    """

    x: Array
    weight: Array
    leading: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the rows, which are the caller's own where x was contiguous."""
        return self.x.nbytes


class Linear(Module):
    """``y = x W^T + b`` over the last axis of x.

    Parameters
    ----------
    in_features, out_features : int
        At least 1.
    bias : bool
        False: no b.
    dtype : {"float32", "float64"}
        Of parameters, inputs and results.
    rng : None, int or numpy.random.Generator
        Source of the starting values, uniform in ±1/sqrt(in_features) as in PyTorch.

    Attributes
    ----------
    params : dict of str to ndarray
        ``weight`` (out_features, in_features) and ``bias`` (out_features).

    Raises
    ------
    ValueError, TypeError
        An argument outside its range, or of another kind.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> head = pyrnn.Linear(4, 2, rng=0)
    >>> y, tape = head.forward(np.ones((5, 3, 4), "float32"))
    >>> grads = head.backward(tape, np.ones_like(y))
    >>> grads.x.shape, grads.params["bias"].tolist()
    ((5, 3, 4), [15.0, 15.0])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        self.in_features = checked_integer("in_features", in_features, 1)
        self.out_features = checked_integer("out_features", out_features, 1)
        self.bias = bool(bias)
        self.dtype = checked_dtype(dtype)
        drawn = generator(rng)
        shapes = {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}
        self.params = {
            name: uniform(drawn, shape, self.in_features, self.dtype)
            for name, shape in shapes.items()
            if name == "weight" or self.bias
        }

    def __call__(self, x: npt.ArrayLike) -> Array:
        """y (..., out_features) of x (..., in_features), keeping nothing.

        Parameters
        ----------
        x : array
            (..., in_features), of the dtype of the layer.

        Returns
        -------
        ndarray
            (..., out_features).

        Raises
        ------
        ValueError
            A wrong shape.
        TypeError
            Another dtype than the layer's.
        """
        return self.forward(x)[0]

    def forward(self, x: npt.ArrayLike) -> tuple[Array, LinearTape]:
        """y, and a tape for :meth:`backward`.

        The tape refers to x and the weight without copying them: both must keep their values
        until the last ``backward`` with this tape.

        Parameters
        ----------
        x : array
            (..., in_features), of the dtype of the layer.

        Returns
        -------
        y : ndarray
            (..., out_features).
        tape : LinearTape
            It belongs to the caller and may be used several times.

        Raises
        ------
        ValueError
            A wrong shape.
        TypeError
            Another dtype than the layer's.
        """
        x = with_dtype("x", np.asarray(x), self.dtype)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x: expected shape (..., in_features) = (..., {self.in_features}), "
                f"got {shape_text(x.shape)}"
            )
        sizes = (self.out_features, self.in_features)
        weight = checked_array(
            "weight", self.params["weight"], self.dtype, "(out_features, in_features)", sizes
        )
        bias = self.params["bias"] if self.bias else None
        if bias is not None:
            bias = checked_array("bias", bias, self.dtype, "(out_features,)", sizes[:1])
        leading = x.shape[:-1]
        rows = np.ascontiguousarray(x).reshape(math.prod(leading), self.in_features)
        if use_reference():
            with np.errstate(all="ignore"):
                y = rows @ weight.T if bias is None else rows @ weight.T + bias
        else:
            y = _core.linear_forward(rows, weight, bias)
        return y.reshape(*leading, self.out_features), LinearTape(self, rows, weight, leading)

    def backward(self, tape: LinearTape, dy: npt.ArrayLike) -> LinearGrads:
        """Gradients of x, weight and bias.

        Parameters
        ----------
        tape : LinearTape
            From this layer's :meth:`forward`.
        dy : array
            Gradient of the loss by y, (..., out_features).

        Returns
        -------
        LinearGrads
            ``x`` and ``params``, new arrays.

        Raises
        ------
        ValueError
            A tape of another layer, or a wrong shape.
        TypeError
            No tape, or another dtype than the layer's.
        """
        self._own(tape, LinearTape)
        shape = (*tape.leading, self.out_features)
        dy = checked_array("dy", dy, self.dtype, "(..., out_features)", shape)
        rows = np.ascontiguousarray(dy).reshape(len(tape.x), self.out_features)
        dbias: Any = None
        if use_reference():
            with np.errstate(all="ignore"):
                dx, dweight = rows @ tape.weight, rows.T @ tape.x
                dbias = rows.sum(axis=0) if self.bias else None
        else:
            dx, dweight, dbias = _core.linear_backward(tape.x, tape.weight, rows, self.bias)
        params = {"weight": dweight} if dbias is None else {"weight": dweight, "bias": dbias}
        return LinearGrads(params, dx.reshape(*tape.leading, self.in_features))
