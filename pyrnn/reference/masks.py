"""Masks of zoneout and recurrent dropout, out of (seed, layer, direction, t, row, unit).

Words come from Threefry-2x32 with 13 rounds (Salmon, Moraes, Dror & Shaw, "Parallel random numbers:
as easy as 1, 2, 3", SC 2011; 13 are the fewest that pass BigCrush): a generator without state, so
the backward pass draws the same masks again, and lengths, threads and chunks change none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..tape import Array

Words = tuple[Any, Any]  # uint32 arrays, or Python's integers

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY, _WORD = 0x1BD11BDA, 0xFFFFFFFF
# No step has this number: the mask of a whole sequence.
_WHOLE_SEQUENCE = 0xFFFFFFFF
# One use of a key is told from another by the second word of the counter.
_ZONEOUT, _RECURRENT, _BETWEEN = 0, 1, 2


def threefry(key: Words, counter: Words, rounds: int = 13) -> Words:
    """Two random words for each pair of key and counter, which are broadcast."""
    keys = (key[0], key[1], _PARITY ^ key[0] ^ key[1])
    with np.errstate(over="ignore"):
        x0, x1 = (counter[0] + keys[0]) & _WORD, (counter[1] + keys[1]) & _WORD
        for r in range(rounds):
            x0 = (x0 + x1) & _WORD
            left = _ROTATIONS[r % 8]
            x1 = (((x1 << left) & _WORD) | (x1 >> (32 - left))) ^ x0
            if r % 4 == 3:
                n = r // 4 + 1
                x0 = (x0 + keys[n % 3]) & _WORD
                x1 = (x1 + keys[(n + 1) % 3] + n) & _WORD
    return x0, x1


def zoneout_masks(
    key: tuple[int, int, int], t: int, rows: Array, size_h: int, size_c: int, p_h: float, p_c: float
) -> tuple[Array, Array]:
    """Whether zoneout keeps h_{t-1} [B, P] and c_{t-1} [B, H]; rows [B] are those of the batch."""
    of_rows = _row_keys(key, t, rows)
    units = np.arange(max(size_h, size_c), dtype=np.uint32)[None]
    of_h, of_c = threefry(of_rows, (units, np.uint32(_ZONEOUT)[None, None]))
    return of_h[:, :size_h] < _threshold(p_h), of_c[:, :size_c] < _threshold(p_c)


def dropout_mask(
    key: tuple[int, int, int], rows: Array, size: int, p: float, dtype: np.dtype[np.floating]
) -> Array:
    """What h_{t-1} is multiplied by ahead of W_hh, 0 or 1 / (1 - p), [B, P] for every step."""
    units = np.arange(size, dtype=np.uint32)[None]
    words, _ = threefry(
        _row_keys(key, _WHOLE_SEQUENCE, rows), (units, np.uint32(_RECURRENT)[None, None])
    )
    scale = 1 / (1 - p) if p < 1 else 0.0
    return np.where(words < _threshold(p), 0.0, scale).astype(dtype)


def drop(x: Array, key: tuple[int, int, int], p: float) -> Array:
    """``x`` (T, B, columns) times the mask of dropout between layers, a new one at each step."""
    rows, units = np.arange(x.shape[1]), np.arange(x.shape[2], dtype=np.uint32)[None]
    scale = x.dtype.type(1 / (1 - p) if p < 1 else 0.0)
    y = np.empty_like(x, order="C")
    with np.errstate(invalid="ignore", over="ignore"):
        for t in range(len(x)):
            of_rows = _row_keys(key, t, rows)
            words, _ = threefry(of_rows, (units, np.uint32(_BETWEEN)[None, None]))
            y[t] = x[t] * np.where(words < _threshold(p), x.dtype.type(0), scale)
    return y


@lru_cache(maxsize=64)  # every step asks
def call_key(key: tuple[int, int, int]) -> tuple[int, int]:
    """The two words that stand for (seed, layer, direction)."""
    seed, layer, direction = key
    return threefry((seed & _WORD, seed >> 32), (layer, direction))


def _row_keys(key: tuple[int, int, int], t: int, rows: Array) -> Words:
    """Keys of the rows at a step, [B, 1] each."""
    first, second = call_key(key)
    return threefry((_word(first), _word(second)), (_word(t), rows.astype(np.uint32)[:, None]))


def _word(value: int) -> Array:
    return np.full((1, 1), value, np.uint32)


def _threshold(p: float) -> Any:
    """How many of the 2**32 words are taken; of 64 bits, as p = 1 takes them all."""
    return np.uint64(p * 2.0**32 + 0.5)
