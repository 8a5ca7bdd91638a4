"""ONNX: recurrent nodes run by pyrnn inside any model, layers read from models and written to them.

Needs the package ``onnx`` (``pip install "pyrnn-kernels[onnx]"``), 1.19 or newer.

Attributes
----------
reference_ops : list of type
    RNN, GRU and LSTM for ``onnx.reference.ReferenceEvaluator(model, new_ops=reference_ops)``:
    every attribute of opset 1 to 22, float32 and float64; float16 and bfloat16 are computed in
    float32 and rounded once. Each node packs its weights once.
"""

from __future__ import annotations

from ..extras import needed

needed("onnx", "onnx", "pyrnn.onnx")

from .exporting import export  # noqa: E402
from .loading import load  # noqa: E402
from .operators import reference_ops  # noqa: E402

__all__ = ["export", "load", "reference_ops"]
