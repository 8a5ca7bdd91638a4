"""The operations under JAX: ``jit``, ``grad`` and ``vmap``, on a CPU.

Each is a call from XLA back into this process, through the FFI that JAX brings; arrays are read and
written where XLA has them.
"""

from __future__ import annotations

try:
    import jax as _jax
except ModuleNotFoundError as error:
    if error.name != "jax":
        raise
    raise ModuleNotFoundError(
        'pyrnn.jax needs JAX, which is not installed: pip install "pyrnn-kernels[jax]"', name="jax"
    ) from None

try:
    import jax.experimental.buffer_callback as _buffer_callback  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(f"pyrnn.jax: expected JAX 0.7 or later, found {_jax.__version__}") from None

from .functions import gru, lstm, rnn

__all__ = ["gru", "lstm", "rnn"]
