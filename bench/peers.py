"""One adapter per library: the same network on the same arrays, each in its fastest form.

An adapter computes ``infer()`` (y and the final states) or ``train()`` (y and the
gradients of ``sum(y * dy)`` by x, the initial states and every parameter) and returns
whatever its library returns; ``named`` turns that into arrays, outside the timing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from cases import Array, Problem

import pyrnn

_CLASS = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}


def state_names(states: Any, prefix: str) -> dict[str, Any]:
    return {f"{letter}{prefix}": s for letter, s in zip("hc", states, strict=False)}


class Peer(ABC):
    """One library, set up for one problem."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    modes: ClassVar[tuple[str, ...]] = ("infer", "train")

    @classmethod
    def missing(cls) -> str | None:
        """The first module that this adapter needs and that is not installed."""
        return next((module for module in cls.needs if find_spec(module) is None), None)

    @abstractmethod
    def __init__(self, problem: Problem, threads: int) -> None: ...

    @abstractmethod
    def infer(self) -> Any: ...

    @abstractmethod
    def train(self) -> Any: ...

    @abstractmethod
    def named(self, result: Any) -> dict[str, Array]:
        """Arrays by name: y, h_n, c_n of ``infer``; y, dx, dh0, dc0, d<parameter> of ``train``."""


class Kernels(Peer):
    name = "pyrnn"

    def __init__(self, problem: Problem, threads: int) -> None:
        case = problem.case
        pyrnn.set_num_threads(threads)
        self.problem = problem
        self.layer = getattr(pyrnn, _CLASS[case.cell])(
            case.input_size,
            case.hidden_size,
            case.num_layers,
            bidirectional=case.bidirectional,
            dtype=str(problem.x.dtype),
        )
        self.layer.load_state_dict(problem.params)
        self.state = problem.state if case.cell == "lstm" else problem.state[0]

    def infer(self) -> Any:
        return self.layer(self.problem.x, self.state)

    def train(self) -> Any:
        y, _, tape = self.layer.forward(self.problem.x, self.state)
        return y, self.layer.backward(tape, self.problem.dy)

    def named(self, result: Any) -> dict[str, Array]:
        y, second = result
        if self.problem.case.mode == "infer":
            states = second if isinstance(second, tuple) else (second,)
            return {"y": y, **state_names(states, "_n")}
        states = second.state if isinstance(second.state, tuple) else (second.state,)
        named = {"y": y, "dx": second.x}
        named |= {f"d{name}": s for name, s in state_names(states, "0").items()}
        return named | {f"d{name}": grad for name, grad in second.params.items()}


class Reference(Kernels):
    name = "reference"

    def infer(self) -> Any:
        with pyrnn.backend("reference"):
            return super().infer()

    def train(self) -> Any:
        with pyrnn.backend("reference"):
            return super().train()


class Torch(Peer):
    name = "torch"
    needs = ("torch",)

    def __init__(self, problem: Problem, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        case = problem.case
        self.problem = problem
        self.torch = torch
        self.module = getattr(torch.nn, _CLASS[case.cell])(
            case.input_size,
            case.hidden_size,
            case.num_layers,
            bidirectional=case.bidirectional,
            dtype=getattr(torch, case.dtype),
        )
        self.module.load_state_dict({k: torch.from_numpy(v) for k, v in problem.params.items()})
        self.x = torch.from_numpy(problem.x.copy())
        self.states = [torch.from_numpy(s.copy()) for s in problem.state]
        self.dy = torch.from_numpy(problem.dy)
        if case.mode == "train":
            for leaf in (self.x, *self.states):
                leaf.requires_grad_(True)
        self.state = tuple(self.states) if case.cell == "lstm" else self.states[0]

    def infer(self) -> Any:
        with self.torch.inference_mode():
            return self.module(self.x, self.state)

    def train(self) -> Any:
        y, _ = self.module(self.x, self.state)
        leaves = (self.x, *self.states, *self.module.parameters())
        return y, self.torch.autograd.grad(y, leaves, self.dy)

    def named(self, result: Any) -> dict[str, Array]:
        y, second = result
        if self.problem.case.mode == "infer":
            states = second if isinstance(second, tuple) else (second,)
            return {"y": y.numpy(), **{k: s.numpy() for k, s in state_names(states, "_n").items()}}
        names = ["x", *state_names(self.states, "0"), *dict(self.module.named_parameters())]
        return {"y": y.detach().numpy()} | {
            f"d{name}": grad.numpy() for name, grad in zip(names, second, strict=True)
        }


class OnnxRuntime(Peer):
    name = "onnxruntime"
    needs = ("onnx", "onnxruntime")
    modes = ("infer",)

    def __init__(self, problem: Problem, threads: int) -> None:
        import onnxruntime
        from onnx_model import build

        self.problem = problem
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            build(problem), options, providers=["CPUExecutionProvider"]
        )
        feeds = {"x": problem.x}
        for letter, stacked in zip("hc", problem.state, strict=False):
            layers = np.split(stacked, problem.case.num_layers)
            feeds |= {f"{letter}0_{layer}": part for layer, part in enumerate(layers)}
        # Binding takes half the time of session.run in a step of a small network.
        self.binding = self.session.io_binding()
        for name, array in feeds.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            self.binding.bind_ortvalue_input(name, value)
        for output in self.session.get_outputs():
            self.binding.bind_output(output.name)

    def infer(self) -> Any:
        self.session.run_with_iobinding(self.binding)
        return self.binding

    def train(self) -> Any:
        raise TypeError("ONNX Runtime does not train")

    def named(self, result: Any) -> dict[str, Array]:
        case = self.problem.case
        y, *states = result.copy_outputs_to_cpu()
        named = {"y": y.transpose(0, 2, 1, 3).reshape(case.seq_len, case.batch_size, -1)}
        for index, letter in enumerate("hc"[: len(self.problem.state)]):
            layers = states[index * case.num_layers :][: case.num_layers]
            named[f"{letter}_n"] = np.concatenate(layers)
        return named


class Jax(Peer):
    name = "jax"
    needs = ("jax",)

    # XLA has no option for the number of threads: it takes what the process may run on,
    # which `python -m bench` narrows to --threads.
    def __init__(self, problem: Problem, threads: int) -> None:
        import jax
        from jax_scan import forward, forward_backward

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


PEERS: tuple[type[Peer], ...] = (Kernels, Reference, Torch, OnnxRuntime, Jax)
