"""The convention of the update gate in which z and 1 - z change places."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers_layers import assert_all_same

import pyrnn


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_exchanged_gate_is_the_other_equation(reset_after: bool) -> None:
    """``h_t = (1 - z) * h_{t-1} + z * n``, as written, against the converted parameters."""
    layer = pyrnn.GRU(3, 4, reset_after=reset_after, dtype="float64", rng=0)
    theirs = layer.state_dict()
    rng = np.random.default_rng(1)
    x, h = rng.normal(size=(5, 2, 3)), rng.normal(size=(2, 4))
    layer.load_state_dict(pyrnn.gru_exchange_update_gate(theirs))
    y, _ = layer(x, h[None])

    def sigmoid(a: Any) -> Any:
        return 1 / (1 + np.exp(-a))

    w_ih, w_hh, b_ih, b_hh = (np.split(a, 3) for a in theirs.values())
    for x_t, y_t in zip(x, y, strict=True):
        r, z = (sigmoid(x_t @ w_ih[k].T + b_ih[k] + h @ w_hh[k].T + b_hh[k]) for k in (0, 1))
        if reset_after:
            n = np.tanh(x_t @ w_ih[2].T + b_ih[2] + r * (h @ w_hh[2].T + b_hh[2]))
        else:
            n = np.tanh(x_t @ w_ih[2].T + b_ih[2] + (r * h) @ w_hh[2].T + b_hh[2])
        h = (1 - z) * h + z * n
        np.testing.assert_allclose(y_t, h, rtol=1e-12)


def test_it_is_its_own_inverse_and_leaves_its_argument_alone() -> None:
    layer = pyrnn.GRU(3, 4, 2, bidirectional=True, rng=0)
    before = layer.state_dict()
    once = pyrnn.gru_exchange_update_gate(layer.params)
    assert_all_same(layer.params, before)
    for name, array in once.items():
        assert not np.array_equal(array, before[name])
    assert_all_same(pyrnn.gru_exchange_update_gate(once), before)


def test_errors() -> None:
    for bad in (np.zeros(4), np.zeros((4, 3)), np.zeros(())):
        message = "weight: expected 3·H rows (gates r, z, n), got shape "
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            pyrnn.gru_exchange_update_gate({"weight": bad})
