"""ONNX Runtime and OpenVINO on the same model: both pack the weights when they load it."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Array, Problem
from peer import Peer


class OnnxPeer(Peer):
    """Names of the outputs of such a model."""

    modes = ("infer",)
    dtypes = ("float32",)
    ragged = True
    problem: Problem

    def _named(self, outputs: list[Array]) -> dict[str, Array]:
        case = self.problem.case
        y, *states = outputs
        named = {"y": y.transpose(0, 2, 1, 3).reshape(case.seq_len, case.batch_size, -1)}
        for index, letter in enumerate("hc"[: len(self.problem.state)]):
            layers = states[index * case.num_layers :][: case.num_layers]
            named[f"{letter}_n"] = np.concatenate(layers)
        return named


class OnnxRuntime(OnnxPeer):
    name = "onnxruntime"
    needs = ("onnx", "onnxruntime")

    def __init__(self, problem: Problem, threads: int) -> None:
        import onnxruntime
        from onnx_model import build, feeds

        self.problem = problem
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            build(problem), options, providers=["CPUExecutionProvider"]
        )
        # Binding takes half the time of session.run in a step of a small network.
        self.binding = self.session.io_binding()
        for name, array in feeds(problem).items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            self.binding.bind_ortvalue_input(name, value)
        for output in self.session.get_outputs():
            self.binding.bind_output(output.name)

    def infer(self) -> Any:
        self.session.run_with_iobinding(self.binding)
        return self.binding

    def named(self, result: Any) -> dict[str, Array]:
        return self._named(result.copy_outputs_to_cpu())


class OpenVino(OnnxPeer):
    name = "openvino"
    needs = ("onnx", "openvino")
    # Otherwise it takes bfloat16 where the processor has it.
    hint = "f32"

    def __init__(self, problem: Problem, threads: int) -> None:
        import openvino
        from onnx_model import build, feeds

        self.problem = problem
        core = openvino.Core()
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": self.hint,
        }
        self.compiled = core.compile_model(core.read_model(build(problem)), "CPU", options)
        self.request = self.compiled.create_infer_request()
        self.arrays = feeds(problem)
        for name, array in self.arrays.items():
            self.request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def infer(self) -> Any:
        # Half the time of request.infer(), which makes a dictionary of the outputs.
        self.request.start_async()
        self.request.wait()
        return self.request

    def named(self, result: Any) -> dict[str, Array]:
        return self._named([np.array(result.get_tensor(o).data) for o in self.compiled.outputs])


class OpenVinoBfloat16(OpenVino):
    name = "openvino bfloat16"
    reduced = "bfloat16"
    hint = "bf16"
