"""PyTorch: torch.nn's layers, in inference mode, on packed sequences where lengths differ."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cases import Array, Problem
from peer import CLASS, Peer, state_names


class Torch(Peer):
    name = "torch"
    needs = ("torch",)
    ragged = True

    def __init__(self, problem: Problem, threads: int) -> None:
        torch: Any = import_module("torch")
        rnn = torch.nn.utils.rnn
        torch.set_num_threads(threads)
        case = problem.case
        self.problem, self.torch, self.rnn = problem, torch, rnn
        self.module = getattr(torch.nn, CLASS[case.cell])(
            case.input_size,
            case.hidden_size,
            case.num_layers,
            bidirectional=case.bidirectional,
            dtype=getattr(torch, case.dtype),
        )
        self.module.load_state_dict({k: torch.from_numpy(v) for k, v in problem.params.items()})
        self.x = torch.from_numpy(problem.x.copy())
        self.dy = torch.from_numpy(problem.dy)
        self.leaf = self.x
        if (lengths := case.lengths) is not None:
            # Outside the timing, as if data came packed.
            self.x, packed_dy = (
                rnn.pack_padded_sequence(a, torch.from_numpy(lengths), enforce_sorted=False)
                for a in (self.x, self.dy)
            )
            self.leaf, self.dy = self.x.data, packed_dy.data
        self.states = [torch.from_numpy(s.copy()) for s in problem.state]
        if case.mode == "train":
            for tensor in (self.leaf, *self.states):
                tensor.requires_grad_(True)
        self.state = tuple(self.states) if case.cell == "lstm" else self.states[0]

    def infer(self) -> Any:
        with self.torch.inference_mode():
            return self.module(self.x, self.state)

    def train(self) -> Any:
        y, _ = self.module(self.x, self.state)
        leaves = (self.leaf, *self.states, *self.module.parameters())
        return y, self.torch.autograd.grad(y.data if self._packed else y, leaves, self.dy)

    @property
    def _packed(self) -> bool:
        return self.problem.case.ragged

    def _padded(self, packed: Any) -> Any:
        if not self._packed:
            return packed
        return self.rnn.pad_packed_sequence(packed, total_length=self.problem.case.seq_len)[0]

    def named(self, result: Any) -> dict[str, Array]:
        y, second = result
        named = {"y": self._padded(y).detach().numpy()}
        if self.problem.case.mode == "infer":
            states = second if isinstance(second, tuple) else (second,)
            return named | {k: s.numpy() for k, s in state_names(states, "_n").items()}
        dx, *others = second
        if self._packed:
            dx = self._padded(self.x._replace(data=dx))
        names = [*state_names(self.states, "0"), *dict(self.module.named_parameters())]
        return named | {
            f"d{name}": grad.numpy()
            for name, grad in zip(["x", *names], [dx, *others], strict=True)
        }


class TorchBfloat16(Torch):
    """Weights, x and states in bfloat16, and so are results."""

    name = "torch bfloat16"
    modes = ("infer",)
    reduced = "bfloat16"
    slack = 4  # gates, states and results are bfloat16 at every step

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        self.module = self.module.bfloat16()
        self.x = self.x.bfloat16()
        self.states = [state.bfloat16() for state in self.states]
        self.state = tuple(self.states) if problem.case.cell == "lstm" else self.states[0]

    def named(self, result: Any) -> dict[str, Array]:
        y, states = result
        whole = tuple(s.float() for s in states) if isinstance(states, tuple) else states.float()
        return super().named((y.float(), whole))
