"""Layers of PyTorch and ours with the same weights, run on the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from tolerances import assert_close

torch: Any = pytest.importorskip("torch", reason="needs PyTorch, which is not installed")
ours: Any = import_module("pyrnn.torch")

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "gru": ("GRU", {}),
    "lstm": ("LSTM", {}),
    "projected": ("LSTM", {"proj_size": 3}),
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"num_layers": 3, "batch_first": True},
    "both": {"num_layers": 2, "bidirectional": True, "bias": False},
}
SEQ_LEN, BATCH_SIZE, INPUT_SIZE, HIDDEN_SIZE = 6, 4, 5, 7
LENGTHS = [3, 6, 1, 5]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Its threads spin between operations: on a busy machine that takes seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(kind: str, dtype: str = "float64", **options: Any) -> tuple[Any, Any]:
    """A layer of torch.nn and ours."""
    name, fixed = KINDS[kind]
    torch.manual_seed(0)
    arguments = {**fixed, **options, "dtype": getattr(torch, dtype)}
    theirs = getattr(torch.nn, name)(INPUT_SIZE, HIDDEN_SIZE, **arguments)
    layer = getattr(ours, name)(INPUT_SIZE, HIDDEN_SIZE, **arguments)
    layer.load_state_dict(theirs.state_dict())
    return theirs, layer


def inputs(layer: Any, *, unbatched: bool = False, seed: int = 1) -> tuple[Any, Any]:
    """x as the layer lays it out, and its states; leaves that require gradients."""
    make = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Any:
        dtype = layer.weight_hh_l0.dtype
        return torch.randn(*shape, generator=make, dtype=dtype).requires_grad_()

    batch = () if unbatched else (BATCH_SIZE,)
    shape = (*batch, SEQ_LEN) if layer.batch_first else (SEQ_LEN, *batch)
    rows = layer.num_layers * (1 + layer.bidirectional)
    h = normal(rows, *batch, layer.proj_size or HIDDEN_SIZE)
    x = normal(*shape, INPUT_SIZE)
    return x, (h, normal(rows, *batch, HIDDEN_SIZE)) if layer.mode == "LSTM" else h


def packed(layer: Any, x: Any, lengths: list[int], enforce_sorted: bool = False) -> Any:
    return torch.nn.utils.rnn.pack_padded_sequence(
        x, lengths, batch_first=layer.batch_first, enforce_sorted=enforce_sorted
    )


def flat(value: Any) -> list[Any]:
    """Tensors of a result, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value if part is not None for tensor in flat(part)]


def results_and_gradients(layer: Any, x: Any, *arguments: Any) -> dict[str, Any]:
    """Everything by name; the loss gives each element of each result a slope of its own."""
    leaves = [t for t in flat((x, *arguments)) if t.requires_grad and t.is_leaf]
    results = flat(layer(x, *arguments))
    loss: Any = 0.0
    for k, result in enumerate(results):
        if result.is_floating_point():
            slopes = torch.linspace(-1, 1, result.numel(), dtype=result.dtype) + k
            loss = loss + (result * slopes.view(result.shape)).sum()
    named = dict(layer.named_parameters())
    tensors = [*leaves, *named.values()]
    gradients = torch.autograd.grad(loss, tensors)
    names = [*(f"leaf {k}" for k in range(len(leaves))), *named]
    return {f"result {k}": r.detach() for k, r in enumerate(results)} | dict(
        zip(names, gradients, strict=True)
    )


def assert_same(got: dict[str, Any], want: dict[str, Any], dtype: str) -> None:
    assert list(got) == list(want)
    for name, tensor in want.items():
        if tensor.is_floating_point():
            assert_close(got[name].numpy(), tensor.numpy(), dtype, name)
        else:
            assert torch.equal(got[name], tensor), name


def copied(value: Any) -> Any:
    """Leaves with the same values."""
    if isinstance(value, tuple):
        return tuple(map(copied, value))
    return copy.deepcopy(value.detach()).requires_grad_(value.requires_grad)
