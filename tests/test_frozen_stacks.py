"""Frozen stacks: layers above each other and directions side by side, long inputs in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_layers import KINDS, assert_all_same

import pyrnn
from pyrnn import checkpoint


def random_layer(kind: str, input_size: int, hidden_size: int, **options: Any) -> Any:
    cls, fixed = KINDS[kind]
    return cls(input_size, hidden_size, rng=0, **fixed, **options)


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_threads(kind: str, bidirectional: bool, threads: int) -> None:
    pyrnn.set_num_threads(threads)
    layer = random_layer(kind, 24, 64, num_layers=3, bidirectional=bidirectional)
    frozen = layer.freeze()
    rng = np.random.default_rng(0)
    for seq_len, batch in ((120, 1), (97, 5), (3, 20)):
        x = rng.standard_normal((seq_len, batch, 24)).astype("float32")
        lengths = rng.integers(0, seq_len + 1, batch)
        assert_all_same(frozen(x), layer(x))
        assert_all_same(frozen(x, lengths=lengths), layer(x, lengths=lengths))


@pytest.mark.parametrize("kind", KINDS)
def test_long_inputs_in_chunks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = random_layer(kind, 5, 12, num_layers=2)
    frozen = layer.freeze()
    rng = np.random.default_rng(1)
    x = rng.standard_normal((100, 3, 5)).astype("float32")
    tokens = rng.integers(0, 5, (100, 3))
    lengths = np.array([100, 0, 41])
    whole = [frozen(a, lengths=n) for a in (x, tokens) for n in (None, lengths)]
    calls = []
    monkeypatch.setattr(checkpoint, "steps_of_inference", lambda batch: calls.append(batch) or 17)
    for got, want in zip(
        [frozen(a, lengths=n) for a in (x, tokens) for n in (None, lengths)], whole, strict=True
    ):
        assert_all_same(got, want)
    assert calls
