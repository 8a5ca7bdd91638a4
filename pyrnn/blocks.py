"""Gates as blocks of rows, in one order or another: what conversions are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .checks import Array, shape_text
from .parameters import parameter_names

# Blocks of H rows in every weight and bias, from the top.
GATES = {"RNN": ("h",), "GRU": ("r", "z", "n"), "LSTM": ("i", "f", "g", "o")}
COUPLED = "fgo"

Params = Mapping[str, npt.ArrayLike]


class Layer(NamedTuple):
    """Parameters of one layer in one direction; both biases or none."""

    w_ih: Array  # (G*H, I)
    w_hh: Array  # (G*H, H)
    b_ih: Array | None = None  # (G*H)
    b_hh: Array | None = None  # (G*H)

    def named(self, layer: int, reverse: bool) -> dict[str, Array]:
        arrays = [array for array in self if array is not None]
        names = parameter_names(layer, reverse, len(arrays) == 4)
        return dict(zip(names, arrays, strict=True))


def kind_of(cell: str, *known: str) -> str:
    """The key of ``GATES`` for a cell, of those that a library has."""
    kinds = known or tuple(GATES)
    if not isinstance(cell, str) or cell.upper() not in kinds:
        names = ", ".join(repr(kind.lower()) for kind in kinds)
        raise ValueError(f"cell: expected one of {names}, got {cell!r}")
    return cell.upper()


def peephole_name(layer: int, reverse: bool) -> str:
    return parameter_names(layer, reverse, False)[0].replace("weight_ih", "weight_peephole")


def shaped(name: str, value: npt.ArrayLike, symbols: str, shape: tuple[int | None, ...]) -> Array:
    """``value`` as an array of this shape, None standing for any size."""
    array = np.asarray(value)
    fits = array.ndim == len(shape) and all(
        size is None or size == got for size, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        known = "" if None in shape else f" = {shape_text(tuple(int(n or 0) for n in shape))}"
        raise ValueError(f"{name}: expected shape {symbols}{known}, got {shape_text(array.shape)}")
    return array


def taken(params: Params, gates: Sequence[str], layer: int, reverse: bool) -> Layer:
    """One layer in one direction out of parameters of PyTorch's names."""
    names = parameter_names(layer, reverse, True)
    missing = [name for name in names[:2] if name not in params]
    if (names[2] in params) != (names[3] in params):
        missing += [name for name in names[2:] if name not in params]
    if missing:
        raise ValueError(f"params: missing {', '.join(missing)}")
    count = len(gates)
    w_hh = shaped(names[1], params[names[1]], f"({count}·H, H)", (None, None))
    size = w_hh.shape[1]
    rows = count * size
    shaped(names[1], w_hh, f"({count}·H, H)", (rows, size))
    w_ih = shaped(names[0], params[names[0]], f"({count}·H, I)", (rows, None))
    biases = [
        shaped(name, params[name], f"({count}·H)", (rows,)) for name in names[2:] if name in params
    ]
    return Layer(w_ih, w_hh, *biases)


def from_dense(
    kind: str,
    order: str,
    kernel: npt.ArrayLike,  # (I, G*H)
    recurrent: npt.ArrayLike,  # (H, G*H)
    biases: Sequence[npt.ArrayLike],  # none, one or two of (G*H)
    names: Sequence[str] = ("kernel", "recurrent_kernel", "bias", "recurrent_bias"),
) -> Layer:
    """A layer out of matrices that stand to the right of x and h, gates in another order.

    One bias becomes ``bias_ih``, and ``bias_hh`` is 0.
    """
    count, own = len(order), "".join(GATES[kind])
    w_hh = shaped(names[1], recurrent, f"(H, {count}·H)", (None, None))
    size = len(w_hh)
    columns = count * size
    shaped(names[1], w_hh, f"(H, {count}·H)", (size, columns))
    w_ih = shaped(names[0], kernel, f"(I, {count}·H)", (None, columns))
    given = [
        reorder(shaped(name, bias, f"({count}·H)", (columns,)), order, own)
        for name, bias in zip(names[2:], biases, strict=False)
    ]
    if len(given) == 1:
        given.append(np.zeros_like(given[0]))
    return Layer(reorder(w_ih.T, order, own), reorder(w_hh.T, order, own), *given)


def to_dense(kind: str, order: str, layer: Layer) -> list[Array]:
    """Kernel, recurrent kernel and both biases or none, as :func:`from_dense` takes them."""
    own = "".join(GATES[kind])
    arrays = [reorder(array, own, order) for array in layer if array is not None]
    return [np.ascontiguousarray(array.T) for array in arrays]


def reorder(array: Array, theirs: str, ours: str) -> Array:
    """Blocks of rows from one order of letters to another, as a copy."""
    blocks = np.split(array, len(theirs))
    return np.ascontiguousarray(np.concatenate([blocks[theirs.index(k)] for k in ours]))


def summed(b_ih: Array, b_hh: Array) -> Array:
    """The one bias in place of two; of one that is 0, the bits of the other."""
    total = np.where(b_ih == 0, b_hh, b_ih + b_hh)
    return np.asarray(np.where(b_hh == 0, b_ih, total))


def coupled_from_input(layer: Layer) -> Layer:
    """Of an LSTM whose f is 1 - i, the coupled one with i = 1 - f: 1 - sigmoid(a) = sigmoid(-a)."""

    def exchanged(array: Array) -> Array:
        i, _, g, o = np.split(array, 4)
        return np.concatenate([-i, g, o])

    return Layer(*(None if a is None else exchanged(a) for a in layer))  # type: ignore[arg-type]


def coupled_to_input(layer: Layer) -> Layer:
    """The reverse of :func:`coupled_from_input`; f, which counts for nothing, is 0."""

    def exchanged(array: Array) -> Array:
        f, g, o = np.split(array, 3)
        return np.concatenate([-f, np.zeros_like(f), g, o])

    return Layer(*(None if a is None else exchanged(a) for a in layer))  # type: ignore[arg-type]


def flax_side(
    arrays: Mapping[str, Mapping[str, npt.ArrayLike]], kind: str, side: str
) -> tuple[Array, Array]:
    """The kernel of all gates side by side, and the bias."""
    names = [side if kind == "RNN" else side + gate for gate in GATES[kind]]
    if f"dense_{side}" in arrays:
        names = [f"dense_{side}"]
    # "if" is a word of Python, so NNX calls it "if_".
    names = [f"{name}_" if f"{name}_" in arrays else name for name in names]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"arrays: missing {', '.join(missing)}")
    kernels = [
        shaped(f"{name}.kernel", arrays[name]["kernel"], "(rows, H)", (None, None))
        for name in names
    ]
    biases = [
        np.asarray(arrays[name].get("bias", np.zeros(kernel.shape[1], kernel.dtype)))
        for name, kernel in zip(names, kernels, strict=True)
    ]
    return np.concatenate(kernels, axis=1), np.concatenate(biases)


def torch_order(name: str) -> tuple[int, bool, int]:
    """Where PyTorch lists a parameter: by layer, direction, kind."""
    kind, _, place = name.rpartition("_l")
    layer, _, direction = place.partition("_")
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    if kind not in kinds or not layer.isdecimal():
        raise ValueError(f"params: expected names like weight_ih_l0, got {name!r}")
    return int(layer), direction == "reverse", kinds.index(kind)
