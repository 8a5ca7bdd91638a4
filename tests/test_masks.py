"""The masks of zoneout and recurrent dropout: published words, statistics, and who shares them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers_ops import Array
from helpers_variants import KEY, make_variant, variant_forward
from tolerances import assert_close

from pyrnn import reference
from pyrnn.reference.masks import dropout_mask, threefry, zoneout_masks

FULL, PI = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
# Random123's kat_vectors: rounds, counter, key, words.
KNOWN = [
    (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    (13, (FULL, FULL), (FULL, FULL), (0xFD36D048, 0x2D17272C)),
    (13, PI[:2], PI[2:], (0xBA3E4725, 0xF27D669E)),
    (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    (20, (FULL, FULL), (FULL, FULL), (0x1CB996FC, 0xBB002BE7)),
    (20, PI[:2], PI[2:], (0xC4923A9C, 0x483DF7A0)),
]


def words(values: tuple[int, ...]) -> tuple[Array, Array]:
    first, second = (np.full((1, 1), value, np.uint32) for value in values)
    return first, second


@pytest.mark.parametrize(("rounds", "counter", "key", "want"), KNOWN)
def test_published_words(rounds: int, counter: Any, key: Any, want: tuple[int, int]) -> None:
    first, second = threefry(words(key), words(counter), rounds)
    assert (int(first[0, 0]), int(second[0, 0])) == want


def masks(key: tuple[int, int, int], p: float = 0.3) -> Array:
    """Of h and c at 20 steps, [2, 20, 16, 65]."""
    rows = np.arange(16)
    drawn = [zoneout_masks(key, t, rows, 65, 65, p, p) for t in range(20)]
    return np.swapaxes(np.array(drawn), 0, 1)


def correlation(a: Array, b: Array) -> float:
    """In units of its standard deviation where a and b are independent."""
    return abs(float(np.corrcoef(a.ravel(), b.ravel())[0, 1])) * np.sqrt(a.size)


# Of some hundred independent numbers of unit variance none lies beyond.
SIGMAS = 4.5


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_as_many_as_asked_for(p: float) -> None:
    drawn = masks(KEY, p)
    for kept in (*drawn, *drawn[0, :3], *np.moveaxis(drawn[0], 1, 0)[:3], *drawn[0].T[:3]):
        assert abs(kept.mean() - p) < SIGMAS * np.sqrt(p * (1 - p) / kept.size)
    mask = dropout_mask(KEY, np.arange(400), 65, p, np.dtype("float64"))
    assert set(np.unique(mask)) == {0.0, 1 / (1 - p)}
    assert abs((mask == 0).mean() - p) < SIGMAS * np.sqrt(p * (1 - p) / mask.size)
    # What is dropped is made up for.
    assert abs(mask.mean() - 1) < SIGMAS * np.sqrt(p / (1 - p) / mask.size)


def test_every_part_of_the_key_counts() -> None:
    """Neighbours in time, rows, units and calls, and the two states, have masks of their own."""
    seed, layer, direction = KEY
    of_h, of_c = masks(KEY)
    for others in (
        of_c,
        *(
            masks(key)[0]
            for key in (
                (seed + 1, layer, direction),
                (seed + 2**32, layer, direction),
                (seed, layer + 1, direction),
                (seed, layer, 1 - direction),
                (seed, direction, layer),
            )
        ),
    ):
        assert correlation(of_h, others) < SIGMAS
    for axis, lag in itertools.product(range(3), (1, 2, 7)):
        earlier, later = np.moveaxis(of_h, axis, 0)[:-lag], np.moveaxis(of_h, axis, 0)[lag:]
        assert correlation(earlier, later) < SIGMAS
    dropped = dropout_mask(KEY, np.arange(16), 65, 0.3, np.dtype("float64")) == 0
    for kept in of_h:
        assert correlation(dropped, kept) < SIGMAS


def test_all_and_none() -> None:
    rows = np.arange(5)
    for p in (0.0, 1.0):
        for kept in zoneout_masks(KEY, 3, rows, 7, 9, p, p):
            assert (kept == p).all()
    assert (dropout_mask(KEY, rows, 7, 0.0, np.dtype("float32")) == 1).all()
    assert (dropout_mask(KEY, rows, 7, 1.0, np.dtype("float32")) == 0).all()


def test_a_row_has_its_mask_whoever_is_beside_it() -> None:
    rows = np.array([1, 4, 6])
    every = zoneout_masks(KEY, 2, np.arange(8), 5, 9, 0.4, 0.6)
    for some, all_rows in zip(zoneout_masks(KEY, 2, rows, 5, 9, 0.4, 0.6), every, strict=True):
        np.testing.assert_array_equal(some, all_rows[rows])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "gru", "gru_reset_before", "lstm"])
def test_lengths_change_no_mask(cell: str, reverse: bool) -> None:
    """A row that is cut short goes on as the row alone does, with the same masks."""
    options = {"zoneout": "drawn", "recurrent_dropout": 0.4, "reverse": reverse}
    problem = make_variant(cell, options | {"lengths": "zeros"}, "float64", 6, 5, 3, 7)
    outputs = variant_forward(reference, problem)
    for row, length in enumerate(problem.options["lengths"]):
        alone = problem.copy()
        alone.options["lengths"] = None
        alone.arrays["x"] = np.nan_to_num(alone.arrays["x"])[:length]
        want = variant_forward(reference, alone)
        assert_close(outputs["h_n"][row], want["h_n"][row], "float64", "h_n")
        assert_close(outputs["y"][:length, row], want["y"][:, row], "float64", "y")


def test_seeds_are_repeatable_and_differ() -> None:
    problem = make_variant("lstm", {"zoneout": "drawn"}, "float64", 6, 5, 3, 7)
    first, again = (variant_forward(reference, problem)["y"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    problem.options["key"] = (KEY[0] + 1, *KEY[1:])
    assert not np.array_equal(variant_forward(reference, problem)["y"], first)
    problem.options["key"] = None
    expected = variant_forward(reference, problem)["y"]
    assert not np.array_equal(expected, first)
