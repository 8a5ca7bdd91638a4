"""The layers: PyTorch's own, whose ``forward`` runs on the kernels wherever those can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from . import passes
from .admission import admit
from .call import Call, call_of, restored
from .function import Recurrent, inputs_of
from .kept import Kept, renew
from .operators import traced
from .padding import unpadded
from .plan import parts_of


class OnKernels:
    """In front of a layer of PyTorch: its ``forward``, and nothing else that can be seen.

    What the kernels do not compute is computed by PyTorch's layer: other devices and dtypes,
    autocast, subclasses of tensors, the transforms of ``torch.func``, and every mistake, for its
    message.
    """

    _kept: Kept | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        renew(self)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As the layer of ``torch.nn``, with its arguments, results and errors."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
            return traced(self, super().forward, input, hx)  # type: ignore[misc]
        call = call_of(self, input, hx)
        if call is None:
            return super().forward(input, hx)  # type: ignore[misc]
        return restored(self, call, input, self._results(call))

    def _results(self, call: Call) -> Sequence[Any]:
        plan, x, states, params, packing = call
        seed = drawn_seed() if plan.dropout else 0
        kept = self._kept
        if kept is None or len(kept.weights) != parts_of(plan):
            kept = renew(self)
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *states, *params)):
            made: Sequence[Any] = Recurrent.apply(
                plan, seed, packing, kept.weights, len(states), x, *states, *params
            )
            return made
        if plan.dropout:
            inputs = inputs_of(x, states, params, packing, seed, kept.weights)
            results, _ = passes.forward(plan, inputs)
        else:
            inputs = inputs_of(x, states, (), packing, seed)
            results = passes.infer(plan, inputs, kept.layer(plan, params))
        if packing is not None:
            results[0] = unpadded(results[0], packing)
        return [torch.from_numpy(result) for result in results]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[misc]
        state.pop("_kept", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        renew(self)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """With ``assign=True`` the weights lie elsewhere afterwards, too."""
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[misc]
        renew(self)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """What ``to`` and ``double`` call, after which the weights lie elsewhere."""
        result = super()._apply(*args, **kwargs)  # type: ignore[misc]
        renew(self)
        return result


admit(OnKernels)


def drawn_seed() -> int:
    """From PyTorch's generator, and only where masks are drawn."""
    return int(torch.randint(2**63 - 1, ()))


class RNN(OnKernels, torch.nn.RNN):
    """``torch.nn.RNN`` on pyrnn; see :class:`pyrnn.torch.LSTM`."""


class GRU(OnKernels, torch.nn.GRU):
    """``torch.nn.GRU`` on pyrnn; see :class:`pyrnn.torch.LSTM`."""


class LSTM(OnKernels, torch.nn.LSTM):
    """``torch.nn.LSTM`` on pyrnn.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size
        As of ``torch.nn.LSTM``, as are ``device`` and ``dtype``, the parameters, their names and
        their starting values.

    Notes
    -----
    Second derivatives (``create_graph=True``) run PyTorch's own operations anew. They are
    refused through dropout between layers.

    The weights are packed once for as long as they keep their bits. Each call takes a fingerprint
    of all of them, in training and in inference: any way to change them counts.

    Examples
    --------
    >>> import torch, pyrnn.torch
    >>> layer = pyrnn.torch.LSTM(3, 4, batch_first=True)
    >>> isinstance(layer, torch.nn.LSTM)
    True
    >>> y, (h, c) = layer(torch.ones(2, 5, 3))
    >>> y.sum().backward()
    >>> layer.weight_hh_l0.grad.shape
    torch.Size([16, 4])
    """
