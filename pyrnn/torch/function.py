"""The layer for autograd: arrays on the memory of tensors, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .._core import KeptWeights
from ..tape import Array
from . import passes
from .padding import Packing, padded, unpadded
from .passes import Inputs
from .plan import Plan, state_shapes, states_of


def array(tensor: Any) -> Array:
    """On the memory of the tensor."""
    made: Array = (tensor.detach() if tensor.requires_grad else tensor).numpy()
    return made


def inputs_of(
    x: Any,
    states: Sequence[Any],
    params: Sequence[Any],
    packing: Packing | None,
    seed: int,
    kept: Sequence[KeptWeights] | None = None,
) -> Inputs:
    """Arrays of the tensors of a call; a packed x is put in its places."""
    return Inputs(
        array(x) if packing is None else padded(array(x), packing),
        [array(state) for state in states],
        [array(param) for param in params],
        None if packing is None else packing.lengths,
        seed,
        kept,
    )


class Recurrent(torch.autograd.Function):
    """(plan, seed, packing, kept weights, count of states given, x, states and parameters)
    -> y, h_n (, c_n)."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        seed: int,
        packing: Packing | None,
        kept_weights: Sequence[KeptWeights],
        given: int,
        x: Any,
        *others: Any,
    ) -> tuple[Any, ...]:
        inputs = inputs_of(x, others[:given], others[given:], packing, seed, kept_weights)
        results, kept = passes.forward(plan, inputs)
        if packing is not None:
            results[0] = unpadded(results[0], packing)
        ctx.plan, ctx.seed, ctx.packing, ctx.given = plan, seed, packing, given
        ctx.kept_weights = kept_weights
        # x and the weights are not copied: autograd refuses a backward pass after they changed.
        ctx.save_for_backward(x, *others, *map(torch.from_numpy, kept))
        ctx.set_materialize_grads(False)
        return tuple(map(torch.from_numpy, results))

    @staticmethod
    def backward(ctx: Any, dy: Any, *dlast: Any) -> tuple[Any, ...]:
        plan, packing, given = ctx.plan, ctx.packing, ctx.given
        x, *saved = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 6
        others, kept = saved[:count], saved[count:]
        incoming = None if torch.is_grad_enabled() else _incoming((dy, *dlast))
        if incoming is None:
            grads = again(ctx, [x, *others], (dy, *dlast))
            return *_NO_TENSORS, *grads
        inputs = inputs_of(x, others[:given], others[given:], packing, ctx.seed, ctx.kept_weights)
        dout, *dend = incoming
        if packing is not None and dout is not None:
            dout = padded(dout, packing)
        dx, dstates, dparams = passes.backward(plan, inputs, list(map(array, kept)), dout, dend)
        if packing is not None:
            dx = unpadded(dx, packing)
        arrays = [dx, *dstates[:given], *dparams]
        return *_NO_TENSORS, *map(torch.from_numpy, arrays)


# What forward takes ahead of x.
_NO_TENSORS = (None,) * 5


def _incoming(doutputs: Sequence[Any]) -> list[Array | None] | None:
    """None where one stands for many, as under vmap: such a tensor has no array."""
    try:
        return [None if one is None else array(one) for one in doutputs]
    except RuntimeError:
        return None


def again(ctx: Any, tensors: Sequence[Any], doutputs: Sequence[Any]) -> list[Any]:
    """Gradients that have gradients themselves: PyTorch's own operations, run anew.

    Raises
    ------
    RuntimeError
        With dropout, whose masks those operations would draw differently.
    """
    if ctx.plan.dropout:
        raise RuntimeError(
            "create_graph: pyrnn.torch has no second derivatives through dropout between layers; "
            "call eval() or set dropout=0, or use the layer of torch.nn"
        )
    given = ctx.given
    x, states, params = tensors[0], tensors[1 : 1 + given], tensors[1 + given :]
    differentiable = torch.is_grad_enabled()
    wanted = [i for i, need in enumerate(ctx.needs_input_grad[5:]) if need]
    with torch.enable_grad():
        outputs = own_forward(ctx.plan, x, states, params, ctx.packing)
        pairs = [(y, dy) for y, dy in zip(outputs, doutputs, strict=True) if dy is not None]
        found = torch.autograd.grad(
            [y for y, _ in pairs],
            [tensors[i] for i in wanted],
            [dy for _, dy in pairs],
            create_graph=differentiable,
            allow_unused=True,
        )
    grads: list[Any] = [None] * len(tensors)
    for i, grad in zip(wanted, found, strict=True):
        grads[i] = grad
    return grads


def own_forward(
    plan: Plan, x: Any, states: Sequence[Any], params: Sequence[Any], packing: Packing | None
) -> list[Any]:
    """y, h_n and c_n by PyTorch's kernels."""
    if not states:
        batch = x.shape[1] if packing is None else len(packing.lengths)
        states = [x.new_zeros(shape) for shape in state_shapes(plan, batch)]
    run = getattr(torch._VF, plan.mode.lower())
    state = states[0] if states_of(plan) == 1 else list(states)
    last = plan.bias, plan.num_layers, 0.0, False, plan.bidirectional
    if packing is None:
        return list(run(x, state, list(params), *last, False))
    return list(run(x, packing.batch_sizes, state, list(params), *last))
