"""ONNX's RNN, GRU and LSTM as its specification writes them: row by row, step by step, in float64.

Shares nothing with pyrnn. Where the specification is silent (padding, rows without a step) it does
what ONNX Runtime does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx", reason="needs ONNX, which is not installed")

# The runtime that the tests were written with; an RNN of earlier ones leaves in the padding of Y
# whatever was in that memory.
RUNTIME = (1, 32)

Array = npt.NDArray[Any]
Inputs = dict[str, Array | None]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OUTPUTS = {"RNN": ["Y", "Y_h"], "GRU": ["Y", "Y_h"], "LSTM": ["Y", "Y_h", "Y_c"]}
# In the order of the node's inputs.
NAMES = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]

# name -> (numbers that it takes, defaults, function)
ACTIVATIONS: dict[str, tuple[int, tuple[float, float], Callable[..., Any]]] = {
    "Relu": (0, (0, 0), lambda x, a, b: max(0.0, x)),
    "Tanh": (0, (0, 0), lambda x, a, b: np.tanh(x)),
    "Sigmoid": (0, (0, 0), lambda x, a, b: 1 / (1 + np.exp(-x))),
    "Affine": (2, (1, 0), lambda x, a, b: a * x + b),
    "LeakyRelu": (1, (0.01, 0), lambda x, a, b: x if x >= 0 else a * x),
    "ThresholdedRelu": (1, (1, 0), lambda x, a, b: x if x > a else 0.0),
    "ScaledTanh": (2, (1, 1), lambda x, a, b: a * np.tanh(b * x)),
    "HardSigmoid": (2, (0.2, 0.5), lambda x, a, b: min(max(a * x + b, 0.0), 1.0)),
    "Elu": (1, (1, 0), lambda x, a, b: x if x >= 0 else a * np.expm1(x)),
    "Softsign": (0, (0, 0), lambda x, a, b: x / (1 + abs(x))),
    "Softplus": (0, (0, 0), lambda x, a, b: np.logaddexp(0, x)),
}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def functions(kind: str, directions: int, attributes: dict[str, Any]) -> list[Any]:
    """f(, g(, h)) of every direction, in one list; numbers are consumed in that order."""
    names = attributes.get("activations") or DEFAULTS[kind] * directions
    # A model keeps such numbers in float32.
    alphas = [float(np.float32(a)) for a in attributes.get("activation_alpha") or []]
    betas = [float(np.float32(b)) for b in attributes.get("activation_beta") or []]
    clip = float(np.float32(attributes.get("clip") or np.inf))
    found = []
    for name in names:
        takes, (alpha, beta), function = ACTIVATIONS[name]
        if takes > 0 and alphas:
            alpha = alphas.pop(0)
        if takes > 1 and betas:
            beta = betas.pop(0)
        # The argument of f, g is clipped; that of h is not a sum, and is not.
        found.append(
            (
                np.vectorize(
                    lambda x, f=function, a=alpha, b=beta: f(np.clip(x, -clip, clip), a, b),
                    otypes=[float],
                ),
                np.vectorize(lambda x, f=function, a=alpha, b=beta: f(x, a, b), otypes=[float]),
            )
        )
    return found


def specified(kind: str, inputs: Inputs, **attributes: Any) -> list[Array]:
    """Y, Y_h(, Y_c) in float64."""
    given = {
        name: None if array is None else np.asarray(array).astype("float64")
        for name, array in inputs.items()
    }
    x, w, r = given["X"], given["W"], given["R"]
    directions, size = w.shape[0], r.shape[2]
    batch_first = attributes.get("layout", 0)
    if batch_first:
        x = x.transpose(1, 0, 2)
    seq_len, batch, _ = x.shape
    states = []
    for name in ("initial_h", "initial_c"):
        state = given.get(name)
        if state is None:
            state = np.zeros((directions, batch, size))
        elif batch_first:
            state = state.transpose(1, 0, 2)
        states.append(state)
    b = given.get("B")
    b = np.zeros((directions, 2 * GATES[kind] * size)) if b is None else b
    p = given.get("P")
    p = np.zeros((directions, 3 * size)) if p is None else p
    lens = given.get("sequence_lens")
    lengths = np.full(batch, seq_len) if lens is None else lens.astype(int)
    fs = functions(kind, directions, attributes)
    per = len(fs) // directions
    backwards = [attributes.get("direction", "forward") == "reverse", True]
    y = np.zeros((seq_len, directions, batch, size))
    y_h, y_c = np.zeros((2, directions, batch, size))
    for d in range(directions):
        for row in range(batch):
            h, c = states[0][d, row], states[1][d, row]
            steps = range(lengths[row])
            for t in reversed(steps) if backwards[d] else steps:
                step = {"RNN": rnn_step, "GRU": gru_step, "LSTM": lstm_step}[kind]
                h, c = step(
                    x[t, row], h, c, w[d], r[d], b[d], p[d], fs[d * per : (d + 1) * per], attributes
                )
                y[t, d, row] = h
            if lengths[row] > 0:
                y_h[d, row], y_c[d, row] = h, c
    if batch_first:
        y, y_h, y_c = y.transpose(2, 0, 1, 3), y_h.transpose(1, 0, 2), y_c.transpose(1, 0, 2)
    return [y, y_h, y_c][: len(OUTPUTS[kind])]


def rnn_step(x, h, c, w, r, b, p, fs, attributes):  # type: ignore[no-untyped-def]
    ((f, _),) = fs
    wb, rb = np.split(b, 2)
    return f(x @ w.T + h @ r.T + wb + rb), c


def gru_step(x, h, c, w, r, b, p, fs, attributes):  # type: ignore[no-untyped-def]
    (f, _), (g, _) = fs
    (wz, wr, wh), (rz, rr, rh) = np.split(w, 3), np.split(r, 3)
    wbz, wbr, wbh, rbz, rbr, rbh = np.split(b, 6)
    zt = f(x @ wz.T + h @ rz.T + wbz + rbz)
    rt = f(x @ wr.T + h @ rr.T + wbr + rbr)
    if attributes.get("linear_before_reset", 0):
        ht = g(x @ wh.T + rt * (h @ rh.T + rbh) + wbh)
    else:
        ht = g(x @ wh.T + (rt * h) @ rh.T + rbh + wbh)
    return (1 - zt) * ht + zt * h, c


def lstm_step(x, h, c, w, r, b, p, fs, attributes):  # type: ignore[no-untyped-def]
    (f, _), (g, _), (_, out) = fs
    (wi, wo, wf, wc), (ri, ro, rf, rc) = np.split(w, 4), np.split(r, 4)
    wbi, wbo, wbf, wbc, rbi, rbo, rbf, rbc = np.split(b, 8)
    pi, po, pf = np.split(p, 3)
    it = f(x @ wi.T + h @ ri.T + pi * c + wbi + rbi)
    ft = f(x @ wf.T + h @ rf.T + pf * c + wbf + rbf)
    if attributes.get("input_forget", 0):
        ft = 1 - it
    ct = g(x @ wc.T + h @ rc.T + wbc + rbc)
    new = ft * c + it * ct
    ot = f(x @ wo.T + h @ ro.T + po * new + wbo + rbo)
    return ot * out(new), new


def problem(
    kind: str,
    shape: tuple[int, int, int, int] = (6, 5, 3, 7),  # T, B, I, H
    dtype: str = "float32",
    absent: tuple[str, ...] = (),
    seed: int = 0,
    **attributes: Any,
) -> Inputs:
    """Every input that the node has but those ``absent``; lengths of 0, of T and between."""
    rng = np.random.default_rng(seed)
    seq_len, batch, input_size, size = shape
    d = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = GATES[kind]
    state = (batch, d, size) if attributes.get("layout") else (d, batch, size)
    x_shape = (batch, seq_len) if attributes.get("layout") else (seq_len, batch)
    shapes = {
        "X": (*x_shape, input_size),
        "W": (d, gates * size, input_size),
        "R": (d, gates * size, size),
        "B": (d, 2 * gates * size),
        "sequence_lens": (batch,),
        "initial_h": state,
    }
    if kind == "LSTM":
        shapes |= {"initial_c": state, "P": (d, 3 * size)}
    inputs: Inputs = {}
    for name in NAMES:
        if name not in shapes:
            continue
        scale = size**-0.5 if name == "R" else 1.0
        array: Array = (rng.normal(size=shapes[name]) * scale).astype(dtype)
        if name == "sequence_lens":
            array = rng.integers(0, seq_len + 1, batch).astype("int32")
            array[:2] = (0, seq_len)[: len(array[:2])]
        inputs[name] = None if name in absent else array
    return inputs


def model_of(
    kind: str,
    inputs: Inputs,
    outputs: list[str] | None = None,
    constants: tuple[str, ...] = (),
    opset: int = 14,
    raw: bool = True,
    **attributes: Any,
) -> Any:
    """A model of one node; ``constants`` are initialisers, the others inputs of the graph."""
    helper = onnx.helper
    given = {name: array for name, array in inputs.items() if array is not None}
    outputs = OUTPUTS[kind] if outputs is None else outputs
    node = helper.make_node(
        kind, [name if name in given else "" for name in inputs], outputs, "node", **attributes
    )

    def info(name: str, array: Array) -> Any:
        element = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor_value_info(name, element, array.shape)

    element = helper.np_dtype_to_tensor_dtype(given["X"].dtype)
    graph = helper.make_graph(
        [node],
        "one",
        [info(name, array) for name, array in given.items() if name not in constants],
        [helper.make_tensor_value_info(name, element, None) for name in outputs if name],
        [tensor(name, given[name], raw) for name in constants if name in given],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def runtime_fills_padding(kind: str) -> bool:
    runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    version = tuple(int(number) for number in runtime.__version__.split(".")[:2])
    return kind != "RNN" or version >= RUNTIME


def tensor(name: str, array: Array, raw: bool) -> Any:
    """An initialiser, its numbers as bytes or as a list."""
    if raw:
        return onnx.numpy_helper.from_array(array, name)
    element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor(name, element, array.shape, array.ravel().tolist())


def feeds(inputs: Inputs, constants: tuple[str, ...] = ()) -> dict[str, Array]:
    return {
        name: array for name, array in inputs.items() if array is not None and name not in constants
    }
