"""pyrnn.torch in training: changed weights, dropout, what is kept, second derivatives."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
from helpers_torch import (
    KINDS,
    LENGTHS,
    assert_same,
    inputs,
    ours,
    packed,
    pair,
    results_and_gradients,
    torch,
)
from helpers_torch import one_thread as one_thread


def _step_sgd(layer: Any) -> None:
    torch.optim.SGD(layer.parameters(), lr=0.05).step()


def _step_adam(layer: Any) -> None:
    torch.optim.Adam(layer.parameters(), lr=0.05).step()


def _step_through_data(layer: Any) -> None:
    for parameter in layer.parameters():
        parameter.data.sub_(parameter.grad, alpha=0.05)


def _step_through_numpy(layer: Any) -> None:
    for parameter in layer.parameters():
        parameter.detach().numpy()[...] -= 0.05 * parameter.grad.numpy()


def _assign_data(layer: Any) -> None:
    for parameter in layer.parameters():
        parameter.data = parameter.data - 0.05 * parameter.grad


def _assign_parameters(layer: Any) -> None:
    for name, parameter in list(layer.named_parameters()):
        new = torch.nn.Parameter(parameter.detach() * 1.1)
        new.grad = parameter.grad
        setattr(layer, name, new)


def _one_value(layer: Any) -> None:
    """Among all of the bits."""
    layer.weight_hh_l0.data[-1, -1] += 1.0


def _exchange(layer: Any) -> None:
    """Rows, which no sum tells."""
    layer.weight_hh_l0.data[[0, 1]] = layer.weight_hh_l0.data[[1, 0]]


def _load(layer: Any) -> None:
    layer.load_state_dict({n: p * 1.1 for n, p in layer.state_dict().items()})


STEPS = [
    _step_sgd, _step_adam, _step_through_data, _step_through_numpy, _assign_data,
    _assign_parameters, _one_value, _exchange, _load,
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__.strip("_"))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm", "projected"])
def test_changed_weights_count_at_once(kind: str, dtype: str, step: Any) -> None:
    """In training and in inference, however they were changed."""
    theirs, layer = pair(kind, dtype, num_layers=2)
    x, _ = inputs(layer)
    for one in (layer, theirs):
        with torch.no_grad():
            one(x)
        one(x)[0].sum().backward()
        step(one)
    with torch.no_grad():
        before = layer(x)
        torch.testing.assert_close(before, theirs(x))
    got, want = (results_and_gradients(one, x) for one in (layer, theirs))
    assert_same(got, want, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns_as_pytorchs(kind: str) -> None:
    theirs, layer = pair(kind, num_layers=2, bidirectional=True)
    losses = []
    for one in (layer, theirs):
        optimiser = torch.optim.Adam(one.parameters(), lr=0.05)
        x, _ = inputs(one)
        for _ in range(20):
            optimiser.zero_grad()
            loss = (one(x.detach())[0] - 0.5).square().mean()
            loss.backward()
            optimiser.step()
        losses.append(loss)
    torch.testing.assert_close(*losses)
    assert losses[0] < 0.3


# --- Dropout ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True], ids=["", "both"])
@pytest.mark.parametrize("kind", ["rnn_relu", "gru", "lstm"])
def test_dropout_has_the_gradients_of_its_own_masks(kind: str, bidirectional: bool) -> None:
    _, layer = pair(kind, num_layers=3, bidirectional=bidirectional, dropout=0.4)
    x, _ = inputs(layer)

    def run(*tensors: Any) -> Any:
        torch.manual_seed(7)
        names = dict(layer.named_parameters())
        params = dict(zip(names, tensors[1:], strict=True))
        return torch.func.functional_call(layer, params, tensors[:1])[0]

    tensors = x, *layer.parameters()
    assert torch.autograd.gradcheck(run, tensors, fast_mode=True)


def test_dropout_follows_the_generator() -> None:
    _, layer = pair("lstm", num_layers=2, dropout=0.5)
    x, _ = inputs(layer)
    torch.manual_seed(3)
    first, second = layer(x)[0], layer(x)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    with torch.no_grad():  # masks are drawn in training, whether or not gradients are recorded
        assert torch.equal(layer(x)[0], first)
    layer.eval()
    state = torch.get_rng_state()
    assert torch.equal(layer(x)[0], layer(x)[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_how_much_is_dropped() -> None:
    """Through an identity above, the mask shows: 0 or 1 / (1 - p), each element by itself."""
    layer = ours.RNN(4, 64, 2, nonlinearity="relu", dropout=0.25)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.zero_()
            if name.startswith("bias_ih_l0"):
                parameter.fill_(1.0)
        layer.weight_ih_l1.copy_(torch.eye(64))
    y, _ = layer(torch.zeros(50, 10, 4))
    values, counts = y.unique(return_counts=True)
    torch.testing.assert_close(values, torch.tensor([0.0, 4 / 3]))
    # Five standard deviations of a binomial distribution.
    share = counts[0].item() / y.numel()
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / y.numel()) ** 0.5
    assert not torch.equal(y[0], y[1])
    assert not torch.equal(y[:, 0], y[:, 1])


def test_all_dropped() -> None:
    theirs, layer = pair("gru", num_layers=2, dropout=1.0)
    x, _ = inputs(layer)
    torch.testing.assert_close(layer(x), theirs(x))


# --- Between the passes ----------------------------------------------------------------------


@pytest.mark.parametrize("which", ["x", "weight"])
def test_what_backward_reads_must_not_change(which: str) -> None:
    _, layer = pair("lstm")
    x = inputs(layer)[0].detach()
    y, _ = layer(x)
    with torch.no_grad():
        (x if which == "x" else layer.weight_hh_l0).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_results_may_change() -> None:
    for kind in KINDS:
        _, layer = pair(kind, num_layers=2)
        x, _ = inputs(layer)
        want = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
        y, _ = layer(x)
        changed = y * 1
        with torch.no_grad():
            y.zero_()
        torch.testing.assert_close(
            torch.autograd.grad(changed.sum(), list(layer.parameters())), want
        )


def test_backward_twice() -> None:
    _, layer = pair("gru", num_layers=2, dropout=0.5)
    x, _ = inputs(layer)
    loss = layer(x)[0].sum()
    first = torch.autograd.grad(loss, x, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(loss, x)[0])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, x)


def test_the_tape_is_freed_by_backward() -> None:
    _, layer = pair("lstm")
    x, _ = inputs(layer)
    kept: list[Any] = []

    def pack(tensor: Any) -> Any:
        kept.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = layer(x)[0].sum()
    alive = sum(one() is not None for one in kept)
    loss.backward()
    gc.collect()
    assert sum(one() is not None for one in kept) < alive
    assert loss.grad_fn is not None  # the graph itself is still there


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant: bool) -> None:
    _, layer = pair("lstm", num_layers=2, dropout=0.5)
    x, _ = inputs(layer)
    gradients = []
    for run in (layer, lambda fed: torch.utils.checkpoint.checkpoint(
        layer, fed, use_reentrant=reentrant
    )):  # fmt: skip
        layer.zero_grad()
        torch.manual_seed(5)
        run(x)[0].sum().backward()
        gradients.append([p.grad for p in layer.parameters()])
    torch.testing.assert_close(*gradients)


def test_only_some_gradients() -> None:
    """Of results that no loss uses, and to parameters that are frozen."""
    theirs, layer = pair("lstm", bidirectional=True)
    x, state = inputs(layer)
    for one in (layer, theirs):
        one.weight_ih_l0.requires_grad_(False)
    losses = [
        lambda y, h, c: c.sum(), lambda y, h, c: h.sum(), lambda y, h, c: y[0].sum(),
    ]  # fmt: skip
    for loss in losses:
        both = []
        for one in (layer, theirs):
            y, (h, c) = one(x.detach(), state)
            leaves = [*state, one.weight_hh_l0, one.bias_hh_l0_reverse]
            both.append(torch.autograd.grad(loss(y, h, c), leaves))
        torch.testing.assert_close(*both)


# --- Second derivatives ----------------------------------------------------------------------


@pytest.mark.parametrize("ragged", [False, True], ids=["", "packed"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm", "projected"])
def test_second_derivatives(kind: str, ragged: bool) -> None:
    _, layer = pair(kind, num_layers=2, bidirectional=True)
    x, state = inputs(layer)
    states = list(state) if isinstance(state, tuple) else [state]

    def run(fed: Any, *others: Any) -> Any:
        params = dict(zip(dict(layer.named_parameters()), others[len(states) :], strict=True))
        first = others[: len(states)]
        given = packed(layer, fed, LENGTHS) if ragged else fed
        arguments = given, first if len(first) == 2 else first[0]
        y, last = torch.func.functional_call(layer, params, arguments)
        return (y.data if ragged else y), *(last if isinstance(last, tuple) else (last,))

    tensors = x, *states, *layer.parameters()
    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)


def test_no_second_derivatives_through_dropout() -> None:
    _, layer = pair("gru", num_layers=2, dropout=0.5)
    x, _ = inputs(layer)
    with pytest.raises(RuntimeError, match=r"create_graph: .* dropout"):
        torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)


def test_vectorised_gradients() -> None:
    theirs, layer = pair("gru")
    x, _ = inputs(layer)
    both = [
        torch.autograd.functional.jacobian(
            lambda fed, one=one: one(fed)[0].sum(0), x, vectorize=True
        )
        for one in (layer, theirs)
    ]
    torch.testing.assert_close(*both)


def test_two_layers_share_weights() -> None:
    theirs, layer = pair("gru", num_layers=1)
    gradients = []
    for one in (layer, theirs):
        twin = copy.copy(one)
        assert twin.weight_hh_l0 is one.weight_hh_l0
        x, _ = inputs(one)
        (one(x)[0].sum() + twin(2 * x)[0].sum()).backward()
        gradients.append([p.grad for p in one.parameters()])
    torch.testing.assert_close(*gradients)
