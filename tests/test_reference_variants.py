"""Variants of the reference: against the equations written out, finite differences, themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers_ops import Array, Problem
from helpers_variants import (
    FAMILIES,
    OPTIONS,
    float_arrays,
    make_variant,
    pairwise,
    single,
    variant_astype,
    variant_forward,
    variant_run,
    with_array,
)
from tolerances import (
    DIFFERENCE_RELATIVE,
    DIFFERENCE_STEP,
    LAYER_NORM,
    RELATIVE,
    assert_close,
    assert_same_bits,
    relative_error,
)

from pyrnn import reference
from pyrnn.variants import ACTIVATIONS, tapes_h, tapes_sums

TINY = (4, 3, 2, 5)  # T, B, I, H
PAIRS = [(cell, options) for cell in FAMILIES for options in pairwise(cell)]
SINGLES = [(cell, options) for cell in FAMILIES for options in single(cell)]


def label(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={v}" for name, v in value.items() if v)
    return str(value)


# The equations, one row of the batch at a time.

SCALAR: dict[str, Any] = {
    "tanh": lambda x, a, b: math.tanh(x),
    "sigmoid": lambda x, a, b: 1 / (1 + math.exp(-x)),
    "relu": lambda x, a, b: max(0.0, x),
    "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a, b: x if x >= 0 else a * x,
    "thresholded_relu": lambda x, a, b: x if x > a else 0.0,
    "scaled_tanh": lambda x, a, b: a * math.tanh(b * x),
    "hard_sigmoid": lambda x, a, b: max(0.0, min(1.0, a * x + b)),
    "elu": lambda x, a, b: x if x >= 0 else a * (math.exp(x) - 1),
    "softsign": lambda x, a, b: x / (1 + abs(x)),
    "softplus": lambda x, a, b: math.log(1 + math.exp(x)),
    "identity": lambda x, a, b: x,
}


def scalar_activation(given: Any) -> Any:
    name, *numbers = [given] if isinstance(given, str) else given
    alpha, beta = [*numbers, *ACTIVATIONS[name][len(numbers) :]]
    return np.vectorize(lambda x: SCALAR[name](x, alpha, beta), otypes=[float])


def scalar_words(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 of 13 rounds on Python's integers."""
    mask = 0xFFFFFFFF
    keys = [*key, 0x1BD11BDA ^ key[0] ^ key[1]]
    a, b = ((c + k) & mask for c, k in zip(counter, key, strict=True))
    for n in range(13):
        a = (a + b) & mask
        left = (13, 15, 26, 6, 17, 29, 16, 24)[n % 8]
        b = ((b << left | b >> (32 - left)) & mask) ^ a
        if n % 4 == 3:
            m = n // 4 + 1
            a, b = (a + keys[m % 3]) & mask, (b + keys[(m + 1) % 3] + m) & mask
    return a, b


def scalar_draws(key: Any, t: int, row: int, counter: int, use: int) -> tuple[int, int]:
    seed, layer, direction = key
    of_call = scalar_words((seed & 0xFFFFFFFF, seed >> 32), (layer, direction))
    return scalar_words(scalar_words(of_call, (t, use)), (counter, row))


def scalar_keeps(key: Any, t: int, row: int, unit: int, p_h: float, p_c: float) -> tuple[bool, ...]:
    """Of h and of c: half a word each, which two units share."""
    words = scalar_draws(key, t, row, unit // 2, 0)
    halves = (word // 2**16 if unit % 2 else word % 2**16 for word in words)
    return tuple(half < round(p * 2**16) for half, p in zip(halves, (p_h, p_c), strict=True))


def normed(options: dict[str, Any], what: str, a: Array) -> Array:
    if options.get(f"ln_{what}_weight") is None:
        return a
    norm = (a - a.mean()) / np.sqrt(a.var() + 1e-5)
    result: Array = norm * options[f"ln_{what}_weight"] + options[f"ln_{what}_bias"]
    return result


def row_step(
    cell: str, problem: Problem, row: int, t: int, h: Array, c: Array | None
) -> tuple[Array, Array | None]:
    """h_t and c_t of one row."""
    w, options = problem.arrays, problem.options
    blocks = {"rnn": "h", "mgu": "fn", "lstm": "fgo" if options.get("coupled") else "ifgo"}.get(
        cell, "rzn"
    )
    size = len(w["w_hh"]) // len(blocks)
    key, clip = options.get("key"), options.get("clip") or math.inf
    dropped = options.get("recurrent_dropout", 0.0) if key else 0.0
    mask = np.ones(len(h))
    for unit in range(len(h)) if dropped else ():
        word, _ = scalar_draws(key, 0xFFFFFFFF, row, unit, 1)
        mask[unit] = 0 if word < dropped * 2**32 else 1 / (1 - dropped)

    def split(a: Array) -> dict[str, Array]:
        return dict(zip(blocks, np.split(a, len(blocks)), strict=True))

    zeros = np.zeros(len(w["w_hh"]))
    b_ih, b_hh = (zeros if w[name] is None else w[name] for name in ("b_ih", "b_hh"))
    x = w["x"][t, row]
    a_x = normed(options, "ih", w["w_ih"][:, x] if np.ndim(x) == 0 else w["w_ih"] @ x) + b_ih
    a_h = normed(options, "hh", w["w_hh"] @ (h * mask)) + b_hh
    of_x, of_h, a = split(a_x), split(a_h), split(a_x + a_h)
    sigma = scalar_activation(options.get("gate_activation", "sigmoid"))
    phi = scalar_activation(options.get("activation", options.get("nonlinearity", "tanh")))

    def clipped(sums: Array) -> Array:
        return np.clip(sums, -clip, clip)

    c_t = None
    if cell == "rnn":
        fresh = phi(clipped(a["h"]))
    elif cell == "lstm":
        p = options.get("w_peephole")
        rows = {} if p is None else dict(zip(blocks.replace("g", ""), p, strict=True))

        def gate(k: str, cells: Any) -> Any:
            w_k = rows.get(k, np.zeros(size))
            return sigma(clipped(a[k] + (w_k * cells if w_k.ndim == 1 else w_k @ cells)))

        f = gate("f", c)
        i = gate("i", c) if "i" in a else 1 - f
        c_t = f * c + i * phi(clipped(a["g"]))
        if options.get("cell_clip"):
            c_t = np.clip(c_t, -options["cell_clip"], options["cell_clip"])
        fresh = gate("o", c_t) * phi(normed(options, "c", c_t))
        if options.get("w_hr") is not None:
            fresh = options["w_hr"] @ fresh
    elif cell == "mgu":
        f = sigma(clipped(a["f"]))
        product = split(w["w_hh"])["n"] @ (f * h * mask) + split(b_hh)["n"]
        fresh = (1 - f) * h + f * phi(clipped(of_x["n"] + product))
    else:
        r, z = sigma(clipped(a["r"])), sigma(clipped(a["z"]))
        product = r * of_h["n"]
        if cell == "gru_reset_before":
            product = split(w["w_hh"])["n"] @ (r * h * mask) + split(b_hh)["n"]
        fresh = (1 - z) * phi(clipped(of_x["n"] + product)) + z * h
    zoneout = options.get("zoneout", 0.0)
    p_h, p_c = zoneout if isinstance(zoneout, tuple) else (zoneout, zoneout)
    keeps_h, keeps_c = np.full(len(h), float(p_h)), np.full(size, float(p_c))
    if key and zoneout:
        for unit in range(len(keeps_h)):
            keeps_h[unit] = scalar_keeps(key, t, row, unit, p_h, p_c)[0]
        for unit in range(size):
            keeps_c[unit] = scalar_keeps(key, t, row, unit, p_h, p_c)[1]
    h_t = keeps_h * h + (1 - keeps_h) * fresh
    return h_t, None if c is None or c_t is None else keeps_c * c + (1 - keeps_c) * c_t


def check_equations(cell: str, problem: Problem) -> None:
    outputs = variant_forward(reference, problem)
    arrays, lengths = problem.arrays, problem.options["lengths"]
    seq_len, batch_size = arrays["x"].shape[:2]
    y = np.zeros_like(outputs["y"])
    cells = None if cell != "lstm" else np.zeros((seq_len, *arrays["c0"].shape))
    for row in range(batch_size):
        h, c = arrays["h0"][row], arrays["c0"][row] if cell == "lstm" else None
        times = range(seq_len if lengths is None else lengths[row])
        for t in reversed(times) if problem.options["reverse"] else times:
            h, c = row_step(cell, problem, row, t, h, c)
            y[t, row] = h
            if cells is not None:
                cells[t, row] = c
        np.testing.assert_allclose(outputs["h_n"][row], h, rtol=1e-12, atol=1e-14)
        if cell == "lstm":
            np.testing.assert_allclose(outputs["c_n"][row], c, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(outputs["y"], y, rtol=1e-12, atol=1e-14)
    if "cells" in outputs:
        np.testing.assert_allclose(outputs["cells"], cells, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("cell", "options"), SINGLES + PAIRS, ids=label)
def test_forward_is_the_equations(cell: str, options: dict[str, Any]) -> None:
    check_equations(cell, make_variant(cell, options, "float64", 5, 4, 2, 4))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("cell", FAMILIES)
def test_forward_of_every_activation(cell: str, name: str) -> None:
    names = ["nonlinearity"] if cell == "rnn" else ["activation", "gate_activation"]
    for argument in names:
        for given in (name, (name, 0.3), (name, 0.3, -0.2)):
            check_equations(cell, make_variant(cell, {argument: given}, "float64", 3, 2, 2, 3))


# Gradients against central differences of the sum of <output, its gradient>.


def loss(problem: Problem) -> float:
    outputs = variant_forward(reference, problem, save=False)
    total = 0.0
    for name, gradient in problem.incoming.items():
        valid = ~np.isnan(gradient)
        total += float(np.sum(outputs[name[1:]][valid] * gradient[valid]))
    return total


def difference(problem: Problem, name: str, direction: Array) -> float:
    """Derivative of the loss along a direction of one array.

    Two steps, so that the error is O(step**4): normalised rows of a few columns curve much.
    """
    array = float_arrays(problem)[name]

    def central(step: float) -> float:
        above, below = (
            loss(with_array(problem, name, array + sign * step * direction)) for sign in (1, -1)
        )
        return (above - below) / (2 * step)

    return (4 * central(DIFFERENCE_STEP / 2) - central(DIFFERENCE_STEP)) / 3


def check_entries(problem: Problem) -> None:
    gradients = variant_run(reference, problem)
    for name, array in float_arrays(problem).items():
        want = np.empty(array.shape)
        for k in np.ndindex(*array.shape):
            direction = np.zeros(array.shape)
            direction[k] = 1
            want[k] = difference(problem, name, direction)
        got = gradients[f"d{name}"]
        assert got is not None, name
        assert got.shape == array.shape
        error = relative_error(got, want)
        assert error <= DIFFERENCE_RELATIVE, f"d{name}: {error:.3g}"
        if name == "x":
            assert not got[np.isnan(array)].any(), "dx of padding"


@pytest.mark.parametrize(("cell", "options"), SINGLES, ids=label)
def test_every_entry_of_every_gradient(cell: str, options: dict[str, Any]) -> None:
    walk = {"reverse": SINGLES.index((cell, options)) % 2 == 1, "lengths": "zeros"}
    check_entries(make_variant(cell, options | walk, "float64", *TINY))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("cell", FAMILIES)
def test_gradients_of_every_activation(cell: str, name: str) -> None:
    names = ["nonlinearity"] if cell == "rnn" else ["activation", "gate_activation"]
    for argument in names:
        check_entries(make_variant(cell, {argument: (name, 0.3, 0.2)}, "float64", 3, 2, 2, 3))


@pytest.mark.parametrize(("cell", "options"), PAIRS, ids=label)
def test_gradients_of_any_two_options(cell: str, options: dict[str, Any]) -> None:
    problem = make_variant(cell, options, "float64", *TINY)
    gradients = variant_run(reference, problem)
    rng = np.random.default_rng(1)
    for name, array in float_arrays(problem).items():
        got = gradients[f"d{name}"]
        assert got is not None, name
        direction = rng.normal(size=array.shape)
        want = difference(problem, name, direction)
        along = float(np.sum(got * direction))
        # Rounding of the loss, relative to the whole gradient rather than to its projection.
        scale = float(np.linalg.norm(got)) * float(np.linalg.norm(direction))
        assert abs(along - want) <= DIFFERENCE_RELATIVE * scale, f"d{name}"
    # Gradients of arrays that were not given are None.
    given = {f"d{name}" for name in float_arrays(problem)}
    for name, array in gradients.items():
        if name.startswith("d") and not problem.options.get("tokens"):
            assert (array is None) == (name not in given), name


@pytest.mark.parametrize(("cell", "options"), PAIRS, ids=label)
def test_float32_checkpoints_and_saving_nothing(cell: str, options: dict[str, Any]) -> None:
    problem = make_variant(cell, options, "float32", 9, 4, 3, 6)
    got = variant_run(reference, problem)
    tape = got.pop("tape")
    states = variant_run(reference, problem, checkpoint=4)
    kept = states.pop("tape")
    assert kept.nbytes < tape.nbytes
    unsaved = variant_forward(reference, problem, save=False)
    assert unsaved.pop("tape") is None
    for name, array in (states | unsaved).items():
        assert_same_bits(array, got[name], name)
    want = variant_run(reference, variant_astype(problem, "float64"))
    limit = RELATIVE["float32"] * (LAYER_NORM if options.get("layer_norm") else 1)
    for name, array in got.items():
        assert_close(array, want[name], "float32", name, limit)


@pytest.mark.parametrize(("cell", "options"), SINGLES + PAIRS, ids=label)
def test_tape_layout(cell: str, options: dict[str, Any]) -> None:
    problem = make_variant(cell, options, "float64", *TINY)
    outputs = variant_forward(reference, problem)
    tape = outputs["tape"]
    sizes = {
        "rnn": 1,
        "gru": 4,
        "gru_reset_before": 3,
        "mgu": 2,
        "lstm": 4 - bool(options.get("coupled")),
    }
    assert tape.gates.shape == (*TINY[:2], sizes[cell] * TINY[3])
    assert (tape.h is not None) == tapes_h(tape.cell, tape.variant)
    if tape.h is not None:
        assert_same_bits(tape.h, outputs["y"])
    assert (tape.c is None) == (cell != "lstm")
    layer_norm = bool(options.get("layer_norm"))
    for name, columns in (("norm_ih", len(tape.w_hh)), ("norm_hh", len(tape.w_hh)), ("rstd", 2)):
        stored = getattr(tape, name)
        assert (stored is not None) == layer_norm
        assert stored is None or stored.shape == (*TINY[:2], columns)
        assert stored is None or not stored.flags.writeable
    if problem.options["lengths"] is not None:
        padding = np.arange(TINY[0])[:, None] >= problem.options["lengths"]
        for name in ("gates", "h", "c", "norm_ih", "norm_hh", "rstd"):
            stored = getattr(tape, name)
            assert stored is None or not stored[padding].any(), name
    sums = tapes_sums(tape.cell, tape.variant)
    assert sums == bool(
        (options.get("clip") and cell == "rnn")
        or options.get("activation", "tanh") != "tanh"
        or options.get("gate_activation", "sigmoid") != "sigmoid"
        or options.get("nonlinearity") == "elu"
    )


@pytest.mark.parametrize("cell", FAMILIES)
def test_options_at_their_plain_values_are_the_plain_cell(cell: str) -> None:
    plain = {name: values[0] for name, values in OPTIONS[cell].items()}
    outputs = variant_forward(reference, make_variant(cell, plain, "float32", *TINY))
    assert outputs["tape"].variant is None
    # No masks are drawn: recurrent dropout does nothing.
    problem = make_variant(cell, {"recurrent_dropout": 0.4}, "float32", *TINY)
    del problem.options["key"]
    assert variant_forward(reference, problem)["tape"].variant is None
