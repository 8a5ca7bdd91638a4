"""The layer as two operators of PyTorch, for what looks at a model without running it.

``torch.compile`` and ``torch.export`` see one opaque node with the shapes of its results, whatever
T and B are, and a second one for its gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from ..variants import NUM_GATES
from . import passes
from .call import Call, current_params, fits, plan_of, restored, time_first
from .function import array, inputs_of
from .kept import kept_for
from .plan import Plan, state_shapes, states_of

# What makes a Plan, but for what the shapes of the parameters say.
_PLAN = "str mode, int num_layers, bool bias, bool bidirectional, float dropout"

_library = torch.library.Library("pyrnn", "DEF")
_library.define(
    f"recurrent(Tensor x, Tensor[] states, Tensor[] params, Tensor seed, {_PLAN}, bool save)"
    " -> Tensor[]"
)
_library.define(
    "recurrent_backward(Tensor? dy, Tensor?[] dlast, Tensor x, Tensor[] states, Tensor[] params,"
    f" Tensor[] kept, Tensor seed, {_PLAN}) -> Tensor[]"
)


def traced(module: Any, own: Callable[..., Any], input: Any, hx: Any) -> Any:
    """``forward`` by the operators; else out of the graph, or by PyTorch's ``own``."""
    call = None if type(input) is PackedSequence else _call_of(module, input, hx)
    if call is None:
        # PyTorch's layers are broken out of graphs as well: their steps would be unrolled.
        inside = torch.compiler.is_dynamo_compiling()
        return _outside(module, input, hx) if inside else own(input, hx)
    plan, x, states, params, _ = call
    save = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *states, *params))
    seed = torch.randint(2**63 - 1, ()) if plan.dropout else torch.zeros((), dtype=torch.int64)
    options = plan.mode, plan.num_layers, plan.bias, plan.bidirectional, plan.dropout
    results = torch.ops.pyrnn.recurrent(x, states, params, seed, *options, save)
    return restored(module, call, input, results[: 1 + states_of(plan)])


def _call_of(module: Any, input: Any, hx: Any) -> Call | None:
    plan = plan_of(module, input, False)
    states = [] if hx is None else list(hx) if isinstance(hx, (tuple, list)) else [hx]
    params = current_params(module)
    same = all(t.is_cpu and t.dtype == input.dtype for t in (input, *states, *params))
    if plan is None or not same or torch.is_autocast_enabled("cpu"):
        return None
    x, states = time_first(module, input, states)
    return Call(plan, x, states, params, None) if fits(plan, x.shape, states) else None


@torch._compile._disable_dynamo
def _outside(module: Any, input: Any, hx: Any) -> Any:
    return module.forward(input, hx)


def _plan(
    x: Any,
    params: Sequence[Any],
    mode: str,
    num_layers: int,
    bias: bool,
    both: bool,
    dropout: float,
) -> Plan:
    w_ih, w_hh = params[:2]
    hidden = int(w_ih.shape[0]) // NUM_GATES[mode.lower()]
    columns = int(w_hh.shape[1])
    proj_size = 0 if columns == hidden else columns
    dtype = "float32" if x.dtype == torch.float32 else "float64"
    return Plan(
        mode, int(w_ih.shape[1]), hidden, proj_size, num_layers, bias, both, dropout, dtype
    )  # fmt: skip


def _recurrent(x: Any, states: Any, params: Any, seed: Any, *options: Any) -> list[Any]:
    *of_plan, save = options
    plan = _plan(x, params, *of_plan)
    inputs = inputs_of(x, states, params, None, int(seed), kept_for(plan, params))
    if save or plan.dropout:
        results, kept = passes.forward(plan, inputs)
        return list(map(torch.from_numpy, [*results, *(kept if save else [])]))
    return list(map(torch.from_numpy, passes.infer(plan, inputs)))


def _recurrent_shapes(x: Any, states: Any, params: Any, seed: Any, *options: Any) -> list[Any]:
    *of_plan, save = options
    plan = _plan(x, params, *of_plan)
    seq_len, batch_size = x.shape[:2]
    columns, directions = plan.proj_size or plan.hidden_size, 1 + plan.bidirectional
    shapes = [(seq_len, batch_size, directions * columns), *state_shapes(plan, batch_size)]
    if save:
        shapes += passes.tape_shapes(plan, seq_len, batch_size)
    return [x.new_empty(shape) for shape in shapes]


def _backward(
    dy: Any, dlast: Any, x: Any, states: Any, params: Any, kept: Any, seed: Any, *options: Any
) -> list[Any]:
    plan = _plan(x, params, *options)
    inputs = inputs_of(x, states, params, None, int(seed), kept_for(plan, params))
    dx, dstates, dparams = passes.backward(
        plan,
        inputs,
        [array(one) for one in kept],
        None if dy is None else array(dy),
        [None if one is None else array(one) for one in dlast],
    )
    return list(map(torch.from_numpy, [dx, *dstates[: len(states)], *dparams]))


def _backward_shapes(
    dy: Any, dlast: Any, x: Any, states: Any, params: Any, kept: Any, seed: Any, *options: Any
) -> list[Any]:
    return [one.new_empty(one.shape) for one in (x, *states, *params)]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Any]) -> None:
    x, states, params, seed, *options, _ = inputs
    ctx.options, ctx.counts = options, (len(states), len(params))
    results = 3 if options[0] == "LSTM" else 2
    ctx.save_for_backward(x, seed, *states, *params, *output[results:])
    ctx.results = results
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, doutput: Any) -> tuple[Any, ...]:
    given, count = ctx.counts
    x, seed, *saved = ctx.saved_tensors
    states, params, kept = saved[:given], saved[given : given + count], saved[given + count :]
    dy, *dlast = doutput[: ctx.results]
    dx, *others = torch.ops.pyrnn.recurrent_backward(
        dy, dlast, x, states, params, kept, seed, *ctx.options
    )
    nothing = [None] * (1 + len(ctx.options) + 1)
    return dx, others[:given], others[given:], *nothing


def _no_second(ctx: Any, *_: Any) -> None:
    raise RuntimeError(
        "pyrnn.torch: the compiled or exported layer has no second derivatives; run it uncompiled"
    )


_library.impl("recurrent", _recurrent, "CPU")
_library.impl("recurrent_backward", _backward, "CPU")
torch.library.register_fake("pyrnn::recurrent", _recurrent_shapes, lib=_library)
torch.library.register_fake("pyrnn::recurrent_backward", _backward_shapes, lib=_library)
torch.library.register_autograd("pyrnn::recurrent", _gradients, setup_context=_keep, lib=_library)
torch.library.register_autograd("pyrnn::recurrent_backward", _no_second, lib=_library)
