"""pyrnn: recurrent networks on a CPU, forward and backward, on NumPy arrays."""

from __future__ import annotations

try:
    import pyrnn._core as _core
except ModuleNotFoundError as error:
    if error.name != "pyrnn._core":
        raise
    raise ImportError(
        f"the compiled module pyrnn._core is not beside {__file__}: this is a source folder. "
        "Install the package (pip install .) and run Python from another directory, "
        "or install it in place (pip install -e .).",
        name=__name__,  # lets python -m pyrnn end in this line instead of a traceback
    ) from None

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import ops
from .backends import backend
from .config import get_num_threads, set_num_threads, show_config
from .layers import GRU, LSTM, MGU, RNN
from .linear import Linear
from .optimisers import SGD, Adam
from .training import clip_grad_norm, softmax_cross_entropy

if TYPE_CHECKING:
    from . import reference
    from .coloured import coloured_text
    from .diagnostics import check_finite, gradient_flow
    from .files import load, save
    from .gates import gate_statistics
    from .truncated import tbptt
    from .weights import gru_exchange_update_gate

__version__ = _core.__version__

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "RNN",
    "SGD",
    "Adam",
    "Linear",
    "__version__",
    "backend",
    "check_finite",
    "clip_grad_norm",
    "coloured_text",
    "gate_statistics",
    "get_num_threads",
    "gradient_flow",
    "gru_exchange_update_gate",
    "load",
    "ops",
    "reference",
    "save",
    "set_num_threads",
    "show_config",
    "softmax_cross_entropy",
    "tbptt",
]

# What most programs do without is imported when it is asked for.
_LATER = {
    "check_finite": "diagnostics",
    "coloured_text": "coloured",
    "gate_statistics": "gates",
    "gradient_flow": "diagnostics",
    "gru_exchange_update_gate": "weights",
    "load": "files",
    "save": "files",
    "tbptt": "truncated",
}
_MODULES = {"reference", *_LATER.values()}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        found = getattr(import_module(f".{_LATER[name]}", __name__), name)
        globals()[name] = found
        return found
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_MODULES})
