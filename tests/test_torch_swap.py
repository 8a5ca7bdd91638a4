"""accelerate: the layers of a model become ours and stay what they are."""

from __future__ import annotations

import copy
import io
import pickle
from importlib import import_module
from typing import Any

import pytest
from helpers_torch import FORMS, KINDS, inputs, ours, pair, torch
from helpers_torch import one_thread as one_thread


class Tagger(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True)
        self.stack = torch.nn.ModuleList([torch.nn.GRU(14, 6), torch.nn.RNN(6, 4)])
        self.again = self.stack[0]
        self.above = torch.nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(x)
        for layer in self.stack:
            y, _ = layer(y)
        return self.above(y)


def test_every_layer_of_a_model() -> None:
    model = Tagger()
    model.lstm.tag = "kept"
    calls: list[str] = []
    model.lstm.register_forward_hook(lambda *_: calls.append("after"))
    model.lstm.register_forward_pre_hook(lambda *_: calls.append("before"))
    model.lstm.weight_hh_l0.register_hook(lambda _: calls.append("gradient"))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters = list(model.parameters())
    layers = [model.lstm, *model.stack]
    theirs = copy.deepcopy(model)
    x = torch.randn(2, 6, 5)
    want = model(x)

    assert ours.accelerate(model) is model
    assert [type(m).__name__ for m in layers] == ["LSTM", "GRU", "RNN"]
    assert all(type(m).__module__.startswith("pyrnn") for m in layers)
    assert model.again is model.stack[0]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert model.lstm.tag == "kept"
    calls.clear()
    got = model(x)
    got.sum().backward()
    assert calls == ["before", "after", "gradient"]
    torch.testing.assert_close(got, want)
    optimiser.step()
    with torch.no_grad():
        assert not torch.equal(model(x), want)
    assert list(model.state_dict()) == list(theirs.state_dict())
    assert repr(model) == repr(theirs)
    theirs.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(x))
    assert ours.accelerate(model) is model  # again changes nothing


def test_a_layer_alone() -> None:
    layer = torch.nn.GRU(3, 4)
    assert ours.accelerate(layer) is layer
    assert type(layer) is ours.GRU


def test_derived_classes_are_left_alone() -> None:
    class Halved(torch.nn.LSTM):  # type: ignore[misc]
        def forward(self, input: Any, hx: Any = None) -> Any:
            y, state = super().forward(input, hx)
            return y / 2, state

    model = torch.nn.Sequential(Halved(3, 4), torch.nn.LSTMCell(3, 4))
    before = [type(m) for m in model]
    ours.accelerate(model)
    assert [type(m) for m in model] == before


def test_something_else() -> None:
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got dict"):
        ours.accelerate({})


def _deepcopied(layer: Any) -> Any:
    return copy.deepcopy(layer)


def _pickled(layer: Any) -> Any:
    return pickle.loads(pickle.dumps(layer))


def _saved(layer: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("way", [_deepcopied, _pickled, _saved])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_independent(kind: str, form: str, way: Any) -> None:
    _, layer = pair(kind, **FORMS[form])
    x, _ = inputs(layer)
    with torch.no_grad():
        want = layer(x)  # packs: what is packed does not travel
        twin = way(layer)
        assert twin._kept is not layer._kept
        assert type(twin) is type(layer)
        torch.testing.assert_close(twin(x), want)
        for parameter in twin.parameters():
            parameter.zero_()
        torch.testing.assert_close(layer(x), want)


def _weight_norm(layer: Any) -> None:
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")


def _old_weight_norm(layer: Any) -> None:
    torch.nn.utils.weight_norm(layer, "weight_ih_l0")


def _spectral_norm(layer: Any) -> None:
    torch.nn.utils.parametrizations.spectral_norm(layer, "weight_ih_l0")


def _pruned(layer: Any) -> None:
    import_module("torch.nn.utils.prune").random_unstructured(layer, "weight_hh_l0", amount=0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("change", [_weight_norm, _old_weight_norm, _spectral_norm, _pruned])
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_parameters_that_are_computed(kind: str, change: Any) -> None:
    """Gradients reach what they are computed of."""
    results = []
    for layer in pair(kind, num_layers=2):
        torch.manual_seed(2)
        change(layer)
        layer.eval()  # spectral norm iterates in training
        x, _ = inputs(layer)
        layer(x)[0].sum().backward()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter -= 0.1 * parameter.grad
            results.append([layer(x), {n: p.grad for n, p in layer.named_parameters()}])
    torch.testing.assert_close(*results)


def test_to_another_dtype_and_back() -> None:
    theirs, layer = pair("lstm")
    x, _ = inputs(layer)
    with torch.no_grad():
        layer(x)
        for one in (layer, theirs):
            one.float()
        torch.testing.assert_close(layer(x.float()), theirs(x.float()))
        for one in (layer, theirs):
            one.double()
        torch.testing.assert_close(layer(x), theirs(x))
