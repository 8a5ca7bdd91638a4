"""The cases of ONNX's own tests for RNN, GRU and LSTM pass on ``reference_ops``."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs ONNX, which is not installed")
evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
reference_ops = pytest.importorskip("pyrnn.onnx").reference_ops


KINDS = ("RNN", "GRU", "LSTM")


def node_cases() -> list[Any]:
    with warnings.catch_warnings():
        # Of the cases of other operators, which are made on the way.
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        # All at once: what it is asked for first is what it gives for the rest of the process.
        return [case for case in collect_testcases(None) if kind_of(case) in KINDS]


def kind_of(case: Any) -> str:
    return str(case.model.graph.node[0].op_type)


CASES = node_cases()


def test_there_are_cases_of_each() -> None:
    counts = {kind: [kind_of(case) for case in CASES].count(kind) for kind in KINDS}
    assert min(counts.values()) >= 4, counts  # 6 of each in onnx 1.23
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node_case(case: Any) -> None:
    session = evaluator(case.model, new_ops=reference_ops)
    for inputs, outputs in case.data_sets:
        named = dict(zip(session.input_names, inputs, strict=True))
        for got, want in zip(session.run(None, named), outputs, strict=True):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=case.rtol, atol=case.atol)
