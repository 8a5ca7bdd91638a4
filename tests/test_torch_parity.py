"""The operations against PyTorch's layers on the same weights, values and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers_ops import DTYPES, Case, backward, forward, make
from tolerances import assert_close

import pyrnn
from pyrnn import ops

torch = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")

# The reset-before GRU is none of PyTorch's layers.
CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")
SUFFIXES = ("", "_reverse")
NAMES = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}


@pytest.fixture(autouse=True, params=["kernels", "reference"])
def _backend(request: pytest.FixtureRequest) -> Iterator[None]:
    with pyrnn.backend(request.param):
        yield


def layer_of(cell: str, input_size: int, hidden_size: int, bias: bool, **options: Any) -> Any:
    if cell == "lstm":
        return torch.nn.LSTM(input_size, hidden_size, bias=bias, bidirectional=True, **options)
    if cell == "gru":
        return torch.nn.GRU(input_size, hidden_size, bias=bias, bidirectional=True, **options)
    phi = cell.removeprefix("rnn_")
    return torch.nn.RNN(
        input_size, hidden_size, nonlinearity=phi, bias=bias, bidirectional=True, **options
    )


@pytest.mark.parametrize("lengths", [None, "ragged"], ids=["", "packed"])
@pytest.mark.parametrize("bias", [True, False], ids=["", "no bias"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_both_directions(cell: str, dtype: str, bias: bool, lengths: str | None) -> None:
    """PyTorch in float64 on the same numbers is as good an authority as the reference."""
    for shape in ((7, 5, 3, 4), (12, 1, 17, 33), (5, 18, 9, 16)):
        biases = "both" if bias else "none"
        cases = [
            Case(cell, dtype, *shape, reverse=reverse, lengths=lengths, biases=biases)
            for reverse in (False, True)
        ]
        problems = [make(case) for case in cases]
        # One input and one set of lengths for both directions, each with its own weights.
        problems[1].arrays["x"] = problems[0].arrays["x"]
        problems[1].options["lengths"] = problems[0].options["lengths"]
        if lengths:
            valid = np.arange(shape[0])[:, None] < problems[0].options["lengths"]
            for problem in problems:
                dy: Any = problem.incoming["dy"]
                problem.incoming["dy"] = np.where(valid[..., None], np.nan_to_num(dy), np.nan)
                problem.incoming["dy"] = problem.incoming["dy"].astype(dtype)
        check(cell, dtype, shape, bias, problems)


def check(cell: str, dtype: str, shape: tuple[int, ...], bias: bool, problems: list[Any]) -> None:
    layer = layer_of(cell, shape[2], shape[3], bias).double()
    with torch.no_grad():
        for problem, suffix in zip(problems, SUFFIXES, strict=True):
            for ours, theirs in NAMES.items():
                if problem.arrays[ours] is not None:
                    weight = torch.from_numpy(problem.arrays[ours].astype("float64"))
                    getattr(layer, theirs + suffix).copy_(weight)

    def stacked(name: str) -> Any:
        both = np.stack([problem.arrays[name] for problem in problems]).astype("float64")
        return torch.from_numpy(both).requires_grad_()

    x = torch.from_numpy(problems[0].arrays["x"].astype("float64")).requires_grad_()
    states = [stacked(name) for name in ("h0", "c0") if name in problems[0].arrays]
    fed, lengths = x, problems[0].options["lengths"]
    if lengths is not None:
        fed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.from_numpy(lengths), enforce_sorted=False
        )
    y, finals = layer(fed, tuple(states) if cell == "lstm" else states[0])
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=shape[0])
    finals = finals if cell == "lstm" else (finals,)

    loss = torch.zeros((), dtype=torch.float64)
    size = shape[3]
    for k, problem in enumerate(problems):
        gradients = [torch.from_numpy(g.astype("float64")) for g in problem.incoming.values()]
        loss = loss + (y[..., k * size : (k + 1) * size] * torch.nan_to_num(gradients[0])).sum()
        for final, gradient in zip(finals, gradients[1:], strict=True):
            loss = loss + (final[k] * gradient).sum()
    loss.backward()

    dx = np.zeros_like(problems[0].arrays["x"])
    for k, (problem, suffix) in enumerate(zip(problems, SUFFIXES, strict=True)):
        outputs = forward(ops, problem)
        gradients = backward(ops, problem, outputs["tape"])
        want = y.detach().numpy()[..., k * size : (k + 1) * size]
        assert_close(outputs["y"], want, dtype, "y")
        for name, final in zip(("h_n", "c_n"), finals, strict=False):
            assert_close(outputs[name], final[k].detach().numpy(), dtype, name)
        for name, state in zip(("dh0", "dc0"), states, strict=False):
            assert_close(gradients[name], state.grad[k].numpy(), dtype, name)
        for ours, theirs in NAMES.items():
            if problem.arrays[ours] is not None:
                want = getattr(layer, theirs + suffix).grad.numpy()
                assert_close(gradients[f"d{ours}"], want, dtype, f"d{ours}")
        dx = dx + gradients["dx"]
    want = x.grad.numpy()
    if lengths is not None:
        assert not dx[np.arange(shape[0])[:, None] >= lengths].any()
    assert_close(dx, np.nan_to_num(want), dtype, "dx")


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_gradient_flow_is_that_of_autograd(kind: str) -> None:
    """Of every h_t and c_t, with the graph between them as autograd draws it."""
    seq_len, batch_size, hidden_size = 7, 2, 4
    layer = getattr(pyrnn, kind)(3, hidden_size, dtype="float64", rng=0)
    cell = getattr(torch.nn, f"{kind}Cell")(3, hidden_size, dtype=torch.float64)
    params = layer.state_dict().items()
    cell.load_state_dict({name.removesuffix("_l0"): torch.tensor(p) for name, p in params})
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(seq_len, batch_size, 3)), rng.normal(size=(seq_len, batch_size, 4))
    state: Any = None
    nodes: dict[str, list[Any]] = {"h": [], "c": []}
    for x_t in torch.tensor(x):
        state = cell(x_t, state)
        for name, node in zip(nodes, state if kind == "LSTM" else [state], strict=False):
            node.retain_grad()
            nodes[name].append(node)
    (torch.stack(nodes["h"]) * torch.tensor(dy)).sum().backward(retain_graph=True)

    flow = pyrnn.gradient_flow(layer, x, dy)
    for name in layer._states:
        norms = [node.grad.norm().item() for node in nodes[name]]
        assert_close(getattr(flow, f"d{name}")[0], np.array(norms), "float64", f"d{name}")
    for name in layer._states:  # later: autograd.grad adds to what retain_grad keeps
        last = nodes[name][-1].sum(dim=0)  # rows do not meet: one call gives those of all
        by_unit = [
            torch.stack(torch.autograd.grad(unit, nodes[name], retain_graph=True)) for unit in last
        ]
        largest = torch.linalg.matrix_norm(torch.stack(by_unit, dim=2), 2).max(dim=1)[0]
        got = getattr(flow, f"{name}_jacobian")[0]
        assert_close(got, largest.numpy(), "float64", f"{name} by {name}")
