"""``reference_ops`` against the specification, and against ONNX Runtime: every attribute."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers_onnx import (
    ACTIVATIONS,
    GATES,
    Array,
    Inputs,
    feeds,
    model_of,
    problem,
    runtime_fills_padding,
    specified,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import RELATIVE, assert_close, relative_error

import pyrnn

onnx = pytest.importorskip("onnx", reason="needs ONNX, which is not installed")
evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
reference_ops = pytest.importorskip("pyrnn.onnx").reference_ops

KINDS = list(GATES)
DIRECTIONS = ["forward", "reverse", "bidirectional"]


def run(kind: str, inputs: Inputs, **attributes: Any) -> list[Array]:
    model = model_of(kind, inputs, **attributes)
    results: list[Array] = evaluator(model, new_ops=reference_ops).run(None, feeds(inputs))
    return results


def run_by_runtime(kind: str, inputs: Inputs, **attributes: Any) -> list[Array]:
    runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    session = runtime.InferenceSession(
        model_of(kind, inputs, **attributes).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    results: list[Array] = session.run(None, feeds(inputs))
    return results


def check(kind: str, inputs: Inputs, dtype: str = "float32", **attributes: Any) -> None:
    want = specified(kind, inputs, **attributes)
    got = run(kind, inputs, **attributes)
    for ours, theirs in zip(got, want, strict=True):
        assert_close(ours, theirs, dtype)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clip": {"clip": 0.7},
    "leaky": {"activations": ["LeakyRelu"], "activation_alpha": [0.2]},
    "numbers": {
        "activations": ["HardSigmoid", "ScaledTanh", "ScaledTanh"],
        "activation_alpha": [0.3, 1.2, 1.2],
        "activation_beta": [0.4, 0.7, 0.7],
    },
    "linear_before_reset": {"linear_before_reset": 1},
    "linear_before_reset clip": {"linear_before_reset": 1, "clip": 0.7},
    "input_forget": {"input_forget": 1},
    "input_forget clip": {"input_forget": 1, "clip": 0.7},
    "g is not h": {"activations": ["Sigmoid", "Softsign", "Elu"], "activation_alpha": [0.5]},
    "g is not h clip": {"activations": ["Sigmoid", "Tanh", "Affine"], "clip": 0.7,
                        "activation_alpha": [0.5], "activation_beta": [0.1]},
    "g is not h input_forget": {"activations": ["Sigmoid", "Relu", "Tanh"], "input_forget": 1},
}  # fmt: skip
ONLY = {"linear_before_reset": "GRU", "input_forget": "LSTM", "g is not h": "LSTM"}


def cases() -> list[tuple[str, str]]:
    found = []
    for kind, name in itertools.product(KINDS, VARIANTS):
        if all(other == kind for start, other in ONLY.items() if name.startswith(start)):
            found.append((kind, name))
    return found


def attributes_of(kind: str, name: str, direction: str) -> dict[str, Any]:
    found = dict(VARIANTS[name])
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[kind]
    if name == "leaky":
        found["activations"] = {"RNN": [], "GRU": ["Sigmoid"], "LSTM": ["Sigmoid", "Tanh"]}[
            kind
        ] + found["activations"]
    twice = 1 + (direction == "bidirectional")
    if "activations" in found:
        found["activations"] = found["activations"][:count] * twice
        for numbers in ("activation_alpha", "activation_beta"):
            if numbers in found:
                found[numbers] = found[numbers][:count] * twice
    return found | {"direction": direction, "hidden_size": 7}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("kind", "name"), cases())
def test_as_onnx_runtime(kind: str, name: str, direction: str) -> None:
    attributes = attributes_of(kind, name, direction)
    without = () if runtime_fills_padding(kind) else ("sequence_lens",)
    inputs = problem(kind, absent=without, **attributes)
    want = run_by_runtime(kind, inputs, **attributes)
    exact = specified(kind, inputs, **attributes)
    got = run(kind, inputs, **attributes)
    for ours, theirs, true in zip(got, want, exact, strict=True):
        assert_close(theirs, true, "float32", "the specification")
        assert_close(ours, theirs, "float32")


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("kind", "name"), cases())
def test_as_specified(kind: str, name: str, direction: str, layout: int, each_backend: str) -> None:
    """What ONNX Runtime does not have: float64 and layout 1."""
    attributes = attributes_of(kind, name, direction) | {"layout": layout}
    check(kind, problem(kind, dtype="float64", **attributes), "float64", **attributes)


@pytest.mark.parametrize("pair", [["Tanh", "Relu"], ["Relu", "Tanh"], ["Tanh", "Elu"]], ids=str)
def test_directions_of_two_kinds(pair: list[str]) -> None:
    """Of which one or both have kernels of their own."""
    attributes = {"direction": "bidirectional", "activations": pair}
    check("RNN", problem("RNN", **attributes), **attributes)


@given(st.data())
@settings(max_examples=200)
def test_any_node(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    direction = data.draw(st.sampled_from(DIRECTIONS))
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[kind] * (1 + (direction == "bidirectional"))
    names = st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=count, max_size=count)
    numbers = st.lists(
        st.floats(0.125, 1.5, width=32), max_size=count
    )  # fewer than needed: the rest are defaults
    drawn: dict[str, Any] = {
        "direction": direction,
        "layout": data.draw(st.integers(0, 1)),
        "activations": data.draw(st.none() | names),
        "activation_alpha": data.draw(st.none() | numbers),
        "activation_beta": data.draw(st.none() | numbers),
        "clip": data.draw(st.none() | st.floats(0.25, 3, width=32)),
        "input_forget": data.draw(st.integers(0, 1)) if kind == "LSTM" else None,
        "linear_before_reset": data.draw(st.integers(0, 1)) if kind == "GRU" else None,
    }
    attributes = {name: value for name, value in drawn.items() if value not in (None, [])}
    optional = ["B", "sequence_lens", "initial_h", "initial_c", "P"]
    absent = tuple(data.draw(st.lists(st.sampled_from(optional), unique=True)))
    sizes = st.integers(1, 4)
    shape = data.draw(st.tuples(sizes, sizes, sizes, sizes))
    inputs = problem(kind, shape, "float64", absent, data.draw(st.integers(0, 99)), **attributes)
    check(kind, inputs, "float64", **attributes)


# --- types, opsets, shapes -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_narrow_types_are_rounded_once(kind: str, narrow: str) -> None:
    dtype = np.dtype(narrow) if narrow == "float16" else bfloat16()
    inputs = {
        name: array if array is None or name == "sequence_lens" else array.astype(dtype)
        for name, array in problem(kind, direction="bidirectional").items()
    }
    wide = {
        name: array if array is None or name == "sequence_lens" else array.astype("float32")
        for name, array in inputs.items()
    }
    attributes = {"direction": "bidirectional", "opset": 22}
    want = run(kind, wide, **attributes)
    for ours, theirs in zip(run(kind, inputs, **attributes), want, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(
            ours.astype("float32"), theirs.astype(dtype).astype("float32")
        )


def bfloat16() -> Any:
    types = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
    return np.dtype(types.bfloat16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opset", [1, 3, 7, 14, 22])
def test_every_opset(kind: str, opset: int) -> None:
    attributes: dict[str, Any] = {"hidden_size": 7}
    if opset < 7:
        attributes["output_sequence"] = 1
    if kind == "GRU" and opset > 1:
        attributes["linear_before_reset"] = 1
    if opset >= 14:
        attributes["layout"] = 1
    inputs = problem(kind, **attributes)
    want = specified(kind, inputs, **attributes)
    for ours, theirs in zip(run(kind, inputs, opset=opset, **attributes), want, strict=True):
        assert_close(ours, theirs, "float32")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("absent", [(), ("sequence_lens",)], ids=["lengths", ""])
@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (3, 0, 3, 4), (0, 0, 1, 1)])
def test_nothing_to_do(kind: str, shape: Any, absent: tuple[str, ...]) -> None:
    inputs = problem(kind, shape, absent=absent, direction="bidirectional")
    y, *last = run(kind, inputs, direction="bidirectional")
    assert y.shape == (shape[0], 2, shape[1], shape[3])
    for state in last:
        assert state.shape == (2, shape[1], shape[3])
        assert not state.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", [["Y"], ["", "Y_h"], ["Y", "Y_h"]])
def test_outputs_that_are_named(kind: str, named: list[str]) -> None:
    inputs = problem(kind)
    everything = dict(zip(["Y", "Y_h", "Y_c"], run(kind, inputs), strict=False))
    got = run(kind, inputs, outputs=named)
    assert len(got) == len([name for name in named if name])
    for ours, name in zip(got, [name for name in named if name], strict=True):
        np.testing.assert_array_equal(ours, everything[name])


def test_nan_in_the_padding_changes_nothing() -> None:
    inputs = problem("LSTM", direction="bidirectional")
    want = run("LSTM", inputs, direction="bidirectional")
    x, lengths = inputs["X"], inputs["sequence_lens"]
    assert x is not None
    assert lengths is not None
    for row, length in enumerate(lengths):
        x[length:, row] = np.nan
    for ours, theirs in zip(run("LSTM", inputs, direction="bidirectional"), want, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_kernels_run_what_they_can() -> None:
    """On the reference the last bits differ, so that the same ones came from the kernels."""
    for kind in KINDS:
        inputs = problem(kind, (30, 5, 19, 23))
        kernels = run(kind, inputs)[0]
        with pyrnn.backend("reference"):
            numpy = run(kind, inputs)[0]
        assert (kernels != numpy).any()
        assert relative_error(kernels, numpy) <= RELATIVE["float32"]
