"""Layers against PyTorch's on the same weights: values, states and all gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers_layers import KINDS, inputs, states_of
from tolerances import assert_close

import pyrnn

torch = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Its threads spin between operations: on a busy machine that takes seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stacked": {"num_layers": 3, "batch_first": True},
    "all": {"num_layers": 2, "bidirectional": True, "bias": False},
}


def pair(kind: str, dtype: str, **options: Any) -> tuple[Any, Any]:
    """A layer of PyTorch and ours with its weights."""
    cls, fixed = KINDS[kind]
    theirs = getattr(torch.nn, cls.__name__)(5, 7, **fixed, **options).to(getattr(torch, dtype))
    ours = cls(5, 7, **fixed, **options, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def leaf(array: Any) -> Any:
    return torch.from_numpy(np.array(array)).requires_grad_()


@pytest.mark.parametrize("unbatched", [False, True], ids=["", "unbatched"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
def test_parity(kind: str, dtype: str, form: str, unbatched: bool) -> None:
    theirs, ours = pair(kind, dtype, **FORMS[form])
    x, state = inputs(ours, 6, 3, unbatched=unbatched)
    _, dstate = inputs(ours, 6, 3, unbatched=unbatched, seed=5)
    t_x, t_states = leaf(x), [leaf(s) for s in states_of(state)]
    t_y, t_last = theirs(t_x, tuple(t_states) if kind == "lstm" else t_states[0])
    dy = np.random.default_rng(6).normal(size=tuple(t_y.shape)).astype(dtype)
    scalar = (t_y * torch.from_numpy(dy)).sum()
    for last, d in zip(states_of(t_last), states_of(dstate), strict=True):
        scalar = scalar + (last * torch.from_numpy(d)).sum()
    scalar.backward()

    y, last, tape = ours.forward(x, state)
    grads = ours.backward(tape, dy, dstate)
    assert_close(y, t_y.detach().numpy(), dtype, "y")
    for got, want in zip(states_of(last), states_of(t_last), strict=True):
        assert_close(got, want.detach().numpy(), dtype, "state")
    assert_close(grads.x, t_x.grad.numpy(), dtype, "dx")
    for got, want in zip(states_of(grads.state), t_states, strict=True):
        assert_close(got, want.grad.numpy(), dtype, "dstate")
    for name, parameter in theirs.named_parameters():
        assert_close(grads.params[name], parameter.grad.numpy(), dtype, name)


@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_lengths_are_packed_sequences(kind: str) -> None:
    theirs, ours = pair(kind, "float64", num_layers=2, bidirectional=True)
    x, state = inputs(ours, 6, 4)
    lengths = np.array([3, 6, 1, 5])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(lengths), enforce_sorted=False
    )
    first = tuple(map(torch.from_numpy, state)) if kind == "lstm" else torch.from_numpy(state)
    t_y, t_last = theirs(packed, first)
    t_y, _ = torch.nn.utils.rnn.pad_packed_sequence(t_y)
    y, last = ours(x, state, lengths)
    assert_close(y, t_y.detach().numpy(), "float64", "y")
    for got, want in zip(states_of(last), states_of(t_last), strict=True):
        assert_close(got, want.detach().numpy(), "float64", "state")


def test_weights_of_every_sort_of_tensor() -> None:
    theirs = torch.nn.LSTM(5, 7, 2, bidirectional=True)
    ours = pyrnn.LSTM(5, 7, 2, bidirectional=True)
    assert list(ours.params) == list(theirs.state_dict())
    # Parameters that require gradients.
    ours.load_state_dict(dict(theirs.named_parameters()))
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.params[name], tensor.numpy())
    # And back.
    theirs.load_state_dict({n: torch.from_numpy(a + 1) for n, a in ours.state_dict().items()})
    np.testing.assert_array_equal(
        theirs.state_dict()["bias_hh_l1"].numpy(), ours.params["bias_hh_l1"] + 1
    )
    # A view that is not contiguous.
    turned = {
        n: t.t().contiguous().t() if t.ndim == 2 else t for n, t in theirs.state_dict().items()
    }
    ours.load_state_dict(turned)
    np.testing.assert_array_equal(
        ours.params["weight_hh_l1"], theirs.state_dict()["weight_hh_l1"].numpy()
    )
    for dtype, name in ((torch.float64, "float64"), (torch.bfloat16, "expected an array")):
        with pytest.raises(TypeError, match=f"weight_ih_l0: .*{name}"):
            ours.load_state_dict({n: t.to(dtype) for n, t in theirs.state_dict().items()})
    head, ours_head = torch.nn.Linear(5, 3), pyrnn.Linear(5, 3)
    ours_head.load_state_dict(head.state_dict())
    x = np.ones((2, 4, 5), "float32")
    assert_close(ours_head(x), head(torch.from_numpy(x)).detach().numpy(), "float32")


def test_signatures_begin_as_those_of_pytorch() -> None:
    """Positional arguments mean the same."""
    cases = [
        ("RNN", (3, 4, 2, "relu", False, True, 0.5, True)),
        ("GRU", (3, 4, 2, False, True, 0.5, True)),
        ("LSTM", (3, 4, 2, False, True, 0.5, True, 0)),
        ("Linear", (3, 4, False)),
    ]
    for name, arguments in cases:
        theirs = getattr(torch.nn, name)(*arguments)
        ours = getattr(pyrnn, name)(*arguments)
        for attribute in ("batch_first", "dropout", "bidirectional", "num_layers", "nonlinearity"):
            if hasattr(ours, attribute):
                assert getattr(ours, attribute) == getattr(theirs, attribute)
        assert {n: tuple(t.shape) for n, t in theirs.state_dict().items()} == {
            n: a.shape for n, a in ours.params.items()
        }
