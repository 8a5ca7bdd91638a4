"""pyrnn.torch against torch.nn: results, gradients, layouts, and what is left to PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers_script import run_script
from helpers_torch import (
    FORMS,
    KINDS,
    LENGTHS,
    assert_same,
    copied,
    inputs,
    ours,
    packed,
    pair,
    results_and_gradients,
    torch,
)
from helpers_torch import one_thread as one_thread

from pyrnn.torch import passes


@pytest.mark.parametrize("unbatched", [False, True], ids=["", "unbatched"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients(kind: str, dtype: str, form: str, unbatched: bool) -> None:
    theirs, layer = pair(kind, dtype, **FORMS[form])
    x, state = inputs(layer, unbatched=unbatched)
    for arguments in ((x,), (x, state)):
        got = results_and_gradients(layer, *arguments)
        want = results_and_gradients(theirs, *arguments)
        assert_same(got, want, dtype)


@pytest.mark.parametrize("enforce_sorted", [False, True], ids=["", "sorted"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences(kind: str, form: str, enforce_sorted: bool) -> None:
    theirs, layer = pair(kind, **FORMS[form])
    x, state = inputs(layer)
    lengths = sorted(LENGTHS, reverse=True) if enforce_sorted else LENGTHS
    for given in ((), (state,)):
        both = []
        for one in (layer, theirs):
            fed = copied(x)
            both.append(results_and_gradients(_Unpacked(one, lengths, enforce_sorted), fed, *given))
        assert_same(*both, "float64")
        with torch.no_grad():
            made = [one(packed(one, x, lengths, enforce_sorted), *given) for one in (layer, theirs)]
        assert type(made[0][0]) is torch.nn.utils.rnn.PackedSequence
        torch.testing.assert_close(*made)


class _Unpacked(torch.nn.Module):  # type: ignore[misc]
    """Packs ahead of a layer, so that x is a leaf."""

    def __init__(self, layer: Any, lengths: list[int], enforce_sorted: bool) -> None:
        super().__init__()
        self.layer, self.lengths, self.enforce_sorted = layer, lengths, enforce_sorted

    def forward(self, x: Any, *state: Any) -> Any:
        return self.layer(packed(self.layer, x, self.lengths, self.enforce_sorted), *state)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_inference(kind: str, form: str) -> None:
    theirs, layer = pair(kind, **FORMS[form])
    x, state = inputs(layer)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(layer(x, state), theirs(x, state))
            torch.testing.assert_close(layer(x), theirs(x))


def test_what_reaches_autograd_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pointers of tensors and of the kernels' arrays are the same, in both directions."""
    seen: dict[str, Any] = {}
    forward, backward = passes.forward, passes.backward

    def spy_forward(plan: Any, given: Any) -> Any:
        seen["in"] = [given.x, *given.states, *given.params]
        made = forward(plan, given)
        seen["out"] = made[0]
        return made

    def spy_backward(*arguments: Any) -> Any:
        made = backward(*arguments)
        seen["gradients"] = [made[0], *made[1], *made[2]]
        seen["incoming"] = arguments[3]
        return made

    monkeypatch.setattr(passes, "forward", spy_forward)
    monkeypatch.setattr(passes, "backward", spy_backward)
    _, layer = pair("lstm")
    x, state = inputs(layer)
    leaves = [x, *state, *layer.parameters()]
    y, (h, c) = layer(x, state)
    dy = torch.ones_like(y)
    y.backward(dy)

    def pointers(arrays: Any) -> list[int]:
        return [array.ctypes.data for array in arrays]

    assert pointers(seen["in"]) == [leaf.data_ptr() for leaf in leaves]
    assert pointers(seen["out"]) == [tensor.data_ptr() for tensor in (y, h, c)]
    assert seen["incoming"].ctypes.data == dy.data_ptr()
    assert pointers(seen["gradients"]) == [leaf.grad.data_ptr() for leaf in leaves]


def _bfloat16(layer: Any) -> Any:
    x, _ = inputs(layer)
    return layer.bfloat16()(x.bfloat16())


def _autocast(layer: Any) -> Any:
    x, _ = inputs(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return layer(x)


def _meta(layer: Any) -> Any:
    x, _ = inputs(layer)
    y, _ = layer.to("meta")(x.to("meta"))
    assert y.is_meta
    return list(y.shape)


class _Subclass(torch.Tensor):  # type: ignore[misc]
    pass


def _subclass(layer: Any) -> Any:
    x, _ = inputs(layer)
    y, _ = layer(x.detach().as_subclass(_Subclass))
    assert type(y) is _Subclass
    return y


def _forward_mode(layer: Any) -> Any:
    x, _ = inputs(layer)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x))
        with torch.no_grad():
            return torch.autograd.forward_ad.unpack_dual(layer(dual)[0])[1]


def _jacobian(layer: Any) -> Any:
    x, _ = inputs(layer)
    return torch.func.jacrev(lambda fed: layer(fed)[0].sum(0))(x.detach())


def _per_sample(layer: Any) -> Any:
    x, _ = inputs(layer)
    weights = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(params: Any, sample: Any) -> Any:
        return torch.func.functional_call(layer, params, (sample,))[0].sum()

    return torch.func.grad(loss)(weights, x.detach())


def _empty(layer: Any) -> Any:
    return layer(torch.zeros(3, 0, layer.input_size, dtype=torch.float64))


def _traced(layer: Any) -> Any:
    x, _ = inputs(layer)
    return torch.jit.trace(layer, (x.detach(),), check_trace=False)(2 * x.detach())


HANDED_BACK = [
    _bfloat16, _autocast, _meta, _subclass, _forward_mode, _jacobian, _per_sample, _empty, _traced,
]  # fmt: skip


@pytest.mark.parametrize("run", HANDED_BACK, ids=lambda run: run.__name__.strip("_"))
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_what_is_handed_back(
    kind: str, run: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """PyTorch's result or PyTorch's refusal, without the kernels."""
    for name in ("infer", "forward"):
        monkeypatch.setattr(passes, name, None)
    theirs, layer = pair(kind)
    results = []
    for one in (layer, theirs):
        try:
            results.append(run(one))
        except (RuntimeError, NotImplementedError) as error:
            results.append(str(error))
    torch.testing.assert_close(*results)


def test_oddly_laid_out_tensors() -> None:
    """Strides of 0, transposed weights, slices: the same numbers."""
    theirs, layer = pair("lstm")
    x, state = inputs(layer)
    turned = {n: p.t().contiguous().t() for n, p in layer.named_parameters() if p.dim() == 2}
    for name, weight in turned.items():
        getattr(layer, name).data = weight
    wide = torch.randn(8, 6, 10, dtype=torch.float64)
    for fed in (wide[1:7, ::2, ::2], torch.ones(1, 3, 1, dtype=torch.float64).expand(5, 3, 5)):
        assert_same(
            results_and_gradients(layer, fed), results_and_gradients(theirs, fed), "float64"
        )
    negated = torch._neg_view(wide[1:7, ::2, ::2])
    assert negated.is_neg()
    torch.testing.assert_close(layer(negated), theirs(negated))
    one = state[0][:, :1].detach().expand(1, 4, 7)
    torch.testing.assert_close(layer(x, (one, one)), theirs(x, (one, one)))


def test_mistakes_are_pytorchs() -> None:
    theirs, layer = pair("lstm")
    x, (h, c) = inputs(layer)
    mistakes: list[tuple[Any, ...]] = [
        (x[0, 0],),
        (x[..., :3],),
        (x.float(),),
        (x, (h,)),
        (x, (h[:, :2], c)),
        (x, (h, c[..., :2])),
        (x, (h.float(), c.float())),
        (x[:0],),
    ]
    for arguments in mistakes:
        with pytest.raises(Exception) as want:
            theirs(*arguments)
        with pytest.raises(want.type) as got:
            layer(*arguments)
        assert str(got.value) == str(want.value)


def test_without_pytorch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    code = "import pyrnn; import pyrnn.torch"
    done = run_script(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}")
    assert done.returncode == 1
    assert 'pip install "pyrnn-kernels[torch]"' in done.stderr.splitlines()[-1]


def test_the_classes_are_pytorchs() -> None:
    for name in ours.__all__:
        if name != "accelerate":
            assert issubclass(getattr(ours, name), getattr(torch.nn, name))
            theirs, layer = getattr(torch.nn, name)(3, 4, 2), getattr(ours, name)(3, 4, 2)
            assert repr(layer) == repr(theirs)
            assert list(layer.state_dict()) == list(theirs.state_dict())
            assert list(vars(layer)) == [*vars(theirs), "_kept"]
