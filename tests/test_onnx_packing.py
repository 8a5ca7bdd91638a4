"""``reference_ops``: weights are packed once, never stale; errors; what is missing is named."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_onnx import GATES, Array, feeds, model_of, problem, specified
from helpers_script import run_script
from tolerances import assert_close, assert_same_bits

onnx = pytest.importorskip("onnx", reason="needs ONNX, which is not installed")
evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
pyrnn_onnx = pytest.importorskip("pyrnn.onnx")
operators = pytest.importorskip("pyrnn.onnx.operators")

WEIGHTS = ("W", "R", "B", "P")


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every packing."""
    counted: list[int] = []
    packed = operators.Packed

    def counting(*arguments: Any) -> Any:
        counted.append(1)
        return packed(*arguments)

    monkeypatch.setattr(operators, "Packed", counting)
    return counted


@pytest.mark.parametrize("raw", [True, False], ids=["bytes", "numbers"])
@pytest.mark.parametrize("kind", list(GATES))
def test_initialisers_are_packed_once(kind: str, raw: bool, packings: list[int]) -> None:
    inputs = problem(kind)
    model = model_of(kind, inputs, constants=WEIGHTS, raw=raw)
    session = evaluator(model, new_ops=pyrnn_onnx.reference_ops)
    first = session.run(None, feeds(inputs, WEIGHTS))
    for ours, again in zip(session.run(None, feeds(inputs, WEIGHTS)), first, strict=True):
        assert_same_bits(ours, again)
    assert len(packings) == 1


def change(array: Array) -> None:
    array.reshape(-1)[-1] += 1


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_that_changes_in_place_is_seen(name: str, packings: list[int]) -> None:
    inputs = problem("LSTM")
    session = evaluator(model_of("LSTM", inputs), new_ops=pyrnn_onnx.reference_ops)
    before = session.run(None, feeds(inputs))
    change(inputs[name])  # type: ignore[arg-type]
    after = session.run(None, feeds(inputs))
    assert (before[0] != after[0]).any()
    fresh = evaluator(model_of("LSTM", inputs), new_ops=pyrnn_onnx.reference_ops)
    for ours, want in zip(after, fresh.run(None, feeds(inputs)), strict=True):
        assert_same_bits(ours, want)
    session.run(None, feeds({name: None if a is None else a.copy() for name, a in inputs.items()}))
    assert len(packings) == 3, "the same numbers in other arrays need no packing"


def test_an_initialiser_of_numbers_that_changes_is_seen() -> None:
    inputs = problem("GRU")
    model = model_of("GRU", inputs, constants=WEIGHTS, raw=False)
    session = evaluator(model, new_ops=pyrnn_onnx.reference_ops)
    before = session.run(None, feeds(inputs, WEIGHTS))[0]
    change(session.rt_inits_["R"])
    assert (session.run(None, feeds(inputs, WEIGHTS))[0] != before).any()


def test_a_frozen_view_of_a_writable_array_is_not_taken_for_constant() -> None:
    inputs = problem("GRU")
    owner = inputs["W"]
    assert owner is not None
    view = owner.view()
    view.flags.writeable = False
    inputs["W"] = view
    session = evaluator(model_of("GRU", inputs), new_ops=pyrnn_onnx.reference_ops)
    before = session.run(None, feeds(inputs))[0]
    change(owner)
    assert (session.run(None, feeds(inputs))[0] != before).any()


def test_nan_in_a_weight_is_no_change(packings: list[int]) -> None:
    inputs = problem("RNN")
    inputs["W"][0, 0, 0] = np.nan  # type: ignore[index]
    session = evaluator(model_of("RNN", inputs), new_ops=pyrnn_onnx.reference_ops)
    for _ in range(2):
        session.run(None, feeds(inputs))
    assert len(packings) == 1


def test_an_attribute_that_a_function_passes_on() -> None:
    """A function with a node whose clip is the function's attribute."""
    helper = onnx.helper
    inputs = problem("RNN")
    names = [name for name in inputs if inputs[name] is not None]
    node = helper.make_node("RNN", names, ["Y"], hidden_size=7)
    clip = onnx.AttributeProto(name="clip", ref_attr_name="limit", type=onnx.AttributeProto.FLOAT)
    node.attribute.append(clip)
    opsets = [helper.make_opsetid("", 14)]
    function = helper.make_function("own", "Clipped", names, ["Y"], [node], opsets, ["limit"])
    session = evaluator(function, new_ops=pyrnn_onnx.reference_ops)
    for limit in (0.1, 1.0, 0.1):
        model = model_of("RNN", inputs, outputs=["Y"], clip=limit)
        want = evaluator(model, new_ops=pyrnn_onnx.reference_ops).run(None, feeds(inputs))[0]
        (got,) = session.run(None, feeds(inputs), attributes={"limit": np.float32(limit)})
        assert_same_bits(got, want)


def test_a_node_in_the_branch_of_an_if() -> None:
    helper = onnx.helper
    inputs = problem("GRU")
    model = model_of("GRU", inputs, outputs=["Y"])
    branches = {}
    for name, order in (("then_branch", 0), ("else_branch", 1)):
        inner = onnx.NodeProto()
        inner.CopyFrom(model.graph.node[0])
        inner.attribute.append(helper.make_attribute("linear_before_reset", order))
        branches[name] = helper.make_graph([inner], name, [], model.graph.output)
    both = helper.make_node("If", ["which"], ["Y"], **branches)
    which = helper.make_tensor_value_info("which", onnx.TensorProto.BOOL, [])
    graph = helper.make_graph([both], "g", [which, *model.graph.input], model.graph.output)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = evaluator(whole, new_ops=pyrnn_onnx.reference_ops)
    for order in (0, 1):
        (got,) = session.run(None, feeds(inputs) | {"which": np.array(order == 0)})
        want = specified("GRU", inputs, linear_before_reset=order)[0]
        assert_close(got, want, "float32")


def test_many_threads_run_one_model() -> None:
    inputs = problem("LSTM", direction="bidirectional")
    model = model_of("LSTM", inputs, direction="bidirectional")
    session = evaluator(model, new_ops=pyrnn_onnx.reference_ops)
    other = {name: None if a is None else a.copy() for name, a in inputs.items()}
    change(other["R"])  # type: ignore[arg-type]
    wanted = [session.run(None, feeds(given))[0] for given in (inputs, other)]
    failures: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for _ in range(20):
                got = session.run(None, feeds((inputs, other)[k]))[0]
                assert_same_bits(got, wanted[k])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k % 2,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    ("kind", "changes", "attributes", "message"),
    [
        ("LSTM", {"W": (1, 27, 3)}, {}, "W: expected shape (D, 4·H, I), got (1, 27, 3)"),
        ("LSTM", {"R": (28, 7)}, {}, "R: expected shape (D, 4·H, H), got (28, 7)"),
        ("GRU", {"B": (1, 21)}, {}, "B: expected shape (D, 6·H) = (1, 42), got (1, 21)"),
        ("LSTM", {"P": (1, 28)}, {}, "P: expected shape (D, 3·H) = (1, 21), got (1, 28)"),
        (
            "RNN", {"X": (6, 5, 4)}, {},
            "X: expected shape (T, B, I) with I = 3, got (6, 5, 4)",
        ),
        ("RNN", {"X": (6, 5)}, {"layout": 1}, "X: expected shape (B, T, I) with I = 3, got (6, 5)"),
        (
            "GRU", {"initial_h": (5, 1, 7)}, {},
            "initial_h: expected shape (D, B, H) = (1, 5, 7), got (5, 1, 7)",
        ),
        (
            "LSTM", {"initial_c": (1, 5, 8)}, {},
            "initial_c: expected shape (D, B, H) = (1, 5, 7), got (1, 5, 8)",
        ),
        ("RNN", {}, {"hidden_size": 8}, "R: expected hidden_size = 8 columns, got 7"),
        (
            "RNN", {}, {"direction": "bidirectional"},
            "R: expected D = 2 for direction 'bidirectional', got shape (1, 7, 7)",
        ),
        (
            "RNN", {}, {"direction": "both"},
            "direction: expected one of forward, reverse, bidirectional, got 'both'",
        ),
        ("GRU", {}, {"clip": 0.0}, "clip: expected a positive number, got 0.0"),
        ("GRU", {}, {"activations": ["Tanh"]}, "activations: expected 2, got 1: Tanh"),
        ("RNN", {}, {"activations": ["Sine"]}, "activations: expected names out of Affine, Elu"),
        (
            "RNN", {"sequence_lens": np.array([1, 2, 3, 4, 7], "int32")}, {},
            "sequence_lens: expected (B) = (5,) integers in 0..6, got int32 of shape (5,), 1 to 7",
        ),
        (
            "RNN", {"sequence_lens": np.array([1, -1, 3, 4, 6], "int32")}, {},
            "sequence_lens: expected (B) = (5,) integers in 0..6, got int32 of shape (5,), -1 to 6",
        ),
        (
            "RNN", {"sequence_lens": np.array([1, 2], "int32")}, {},
            "sequence_lens: expected (B) = (5,) integers in 0..6, got int32 of shape (2,)",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_input(kind: str, changes: Any, attributes: Any, message: str) -> None:
    inputs = problem(kind)
    for name, new in changes.items():
        inputs[name] = new if isinstance(new, np.ndarray) else np.zeros(new, "float32")
    session = evaluator(model_of(kind, inputs, **attributes), new_ops=pyrnn_onnx.reference_ops)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        session.run(None, feeds(inputs))


@pytest.mark.parametrize("name", ["X", "R", "initial_h"])
def test_types_are_not_mixed(name: str) -> None:
    inputs = problem("GRU")
    inputs[name] = inputs[name].astype("float64")  # type: ignore[union-attr]
    session = evaluator(model_of("GRU", inputs), new_ops=pyrnn_onnx.reference_ops)
    with pytest.raises(TypeError) as caught:  # the evaluator's own, ours is its cause
        session.run(None, feeds(inputs))
    assert str(caught.value.__cause__) == f"{name}: expected float32, got float64"


def test_without_onnx(tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError(name='onnx')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import pyrnn.onnx"
    done = run_script(code)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        'ImportError: pyrnn.onnx needs the package onnx: pip install "pyrnn-kernels[onnx]"'
    )
