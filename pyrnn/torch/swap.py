"""Layers of PyTorch inside a model, swapped in place."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

from .kept import renew
from .layers import GRU, LSTM, RNN

Model = TypeVar("Model", bound=Any)

_SWAPS = {torch.nn.RNN: RNN, torch.nn.GRU: GRU, torch.nn.LSTM: LSTM}


def accelerate(model: Model) -> Model:
    """Run every ``torch.nn.RNN``, ``GRU`` and ``LSTM`` inside ``model`` on pyrnn.

    Each becomes an instance of the class of the same name in ``pyrnn.torch`` and stays the object
    that it is: parameters, hooks, attributes and references to it keep standing. Classes derived
    from PyTorch's are left alone, since they may compute something else; so are layers that are
    parametrized already: accelerate first.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place; may itself be such a layer.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    TypeError
        Anything but a module.

    Examples
    --------
    >>> import torch, pyrnn.torch
    >>> model = torch.nn.Sequential(torch.nn.LSTM(3, 4))
    >>> pyrnn.torch.accelerate(model) is model
    True
    >>> type(model[0])
    <class 'pyrnn.torch.layers.LSTM'>
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    for module in model.modules():
        swap = _SWAPS.get(type(module))
        if swap is not None:
            module.__class__ = swap
            renew(module)
    return model
