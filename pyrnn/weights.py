"""Names, shapes and gate orders of the parameters: PyTorch's, which are also pyrnn's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .tape import Array

# Blocks of H rows in every weight and bias, from the top.
GATES = {"RNN": ("h",), "GRU": ("r", "z", "n"), "LSTM": ("i", "f", "g", "o")}


def parameter_names(layer: int, reverse: bool, bias: bool) -> tuple[str, ...]:
    """``weight_ih``, ``weight_hh`` and the biases of one layer in one direction.

    Examples
    --------
    >>> from pyrnn.weights import parameter_names
    >>> parameter_names(1, True, False)
    ('weight_ih_l1_reverse', 'weight_hh_l1_reverse')
    """
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    suffix = f"_l{layer}_reverse" if reverse else f"_l{layer}"
    return tuple(kind + suffix for kind in (kinds if bias else kinds[:2]))


def parameter_shapes(
    gates: int, input_size: int, hidden_size: int, bias: bool
) -> tuple[tuple[int, ...], ...]:
    """Shapes in the order of :func:`parameter_names`."""
    rows = gates * hidden_size
    weights = ((rows, input_size), (rows, hidden_size))
    return (*weights, (rows,), (rows,)) if bias else weights


def gru_exchange_update_gate(params: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """Convert GRU parameters between the two conventions of the update gate.

    PyTorch and pyrnn write ``h_t = (1 - z) * n + z * h_{t-1}``; much of the literature writes
    ``h_t = (1 - z) * h_{t-1} + z * n``. As ``1 - sigmoid(a) = sigmoid(-a)``, the two are one cell
    with the z rows of every weight and bias negated. Applied twice it gives back its input.

    Parameters
    ----------
    params : mapping of str to array
        ``weight_ih_l0`` (3*H, I), ``bias_hh_l0`` (3*H), ...: blocks r, z, n.

    Returns
    -------
    dict of str to ndarray
        New arrays under the same names.

    Raises
    ------
    ValueError
        An array whose first axis is not three gates long.

    Notes
    -----
    Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014, equation
    (7), is written as pyrnn is; Chung et al. (arXiv:1412.3555) exchange z and 1 - z.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> pyrnn.gru_exchange_update_gate({"bias_ih_l0": np.ones(6)})["bias_ih_l0"].tolist()
    [1.0, 1.0, -1.0, -1.0, 1.0, 1.0]
    """
    converted = {}
    for name, value in params.items():
        array = np.array(value)
        if array.ndim == 0 or array.shape[0] % 3 != 0:
            raise ValueError(f"{name}: expected 3·H rows (gates r, z, n), got shape {array.shape}")
        size = array.shape[0] // 3
        np.negative(array[size : 2 * size], out=array[size : 2 * size])
        converted[name] = array
    return converted
