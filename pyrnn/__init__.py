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

from . import ops, reference
from .backends import backend
from .coloured import coloured_text
from .config import get_num_threads, set_num_threads, show_config
from .diagnostics import check_finite, gradient_flow
from .files import load, save
from .gates import gate_statistics
from .layers import GRU, LSTM, MGU, RNN
from .linear import Linear
from .optimisers import SGD, Adam
from .training import clip_grad_norm, softmax_cross_entropy
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
