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
# What a mask is for goes into the key of a step.
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
    """Whether zoneout keeps h_{t-1} [B, P] and c_{t-1} [B, H]; rows [B] are those of the batch.

    Two units share a counter: the even one has the lower halves of its words.
    """
    words = _words(key, t, _ZONEOUT, rows, (max(size_h, size_c) + 1) // 2)
    of_h, of_c = (_halves(w) for w in words)
    return of_h[:, :size_h] < _threshold(p_h, 16), of_c[:, :size_c] < _threshold(p_c, 16)


def dropout_mask(
    key: tuple[int, int, int], rows: Array, size: int, p: float, dtype: np.dtype[np.floating]
) -> Array:
    """What h_{t-1} is multiplied by ahead of W_hh, 0 or 1 / (1 - p), [B, P] for every step."""
    words, _ = _words(key, _WHOLE_SEQUENCE, _RECURRENT, rows, size)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return np.where(words < _threshold(p), 0.0, scale).astype(dtype)


def drop(x: Array, key: tuple[int, int, int], p: float) -> Array:
    """``x`` (T, B, columns) times the mask of dropout between layers, a new one at each step."""
    rows = np.arange(x.shape[1])
    scale = x.dtype.type(1 / (1 - p) if p < 1 else 0.0)
    y = np.empty_like(x, order="C")
    with np.errstate(invalid="ignore", over="ignore"):
        for t in range(len(x)):
            words, _ = _words(key, t, _BETWEEN, rows, x.shape[2])
            y[t] = x[t] * np.where(words < _threshold(p), x.dtype.type(0), scale)
    return y


@lru_cache(maxsize=64)  # every step asks
def call_key(key: tuple[int, int, int]) -> tuple[int, int]:
    """The two words that stand for (seed, layer, direction)."""
    seed, layer, direction = key
    return threefry((seed & _WORD, seed >> 32), (layer, direction))


def _words(key: tuple[int, int, int], t: int, use: int, rows: Array, counters: int) -> Words:
    """Two for each row and counter at a step, [B, counters] each."""
    first, second = threefry(call_key(key), (t, use))
    of_step = np.full((1, 1), first, np.uint32), np.full((1, 1), second, np.uint32)
    of_counters = np.arange(counters, dtype=np.uint32)[None]
    return threefry(of_step, (of_counters, rows.astype(np.uint32)[:, None]))


def _halves(words: Array) -> Array:
    """[B, 2 columns], of each word the lower half first."""
    halves = np.stack((words & 0xFFFF, words >> 16), axis=-1)
    return halves.reshape(len(words), 2 * words.shape[1])


def _threshold(p: float, bits: int = 32) -> Any:
    """How many of the 2**bits words are taken; of 64 bits, as p = 1 takes them all."""
    return np.uint64(p * 2.0**bits + 0.5)
