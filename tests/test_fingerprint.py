"""The fingerprint of arrays that kept weights are told by: its values, and what it sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_worker import Worker
from hypothesis import given
from hypothesis import strategies as st

from pyrnn import _core

fingerprint = _core.fingerprint

PRIME = 2**61 - 1
WORDS = 512
# About the words of a vector, of four, of a block and of several.
SIZES = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    15,
    16,
    17,
    31,
    33,
    63,
    64,
    65,
    511,
    512,
    513,
    1023,
    1024,
    1025,
    2049,
)


def _drawn() -> tuple[list[int], list[int]]:
    """Keys and points, by splitmix64."""
    state, words = 0x7079726E6E, 2**64 - 1

    def draw() -> int:
        nonlocal state
        state = z = (state + 0x9E3779B97F4A7C15) & words
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & words
        z = (z ^ z >> 27) * 0x94D049BB133111EB & words
        return z ^ z >> 31

    return [draw() >> 32 for _ in range(WORDS + 2)], [draw() % (PRIME - 1) + 1 for _ in range(2)]


KEYS, POINTS = _drawn()


def _by_definition(arrays: list[Any]) -> tuple[int, ...]:
    """With Python's integers, from the head of csrc/isa/fingerprint.hpp."""
    coefficients = []
    for array in arrays:
        words = [int(word) for word in np.frombuffer(array.tobytes(), np.uint32)]
        coefficients.append(array.nbytes)
        for start in range(0, len(words), WORDS):
            block = words[start : start + WORDS]
            block += [0] * (WORDS - len(block))
            for shift in (0, 2):
                sums = [(m + k) % 2**32 for m, k in zip(block, KEYS[shift:], strict=False)]
                nh = sum(a * b for a, b in zip(sums[::2], sums[1::2], strict=True)) % 2**64
                coefficients += [nh % 2**32, nh >> 32]
    values = []
    for point in POINTS:
        value = 1
        for coefficient in coefficients:
            value = (value * point + coefficient) % PRIME
        values.append(value)
    return tuple(values)


def _random(size: int, seed: int = 0, dtype: str = "float32") -> Any:
    """Any bits."""
    itemsize = np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size * itemsize), dtype).copy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_the_definition(size: int, dtype: str) -> None:
    one = _random(size, size, dtype)
    assert fingerprint([one]) == _by_definition([one])


def test_the_largest_words() -> None:
    for value in (0, 2**32 - 1, 2**31):
        one = np.full(1025, value, np.uint32).view(np.float32)
        assert fingerprint([one]) == _by_definition([one])


def test_every_instruction_set_has_the_same(isa_workers: dict[str, Worker]) -> None:
    want = [_by_definition([_random(size), _random(3)]) for size in SIZES]
    for isa, worker in isa_workers.items():
        assert worker.call(_fingerprints) == want, isa


def _fingerprints() -> list[tuple[int, int]]:
    return [fingerprint([_random(size), _random(3)]) for size in SIZES]


arrays = st.tuples(st.sampled_from(SIZES[1:]), st.integers(0, 99))


@given(arrays, st.data())
def test_any_bit(drawn: tuple[int, int], data: st.DataObject) -> None:
    one = _random(*drawn)
    before = fingerprint([one])
    words = one.view(np.uint32)
    words[data.draw(st.integers(0, one.size - 1))] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    assert fingerprint([one]) != before


@given(arrays, st.data())
def test_any_exchange(drawn: tuple[int, int], data: st.DataObject) -> None:
    one = _random(*drawn)
    before = fingerprint([one])
    i, j = data.draw(st.tuples(*[st.integers(0, one.size - 1)] * 2))
    words = one.view(np.uint32)
    same = words[i] == words[j]
    words[[i, j]] = words[[j, i]]
    assert (fingerprint([one]) == before) == same


@given(st.integers(1, 400), st.integers(1, 3), st.integers(0, 99))
def test_rolled_and_reversed(rows: int, by: int, seed: int) -> None:
    one = _random(rows * 4, seed).reshape(rows, 4)
    made = [one, np.roll(one, by, 0), np.roll(one, by, 1), one[::-1], one[:, ::-1]]
    bits = {array.tobytes() for array in made}
    assert len({fingerprint([array]) for array in made}) == len(bits)


def test_two_changes_that_a_sum_would_not_see() -> None:
    one = np.ones(5000, np.float32)
    before = fingerprint([one])
    for step in (1, 2, 3, 512, 513, 1024, 4096):
        changed = one.copy()
        changed.view(np.uint32)[0] += 1
        changed.view(np.uint32)[step] -= 1
        assert fingerprint([changed]) != before


def test_bits_and_not_values() -> None:
    zeros, nan = np.zeros(9, np.float32), np.full(9, np.nan, np.float32)
    minus = zeros.copy()
    minus[8] = -0.0
    payload = nan.copy()
    payload.view(np.uint32)[4] |= 1
    made = [zeros, minus, nan, payload]
    assert len({fingerprint([array]) for array in made}) == 4
    for array in made:
        assert fingerprint([array]) == fingerprint([array.copy()])


def test_where_one_array_ends() -> None:
    """The same values, cut in other places; an array of nothing; zeros behind the last value."""
    one, none = _random(600), np.empty(0, np.float32)
    lists = [[one[:k], one[k:]] for k in (0, 1, 511, 512, 513, 599, 600)]
    lists += [[one], [one, none, none], [none, one, none]]
    zeros = [[np.zeros(n, np.float32)] for n in (0, 1, 2, 511, 512, 513)]
    assert len({fingerprint(arrays) for arrays in lists + zeros}) == len(lists) + len(zeros)


def test_any_place_in_memory() -> None:
    """Ahead of a page, and off every line."""
    memory = _random(2000)
    for start in range(20):
        part = memory[start : start + 1100]
        assert fingerprint([part]) == fingerprint([part.copy()])
