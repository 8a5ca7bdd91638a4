"""pyrnn.torch under torch.compile and torch.export: one operator, no graph break, any length."""

from __future__ import annotations

import copy
import gc
import weakref
from importlib import import_module
from typing import Any

import pytest
from helpers_script import check_script
from helpers_torch import KINDS, LENGTHS, inputs, ours, packed, pair, torch
from helpers_torch import one_thread as one_thread


class Model(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, layer: Any) -> None:
        super().__init__()
        columns = (layer.proj_size or layer.hidden_size) * (1 + layer.bidirectional)
        self.below = torch.nn.Linear(3, 5, dtype=torch.float64)
        self.layer = layer
        self.above = torch.nn.Linear(columns, 2, dtype=torch.float64)

    def forward(self, x: Any, state: Any = None) -> Any:
        y, last = self.layer(torch.tanh(self.below(x)), state)
        return self.above(y), last


def counted(model: Any, **options: Any) -> tuple[Any, Any]:
    """Compiled as one graph, and what counts the graphs; the generated code is not built."""
    torch._dynamo.reset()
    counter = import_module("torch._dynamo.testing").CompileCounterWithBackend("aot_eager")
    return torch.compile(model, fullgraph=True, backend=counter, **options), counter


def assert_steps_alike(compiled: Any, model: Any, x: Any) -> None:
    results = []
    for one, parameters in ((compiled, model.parameters()), (model, model.parameters())):
        model.zero_grad()
        torch.manual_seed(4)
        y, last = one(x)
        (y.square().sum() + sum(s.sum() for s in last)).backward()
        results.append((y, last, [p.grad.clone() for p in parameters]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("form", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
@pytest.mark.parametrize("kind", KINDS)
def test_one_graph_for_all_lengths(kind: str, form: dict[str, Any]) -> None:
    model = Model(pair(kind, **form)[1])
    compiled, counter = counted(model)
    for seq_len, batch_size in ((7, 4), (9, 4), (12, 3), (31, 5), (5, 2)):
        x = torch.randn(seq_len, batch_size, 3, dtype=torch.float64)
        assert_steps_alike(compiled, model, x)
    # One for the first sizes, one for any T, one for any T and B: PyTorch's way.
    assert counter.frame_count <= 3
    compiled, counter = counted(model, dynamic=True)
    graphs = []
    for seq_len, batch_size in ((7, 4), (9, 3), (31, 2)):
        x = torch.randn(seq_len, batch_size, 3, dtype=torch.float64)
        assert_steps_alike(compiled, model, x)
        graphs.append(counter.frame_count)
    # A probability of dropout, a float, makes PyTorch look twice; no further length does.
    assert graphs[0] <= 2
    assert graphs == graphs[:1] * 3


def test_without_gradients_and_with_states() -> None:
    model = Model(pair("lstm", batch_first=True)[1]).eval()
    compiled, counter = counted(model, dynamic=True)
    state = tuple(torch.randn(1, 4, 7, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        for seq_len in (5, 8, 13):
            x = torch.randn(4, seq_len, 3, dtype=torch.float64)
            torch.testing.assert_close(compiled(x, state), model(x, state))
    assert counter.frame_count == 1


def test_dropout_draws_anew() -> None:
    model = Model(pair("gru", num_layers=2, dropout=0.5)[1])
    compiled, _ = counted(model)
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    assert_steps_alike(compiled, model, x)
    assert not torch.equal(compiled(x)[0], compiled(x)[0])


def test_generated_code() -> None:
    """Through the whole compiler, where the machine has what it needs."""
    model = Model(pair("lstm")[1])
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    try:
        compiled(x)
    except Exception as error:
        if "InvalidCxxCompiler" in str(error):
            pytest.skip("no compiler for the generated code")
        raise
    for seq_len in (6, 9):
        assert_steps_alike(compiled, model, torch.randn(seq_len, 3, 3, dtype=torch.float64))


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "projected"])
def test_export(kind: str, strict: bool) -> None:
    model = Model(pair(kind, batch_first=True, num_layers=2)[1]).eval()
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    x = torch.randn(4, 6, 3, dtype=torch.float64)
    program = torch.export.export(model, (x,), dynamic_shapes=(sizes, None)[:1], strict=strict)
    nodes = [node for node in program.graph.nodes if "pyrnn" in str(node.target)]
    assert len(nodes) == 1
    for batch_size, seq_len in ((4, 6), (3, 11)):
        x = torch.randn(batch_size, seq_len, 3, dtype=torch.float64)
        torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_operators_keep_pytorchs_rules(kind: str, save: bool) -> None:
    """Schema, aliases, shapes and strides of results, gradients, symbolic sizes."""
    _, layer = pair(kind, num_layers=2, bidirectional=True)
    x, state = inputs(layer)
    states = list(state) if isinstance(state, tuple) else [state]
    params = [p if save else p.detach() for p in layer.parameters()]
    if not save:
        x, states = x.detach(), [s.detach() for s in states]
    seed = torch.zeros((), dtype=torch.int64)
    for given in ([], states):
        arguments = (x, given, params, seed, layer.mode, 2, True, True, 0.5 if save else 0.0, save)
        torch.library.opcheck(torch.ops.pyrnn.recurrent.default, arguments)


def test_packed_sequences_run_outside_the_graph() -> None:
    _, layer = pair("lstm")
    x, _ = inputs(layer)
    fed = packed(layer, x, LENGTHS)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, backend="eager")(fed), layer(fed))


def test_no_second_derivatives() -> None:
    compiled, _ = counted(Model(pair("gru")[1]))
    x = torch.randn(6, 3, 3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(compiled(x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        grad.sum().backward()


def test_pytorchs_layers_stay_as_they_were() -> None:
    """Only ours are let into the graph, and no setting of the process changes."""
    torch._dynamo.reset()
    model = Model(torch.nn.LSTM(5, 7, dtype=torch.float64))
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="LSTM"):
        torch.compile(model, fullgraph=True, backend="eager")(x)
    assert not torch._dynamo.config.allow_rnn
    torch._dynamo.reset()
    ours.accelerate(model)
    torch.compile(model, fullgraph=True, backend="eager")(x)
    assert not torch._dynamo.config.allow_rnn


@pytest.mark.parametrize("first", ["pyrnn.torch", "torch._dynamo"])
def test_in_either_order(first: str) -> None:
    code = (
        "import sys, torch; import {first}; import pyrnn.torch\n"
        "assert ('torch._dynamo' in sys.modules) == ('{first}' == 'torch._dynamo')\n"
        "layer = pyrnn.torch.GRU(3, 4)\n"
        "torch.compile(layer, fullgraph=True, backend='eager')(torch.ones(5, 2, 3))\n"
        "assert not [f for f in sys.meta_path if type(f).__module__.startswith('pyrnn')]"
    )
    check_script(code.format(first=first))


def test_a_copy_compiles_as_well() -> None:
    model = copy.deepcopy(Model(pair("lstm")[1]))
    compiled, counter = counted(model)
    assert_steps_alike(compiled, model, torch.randn(6, 3, 3, dtype=torch.float64))
    assert counter.frame_count == 1


def test_the_operators_keep_packed_weights() -> None:
    """Those of the layer itself, for as long as they have their bits and wherever they lie."""
    layer = pair("lstm", "float32", num_layers=2)[1]
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)

    def packs() -> list[tuple[int, int]]:
        return [weights.packs for weights in layer._kept.weights]

    def step(seq_len: int) -> None:
        x = torch.randn(seq_len, 4, 5)
        results = []
        for one in (compiled, copy.deepcopy(twin)):
            layer.zero_grad()
            one.zero_grad()
            y, _ = one(x)
            y.square().sum().backward()
            owner = layer if one is compiled else one
            results.append([y, *(p.grad.clone() for p in owner.parameters())])
        torch.testing.assert_close(*results, rtol=0, atol=0)

    torch._dynamo.reset()
    for seq_len in (6, 3, 9):
        step(seq_len)
    assert packs() == [(1, 1), (1, 1)]
    for one in (layer, twin):
        one.weight_hh_l1.data[0, 0] += 1
    step(5)
    assert packs() == [(1, 1), (2, 2)]
    for one in (layer, twin):
        one.double().float()
    step(5), step(4)
    assert packs() == [(1, 1), (1, 1)]
    with torch.no_grad():
        compiled(torch.randn(3, 2, 5)), layer(torch.randn(3, 2, 5))
    assert packs() == [(1, 1), (1, 1)]
    for one in (layer, twin):
        one.load_state_dict({n: 0.5 * t for n, t in one.state_dict().items()}, assign=True)
    step(5), step(4)
    assert packs() == [(1, 1), (1, 1)]


def test_an_exported_program_keeps_packed_weights() -> None:
    found = import_module("pyrnn.torch.kept")._by_weight
    model = Model(pair("lstm")[1])
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    program = torch.export.export(model, (x,)).module()
    del model
    gc.collect()
    (name,) = (n for n, _ in program.named_parameters() if n.endswith("weight_ih_l0"))
    weight = program.get_parameter(name)
    for _ in range(3):
        y = program(x)[0]
        y.sum().backward()
    with torch.no_grad():
        program(x)
        assert found[weight].weights[0].packs == (1, 1)
        weight.mul_(2)
        program(x)
    assert found[weight].weights[0].packs == (2, 1)
    # As long as the weight, which PyTorch 2.6 holds on to.
    count, alive = len(found), weakref.ref(weight)
    del program, weight, y
    gc.collect()
    assert len(found) == count - (alive() is None)


def test_what_operators_find_ends_with_its_layer() -> None:
    found = import_module("pyrnn.torch.kept")._by_memory
    layer = pair("gru")[1]
    address = layer.weight_ih_l0.data_ptr()
    assert found[address] is layer._kept
    del layer
    gc.collect()
    assert address not in found
