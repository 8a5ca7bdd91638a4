"""pyrnn.torch packs weights once for as long as they keep their bits, and sees every change."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from helpers_torch import FORMS, KINDS, inputs, ours, pair, torch
from helpers_torch import one_thread as one_thread


def _packs(layer: Any) -> list[tuple[int, int]]:
    """Of each layer and direction, in forward and in backward."""
    return [weights.packs for weights in layer._kept.weights]


def _fresh(layer: Any) -> Any:
    """The same weights, and nothing packed."""
    twin = copy.deepcopy(layer)
    assert twin._kept is not layer._kept
    return twin


def _train(layer: Any, x: Any) -> list[Any]:
    layer.zero_grad()
    fed = x.detach().requires_grad_()
    y, _ = layer(fed)
    (y * torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).cos()).sum().backward()
    return [y.detach(), fed.grad, *(p.grad for p in layer.parameters())]


def _assert_equal(got: list[Any], want: list[Any]) -> None:
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_once_per_step_of_the_optimiser(kind: str, form: str) -> None:
    """However many passes accumulate gradients between two of them, of whatever shapes."""
    _, layer = pair(kind, "float32", **FORMS[form])
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    whole = inputs(layer)[0].detach()
    parts = layer.num_layers * (1 + layer.bidirectional)
    for step in range(1, 4):
        for x in (whole, whole[:1], whole[:, :1], whole[:3, :2], whole):
            _assert_equal(_train(layer, x), _train(_fresh(layer), x))
            with torch.no_grad():
                assert torch.equal(layer(x)[0], _fresh(layer)(x)[0])
        assert _packs(layer) == [(step, step)] * parts
        optimiser.step()


def test_inference_packs_forward_alone() -> None:
    _, layer = pair("lstm", num_layers=2)
    x, _ = inputs(layer)
    with torch.no_grad():
        for _ in range(3):
            layer(x), layer(x[:1])
        assert _packs(layer) == [(1, 0)] * 2
        layer.bias_ih_l1 += 1
        layer(x)
    assert _packs(layer) == [(1, 0), (2, 0)]


def _through_data(layer: Any) -> None:
    layer.weight_hh_l0.data[-1, -1] *= 2


def _through_numpy(layer: Any) -> None:
    layer.weight_ih_l0.detach().numpy()[0, 0] += 1


def _exchange(layer: Any) -> None:
    layer.weight_hh_l0.data[[0, 1]] = layer.weight_hh_l0.data[[1, 0]]


def _last_bit(layer: Any) -> None:
    layer.weight_hh_l0.detach().numpy().view("int32")[2, 2] ^= 1


def _sign_of_zero(layer: Any) -> None:
    layer.weight_hh_l0.data[0, 0] = -layer.weight_hh_l0.data[0, 0]


CHANGES = [_through_data, _through_numpy, _exchange, _last_bit, _sign_of_zero]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
@pytest.mark.parametrize("kind", KINDS)
def test_a_change_between_forward_and_backward(kind: str, change: Any) -> None:
    """Which autograd cannot know of: backward reads the weights as they are then."""
    _, layer = pair(kind, "float32")
    with torch.no_grad():
        layer.weight_hh_l0[0, 0] = 0.0
    x = inputs(layer)[0].detach()
    _train(layer, x)
    twin = _fresh(layer)
    gradients = []
    for one in (layer, twin):
        one.zero_grad()
        fed = x.clone().requires_grad_()
        loss = one(fed)[0].sum()
        change(one)
        loss.backward()
        gradients.append([fed.grad, *(p.grad for p in one.parameters())])
    _assert_equal(*gradients)
    assert _packs(layer) == [(1, 2)]
    _assert_equal(_train(layer, x), _train(_fresh(layer), x))
    assert _packs(layer) == [(2, 2)]


def test_an_in_place_change_in_training_and_inference() -> None:
    _, layer = pair("gru", "float32")
    x = inputs(layer)[0].detach()
    for n in range(1, 4):
        _assert_equal(_train(layer, x), _train(_fresh(layer), x))
        with torch.no_grad():
            layer(x)
            assert _packs(layer) == [(n, n)]
            layer.weight_hh_l0.mul_(1.5)


@pytest.mark.parametrize("value", [0, 40_000, 150_000])
def test_one_value_of_many(value: int) -> None:
    layer = ours.LSTM(8, 200)
    x = torch.ones(3, 2, 8)
    with torch.no_grad():
        before, _ = layer(x)
        layer.weight_hh_l0.data.view(-1)[value] += 1
        assert not torch.equal(layer(x)[0], before)


def test_weights_in_another_order_of_memory() -> None:
    """What is read of them is a copy, and each call makes its own."""
    _, layer = pair("lstm")
    x, _ = inputs(layer)
    layer.weight_hh_l0.data = layer.weight_hh_l0.data.t().contiguous().t()
    with torch.no_grad():
        layer(x)
        before, _ = layer(x)
        layer.weight_hh_l0.data[0, 0] += 1
        assert not torch.equal(layer(x)[0], before)


def test_the_same_memory_read_in_another_order() -> None:
    """Of a square matrix nothing but the strides changes."""
    layer = ours.RNN(6, 6)
    x = torch.randn(3, 2, 6)
    with torch.no_grad():
        for _ in range(3):
            for name in ("weight_ih_l0", "weight_hh_l0"):
                weight = getattr(layer, name)
                weight.data = weight.data.t()
                assert torch.equal(layer(x)[0], _fresh(layer)(x)[0])


def test_nan_in_weights_is_no_change() -> None:
    _, layer = pair("lstm")
    x, _ = inputs(layer)
    with torch.no_grad():
        layer.weight_ih_l0[0, 0] = float("nan")
        layer(x), layer(x)
    assert _packs(layer) == [(1, 0)]


def test_threads_share_a_layer() -> None:
    """Reading at a time, and with weights that differ from call to call."""
    _, layer = pair("lstm", "float32", num_layers=2)
    x = inputs(layer)[0].detach()
    others = {n: p.detach() * 1.5 for n, p in layer.named_parameters()}
    with torch.no_grad():
        want = layer(x)[0]
        changed = torch.func.functional_call(_fresh(layer), others, (x,))[0]
    assert not torch.equal(want, changed)
    wrong: list[Any] = []

    def work(k: int) -> None:
        try:
            for _ in range(100):
                with torch.no_grad():
                    assert torch.equal(layer(x)[0], want)
                y = layer(x)[0]
                assert torch.equal(y, want)
                y.sum().backward(inputs=[layer.weight_hh_l0])
        except BaseException as error:  # to be raised in the test
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    with torch.no_grad():
        assert torch.equal(layer(x)[0], want)


def test_functional_calls_have_their_own_weights() -> None:
    _, layer = pair("gru", "float32")
    x = inputs(layer)[0].detach()
    others = {n: p.detach() * 1.5 for n, p in layer.named_parameters()}
    with torch.no_grad():
        own = layer(x)[0]
        for _ in range(2):
            made = torch.func.functional_call(layer, others, (x,))[0]
            assert not torch.equal(made, own)
            assert torch.equal(layer(x)[0], own)


def test_a_layer_that_has_grown() -> None:
    """Its attributes say how many layers there are, and may be set."""
    _, layer = pair("gru", "float32")
    x = inputs(layer)[0].detach()
    taller = ours.GRU(layer.input_size, layer.hidden_size, 2)
    with torch.no_grad():
        layer(x)
        vars(layer).update({k: v for k, v in vars(taller).items() if k != "_kept"})
        assert torch.equal(layer(x)[0], taller(x)[0])
    assert _packs(layer) == [(1, 0)] * 2


@pytest.mark.parametrize("train", [False, True])
def test_nothing_outlives_a_layer(train: bool) -> None:
    """What calls of its kind share holds none of its weights."""
    layer = ours.LSTM(3, 4, proj_size=2)
    weight = np.full((2, 4), 0.5, np.float32)
    layer.weight_hr_l0 = torch.nn.Parameter(torch.from_numpy(weight))
    alive = weakref.ref(weight)
    with torch.set_grad_enabled(train):
        y = layer(torch.ones(5, 2, 3))[0]
    if train:
        y.sum().backward()
    del layer, weight, y
    gc.collect()
    assert alive() is None
