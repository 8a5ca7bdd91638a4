"""Types of the compiled module (csrc/module.cpp)."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

_Array = npt.NDArray[Any]
_Optional = _Array | None

# x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths: checked, native, contiguous
_Inputs = tuple[_Array, _Array, _Optional, _Array, _Array, _Optional, _Optional, _Optional]
# activation, gate_activation, clip, cell_clip, zoneout_h, zoneout_c, recurrent_dropout, key, arrays
_Variant = tuple[Any, ...] | None
# the inputs and a variant
_Call = tuple[Any, ...]
# dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh and {"dw_hr": ...} of the variant's arrays
_Gradients = tuple[
    _Optional, _Array, _Optional, _Array, _Array, _Optional, _Optional, dict[str, _Array]
]
# gates, h, c, norm_ih, norm_hh, rstd
_Saved = tuple[_Array, _Optional, _Optional, _Optional, _Optional, _Optional]

class KeptWeights:
    """The packed weights of one layer and direction, for whichever calls read the same bits."""

    def __init__(self) -> None: ...
    @property
    def packs(self) -> tuple[int, int]:
        """How often forward and backward have packed them."""

class RecycledMemory:
    """What a large array refers to: memory that another may have had, and may have after it."""

class Lender:
    """The threads of the OpenMP that a loaded library is linked with.

    In a ``with`` statement, the calling thread's calls run on them while they are as many as
    the calls may use.
    """

    def __init__(self, path: str) -> None: ...
    @property
    def found(self) -> bool: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...

def check_forward(
    cell: str,
    x: _Array,
    h0: _Array,
    c0: _Optional,
    w_ih: _Array,
    w_hh: _Array,
    b_ih: _Optional,
    b_hh: _Optional,
    lengths: _Optional,
    variant: _Variant,
) -> _Inputs: ...
def forward(
    cell: str,
    x: _Array,
    h0: _Array,
    c0: _Optional,
    w_ih: _Array,
    w_hh: _Array,
    b_ih: _Optional,
    b_hh: _Optional,
    lengths: _Optional,
    variant: _Variant,
    reverse: bool,
    save: bool,
    kept: KeptWeights | None,
) -> tuple[_Array, _Array, _Optional, _Inputs | None, _Saved | None]: ...
def check_backward(
    cell: str,
    x: _Array,
    h0: _Array,
    w_hh: _Array,
    dy: _Optional,
    dh_n: _Optional,
    dc_n: _Optional,
    dcells: _Optional,
) -> tuple[_Optional, _Optional, _Optional, _Optional]: ...
def backward(
    cell: str,
    inputs: _Call,
    saved: _Saved,
    reverse: bool,
    dy: _Optional,
    dh_n: _Optional,
    dc_n: _Optional,
    dcells: _Optional,
    kept: KeptWeights | None,
) -> _Gradients: ...
def check_lengths(lengths: _Optional, seq_len: int, batch_size: int) -> _Optional: ...
def forward_chunk(
    cell: str,
    inputs: _Call,
    reverse: bool,
    save: bool,
    start: int,
    y: _Optional,
    kept: KeptWeights | None,
) -> tuple[_Array, _Array, _Optional, _Inputs | None, _Saved | None]: ...
def backward_chunk(
    cell: str,
    inputs: _Call,
    saved: _Saved | None,
    reverse: bool,
    dy: _Optional,
    dh_n: _Optional,
    dc_n: _Optional,
    dcells: _Optional,
    start: int,
    into: tuple[_Optional, ...],
) -> _Gradients: ...
def forward_side_by_side(
    cell: str,
    arguments: Sequence[tuple[Any, ...]],
    lengths: _Optional,
    save: bool,
) -> list[tuple[_Array, _Array, _Optional, _Inputs, _Saved]]: ...
def backward_side_by_side(
    cell: str, arguments: Sequence[tuple[Any, ...]], chained: bool
) -> list[_Gradients]: ...
def drop(x: _Array, key: tuple[int, int, int], probability: float) -> _Array: ...
def linear_forward(x: _Array, weight: _Array, bias: _Optional) -> _Array: ...
def linear_backward(
    x: _Array, weight: _Array, dy: _Array, need_dbias: bool
) -> tuple[_Array, _Array, _Optional]: ...
def reduced_product(
    precision: str, x: _Array, w: _Array, base: _Array, groups: int = 1
) -> _Array: ...
def vecmath(name: str, x: _Array) -> _Array: ...
def fingerprint(arrays: Sequence[_Array]) -> tuple[int, int]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def empty(shape: Sequence[int], like: _Array) -> _Array:
    """As ``numpy.empty``, of the dtype of ``like``; on memory that arrays before it had."""

def recycled() -> tuple[int, int]:
    """Bytes of memory for large arrays that are in use, and that are kept for others."""

def busy() -> bool: ...
def heed_load(on: bool) -> None: ...
def latency() -> int: ...
def note_latency(ns: int) -> None: ...
def config() -> dict[str, Any]: ...
def available_isas() -> Sequence[str]: ...
def probe(threads: int = 1) -> dict[str, float]: ...
def read_rate(bytes: int, threads: int = 1) -> float: ...
def core_latency() -> float: ...

__version__: str

class Stream_float32:
    def read_state(self) -> tuple[_Array, ...]: ...
    def write_state(self, h: _Optional, c: _Optional) -> None: ...
    def handle(self) -> object: ...

class Frozen_float32:
    def __init__(
        self,
        cell: str,
        precision: str,
        input_size: int,
        hidden_size: int,
        proj_size: int,
        directions: int,
        parts: list[tuple[Any, ...]],
    ) -> None: ...
    def forward(
        self, k: int, x: _Array, states: list[list[_Array]], lengths: npt.ArrayLike | None
    ) -> list[tuple[_Array, ...]]: ...
    def infer(self, x: object, state: object) -> tuple[_Array, Any] | None: ...
    def unpack(self, k: int) -> tuple[_Array, _Array, _Array, _Array]: ...
    def stream(self, batch_size: int) -> Stream_float32: ...
    @property
    def nbytes(self) -> int: ...

Stream_float64 = Stream_float32
Frozen_float64 = Frozen_float32

def precisions() -> dict[str, str]: ...

stream_api: object
