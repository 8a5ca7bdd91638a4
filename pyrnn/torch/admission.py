"""What lets ``torch.compile`` into the layers.

Its tracer refuses every instance of ``torch.nn.RNN``, ``GRU`` and ``LSTM``, whose steps it would
unroll, unless ``torch._dynamo.config.allow_rnn`` says otherwise. These layers put one operator into
the graph, so that switch is turned for them alone, while the tracer looks at one of them. A version
of PyTorch whose tracer has another shape breaks the graph at the layer, as at its own.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_TRACER = "torch._dynamo.variables.builder"


def admit(layer: type) -> None:
    """Let instances of ``layer`` into graphs; the tracer is not imported for it."""
    if _TRACER in sys.modules:
        _open(sys.modules[_TRACER], layer)
    else:
        sys.meta_path.insert(0, _Waiting(layer))


class _Waiting(importlib.abc.MetaPathFinder):
    """Sees the tracer being imported, which takes a second and which most programs do without."""

    def __init__(self, layer: type) -> None:
        self.layer = layer

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _TRACER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_open(module: ModuleType) -> None:
            run(module)
            _open(module, self.layer)

        spec.loader.exec_module = run_and_open  # type: ignore[method-assign]
        return spec


def _open(tracer: ModuleType, layer: type) -> None:
    builder = getattr(tracer, "VariableBuilder", None)
    wrap = getattr(builder, "wrap_module", None)
    config = getattr(tracer, "config", None)
    if wrap is None or not hasattr(config, "allow_rnn"):
        return

    @wraps(wrap)
    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, layer):
            return wrap(self, value)
        with config.patch(allow_rnn=True):  # type: ignore[union-attr]
            return wrap(self, value)

    builder.wrap_module = wrap_module  # type: ignore[union-attr]
