"""Names and shapes of a recurrent layer's parameters: PyTorch's, and in its style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from .checks import Array

# Kind of parameter -> name of the array in the operations.
ARRAYS = {
    "weight_ih": "w_ih",
    "weight_hh": "w_hh",
    "bias_ih": "b_ih",
    "bias_hh": "b_hh",
    "weight_hr": "w_hr",
    "weight_peephole": "w_peephole",
    "ln_ih_weight": "ln_ih_weight",
    "ln_ih_bias": "ln_ih_bias",
    "ln_hh_weight": "ln_hh_weight",
    "ln_hh_bias": "ln_hh_bias",
    "ln_c_weight": "ln_c_weight",
    "ln_c_bias": "ln_c_bias",
}
PLAIN = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class PartNames:
    """Names of the parameters of one layer in one direction, by what takes and what gives them.

    ``kinds``: kind of parameter -> its name; ``plain``: names of those of PLAIN's kinds;
    ``arrays``: (array of a variant, name).
    """

    __slots__ = ("_take", "arrays", "kinds", "plain")

    def __init__(self, kinds: Iterable[str], suffix: str) -> None:
        self.kinds = {kind: kind + suffix for kind in kinds}
        self.plain = [self.kinds[kind] for kind in PLAIN if kind in self.kinds]
        self._take: itemgetter[Any] = itemgetter(*self.plain)
        named = [(ARRAYS[kind], name) for kind, name in self.kinds.items()]
        self.arrays = [(array, name) for array, name in named if name not in self.plain]

    def weights(self, params: Mapping[str, Array]) -> tuple[Array | None, ...]:
        """Of PLAIN's kinds; no biases are None."""
        found: tuple[Array, ...] = self._take(params)
        return found if len(found) == len(PLAIN) else (*found, None, None)


def merged(of_parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Gradients of all parts by the names of the parameters, in their order."""
    first, *others = of_parts
    for of_part in others:
        first |= of_part
    return first


def parameter_names(layer: int, reverse: bool, bias: bool) -> tuple[str, ...]:
    """``weight_ih``, ``weight_hh`` and the biases of one layer in one direction.

    Examples
    --------
    >>> from pyrnn.parameters import parameter_names
    >>> parameter_names(1, True, False)
    ('weight_ih_l1_reverse', 'weight_hh_l1_reverse')
    """
    suffix = f"_l{layer}_reverse" if reverse else f"_l{layer}"
    return tuple(kind + suffix for kind in (PLAIN if bias else PLAIN[:2]))


def parameter_shapes(
    gates: int,
    input_size: int,
    hidden_size: int,
    proj_size: int,
    bias: bool,
    peephole: str | None,
    layer_norm: tuple[str, ...],
) -> dict[str, tuple[int, ...]]:
    """Shape of each kind of parameter of one layer in one direction; ``proj_size`` 0 for none.

    Examples
    --------
    >>> from pyrnn.parameters import parameter_shapes
    >>> parameter_shapes(4, 3, 5, 2, False, "diagonal", ())
    {'weight_ih': (20, 3), 'weight_hh': (20, 2), 'weight_hr': (2, 5), 'weight_peephole': (3, 5)}
    """
    rows = gates * hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (rows, input_size),
        "weight_hh": (rows, proj_size or hidden_size),
    }
    if bias:
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if proj_size:
        shapes["weight_hr"] = (proj_size, hidden_size)
    if peephole is not None:
        of_gate = (hidden_size,) * (2 if peephole == "full" else 1)
        shapes["weight_peephole"] = (gates - 1, *of_gate)
    for side in layer_norm:
        size = hidden_size if side == "c" else rows
        shapes |= {f"ln_{side}_weight": (size,), f"ln_{side}_bias": (size,)}
    return shapes
