"""Kept weights: the bits of a call without them, packed anew only for other bits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
from helpers_ops import CELLS, DTYPES, Case, Problem, make, run
from helpers_script import check_script
from helpers_variants import float_arrays, make_variant, single, variant_run, with_array
from tolerances import assert_same_bits

import pyrnn
from pyrnn import _core, dispatch, ops
from pyrnn._core import KeptWeights

WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")
# One step, few and many rows, by units and by rows of a batch; of 40 and 256 units.
CALLS = [(5, 4), (1, 3), (1, 1), (9, 1), (6, 33), (0, 2), (2, 0), (3, 70), (40, 1)]


@pytest.fixture(autouse=True)
def _on_the_kernels() -> Iterator[None]:
    with pyrnn.backend("kernels"):
        yield


@contextmanager
def keeping(kept: KeptWeights | None) -> Iterator[None]:
    """The operations with these weights, as layers have them for one call each."""
    with (
        mock.patch.object(dispatch, "forward", partial(dispatch.forward, kept=kept)),
        mock.patch.object(dispatch, "backward", partial(dispatch.backward, kept=kept)),
    ):
        yield


def assert_same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name, array in want.items():
        if isinstance(array, np.ndarray):
            assert_same_bits(got[name], array, name)


def calls_of(cell: str, dtype: str, hidden_size: int) -> list[Problem]:
    """Calls of many shapes on the same weights."""
    made = [make(Case(cell, dtype, T, B, 7, hidden_size)) for T, B in CALLS]
    weights = {name: made[0].arrays[name] for name in WEIGHTS}
    return [replace(one, arrays=one.arrays | weights) for one in made]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("hidden_size", [19, 130])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_calls_of_many_shapes(cell: str, dtype: str, hidden_size: int, threads: int) -> None:
    """Whichever call packs, any other can go on with what it packed."""
    pyrnn.set_num_threads(threads)
    problems = calls_of(cell, dtype, hidden_size)
    wants = [run(ops, problem) for problem in problems]
    for first in range(len(problems)):
        kept = KeptWeights()
        order = [first, *range(len(problems))]
        with keeping(kept):
            for k in order if hidden_size == 19 else order[:3]:
                assert_same(run(ops, problems[k]), wants[k])
        assert kept.packs == (1, 1)


@pytest.mark.parametrize(
    ("cell", "options"),
    [(cell, options) for cell in ("rnn", "gru", "lstm") for options in single(cell)],
)
def test_variants(cell: str, options: dict[str, Any]) -> None:
    problem = make_variant(cell, options, "float32", 6, 5, 4, 18)
    want = variant_run(ops, problem)
    kept = KeptWeights()
    for _ in range(3):
        with keeping(kept):
            assert_same(variant_run(ops, problem), want)
    assert kept.packs == (1, 1)


@pytest.mark.parametrize(
    "options",
    [{}, {"peephole": "full"}, {"proj_size": 7}, {"layer_norm": True}, {"peephole": "diagonal"}],
    ids=str,
)
def test_a_change_of_any_array_counts(options: dict[str, Any]) -> None:
    problem = make_variant("lstm", options, "float32", 6, 5, 4, 18)
    kept = KeptWeights()
    with keeping(kept):
        variant_run(ops, problem)
    others = ("x", "h0", "c0", "w_peephole") if options.get("peephole") == "diagonal" else (
        "x", "h0", "c0")  # fmt: skip
    packs = 1
    for name, array in float_arrays(problem).items():
        changed = array.copy()
        # The last value of all: it is beside the padding.
        changed.reshape(-1)[-1] = np.nextafter(changed.reshape(-1)[-1], np.float32(9))
        other = with_array(problem, name, changed)
        want = variant_run(ops, other)
        with keeping(kept):
            assert_same(variant_run(ops, other), want)
            if not (name in others or name.startswith("ln_c")):
                packs += 1
            assert kept.packs == (packs, packs), name
        problem = other


def test_one_object_for_layers_of_all_sorts() -> None:
    """It keeps the last."""
    kept = KeptWeights()
    cases = [Case(cell, dtype, 4, 3, 5, 9) for cell in CELLS for dtype in DTYPES]
    cases += [Case("lstm", "float32", 4, 3, 9, 5), Case("lstm", "float32", 4, 3, 200, 65)]
    variants = [
        make_variant("lstm", options, "float32", 4, 3, 5, 9)
        for options in ({"peephole": "full"}, {"proj_size": 2}, {"layer_norm": True}, {})
    ]
    problems = [*map(make, cases), *variants]
    for n, problem in enumerate([*problems, *reversed(problems)], 1):
        want = variant_run(ops, problem)
        with keeping(kept):
            assert_same(variant_run(ops, problem), want)
            # The last and the first of both turns are the same.
            assert kept.packs[0] == n - (n > len(problems))


def test_tokens_do_without() -> None:
    kept = KeptWeights()
    problem = make(Case("gru", "float32", 3, 2, 500, 19, tokens=True))
    want = run(ops, problem)
    with keeping(kept):
        assert_same(run(ops, problem), want)
    assert kept.packs == (0, 0)


def test_a_long_input_in_chunks_packs_once() -> None:
    kept = KeptWeights()
    problem = make(Case("lstm", "float32", 9000, 2, 3, 4))
    problem.arrays["x"] = np.asfortranarray(problem.arrays["x"])  # to be converted, chunk by chunk
    want, *_ = ops.lstm_forward(*problem.arrays.values(), save=False)
    with keeping(kept):
        y, *_ = ops.lstm_forward(*problem.arrays.values(), save=False)
    assert_same_bits(y, want, "y")
    assert kept.packs == (1, 0)


def test_threads_share_an_object() -> None:
    """Some on the same weights, some on others: each has the bits of its own."""
    pyrnn.set_num_threads(1)
    base = make(Case("lstm", "float32", 6, 3, 40, 48))
    changed = with_array(base, "w_hh", base.arrays["w_hh"] * 2)
    problems = [base, base, changed, base]
    wants = [run(ops, problem) for problem in problems]
    kept = KeptWeights()
    wrong: list[Any] = []

    def work(k: int) -> None:
        try:
            for _ in range(200):
                assert_same(run(ops, problems[k]), wants[k])
        except BaseException as error:  # to be raised in the test
            wrong.append(error)

    with keeping(kept):
        threads = [threading.Thread(target=work, args=(k,)) for k in range(len(problems))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, wrong[0]
        # Nobody holds it any more: it is packed once, and then read.
        run(ops, base), run(ops, base)
        before = kept.packs
        run(ops, base)
        assert kept.packs == before
        run(ops, changed)
        assert kept.packs == (before[0] + 1, before[1] + 1)


def test_side_by_side() -> None:
    """Each pass with its own, an object twice in one call, and one without."""
    cell, dtype = "gru", "float32"
    problems = [make(Case(cell, dtype, 5, 3, 4, 6, reverse=bool(k % 2))) for k in range(4)]

    def forward(objects: list[KeptWeights | None]) -> Any:
        arguments = [
            (p.arrays["x"], p.arrays["h0"], None, *(p.arrays[name] for name in WEIGHTS), None,
             p.options["reverse"], kept)
            for p, kept in zip(problems, objects, strict=True)
        ]  # fmt: skip
        return _core.forward_side_by_side(cell, arguments, None, True)

    wants = forward([None] * 4)
    first, second = KeptWeights(), KeptWeights()
    for _ in range(3):
        for got, want in zip(forward([first, second, first, None]), wants, strict=True):
            for a, b in zip((*got[:2], *got[4][:2]), (*want[:2], *want[4][:2]), strict=True):
                assert_same_bits(a, b)
    assert second.packs == (1, 0)
    assert first.packs[0] >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGINT to send")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_ctrl_c_leaves_nothing_half_packed(direction: str, threads: int) -> None:
    """Of two layers that run one after the other the second never comes to pack its weights."""
    code = f"""
    import time
    import numpy as np
    from helpers_script import seconds_to_interrupt
    import pyrnn
    from pyrnn._core import KeptWeights

    pyrnn.set_num_threads({threads})
    backward = {direction == "backward"}
    # So wide that the first layer is at its first chunk of steps when Ctrl-C comes.
    layer = pyrnn.LSTM(8, 1200, 2, rng=0)

    def x_of(steps):
        return np.random.default_rng(1).normal(size=(steps, 1, 8)).astype("float32")

    def run(x, kept):
        layer._kept = None
        y, _, tape = layer.forward(x)
        if not backward:
            layer._kept = kept
            return lambda: layer(x)
        def call():
            layer._kept = kept
            grads = layer.backward(tape, np.ones_like(y))
            return grads.x, grads.params["weight_hh_l1"]
        return call

    def seconds(steps):
        call = run(x_of(steps), None)
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    steps = 64
    while (took := seconds(steps)) < 0.2:
        steps *= 2
    short, long = x_of(8), x_of(int(steps * 3 / took))
    kept = [KeptWeights(), KeptWeights()]
    # Others were packed before; the call that is to pack these is cut off in its first layer.
    run(short, kept)()
    layer.params["weight_hh_l0"][...] *= 0.5
    layer.params["weight_hh_l1"][...] *= 0.5
    before = [one.packs[backward] for one in kept]
    seconds_to_interrupt(run(long, kept))
    assert [one.packs[backward] for one in kept] == before, kept
    want = run(short, None)()
    got = run(short, kept)()
    for a, b in zip(got, want):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert [one.packs[backward] for one in kept] == [n + 1 for n in before]
    """
    check_script(code, timeout=120)
