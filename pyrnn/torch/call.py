"""One call of a layer as the kernels take it, or nothing where they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence

from .padding import Packing, packing
from .plan import Plan, state_shapes

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
# Other classes of tensors may mean something else by what the kernels would do.
_PLAIN = (torch.Tensor, torch.nn.Parameter)


class Call(NamedTuple):
    """Tensors with time first; ``states`` is empty where none were given."""

    plan: Plan
    x: Any  # [T, B, I], of a packed sequence its data [N, I]
    states: Sequence[Any]  # h0 [L*S, B, P] and, of the LSTM, c0 [L*S, B, H]
    params: Sequence[Any]
    packing: Packing | None  # of a packed sequence


def call_of(module: Any, input: Any, hx: Any) -> Call | None:
    """None where PyTorch's layer has to run, if only to say what is wrong."""
    if _transformed():
        return None
    is_packed = type(input) is PackedSequence
    x = input.data if is_packed else input
    params = current_params(module)
    states = [] if hx is None else list(hx) if isinstance(hx, (tuple, list)) else [hx]
    for tensor in (x, *states, *params):
        if type(tensor) not in _PLAIN or not tensor.is_cpu or tensor.dtype != x.dtype:
            return None
        if tensor.layout != torch.strided or tensor.is_neg():
            return None
    plan = plan_of(module, x, is_packed)
    if plan is None:
        return None
    if is_packed:
        return _packed_call(plan, input, states, params)
    x, states = time_first(module, x, states)
    return Call(plan, x, states, params, None) if fits(plan, x.shape, states) else None


def current_params(module: Any) -> list[Any]:
    """In PyTorch's order; those of a parametrization are computed here, once."""
    found = module._parameters
    try:
        return [found[name] for name in module._flat_weights_names]
    except KeyError:
        return [getattr(module, name) for name in module._flat_weights_names]


def plan_of(module: Any, x: Any, is_packed: bool) -> Plan | None:
    dtype = _DTYPES.get(x.dtype)
    ranks = (2,) if is_packed else (2, 3)
    if dtype is None or x.dim() not in ranks or x.numel() == 0:
        return None
    drawn = module.dropout if module.training and module.num_layers > 1 else 0.0
    return Plan(
        module.mode, module.input_size, module.hidden_size, module.proj_size, module.num_layers,
        module.bias, module.bidirectional, drawn, dtype,
    )  # fmt: skip


def time_first(module: Any, x: Any, states: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Views [T, B, I] and [L*S, B, ...]."""
    if x.dim() == 2:
        return x.unsqueeze(1), [s.unsqueeze(1) if s.dim() == 2 else s[:0] for s in states]
    return x.transpose(0, 1) if module.batch_first else x, list(states)


def restored(module: Any, call: Call, input: Any, results: Sequence[Any]) -> Any:
    """From y, laid out as x of the call, and the final states to what the layer returns."""
    y, *last = results
    if call.packing is not None:
        _, batch_sizes, order, restoring = input
        if restoring is not None:
            last = [state.index_select(1, restoring) for state in last]
        y = PackedSequence(y, batch_sizes, order, restoring)
    elif input.dim() == 2:
        y, last = y.squeeze(1), [state.squeeze(1) for state in last]
    elif module.batch_first:
        y = y.transpose(0, 1)
    return y, last[0] if len(last) == 1 else tuple(last)


def _transformed() -> bool:
    """Whether PyTorch is doing something else than computing with these tensors."""
    return bool(
        torch.is_autocast_enabled("cpu")
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def _packed_call(plan: Plan, packed: Any, states: Sequence[Any], params: Any) -> Call | None:
    data, batch_sizes, order, _ = packed
    if not fits(plan, (len(batch_sizes), int(batch_sizes[0]), data.shape[1]), states):
        return None
    if order is not None:
        states = [state.index_select(1, order) for state in states]
    return Call(plan, data, states, params, packing(batch_sizes))


def fits(plan: Plan, shape: Sequence[int], states: Sequence[Any]) -> bool:
    """Whether x of this shape, (T, B, I), and the states are those of the layer."""
    if shape[2] != plan.input_size:
        return False
    if not states:
        return True
    return [tuple(state.shape) for state in states] == state_shapes(plan, shape[1])
