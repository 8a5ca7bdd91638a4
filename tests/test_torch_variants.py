"""The variants that PyTorch has, against its layers on the same weights: projections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_variants import float_arrays, make_variant, variant_run
from tolerances import assert_close

from pyrnn import ops, reference

torch = pytest.importorskip("torch", reason="parity needs PyTorch, which is not installed")

NAMES = {
    "w_ih": "weight_ih_l0",
    "w_hh": "weight_hh_l0",
    "b_ih": "bias_ih_l0",
    "b_hh": "bias_hh_l0",
    "w_hr": "weight_hr_l0",
}


@pytest.mark.parametrize("lengths", [None, "ragged"], ids=["", "packed"])
@pytest.mark.parametrize("biases", ["both", "none"])
@pytest.mark.parametrize("proj_size", [1, 4, 6])
def test_projection(proj_size: int, biases: str, lengths: str | None) -> None:
    options = {"proj_size": proj_size, "biases": biases, "lengths": lengths}
    problem = make_variant("lstm", options, "float64", 8, 5, 3, 7)
    layer = torch.nn.LSTM(3, 7, bias=biases == "both", proj_size=proj_size).double()
    given = float_arrays(problem)
    with torch.no_grad():
        for ours, theirs in NAMES.items():
            if ours in given:
                getattr(layer, theirs).copy_(torch.from_numpy(given[ours]))
    x, h0, c0 = (
        torch.from_numpy(np.nan_to_num(given[name])).requires_grad_() for name in ("x", "h0", "c0")
    )
    packed: Any = x
    if lengths is not None:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.from_numpy(problem.options["lengths"]), enforce_sorted=False
        )
    y, (h_n, c_n) = layer(packed, (h0[None], c0[None]))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=8)
    outputs = {"y": y, "h_n": h_n[0], "c_n": c_n[0]}
    sum(
        (outputs[name[1:]] * torch.from_numpy(np.nan_to_num(gradient))).sum()
        for name, gradient in problem.incoming.items()
    ).backward()

    for side in (reference, ops):
        got = variant_run(side, problem)
        for name, output in outputs.items():
            assert_close(got[name], output.detach().numpy(), "float64", name)
        for name, leaf in (("dx", x), ("dh0", h0), ("dc0", c0)):
            assert_close(got[name], leaf.grad.numpy(), "float64", name)
        for ours, theirs in NAMES.items():
            if ours in given:
                assert_close(got[f"d{ours}"], getattr(layer, theirs).grad.numpy(), "float64", ours)
