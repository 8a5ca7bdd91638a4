"""JAX: lax.scan, compiled by XLA."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from cases import Array, Problem
from peer import Peer, state_names


class Jax(Peer):
    name = "jax"
    needs = ("jax",)

    # XLA has no option for the number of threads: it takes what the process may run on,
    # which `python -m bench` narrows to --threads.
    def __init__(self, problem: Problem, threads: int) -> None:
        from jax_scan import forward, forward_backward

        jax: Any = import_module("jax")
        if problem.case.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        self.problem = problem
        self.arrays = jax.device_put((problem.params, problem.x, problem.state))
        self.dy = jax.device_put(problem.dy)
        self.ready = jax.block_until_ready
        self.forward = jax.jit(forward(problem.case))
        self.forward_backward = jax.jit(forward_backward(problem.case))

    def infer(self) -> Any:
        return self.ready(self.forward(*self.arrays))

    def train(self) -> Any:
        return self.ready(self.forward_backward(*self.arrays, self.dy))

    def named(self, result: Any) -> dict[str, Array]:
        y, second = result
        if self.problem.case.mode == "infer":
            named = {"y": y, **state_names(second, "_n")}
        else:
            dparams, dx, dstates = second
            named = {"y": y, "dx": dx}
            named |= {f"d{name}": s for name, s in state_names(dstates, "0").items()}
            named |= {f"d{name}": grad for name, grad in dparams.items()}
        return {name: np.asarray(a) for name, a in named.items()}
