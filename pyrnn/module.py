"""What recurrent and linear layers share: named parameters, their state dict, copies and text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks import check_names, shape_text, with_dtype
from .tape import Array


@dataclass(frozen=True, slots=True, eq=False)
class ModuleTape:
    """Base of what ``forward`` keeps for ``backward``; ``owner`` is the layer it belongs to."""

    owner: Module


@dataclass(slots=True, eq=False)
class Grads:
    """Base of the gradients that ``backward`` gives.

    Attributes
    ----------
    params : dict of str to ndarray
        Gradients of the parameters, by their names.
    """

    params: dict[str, Array]


class Module:
    """Base of the layers. Constructor arguments are kept as attributes of the same names."""

    params: dict[str, Array]
    dtype: np.dtype[Any]

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters, with PyTorch's names and shapes.

        Returns
        -------
        dict of str to ndarray
            C-contiguous copies: later updates of ``params`` do not reach them.
        """
        return {name: np.array(array, order="C") for name, array in self.params.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Write new values into the arrays of ``params``.

        Everything is checked before the first array is written.

        Parameters
        ----------
        state_dict : mapping of str to array
            With PyTorch's names and shapes and the dtype of the layer. Values may be anything that
            ``np.asarray`` reads, torch tensors included.

        Raises
        ------
        ValueError
            A missing or unexpected name, or a wrong shape.
        TypeError
            A wrong dtype, or a value that is no array.
        """
        check_names(f"state_dict of {self!r}", self.params, state_dict)
        # Copies, since the values may be views of the very arrays that are about to be written.
        new = {name: _read(name, state_dict[name]) for name in self.params}
        for name, param in self.params.items():
            new[name] = with_dtype(name, new[name], param.dtype.newbyteorder("="))
            if new[name].shape != param.shape:
                raise ValueError(
                    f"{name}: expected shape {shape_text(param.shape)}, "
                    f"got {shape_text(new[name].shape)}"
                )
            if not param.flags.writeable:
                raise ValueError(f"params[{name!r}]: expected a writable array")
        for name, param in self.params.items():
            param[...] = new[name]

    def arguments(self) -> dict[str, Any]:
        """Constructor arguments that build a layer like this one, for text and files.

        Returns
        -------
        dict of str to bool, int, float or str
            All but those that only say how the parameters start.
        """
        names = inspect.signature(type(self)).parameters
        found = {name: getattr(self, name) for name in names if name in vars(self)}
        found.pop("rng", None)
        return found | {"dtype": self.dtype.name}

    def __repr__(self) -> str:
        parts = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = self.arguments().get(name, parameter.default)
            if parameter.default is parameter.empty:
                parts.append(str(value))
            elif value != parameter.default:
                parts.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _own(self, tape: object, kind: type[ModuleTape]) -> None:
        """Refuse a tape that this layer's ``forward`` did not make."""
        if isinstance(tape, kind) and tape.owner is self:
            return
        if not isinstance(tape, ModuleTape):
            raise TypeError(f"tape: expected the tape of forward, got {type(tape).__name__}")
        raise ValueError(f"tape: expected one of this {self!r}, got one of {tape.owner!r}")


def _read(name: str, value: Any) -> Array:
    # A torch parameter that requires a gradient, or lies on a GPU, refuses to become an array.
    for step in ("detach", "cpu"):
        value = getattr(value, step)() if hasattr(value, step) else value
    try:
        array: Array = np.asarray(value).copy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}: {error}") from None
    return array
