"""SGD and Adam: their equations step by step, PyTorch's, errors and resuming."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tolerances import assert_same_bits, relative_error

import pyrnn
from pyrnn import SGD, Adam

Array = npt.NDArray[Any]

# Arguments, as far as PyTorch has the same names.
SGD_CASES: tuple[dict[str, Any], ...] = (
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.05},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
)
ADAM_CASES: tuple[dict[str, Any], ...] = (
    {},
    {"lr": 0.05, "betas": (0.8, 0.99), "eps": 1e-6},
    {"lr": 0.05, "weight_decay": 0.1},
    {"lr": 0.05, "betas": (0.0, 0.5)},
)
CASES = [(SGD, case) for case in SGD_CASES] + [(Adam, case) for case in ADAM_CASES]
SHAPES = {"weight": (7, 5), "bias": (7,), "scalar": (), "none": (0, 3)}
STEPS = 6


def start(dtype: str = "float64") -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: np.asarray(rng.normal(size=s), dtype) for name, s in SHAPES.items()}


def gradient(step: int, dtype: str = "float64") -> dict[str, Array]:
    rng = np.random.default_rng(step + 1)
    return {name: np.asarray(rng.normal(size=s), dtype) for name, s in SHAPES.items()}


def sgd_by_equations(
    params: dict[str, Array],
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Callable[[int], None]:
    velocity = {n: np.zeros_like(p) for n, p in params.items()}

    def step(k: int) -> None:
        for name, g in gradient(k).items():
            g = g + weight_decay * params[name]
            velocity[name] = momentum * velocity[name] + g
            g = g + momentum * velocity[name] if nesterov else velocity[name]
            params[name] = params[name] - lr * g

    return step


def adam_by_equations(
    params: dict[str, Array],
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Callable[[int], None]:
    """Kingma & Ba 2015, algorithm 1."""
    m = {n: np.zeros_like(p) for n, p in params.items()}
    v = {n: np.zeros_like(p) for n, p in params.items()}

    def step(k: int) -> None:
        for name, g in gradient(k).items():
            g = g + weight_decay * params[name]
            m[name] = betas[0] * m[name] + (1 - betas[0]) * g
            v[name] = betas[1] * v[name] + (1 - betas[1]) * g**2
            m_hat = m[name] / (1 - betas[0] ** (k + 1))
            v_hat = v[name] / (1 - betas[1] ** (k + 1))
            params[name] = params[name] - lr * m_hat / (np.sqrt(v_hat) + eps)

    return step


@pytest.mark.parametrize(("cls", "options"), CASES, ids=str)
def test_equations(cls: Any, options: dict[str, Any]) -> None:
    params, want = start(), start()
    optimiser = cls(params, **({"lr": 1e-3} | options))
    arrays = dict(params)
    step = (sgd_by_equations if cls is SGD else adam_by_equations)(want, **options)
    for k in range(STEPS):
        grads = gradient(k)
        kept = {n: g.copy() for n, g in grads.items()}
        optimiser.step(grads)
        step(k)
        for name, array in params.items():
            assert array is arrays[name]
            assert relative_error(array, want[name]) < 1e-13, (name, k)
            assert_same_bits(grads[name], kept[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cls", "options"), CASES, ids=str)
def test_parity_with_pytorch(cls: Any, options: dict[str, Any], dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")
    params = start(dtype)
    theirs = {n: torch.from_numpy(p.copy()).requires_grad_() for n, p in params.items()}
    ours = cls(params, **({"lr": 1e-3} | options))
    reference = getattr(torch.optim, cls.__name__)(list(theirs.values()), **options)
    for k in range(STEPS):
        grads = gradient(k, dtype)
        for name, tensor in theirs.items():
            tensor.grad = torch.from_numpy(grads[name].copy())
        ours.step(grads)
        reference.step()
    rounding = 4 * np.finfo(dtype).eps
    for name, tensor in theirs.items():
        np.testing.assert_allclose(
            params[name], tensor.detach().numpy(), rtol=rounding, atol=rounding
        )


@pytest.mark.parametrize("cls", [SGD, Adam])
def test_large_and_strided_arrays(cls: Any) -> None:
    """More elements than go through the equations at once, and arrays in another order."""
    rng = np.random.default_rng(0)
    size = 3 * pyrnn.optimisers._BLOCK + 17
    plain = {"p": rng.normal(size=(size,)).astype("f4")}
    halves = {f"p{k}": part.copy() for k, part in enumerate(np.array_split(plain["p"], 7))}
    turned = {"p": np.asfortranarray(np.stack([plain["p"]] * 2))}
    grad = rng.normal(size=size).astype("f4")
    options = {"lr": 0.1, "weight_decay": 0.1}
    if cls is SGD:
        options["momentum"] = 0.9
    one, many, other = (cls(p, **options) for p in (plain, halves, turned))
    for _ in range(2):
        one.step({"p": grad})
        many.step({f"p{k}": part for k, part in enumerate(np.array_split(grad, 7))})
        other.step({"p": np.asfortranarray(np.stack([grad] * 2))})
    assert_same_bits(np.concatenate(list(halves.values())), plain["p"])
    for row in turned["p"]:
        assert_same_bits(np.ascontiguousarray(row), plain["p"])


@pytest.mark.parametrize(("cls", "options"), CASES, ids=str)
def test_resuming(cls: Any, options: dict[str, Any], tmp_path: Any) -> None:
    options = {"lr": 1e-3} | options
    through, stopped = start("float32"), start("float32")
    one, two = cls(through, **options), cls(stopped, **options)
    for k in range(3):
        one.step(gradient(k, "float32"))
        two.step(gradient(k, "float32"))
    two.lr = one.lr = 0.02
    np.savez(tmp_path / "optimiser.npz", **two.state_dict())
    kept = two.state_dict()
    two.step(gradient(9, "float32"))  # reaches no copy
    resumed = {n: p.copy() for n, p in through.items()}
    with np.load(tmp_path / "optimiser.npz") as saved:
        three = cls(resumed, lr=9)
        if "momentum" in options:
            three = cls(resumed, lr=9, momentum=0.5)
        three.load_state_dict(saved)
    again = {n: p.copy() for n, p in through.items()}
    four = cls(again, **options)
    four.load_state_dict(kept)
    assert repr(three) == repr(four) == repr(one)
    for k in range(3, 6):
        for optimiser in (one, three, four):
            optimiser.step(gradient(k, "float32"))
    for name, array in through.items():
        assert_same_bits(resumed[name], array)
        assert_same_bits(again[name], array)


def refuses(error: type[Exception], message: str, call: Any, *arguments: Any) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        call(*arguments)


@pytest.mark.parametrize("cls", [SGD, Adam])
def test_nothing_is_written_when_a_gradient_is_wrong(cls: Any) -> None:
    params, good = start(), gradient(0)
    before = start()
    optimiser = cls(params, 0.1, **({"momentum": 0.9} if cls is SGD else {}))
    state = optimiser.state_dict()
    bad: list[tuple[Any, type[Exception], str]] = [
        ({n: g for n, g in good.items() if n != "none"}, ValueError, "grads: missing none"),
        (good | {"weigth": good["weight"]}, ValueError, "grads: unexpected weigth"),
        (good | {"none": np.zeros((3, 0))}, ValueError, "grads['none']: expected shape (0, 3)"),
        (good | {"bias": np.zeros(6)}, ValueError, "grads['bias']: expected shape (7,), got (6,)"),
        (good | {"bias": np.zeros(7, "f4")}, TypeError, "grads['bias']: expected float64, got"),
        (good | {"bias": None}, TypeError, "grads['bias']: expected float64, got object"),
        (list(good.values()), TypeError, "grads: expected gradients by name, got list"),
    ]
    for grads, error, message in bad:
        refuses(error, message, optimiser.step, grads)
    params["none"].flags.writeable = False
    refuses(ValueError, "params['none']: expected a writable array", optimiser.step, good)
    for name, array in params.items():
        assert_same_bits(array, before[name])
    now = optimiser.state_dict()
    assert now.keys() == state.keys()
    assert all(np.array_equal(now[name], state[name]) for name in state)


@pytest.mark.parametrize("cls", [SGD, Adam])
def test_a_state_dict_that_does_not_fit(cls: Any) -> None:
    options = {"momentum": 0.9} if cls is SGD else {}
    optimiser = cls(start(), 0.1, **options)
    kind = "velocity" if cls is SGD else "v"
    good = optimiser.state_dict()
    refuses(
        ValueError,
        "state_dict: missing lr; unexpected rate",
        optimiser.load_state_dict,
        {n: v for n, v in good.items() if n != "lr"} | {"rate": 1.0},
    )
    name = f"{kind}.weight"
    wrong = good | {"lr": 7.0, name: np.zeros((5, 7))}
    refuses(ValueError, f"{name}: expected shape (7, 5)", optimiser.load_state_dict, wrong)
    wrong = good | {"lr": 7.0, name: np.zeros((7, 5), "f4")}
    refuses(TypeError, f"{name}: expected float64", optimiser.load_state_dict, wrong)
    assert optimiser.lr == 0.1


def test_constructor_errors() -> None:
    params = start()
    layer = pyrnn.GRU(2, 3)
    for cls in (SGD, Adam):
        refuses(TypeError, "params: expected a mapping", cls, layer, 0.1)
        refuses(TypeError, "params: expected a mapping", cls, list(params.values()), 0.1)
        refuses(ValueError, "lr: expected a number at least 0, got -1", cls, params, -1)
        refuses(ValueError, "lr: ", cls, params, float("nan"))
        refuses(TypeError, "params['a']: expected a float32 or", cls, {"a": np.ones(2, int)}, 0.1)
        refuses(TypeError, "params['a']: expected a float32 or", cls, {"a": [1.0]}, 0.1)
    refuses(ValueError, "momentum: ", SGD, params, 0.1, -0.5)
    refuses(ValueError, "nesterov: expected a momentum above 0", SGD, params, 0.1, 0.0, 0.0, True)
    refuses(ValueError, "betas: ", Adam, params, 0.1, (0.9, 1.0))
    refuses(ValueError, "betas: ", Adam, params, 0.1, (-0.1, 0.9))
    refuses(ValueError, "eps: ", Adam, params, 0.1, (0.9, 0.99), -1e-8)
    refuses(ValueError, "weight_decay: ", Adam, params, 0.1, (0.9, 0.99), 1e-8, -1)


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_passes() -> None:
    for cls in (SGD, Adam):
        params = start("float32")
        grads = gradient(0, "float32")
        grads["weight"][0, 0], grads["weight"][0, 1] = np.nan, 3e38
        cls(params, 0.1).step(grads)
        assert np.isnan(params["weight"][0, 0])
        assert np.isfinite(params["weight"].ravel()[2:]).all()


def test_a_parameter_put_in_place_of_another_is_the_one_updated() -> None:
    layer = pyrnn.RNN(2, 3, rng=0)
    optimiser = SGD(layer.params, lr=1.0, momentum=0.9)
    new = np.ones((3, 3), "f4")
    layer.params["weight_hh_l0"] = new
    optimiser.step({n: np.ones_like(p) for n, p in layer.params.items()})
    assert (new == 0).all()


@pytest.mark.parametrize("cls", [SGD, Adam])
def test_a_network_learns(cls: Any) -> None:
    """To tell which of two symbols came first, four steps ago."""
    rng = np.random.default_rng(0)
    layer = pyrnn.LSTM(2, 16, rng=0, forget_bias=1.0)
    head = pyrnn.Linear(16, 2, rng=0)
    params = {**layer.params, **head.params}
    optimiser = cls(params, **({"lr": 0.3, "momentum": 0.9} if cls is SGD else {"lr": 0.03}))
    for _ in range(150):
        x = rng.integers(0, 2, (4, 32))
        _, (h, _), tape = layer.forward(x)
        logits, head_tape = head.forward(h[0])
        loss, dlogits = pyrnn.softmax_cross_entropy(logits, x[0])
        of_head = head.backward(head_tape, dlogits)
        of_layer = layer.backward(tape, None, (of_head.x[None], None))
        grads = {**of_layer.params, **of_head.params}
        pyrnn.clip_grad_norm(grads, 1.0)
        optimiser.step(grads)
    assert loss < 0.05
