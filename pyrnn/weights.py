"""Conversions of parameters from and to other libraries; PyTorch's are pyrnn's own.

A conversion moves numbers and negates some, so there and back gives the same bits; but a library
that has one bias in place of two gets their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .blocks import (
    COUPLED,
    GATES,
    Params,
    coupled_from_input,
    coupled_to_input,
    flax_side,
    from_dense,
    kind_of,
    peephole_name,
    reorder,
    shaped,
    summed,
    taken,
    to_dense,
    torch_order,
)
from .checks import Array, shape_text
from .parameters import PLAIN, parameter_names, parameter_shapes

# The same gates as others stack them.
_OWN = {"RNN": "h", "GRU": "rzn", "LSTM": "ifgo"}
_KERAS = {"RNN": "h", "GRU": "zrn", "LSTM": "ifgo"}
_ONNX = {"RNN": "h", "GRU": "zrn", "LSTM": "iofg"}
_HASTE = {"GRU": "zrn", "LSTM": "igfo"}
_BLOCK_LSTM = {1: "igfo", 2: "ifgo"}  # TensorFlow's BlockLSTM and BlockLSTMV2
_BLOCK_PEEPHOLES = ("wci", "wcf", "wco")

# What Keras calls hard_sigmoid, by its major version, as ``gate_activation`` takes it.
KERAS_HARD_SIGMOID = {3: ("hard_sigmoid", 1 / 6, 0.5), 2: ("hard_sigmoid", 0.2, 0.5)}


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


def from_keras(
    arrays: Sequence[npt.ArrayLike], cell: str, *, layer: int = 0, reverse: bool = False
) -> dict[str, Array]:
    """Parameters out of ``get_weights()`` of a Keras layer, one direction of it.

    Parameters
    ----------
    arrays : sequence of array
        ``kernel`` (I, G*H), ``recurrent_kernel`` (H, G*H) and, unless ``use_bias=False``, ``bias``
        (G*H), of a GRU with ``reset_after=True`` (2, 3*H). Gates i, f, c, o or z, r, h.
    cell : {"rnn", "gru", "lstm"}
    layer, reverse : int, bool
        Which names to give; the backward half of a ``Bidirectional`` is ``reverse``.

    Notes
    -----
    ``hard_sigmoid`` changed between Keras 2 and 3: see ``KERAS_HARD_SIGMOID``.

    Examples
    --------
    >>> import numpy as np
    >>> from pyrnn.weights import from_keras
    >>> params = from_keras([np.ones((2, 12)), np.ones((3, 12)), np.ones(12)], "lstm")
    >>> params["weight_ih_l0"].shape
    (12, 2)
    """
    kind = kind_of(cell)
    if len(arrays) not in (2, 3):
        raise ValueError(f"arrays: expected kernel, recurrent_kernel and bias, got {len(arrays)}")
    kernel, recurrent, *biases = arrays
    if biases and np.ndim(biases[0]) == 2:
        biases = list(shaped("bias", biases[0], "(2, 3·H)", (2, None)))
    return from_dense(kind, _KERAS[kind], kernel, recurrent, biases).named(layer, reverse)


def to_keras(
    params: Params, cell: str, *, layer: int = 0, reverse: bool = False, reset_after: bool = True
) -> list[Array]:
    """What ``set_weights`` of a Keras layer takes, as :func:`from_keras` describes it.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.weights import to_keras
    >>> [array.shape for array in to_keras(pyrnn.GRU(2, 3, rng=0).params, "gru")]
    [(2, 9), (3, 9), (2, 9)]
    """
    kind = kind_of(cell)
    kernel, recurrent, *biases = to_dense(
        kind, _KERAS[kind], taken(params, GATES[kind], layer, reverse)
    )
    if not biases:
        return [kernel, recurrent]
    two = kind == "GRU" and reset_after
    return [kernel, recurrent, np.stack(biases) if two else summed(*biases)]


def from_haste(
    arrays: Mapping[str, npt.ArrayLike], cell: str, *, layer: int = 0, reverse: bool = False
) -> dict[str, Array]:
    """Parameters out of those of a haste layer.

    ``kernel`` (I, G*H), ``recurrent_kernel`` (H, G*H), ``bias`` (G*H) and, of a GRU,
    ``recurrent_bias`` (G*H). Gates i, g, f, o or z, r, h.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.weights import from_haste, to_haste
    >>> params = pyrnn.GRU(2, 3, rng=0).params
    >>> again = from_haste(to_haste(params, "gru"), "gru")
    >>> all((again[name] == params[name]).all() for name in params)
    True
    """
    kind = kind_of(cell, *_HASTE)
    biases = [arrays[name] for name in ("bias", "recurrent_bias") if name in arrays]
    dense = arrays["kernel"], arrays["recurrent_kernel"]
    return from_dense(kind, _HASTE[kind], *dense, biases).named(layer, reverse)


def to_haste(
    params: Params, cell: str, *, layer: int = 0, reverse: bool = False
) -> dict[str, Array]:
    """The reverse of :func:`from_haste`."""
    kind = kind_of(cell, *_HASTE)
    arrays = to_dense(kind, _HASTE[kind], taken(params, GATES[kind], layer, reverse))
    if len(arrays) == 4 and kind == "LSTM":
        arrays[2:] = [summed(*arrays[2:])]
    names = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
    return dict(zip(names, arrays, strict=False))


def from_flax(
    arrays: Mapping[str, Mapping[str, npt.ArrayLike]],
    cell: str,
    *,
    layer: int = 0,
    reverse: bool = False,
) -> dict[str, Array]:
    """Parameters out of those of a Flax cell.

    ``arrays`` has ``dense_i`` and ``dense_h`` of NNX's fused cells, each with a ``kernel`` of all
    gates side by side and maybe a ``bias``; or one such entry a gate, ``ii``, ``hi``, ... of Linen
    (``i`` and ``h`` of a SimpleCell). An absent bias becomes 0.

    Examples
    --------
    >>> import numpy as np
    >>> from pyrnn.weights import from_flax
    >>> dense = {"dense_i": {"kernel": np.ones((2, 12))}, "dense_h": {"kernel": np.ones((3, 12))}}
    >>> from_flax(dense, "lstm")["weight_hh_l0"].shape
    (12, 3)
    """
    kind = kind_of(cell)
    (kernel, b_ih), (recurrent, b_hh) = (flax_side(arrays, kind, side) for side in "ih")
    return from_dense(kind, _OWN[kind], kernel, recurrent, [b_ih, b_hh]).named(layer, reverse)


def to_flax(
    params: Params, cell: str, *, fused: bool = False, layer: int = 0, reverse: bool = False
) -> dict[str, dict[str, Array]]:
    """The reverse of :func:`from_flax`: Linen's entries, or ``fused`` those of NNX.

    NNX's fused GRU has no place for a ``bias_hh`` of the n gate: one that is not 0 is refused.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.weights import to_flax
    >>> sorted(to_flax(pyrnn.GRU(2, 3, rng=0).params, "gru"))
    ['hn', 'hr', 'hz', 'in', 'ir', 'iz']
    """
    kind = kind_of(cell)
    kernel, recurrent, *biases = to_dense(
        kind, _OWN[kind], taken(params, GATES[kind], layer, reverse)
    )
    size = len(recurrent)
    b_ih, b_hh = biases or (np.zeros(kernel.shape[1], kernel.dtype),) * 2
    total, of_n = summed(b_ih, b_hh), slice(2 * size, None)
    if kind == "GRU":
        if fused and b_hh[of_n].any():
            raise ValueError("bias_hh: expected 0 for gate n, which a fused GRU of NNX has not")
        total[of_n] = b_ih[of_n]
    on_h = kind == "LSTM"  # the side that has the bias
    if fused:
        dense = {"dense_i": {"kernel": kernel}, "dense_h": {"kernel": recurrent}}
        dense["dense_h" if on_h else "dense_i"]["bias"] = total
        return dense
    entries: dict[str, dict[str, Array]] = {}
    for side, matrix in (("i", kernel), ("h", recurrent)):
        for k, gate in enumerate(GATES[kind]):
            block = slice(k * size, (k + 1) * size)
            entry = {"kernel": np.ascontiguousarray(matrix[:, block])}
            if (side == "h") == on_h:
                entry["bias"] = total[block].copy()
            elif gate == "n":
                entry["bias"] = b_hh[block].copy()
            entries[side if kind == "RNN" else side + gate] = entry
    return entries


def from_block_lstm(
    arrays: Mapping[str, npt.ArrayLike],
    *,
    version: int = 2,
    forget_bias: float = 1.0,
    layer: int = 0,
    reverse: bool = False,
) -> dict[str, Array]:
    """Parameters out of TensorFlow's ``BlockLSTM`` (``version=1``) or ``BlockLSTMV2``.

    ``w`` is (I+H, 4*H) on [x, h], ``b`` (4*H); ``wci``, ``wcf``, ``wco`` (H) are peepholes, if any.
    Version 1 adds ``forget_bias`` as it runs: that comes back as ``bias_hh``.

    Examples
    --------
    >>> import numpy as np
    >>> from pyrnn.weights import from_block_lstm
    >>> from_block_lstm({"w": np.ones((5, 12)), "b": np.ones(12)})["weight_hh_l0"].shape
    (12, 3)
    """
    w = shaped("w", arrays["w"], "(I+H, 4·H)", (None, None))
    size = w.shape[1] // 4
    if w.shape[1] % 4 or len(w) < size:
        raise ValueError(f"w: expected shape (I+H, 4·H), got {shape_text(w.shape)}")
    kernel, recurrent = np.split(w, [len(w) - size])
    one = from_dense(
        "LSTM", _BLOCK_LSTM[version], kernel, recurrent, [arrays["b"]], ("w", "w", "b")
    )
    if version == 1 and one.b_hh is not None:
        one.b_hh[size : 2 * size] = forget_bias
    params = one.named(layer, reverse)
    names = [name for name in _BLOCK_PEEPHOLES if name in arrays]
    if names:
        rows = [shaped(name, arrays[name], "(H)", (size,)) for name in _BLOCK_PEEPHOLES]
        params[peephole_name(layer, reverse)] = np.stack(rows)
    return params


def to_block_lstm(
    params: Params,
    *,
    version: int = 2,
    forget_bias: float = 1.0,
    layer: int = 0,
    reverse: bool = False,
) -> dict[str, Array]:
    """The reverse of :func:`from_block_lstm`."""
    one = taken(params, GATES["LSTM"], layer, reverse)
    rows, size = one.w_hh.shape
    b_ih, b_hh = (np.zeros(rows, one.w_hh.dtype) if b is None else b for b in one[2:])
    if version == 1:
        b_hh = b_hh.copy()
        b_hh[size : 2 * size] -= forget_bias
    one = one._replace(b_ih=b_ih, b_hh=b_hh)
    kernel, recurrent, *biases = to_dense("LSTM", _BLOCK_LSTM[version], one)
    arrays = {"w": np.concatenate([kernel, recurrent]), "b": summed(*biases)}
    name = peephole_name(layer, reverse)
    if name in params:
        p = shaped(name, params[name], "(3, H)", (3, size))
        arrays |= {name: row.copy() for name, row in zip(_BLOCK_PEEPHOLES, p, strict=True)}
    return arrays


def from_onnx(
    arrays: Mapping[str, npt.ArrayLike],
    cell: str,
    *,
    input_forget: bool = False,
    layer: int = 0,
) -> dict[str, Array]:
    """Parameters out of the inputs of an ONNX ``RNN``, ``GRU`` or ``LSTM`` node.

    Parameters
    ----------
    arrays : mapping of str to array
        ``W`` (D, G*H, I) and ``R`` (D, G*H, H), D directions, gates i, o, f, c or z, r, h; maybe
        ``B`` (D, 2*G*H), and ``P`` (D, 3*H), peepholes i, o, f. ``weight_peephole_l0`` (3, H) has
        those as i, f, o.
    cell : {"rnn", "gru", "lstm"}
    input_forget : bool
        ONNX couples f = 1 - i, pyrnn i = 1 - f. The result is a coupled LSTM, gates f, g, o, whose
        f rows are ONNX's i rows negated: 1 - sigmoid(a) = sigmoid(-a). With other gate activations
        that is another cell. ONNX ignores its f rows.

    Examples
    --------
    >>> import numpy as np
    >>> from pyrnn.weights import from_onnx
    >>> inputs = {"W": np.ones((1, 12, 2)), "R": np.ones((1, 12, 3))}
    >>> from_onnx(inputs, "lstm", input_forget=True)["weight_ih_l0"].shape
    (9, 2)
    """
    kind = kind_of(cell)
    gates, order = len(GATES[kind]), _ONNX[kind]
    r = shaped("R", arrays["R"], f"(D, {gates}·H, H)", (None, None, None))
    directions, size = r.shape[0], r.shape[2]
    params: dict[str, Array] = {}
    stacks = {
        name: shaped(name, arrays[name], symbols, (directions, *shape))
        for name, symbols, shape in (
            ("W", f"(D, {gates}·H, I)", (gates * size, None)),
            ("R", f"(D, {gates}·H, H)", (gates * size, size)),
            ("B", f"(D, {2 * gates}·H)", (2 * gates * size,)),
            ("P", "(D, 3·H)", (3 * size,)),
        )
        if arrays.get(name) is not None
    }
    for k in range(directions):
        biases = np.split(stacks["B"][k], 2) if "B" in stacks else []
        dense = stacks["W"][k].T, stacks["R"][k].T
        one = from_dense(kind, order, *dense, biases)
        params |= (coupled_from_input(one) if input_forget else one).named(layer, k == 1)
        if "P" in stacks:
            p = reorder(stacks["P"][k], "iof", "ifo").reshape(3, size)
            params[peephole_name(layer, k == 1)] = np.stack([-p[0], p[2]]) if input_forget else p
    return params


def to_onnx(
    params: Params, cell: str, *, coupled: bool = False, layer: int = 0
) -> dict[str, Array]:
    """The reverse of :func:`from_onnx`, both directions where there are two.

    ``coupled``: the parameters are those of a coupled LSTM, the node gets ``input_forget=1``.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.weights import to_onnx
    >>> inputs = to_onnx(pyrnn.LSTM(2, 3, bidirectional=True, rng=0).params, "lstm")
    >>> {name: array.shape for name, array in inputs.items()}
    {'W': (2, 12, 2), 'R': (2, 12, 3), 'B': (2, 24)}
    """
    kind = kind_of(cell)
    stacks: dict[str, list[Array]] = {}
    for reverse in (False, True):
        if reverse and parameter_names(layer, True, False)[0] not in params:
            break
        one = taken(params, COUPLED if coupled else GATES[kind], layer, reverse)
        size = one.w_hh.shape[1]
        kernel, recurrent, *biases = to_dense(
            kind, _ONNX[kind], coupled_to_input(one) if coupled else one
        )
        parts = {"W": kernel.T, "R": recurrent.T}
        if biases:
            parts["B"] = np.concatenate(biases)
        name, rows = peephole_name(layer, reverse), 2 if coupled else 3
        if name in params:
            p = shaped(name, params[name], f"({rows}, H)", (rows, size))
            if coupled:
                p = np.stack([-p[0], np.zeros_like(p[0]), p[1]])
            parts["P"] = reorder(p.reshape(-1), "ifo", "iof")
        for name, array in parts.items():
            stacks.setdefault(name, []).append(array)
    return {name: np.stack(arrays) for name, arrays in stacks.items()}


def from_cudnn(
    flat: npt.ArrayLike,
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    bias: bool = True,
) -> dict[str, Array]:
    """Parameters of all layers out of cuDNN's one array.

    It holds ``weight_ih`` and ``weight_hh`` of every layer and direction, then both biases of each.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.weights import from_cudnn, to_cudnn
    >>> params = pyrnn.LSTM(2, 3, rng=0).params
    >>> from_cudnn(to_cudnn(params), "lstm", 2, 3)["bias_hh_l0"].shape
    (12,)
    """
    gates, count = len(GATES[kind_of(cell)]), 1 + bidirectional
    pairs = [(layer, reverse) for layer in range(num_layers) for reverse in (False, True)[:count]]
    shapes: dict[str, tuple[int, ...]] = {}
    for kinds in (PLAIN[:2], PLAIN[2:]) if bias else (PLAIN[:2],):
        for layer, reverse in pairs:
            width = count * hidden_size if layer else input_size
            of_layer = parameter_shapes(gates, width, hidden_size, 0, bias, None, ())
            names = dict(zip(PLAIN, parameter_names(layer, reverse, True), strict=True))
            shapes |= {names[kind]: of_layer[kind] for kind in kinds}
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    whole = shaped("flat", flat, "(parameters)", (sum(sizes),))
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    found = {n: a.reshape(s).copy() for (n, s), a in zip(shapes.items(), parts, strict=True)}
    return {name: found[name] for name in sorted(found, key=torch_order)}


def to_cudnn(params: Params) -> Array:
    """The reverse of :func:`from_cudnn`."""
    names = sorted(params, key=torch_order)
    weights = [name for name in names if name.startswith("weight")]
    biases = [name for name in names if name.startswith("bias")]
    return np.concatenate([np.ravel(params[name]) for name in weights + biases])
