"""``clip=``: what the tape says of a sum that was clipped, and clips at the ends of their range."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers_ops import DTYPES
from helpers_variants import make_variant, variant_astype, variant_forward, variant_run
from tolerances import assert_close

from pyrnn import ops, reference
from pyrnn.gates import gate_names
from pyrnn.variants import CLIP_MARK, LEAST_MARKED_CLIP

MARKING = (("gru", {}), ("gru", {"reset_after": False}), ("lstm", {}), ("lstm", {"coupled": True}))
IDENTITIES = {"activation": "identity", "gate_activation": "identity"}
CLIP = 0.7
ENDS = (1e-30, LEAST_MARKED_CLIP / 2, LEAST_MARKED_CLIP, 1e-6, 60.0, 1e30)


def one_step(cell: str, options: dict[str, Any], dtype: str) -> Any:
    """Of many rows, whose sums do not depend on the options: W_hh and b_hh add nothing."""
    problem = make_variant(cell, options, dtype, 1, 40, 3, 17)
    for name in ("h0", "c0"):
        if name in problem.arrays:
            problem.arrays[name] = np.zeros_like(problem.arrays[name])
    problem.arrays["x"] = np.random.default_rng(0).normal(size=(1, 40, 3)).astype(dtype)
    for name in ("w_ih", "b_ih"):
        shape = problem.arrays[name].shape
        problem.arrays[name] = np.random.default_rng(len(shape)).normal(size=shape).astype(dtype)
    problem.arrays["b_hh"] = np.zeros_like(problem.arrays["b_hh"])
    problem.options["lengths"] = None
    return problem


@pytest.mark.parametrize("module", [ops, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "options"), MARKING)
def test_the_tape_marks_what_was_clipped(
    module: ModuleType, dtype: str, cell: str, options: dict[str, Any]
) -> None:
    taped, sums = (
        variant_forward(module, one_step(cell, options | extra, dtype))["tape"]
        for extra in ({"clip": CLIP}, IDENTITIES)
    )
    for n, name in enumerate(gate_names(taped.cell)):
        columns = slice(n * 17, (n + 1) * 17)
        got, a = taped.gates[..., columns], sums.gates[..., columns]
        clipped = np.abs(a) > CLIP
        assert 0 < clipped.sum() < clipped.size, name
        if name in ("g", "n"):
            np.testing.assert_array_equal(np.abs(got) > 1, clipped, name)
            values = np.where(clipped, got / CLIP_MARK, got)
            assert np.abs(values).max() <= np.tanh(CLIP) * (1 + 1e-6)
            assert_close(np.abs(values[clipped]), np.full(clipped.sum(), np.tanh(CLIP)), dtype)
        else:
            np.testing.assert_array_equal(got < 0, clipped, name)
            want = 1 / (1 + np.exp(-np.clip(a, -CLIP, CLIP).astype(np.float64)))
            assert_close(np.abs(got), want, dtype)


@pytest.mark.parametrize("clip", ENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "options"), [*MARKING, ("rnn", {})])
def test_clips_of_any_size(cell: str, options: dict[str, Any], dtype: str, clip: float) -> None:
    problem = make_variant(cell, {**options, "clip": clip}, dtype, 4, 5, 3, 17)
    got = variant_run(ops, problem)
    want = variant_run(reference, variant_astype(problem, "float64"))
    for name, expected in want.items():
        if name != "tape" and expected is not None:
            assert_close(got[name], expected, dtype, name)


@pytest.mark.parametrize(("cell", "options"), [*MARKING, ("rnn", {})])
def test_not_a_number_is_not_taken_for_clipped(cell: str, options: dict[str, Any]) -> None:
    problem = make_variant(cell, {**options, "clip": CLIP}, "float32", 3, 4, 3, 9)
    problem.options["lengths"] = None
    problem.arrays["x"][1, 2] = np.nan
    got, want = variant_run(ops, problem), variant_run(reference, problem)
    for name in ("y", "dx", "dh0", "dw_ih", "dw_hh"):
        np.testing.assert_array_equal(np.isnan(got[name]), np.isnan(want[name]), name)
    assert np.isnan(got["y"][1:, 2]).all()
    assert not np.isnan(got["y"][:, [0, 1, 3]]).any()
    assert np.isnan(got["dx"][1, 2]).all()
