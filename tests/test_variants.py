"""Every variant on the kernels: against the reference, and the same bits however it is called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_ops import DTYPES
from helpers_variants import (
    FAMILIES,
    make_variant,
    pairwise,
    single,
    variant_astype,
    variant_forward,
    variant_run,
)
from tolerances import RELATIVE, assert_close, assert_same_bits, relative_error

import pyrnn
from pyrnn import ops, reference
from pyrnn.variants import ACTIVATIONS

PAIRS = [(cell, options) for cell in FAMILIES for options in pairwise(cell)]
SINGLES = [(cell, options) for cell in FAMILIES for options in single(cell)]
# Some options have pointwise code for themselves alone; gradients of every c come back to it, too.
WITH_CELLS = [("lstm", one | {"dcells": True}) for one in single("lstm") if "dcells" not in one]
# T, B, I, H: of one thread and of several, by rows and by units, around a panel of either dtype.
SHAPES = ((5, 3, 4, 7), (6, 40, 9, 17), (4, 2, 33, 95), (3, 5, 1, 1), (2, 9, 16, 32))
EMPTY = ((0, 3, 2, 5), (4, 0, 2, 5))


def label(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={v}" for name, v in value.items() if v)
    return str(value)


def tolerance_of(options: dict[str, Any], dtype: str) -> float:
    """Ten times as much with layer norm, which divides by a standard deviation."""
    return RELATIVE[dtype] * (10 if options.get("layer_norm") else 1)


def vanishes(options: dict[str, Any], dtype: str, hidden_size: int) -> bool:
    """Whether W_hh h has one direction, or dropout may leave one: layer norm then takes its length
    away, and what is left of the gradient of h is rounding, which float32 has too much of.
    """
    columns = options.get("proj_size") or hidden_size
    return dtype == "float32" and bool(options.get("layer_norm")) and columns < 3


def agree(cell: str, options: dict[str, Any], dtype: str, shape: tuple[int, ...]) -> None:
    problem = make_variant(cell, options, dtype, *shape)
    only_forward = vanishes(options, dtype, shape[3])
    got = variant_run(ops, problem)
    want = variant_run(reference, variant_astype(problem, "float64"))
    for name, expected in want.items():
        if name == "tape" or (only_forward and name.startswith("d")):
            continue
        assert (got[name] is None) == (expected is None), name
        if expected is not None:
            assert_close(got[name], expected, dtype, name, tolerance_of(options, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "options"), SINGLES + WITH_CELLS, ids=label)
def test_one_option_agrees_with_the_reference(
    cell: str, options: dict[str, Any], dtype: str
) -> None:
    for shape in SHAPES:
        agree(cell, options | {"lengths": "zeros"}, dtype, shape)
    for shape in EMPTY:
        agree(cell, options, dtype, shape)


# The gradients of gates in a block of steps and rows take more than half a megabyte.
LARGE_WINDOW = (5, 64, 5, 290)


@pytest.mark.parametrize(("cell", "options"), SINGLES, ids=label)
def test_a_large_window_agrees_with_the_reference(cell: str, options: dict[str, Any]) -> None:
    for lengths in (None, "zeros"):
        agree(cell, options | {"lengths": lengths}, "float64", LARGE_WINDOW)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("numbers", [(), (0.4, 0.7)], ids=["default", "given"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_agrees_with_the_reference(
    name: str, numbers: tuple[float, ...], dtype: str
) -> None:
    activation = (name, *numbers)
    for shape in SHAPES[:2]:
        agree("rnn", {"nonlinearity": activation}, dtype, shape)
        # Both, clipped: gates that have no bound let the values of an LSTM run away.
        agree(
            "lstm",
            {"activation": activation, "gate_activation": activation, "clip": 0.5},
            dtype,
            shape,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "options"), PAIRS, ids=label)
def test_options_together_agree_with_the_reference(
    cell: str, options: dict[str, Any], dtype: str
) -> None:
    for shape in SHAPES[:3]:
        agree(cell, options, dtype, shape)


# Cut by units these have both products of a step in one, and a projection a part for each thread.
LARGE = ((60, 5, 70, 130), (20, 17, 136, 208))
PROJECTED: list[tuple[str, dict[str, Any]]] = [
    ("lstm", {"proj_size": 72}),
    ("lstm", {"proj_size": 72, "coupled": True, "lengths": "zeros", "reverse": True}),
    ("lstm", {"proj_size": 72, "zoneout": "drawn", "recurrent_dropout": 0.4}),
]


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize(("cell", "options"), PAIRS + PROJECTED, ids=label)
def test_any_number_of_threads_gives_the_same_bits(cell: str, options: dict[str, Any]) -> None:
    for shape in (*SHAPES[1:3], *LARGE):
        problem = make_variant(cell, options, "float32", *shape)
        results = []
        for threads in (1, 2, 2, 3):  # the first call of two may end before the second wakes
            pyrnn.set_num_threads(threads)
            results.append(variant_run(ops, problem))
        for other in results[1:]:
            assert_same(results[0], other)


@pytest.mark.parametrize(("cell", "options"), PAIRS, ids=label)
def test_checkpoints_and_inference_give_the_same_bits(cell: str, options: dict[str, Any]) -> None:
    problem = make_variant(cell, options, "float32", 7, 5, 6, 19)
    whole = variant_run(ops, problem)
    for steps in (1, 3, 7):
        assert_same(whole, variant_run(ops, problem, checkpoint=steps))
    inferred = variant_forward(ops, problem, save=False)
    assert inferred.pop("tape") is None
    assert_same({name: whole[name] for name in inferred}, inferred)


@pytest.mark.parametrize(("cell", "options"), SINGLES, ids=label)
def test_either_side_reads_the_other_s_tape(cell: str, options: dict[str, Any]) -> None:
    problem = make_variant(cell, options | {"lengths": "zeros"}, "float64", 5, 4, 3, 9)
    family = cell.partition("_")[0]
    ours, theirs = (variant_forward(module, problem)["tape"] for module in (ops, reference))
    want = getattr(reference, f"{family}_backward")(theirs, *problem.incoming.values())
    for module, tape in ((ops, theirs), (reference, ours)):
        got = getattr(module, f"{family}_backward")(tape, *problem.incoming.values())
        for name, expected in want._asdict().items():
            if expected is not None:
                limit = tolerance_of(options, "float64")
                assert_close(getattr(got, name), expected, "float64", name, limit)


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for name, want in a.items():
        if name != "tape" and want is not None:
            assert_same_bits(b[name], want, name)


def test_masks_do_not_depend_on_the_dtype() -> None:
    options = {"zoneout": "drawn", "recurrent_dropout": 0.4}
    problem = make_variant("lstm", options, "float64", 6, 5, 3, 21)
    exact = variant_run(ops, problem)
    rounded = variant_run(ops, variant_astype(problem, "float32"))
    for name in ("y", "cells", "dx", "dw_hh"):
        if exact.get(name) is not None:
            assert_close(rounded[name], exact[name], "float32", name)


@pytest.mark.parametrize("layer_class", [pyrnn.RNN, pyrnn.GRU, pyrnn.LSTM])
def test_layer_norm_of_sums_far_from_zero(layer_class: Any) -> None:
    """A variance out of a mean of squares would lose all that the mean is larger."""
    layer = layer_class(24, 40, layer_norm=True, rng=0)
    layer.params["weight_ih_l0"][:, 0] = 1
    x = np.random.default_rng(0).standard_normal((5, 3, 24)).astype("float32")
    x[..., 0] = 100
    got = layer(x)[0]
    with pyrnn.backend("reference"):
        want = layer(x)[0]
    error = relative_error(got, want)
    assert error < tolerance_of({"layer_norm": True}, "float32"), error
