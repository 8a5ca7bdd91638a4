"""PyTorch's own inputs for its modules, and its own mistakes, on pyrnn.torch's.

All of RNN, GRU and LSTM in ``module_db`` run, none is left out. Packed sequences are no part of
those that PyTorch enables.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import pytest
from helpers_torch import one_thread as one_thread
from helpers_torch import ours, torch
from tolerances import assert_close

pytest.importorskip("expecttest", reason="PyTorch's own inputs need expecttest")
common: Any = import_module("torch.testing._internal.common_modules")
pytree: Any = import_module("torch.utils._pytree")

INFOS = {
    info.module_cls.__name__: info
    for info in common.module_db
    if info.module_cls in (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM)
}
COUNTS = {"RNN": 32, "GRU": 16, "LSTM": 32}  # of inputs, each for training and for inference


def module_inputs(name: str, dtype: Any, training: bool, requires_grad: bool = True) -> list[Any]:
    info = INFOS[name]
    made: list[Any] = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training
    )
    assert len(made) == COUNTS[name]
    return made


def build(cls: Any, given: Any, dtype: Any) -> Any:
    arguments = given.constructor_input
    torch.manual_seed(0)
    return cls(*arguments.args, **arguments.kwargs, dtype=dtype)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", COUNTS)
def test_inputs(name: str, dtype: Any, training: bool) -> None:
    """Against their reference, and against PyTorch's module, with all gradients."""
    for given in module_inputs(name, dtype, training):
        arguments = given.forward_input
        layer = build(getattr(ours, name), given, dtype).train(training)
        theirs = build(INFOS[name].module_cls, given, dtype).train(training)
        got = layer(*arguments.args, **arguments.kwargs)
        torch.testing.assert_close(got, theirs(*arguments.args, **arguments.kwargs))
        reference = given.reference_fn(layer, *arguments.args, **arguments.kwargs)
        torch.testing.assert_close(got, reference)
        leaves = [t for t in pytree.tree_leaves(arguments.args) if torch.is_tensor(t)]
        gradients = []
        for one in (layer, theirs):
            results = pytree.tree_leaves(one(*arguments.args, **arguments.kwargs))
            loss = sum(y.square().sum() for y in results)
            gradients.append(torch.autograd.grad(loss, [*leaves, *one.parameters()]))
        for k, (mine, want) in enumerate(zip(*gradients, strict=True)):
            assert_close(mine.numpy(), want.numpy(), str(dtype).removeprefix("torch."), f"{k}")


@pytest.mark.parametrize("name", COUNTS)
def test_gradients_of_both_orders(name: str) -> None:
    for given in module_inputs(name, torch.float64, True):
        layer = build(getattr(ours, name), given, torch.float64)
        flat, spec = pytree.tree_flatten(given.forward_input.args)
        names = list(dict(layer.named_parameters()))

        def run(*tensors: Any, layer: Any = layer, names: Any = names, spec: Any = spec) -> Any:
            count = len(tensors) - len(names)
            params = dict(zip(names, tensors[count:], strict=True))
            fed = pytree.tree_unflatten(list(tensors[:count]), spec)
            return tuple(pytree.tree_leaves(torch.func.functional_call(layer, params, fed)))

        tensors = [*flat, *layer.parameters()]
        assert torch.autograd.gradcheck(run, tensors, fast_mode=True)
        assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)


@pytest.mark.parametrize("name", COUNTS)
def test_mistakes(name: str) -> None:
    info = INFOS[name]
    mistakes = info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=True, training=True
    )
    assert len(mistakes) > 1  # PyTorch 2.6 has two, 2.13 has more than ten
    for mistake in mistakes:
        given = mistake.module_error_input
        constructing = mistake.error_on == common.ModuleErrorEnum.CONSTRUCTION_ERROR
        kwargs = given.constructor_input.kwargs
        cls, arguments = getattr(ours, name), given.constructor_input.args
        run = partial(cls, *arguments, **kwargs)
        if not constructing:
            run = partial(run(), *given.forward_input.args, **given.forward_input.kwargs)
        with pytest.raises(mistake.error_type, match=mistake.error_regex):
            run()
