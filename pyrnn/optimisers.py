"""Optimisers: they update arrays of parameters in place, from gradients of the same names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .checks import check_names, checked_number, shape_text, with_dtype
from .module import Grads
from .tape import Array

__all__ = ["SGD", "Adam"]

# Elements that go through all steps of an update before the next ones: enough that a call into
# NumPy (1 µs) costs little beside its work, few enough that parameter, gradient, two averages and a
# temporary, 256 KiB each in float32, come from a cache and not from memory.
_BLOCK = 65536


class _Optimiser:
    """Base: checks, blocks and the state dict."""

    # Attributes that are numbers, and one array per parameter.
    _numbers: ClassVar[tuple[str, ...]] = ("lr", "weight_decay")

    def __init__(self, params: Mapping[str, Array], lr: float, weight_decay: float) -> None:
        if not isinstance(params, Mapping):
            raise TypeError(
                "params: expected a mapping of names to arrays, such as layer.params, "
                f"got {type(params).__name__}"
            )
        self.params = params
        self.lr = checked_number("lr", lr, 0.0)
        self.weight_decay = checked_number("weight_decay", weight_decay, 0.0)
        self.steps = 0
        self._buffers: dict[str, dict[str, Array]] = {}
        for name, param in params.items():
            _check_param(name, param)

    def _new_buffer(self, kind: str) -> None:
        self._buffers[kind] = {
            name: np.zeros(param.shape, param.dtype) for name, param in self.params.items()
        }

    def _update(self, param: Array, grad: Array, buffers: list[Array], scratch: Array) -> None:
        """Update one block in place. ``scratch`` has two rows of its length, ``grad`` is kept."""
        raise NotImplementedError

    def step(self, grads: Grads | Mapping[str, Any]) -> None:
        """Update every parameter once.

        Everything is checked before the first parameter is written.

        Parameters
        ----------
        grads : Grads or mapping of str to array
            A gradient for each parameter, of its shape and dtype.

        Raises
        ------
        ValueError
            A missing or unexpected name, a wrong shape, or a parameter that is read-only.
        TypeError
            Another dtype than the parameter's.
        """
        given = grads.params if isinstance(grads, Grads) else grads
        if not isinstance(given, Mapping):
            raise TypeError(f"grads: expected gradients by name, got {type(grads).__name__}")
        check_names("grads", self.params, given)
        work = []
        for name, param in self.params.items():
            _check_param(name, param)
            grad = with_dtype(f"grads[{name!r}]", np.asarray(given[name]), param.dtype)
            buffers = [kind[name] for kind in self._buffers.values()]
            for what, array in [(f"grads[{name!r}]", grad), *((name, b) for b in buffers)]:
                if array.shape != param.shape:
                    raise ValueError(
                        f"{what}: expected shape {shape_text(param.shape)}, "
                        f"got {shape_text(array.shape)}"
                    )
            work.append((param, grad, buffers))
        self.steps += 1
        with np.errstate(all="ignore"):
            for param, grad, buffers in work:
                flat = param.reshape(-1)
                parts = [flat, grad.reshape(-1), *(b.reshape(-1) for b in buffers)]
                scratch = np.empty((2, min(_BLOCK, flat.size)), param.dtype)
                for start in range(0, flat.size, _BLOCK):
                    block, gradient, *state = (part[start : start + _BLOCK] for part in parts)
                    self._update(block, gradient, state, scratch[:, : block.size])
                if not np.may_share_memory(flat, param):
                    param[...] = flat.reshape(param.shape)

    def state_dict(self) -> dict[str, Any]:
        """What a later run needs to go on: numbers, and copies of the averages.

        Returns
        -------
        dict of str to float, int or ndarray
            Flat, so that ``np.savez(path, **optimiser.state_dict())`` keeps it.
        """
        numbers = {name: getattr(self, name) for name in ("steps", *self._numbers)}
        arrays = {
            f"{kind}.{name}": array.copy()
            for kind, buffer in self._buffers.items()
            for name, array in buffer.items()
        }
        return numbers | arrays

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the optimiser that gave ``state_dict`` was.

        Everything is checked before anything is written.

        Parameters
        ----------
        state_dict : mapping
            From :meth:`state_dict` of an optimiser of this kind over the same parameters.

        Raises
        ------
        ValueError
            A missing or unexpected name, or a wrong shape.
        TypeError
            Another dtype than the parameter's.
        """
        mine = self.state_dict()
        check_names("state_dict", mine, state_dict)
        new: dict[str, Any] = {}
        for name, value in mine.items():
            array = np.array(state_dict[name])
            if isinstance(value, np.ndarray):
                array = with_dtype(name, array, value.dtype)
            if array.shape != np.shape(value):
                raise ValueError(
                    f"{name}: expected shape {shape_text(np.shape(value))}, "
                    f"got {shape_text(array.shape)}"
                )
            new[name] = array if isinstance(value, np.ndarray) else array.item()
        for name in ("steps", *self._numbers):
            setattr(self, name, new[name])
        for kind, buffer in self._buffers.items():
            for name, array in buffer.items():
                array[...] = new[f"{kind}.{name}"]

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._numbers)
        return f"{type(self).__name__}({numbers})"


class SGD(_Optimiser):
    """Stochastic gradient descent, with momentum: ``v = momentum * v + g``, ``p -= lr * v``.

    Parameters
    ----------
    params : mapping of str to ndarray
        Float arrays, updated in place; ``layer.params``.
    lr : float
        Learning rate, an attribute that may be assigned between steps.
    momentum : float
        0: ``p -= lr * g``.
    weight_decay : float
        Adds ``weight_decay * p`` to g.
    nesterov : bool
        ``p -= lr * (g + momentum * v)``.

    Raises
    ------
    ValueError, TypeError
        A negative number, or no mapping of writable float arrays.

    Notes
    -----
    The equations of ``torch.optim.SGD``. Sutskever, Martens, Dahl & Hinton, "On the importance of
    initialization and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> params = {"weight": np.array([1.0, 2.0])}
    >>> pyrnn.SGD(params, lr=0.5).step({"weight": np.array([1.0, -1.0])})
    >>> params["weight"].tolist()
    [0.5, 2.5]
    """

    _numbers = ("lr", "momentum", "weight_decay", "nesterov")

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.momentum = checked_number("momentum", momentum, 0.0)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov: expected a momentum above 0, got 0")
        if self.momentum != 0.0:
            self._new_buffer("velocity")

    def _update(self, param: Array, grad: Array, buffers: list[Array], scratch: Array) -> None:
        spare, decayed = scratch
        if self.weight_decay != 0.0:
            np.multiply(param, self.weight_decay, out=decayed)
            grad = np.add(decayed, grad, out=decayed)
        if buffers:
            (velocity,) = buffers
            velocity *= self.momentum
            velocity += grad
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=spare)
                grad = np.add(spare, grad, out=spare)
            else:
                grad = velocity
        np.multiply(grad, self.lr, out=spare)
        param -= spare


class Adam(_Optimiser):
    """Adam: ``p -= lr * m / (sqrt(v) + eps)`` with the averages corrected for their start at 0.

    ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g**2``.

    Parameters
    ----------
    params : mapping of str to ndarray
        Float arrays, updated in place; ``layer.params``.
    lr : float
        Learning rate, an attribute that may be assigned between steps.
    betas : tuple of two floats
        beta1 and beta2, in [0, 1).
    eps : float
        Added to the denominator.
    weight_decay : float
        Adds ``weight_decay * p`` to g.

    Raises
    ------
    ValueError, TypeError
        A number outside its range, or no mapping of writable float arrays.

    Notes
    -----
    The equations of ``torch.optim.Adam``. Kingma & Ba, "Adam: a method for stochastic
    optimization", ICLR 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> params = {"weight": np.array([1.0, 2.0])}
    >>> pyrnn.Adam(params, lr=0.5).step({"weight": np.array([3.0, -1.0])})
    >>> params["weight"].round(6).tolist()
    [0.5, 2.5]
    """

    _numbers = ("lr", "beta1", "beta2", "eps", "weight_decay")

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        below_one = math.nextafter(1.0, 0.0)
        self.beta1, self.beta2 = (checked_number("betas", b, 0.0, below_one) for b in betas)
        self.eps = checked_number("eps", eps, 0.0)
        self._new_buffer("m")
        self._new_buffer("v")

    def _update(self, param: Array, grad: Array, buffers: list[Array], scratch: Array) -> None:
        spare, decayed = scratch
        m, v = buffers
        if self.weight_decay != 0.0:
            np.multiply(param, self.weight_decay, out=decayed)
            grad = np.add(decayed, grad, out=decayed)
        np.subtract(grad, m, out=spare)
        spare *= 1.0 - self.beta1
        m += spare
        v *= self.beta2
        np.multiply(grad, grad, out=spare)
        spare *= 1.0 - self.beta2
        v += spare
        np.sqrt(v, out=spare)
        spare /= math.sqrt(1.0 - self.beta2**self.steps)
        spare += self.eps
        np.divide(m, spare, out=spare)
        spare *= self.lr / (1.0 - self.beta1**self.steps)
        param -= spare


def _check_param(name: str, param: Any) -> None:
    if not isinstance(param, np.ndarray) or param.dtype.name not in ("float32", "float64"):
        kind = param.dtype.name if isinstance(param, np.ndarray) else type(param).__name__
        raise TypeError(f"params[{name!r}]: expected a float32 or float64 array, got {kind}")
    if not param.flags.writeable:
        raise ValueError(f"params[{name!r}]: expected a writable array")
