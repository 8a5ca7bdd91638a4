"""Types of the compiled stream (_stream.pyx)."""

from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_State = _Array | tuple[_Array, _Array]

class Stream:
    frozen: Any
    batch_size: int
    input_size: int
    hidden_size: int
    columns: int

    def __init__(self, frozen: Any, batch_size: int = 1) -> None: ...
    def step(self, x_t: npt.ArrayLike | np.integer[Any], out: _Array | None = None) -> _Array: ...
    @property
    def state(self) -> _State: ...
    def reset(self, state: Any = None) -> None: ...
