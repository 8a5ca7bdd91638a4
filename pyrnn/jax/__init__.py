"""The operations under JAX: ``jit``, ``grad`` and ``vmap``, on a CPU.

Each is a call from XLA back into this process, through the FFI that JAX brings; arrays are read
where XLA has them.
"""

from __future__ import annotations

from ..extras import needed

_jax = needed("jax", "jax", "pyrnn.jax")

try:
    import jax.experimental.buffer_callback as _buffer_callback  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(f"pyrnn.jax: expected JAX 0.7 or later, found {_jax.__version__}") from None

from .functions import gru, lstm, rnn  # noqa: E402

__all__ = ["gru", "lstm", "rnn"]
