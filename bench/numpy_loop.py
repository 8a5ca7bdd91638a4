"""The loop that one writes in NumPy without any library, and writes well.

Weights are transposed and biases summed beforehand, the input projection is one product, and
as sigmoid(a) = (1 + tanh(a / 2)) / 2, one tanh serves all gates of a step: the halves of a are
in the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Array, Problem
from peer import Peer, state_names

# What the gates are scaled by before tanh: half for a sigmoid.
_SCALE = {"rnn": (1.0,), "gru": (0.5, 0.5, 1.0), "lstm": (0.5, 0.5, 1.0, 0.5)}


class NumpyLoop(Peer):
    name = "numpy"
    modes = ("infer",)

    def __init__(self, problem: Problem, threads: int) -> None:
        case = problem.case
        self.problem = problem
        self.step = getattr(self, f"_{case.cell}")
        hidden = case.hidden_size
        scale = np.repeat(_SCALE[case.cell], hidden).astype(case.dtype)
        self.parts = []
        for layer in range(case.num_layers):
            for suffix in ("", "_reverse")[: case.directions]:
                w_ih, w_hh, b_ih, b_hh = (
                    problem.params[f"{kind}_l{layer}{suffix}"]
                    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                bias, bias_n = b_ih + b_hh, np.zeros(hidden, case.dtype)
                if case.cell == "gru":
                    bias_n = b_hh[2 * hidden :]
                    bias[2 * hidden :] = b_ih[2 * hidden :]
                products = (np.ascontiguousarray((w * scale[:, None]).T) for w in (w_ih, w_hh))
                self.parts.append((*products, bias * scale, bias_n))

    def infer(self) -> Any:
        case = self.problem.case
        x, finals = self.problem.x, []
        for layer in range(case.num_layers):
            outputs = []
            for direction in range(case.directions):
                k = layer * case.directions + direction
                w_ih, w_hh, bias, bias_n = self.parts[k]
                # One product: of three dimensions NumPy makes one for each step.
                projected = x.reshape(-1, x.shape[2]) @ w_ih
                projected += bias
                projected = projected.reshape(*x.shape[:2], -1)
                y = np.empty((*x.shape[:2], case.hidden_size), x.dtype)
                states = tuple(s[k] for s in self.problem.state)
                order = range(case.seq_len)
                for t in reversed(order) if direction else order:
                    states = self.step(projected[t], states, w_hh, bias_n)
                    y[t] = states[0]
                outputs.append(y)
                finals.append(states)
            x = np.concatenate(outputs, axis=2) if case.bidirectional else outputs[0]
        if len(finals) == 1:
            return x, tuple(s[np.newaxis] for s in finals[0])
        return x, tuple(np.stack(s) for s in zip(*finals, strict=True))

    def named(self, result: Any) -> dict[str, Array]:
        y, states = result
        return {"y": y, **state_names(states, "_n")}

    @staticmethod
    def _rnn(a: Array, states: tuple[Array, ...], w_hh: Array, _: Array) -> tuple[Array, ...]:
        a += states[0] @ w_hh
        return (np.tanh(a, out=a),)

    @staticmethod
    def _lstm(a: Array, states: tuple[Array, ...], w_hh: Array, _: Array) -> tuple[Array, ...]:
        h, c = states
        hidden = h.shape[1]
        a += h @ w_hh
        np.tanh(a, out=a)
        i, f, g, o = (a[:, k * hidden : (k + 1) * hidden] for k in range(4))
        # i and f are half of (1 + tanh).
        c = 0.5 * ((1 + f) * c + (1 + i) * g)
        return 0.5 * (1 + o) * np.tanh(c), c

    @staticmethod
    def _gru(a: Array, states: tuple[Array, ...], w_hh: Array, b: Array) -> tuple[Array, ...]:
        (h,) = states
        hidden = h.shape[1]
        of_h = h @ w_hh
        rz = np.tanh(a[:, : 2 * hidden] + of_h[:, : 2 * hidden])
        rz += 1
        rz *= 0.5
        n = np.tanh(a[:, 2 * hidden :] + rz[:, :hidden] * (of_h[:, 2 * hidden :] + b))
        return (n + rz[:, hidden:] * (h - n),)
