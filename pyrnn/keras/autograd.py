"""The operations under PyTorch's autograd; second derivatives are refused."""

from __future__ import annotations

from typing import Any

import torch

from ..ops import BACKWARD, FORWARD
from ..torch_threads import lent_threads


class _Scan(torch.autograd.Function):  # type: ignore[misc]
    """One layer, one direction; every result and gradient shares memory with its array."""

    @staticmethod
    def forward(ctx: Any, family: str, options: Any, states: int, save: bool, *tensors: Any) -> Any:
        arrays: list[Any] = [None if t is None else t.detach().numpy() for t in tensors]
        # A stateful layer overwrites its states, which the tape still refers to.
        arrays[1 : 1 + states] = [array.copy() for array in arrays[1 : 1 + states]]
        with lent_threads:
            *results, ctx.tape = FORWARD[family](*arrays, save=save, **options)
        ctx.family, ctx.states = family, states
        # PyTorch then refuses a backward pass through arrays that have changed since.
        ctx.save_for_backward(tensors[0], *tensors[1 + states :])
        ctx.set_materialize_grads(False)
        return tuple(torch.from_numpy(result) for result in results)

    @staticmethod
    def backward(ctx: Any, *incoming: Any) -> Any:
        saved = ctx.saved_tensors
        arrays = [None if d is None else d.detach().numpy() for d in incoming]
        with lent_threads:
            found = BACKWARD[ctx.family](ctx.tape, *arrays)
        grads = [None if g is None else torch.from_numpy(g) for g in found[: 5 + ctx.states]]
        if torch.is_grad_enabled():  # create_graph=True
            # Inputs tie the gradients to what they depend on; else they would pass for constants.
            grads = list(_Once.apply(len(grads), *grads, *saved, *incoming))
        return (None, None, None, None, *grads)


class _Once(torch.autograd.Function):  # type: ignore[misc]
    """Gradients as they are, which have no derivatives."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Any) -> Any:
        return tuple(None if t is None else t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *incoming: Any) -> Any:
        raise RuntimeError(
            "pyrnn.keras: expected first derivatives, got create_graph=True and a derivative of a "
            "gradient: layers with use_cudnn=False run Keras's own loop, which has second ones"
        )


@torch.compiler.disable  # type: ignore[untyped-decorator]
def apply(family: str, options: Any, x: Any, states: list[Any], weights: list[Any]) -> Any:
    """y and the last states."""
    tensors = [x, *states, *weights]
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    return _Scan.apply(family, options, len(states), save, *tensors)
