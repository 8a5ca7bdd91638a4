"""A case as an ONNX model: one LSTM, GRU or RNN node per layer, shapes fixed, weights inside."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Array, Problem
from onnx import ValueInfoProto, helper, numpy_helper

# The gate blocks of PyTorch's order at their places in ONNX's: i o f g, and z r n.
_ORDER = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}


def _reorder(weight: Array, order: tuple[int, ...]) -> Array:
    return np.concatenate([np.split(weight, len(order))[gate] for gate in order])


def build(problem: Problem) -> bytes:
    """The serialised model.

    Inputs are x and, for each layer l, h0_l (, c0_l) of shape (S, B, H); outputs are the last
    layer's y of shape (T, S, B, H) and h_n_l (, c_n_l). Nothing is split or joined that a view
    of the caller's arrays can express.
    """
    case, params = problem.case, problem.params
    both, hidden = case.directions, case.hidden_size
    letters = "hc" if case.cell == "lstm" else "h"
    layers = range(case.num_layers)
    options: dict[str, Any] = {
        "hidden_size": hidden,
        "direction": "bidirectional" if case.bidirectional else "forward",
    }
    if case.cell == "gru":
        options["linear_before_reset"] = 1
    constants = []
    if case.num_layers > 1:
        above = np.array([case.seq_len, case.batch_size, both * hidden])
        constants.append(numpy_helper.from_array(above, "above"))
    lengths = ""
    if case.lengths is not None:
        lengths = "lengths"
        constants.append(numpy_helper.from_array(case.lengths.astype(np.int32), lengths))
    nodes = []
    for layer in layers:
        for name, kinds in (
            ("W", ["weight_ih"]),
            ("R", ["weight_hh"]),
            ("B", ["bias_ih", "bias_hh"]),
        ):
            blocks = [
                np.concatenate(
                    [_reorder(params[f"{k}_l{layer}{s}"], _ORDER[case.cell]) for k in kinds]
                )
                for s in ("", "_reverse")[:both]
            ]
            constants.append(numpy_helper.from_array(np.stack(blocks), f"{name}{layer}"))
        last = layer == case.num_layers - 1
        nodes.append(
            helper.make_node(
                case.cell.upper(),
                [f"x{layer}" if layer else "x", f"W{layer}", f"R{layer}", f"B{layer}", lengths]
                + [f"{letter}0_{layer}" for letter in letters],
                ["y" if last else f"y{layer}", *(f"{letter}_n_{layer}" for letter in letters)],
                **options,
            )
        )
        if not last:
            # (T, S, B, H) to (T, B, S*H), which the layer above takes.
            rows = f"rows{layer}"
            nodes += [
                helper.make_node("Transpose", [f"y{layer}"], [rows], perm=[0, 2, 1, 3]),
                helper.make_node("Reshape", [rows, "above"], [f"x{layer + 1}"]),
            ]

    kind = helper.np_dtype_to_tensor_dtype(problem.x.dtype)
    state = [both, case.batch_size, hidden]

    def states(when: str) -> list[ValueInfoProto]:
        names = [f"{letter}{when}_{layer}" for letter in letters for layer in layers]
        return [helper.make_tensor_value_info(name, kind, state) for name in names]

    y = helper.make_tensor_value_info("y", kind, [case.seq_len, both, case.batch_size, hidden])
    x = helper.make_tensor_value_info("x", kind, list(problem.x.shape))
    graph = helper.make_graph(nodes, case.name, [x, *states("0")], [y, *states("_n")], constants)
    # Opset 17 and IR 8 are old enough for every ONNX Runtime of the last years.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def feeds(problem: Problem) -> dict[str, Array]:
    """The model's inputs by name."""
    found = {"x": problem.x}
    for letter, stacked in zip("hc", problem.state, strict=False):
        layers = np.split(stacked, problem.case.num_layers)
        found |= {f"{letter}0_{layer}": part for layer, part in enumerate(layers)}
    return found
