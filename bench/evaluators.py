"""``python -m bench onnx``: whole models in ONNX's reference evaluator, with pyrnn's operators and
its own, beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from cases import Array, Case, Problem
from onnx_peers import OnnxPeer, OnnxRuntime
from peer import Peer
from report import compare_kinds

_CASES = (
    Case("infer", "lstm", 64, 64, 1, 1),
    Case("infer", "lstm", 128, 128, 1, 100),
    Case("infer", "lstm", 256, 256, 1, 100),
    Case("infer", "lstm", 128, 256, 32, 100),
    Case("infer", "gru", 256, 256, 1, 100),
    Case("infer", "gru", 128, 256, 32, 100),
    Case("infer", "gru", 256, 256, 8, 200, num_layers=3, bidirectional=True),
    Case("infer", "rnn", 256, 256, 1, 100),
    Case("infer", "lstm", 128, 256, 32, 100, ragged=True),
)


class Evaluator(OnnxPeer):
    """With the evaluator's own operators, which take no notice of lengths."""

    name = "onnx"
    needs = ("onnx",)
    ragged = False
    operators: ClassVar[list[Any]] = []

    def __init__(self, problem: Problem, threads: int) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator
        from onnx_model import build, feeds

        self.problem = problem
        model = onnx.load_model_from_string(build(problem))
        self.session = ReferenceEvaluator(model, new_ops=self.operators)
        self.feeds = feeds(problem)

    def infer(self) -> Any:
        return self.session.run(None, self.feeds)

    def named(self, result: Any) -> dict[str, Array]:
        return self._named(result)


class EvaluatorOnPyrnn(Evaluator):
    """With pyrnn's."""

    name = "pyrnn"
    ragged = True

    def __init__(self, problem: Problem, threads: int) -> None:
        import pyrnn
        from pyrnn.onnx import reference_ops

        pyrnn.set_num_threads(threads)
        self.operators = reference_ops  # type: ignore[misc]
        super().__init__(problem, threads)


KINDS: tuple[type[Peer], ...] = (EvaluatorOnPyrnn, Evaluator, OnnxRuntime)


def report(
    threads: int, seconds: float, repeat: int | None, part: str, folder: Path | None
) -> None:
    """Print a line for each case; save onnx.json.

    Raises
    ------
    ValueError
        No case whose name matches ``part``.
    ImportError
        ONNX is not installed.
    """
    compare_kinds("onnx", KINDS, _CASES, threads, seconds, repeat, part, folder)
