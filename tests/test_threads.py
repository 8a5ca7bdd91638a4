"""Threads, forks and Ctrl-C: none of them changes a bit, hangs or corrupts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers_ops import CELLS, DTYPES, Case, make, run
from helpers_script import check_script
from tolerances import assert_same_bits

import pyrnn
from pyrnn import ops

# One row over many units, a few rows, enough rows for each thread to have its own; as many, but
# of weights that threads share out; one step.
SHAPES = (  # T, B, I, H
    (20, 1, 64, 256),
    (9, 1, 16, 130),
    (11, 2, 33, 96),
    (12, 3, 20, 65),
    (10, 5, 31, 128),
    (6, 8, 48, 200),
    (7, 16, 9, 33),
    (8, 33, 24, 64),
    (5, 67, 12, 40),
    (300, 6, 8, 16),
    (4, 14, 136, 208),
    (3, 20, 512, 512),
    (1, 1, 64, 256),
    (1, 5, 300, 130),
    (1, 40, 64, 96),
)


@pytest.fixture(autouse=True)
def _on_the_kernels() -> Iterator[None]:
    with pyrnn.backend("kernels"):
        yield


def results(case: Case) -> dict[str, Any]:
    return run(ops, make(case))


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("lengths", [None, "zeros"], ids=["", "ragged"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_any_number_of_threads_gives_the_same_bits(
    cell: str, dtype: str, shape: tuple[int, ...], lengths: str | None
) -> None:
    options = {"lengths": lengths, "reverse": lengths is not None, "tokens": shape[1] == 3}
    case = Case(cell, dtype, *shape, **options)
    pyrnn.set_num_threads(1)
    want = results(case)
    for threads in (2, 3, 4):
        pyrnn.set_num_threads(threads)
        assert pyrnn.get_num_threads() == threads
        for name, array in results(case).items():
            assert_same_bits(array, want[name], f"{threads} threads, {name}")


@pytest.mark.usefixtures("threads_whatever_the_load")
def test_one_row_that_is_much_longer_than_the_others() -> None:
    for cell in CELLS:
        problem = make(Case(cell, "float32", 40, 24, 8, 32, lengths="full"))
        problem.options["lengths"] = np.array([40] + [1] * 22 + [0])
        pyrnn.set_num_threads(1)
        want = run(ops, problem)
        for threads in (2, 3, 4):
            pyrnn.set_num_threads(threads)
            for name, array in run(ops, problem).items():
                assert_same_bits(array, want[name], name)


@pytest.mark.parametrize("bad", [0, -1])
def test_number_of_threads_out_of_range(bad: int) -> None:
    before = pyrnn.get_num_threads()
    with pytest.raises(ValueError, match=r"^n: expected .+, got (0|-1)"):
        pyrnn.set_num_threads(bad)
    assert pyrnn.get_num_threads() == before


def test_many_python_threads_at_once() -> None:
    cases = [
        Case(cell, dtype, 9 + k, 1 + 7 * k, 11, 48, lengths="ragged" if k % 2 else None)
        for k, (cell, dtype) in enumerate((c, d) for c in CELLS for d in DTYPES)
    ]
    wants = [results(case) for case in cases]
    start = threading.Barrier(8)

    def work(first: int) -> None:
        start.wait(30)
        for k in range(first, first + 3 * len(cases)):
            case, want = cases[k % len(cases)], wants[k % len(cases)]
            with pyrnn.backend("kernels"):
                got = results(case)
            for name, array in got.items():
                assert_same_bits(array, want[name], f"{case}, {name}")

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, first) for first in range(8)]:
            future.result(timeout=120)


def test_the_call_lets_other_python_threads_run() -> None:
    problem = make(Case("lstm", "float32", 400, 16, 64, 256))
    done = threading.Event()
    ticks = 0

    def call() -> None:
        with pyrnn.backend("kernels"):
            for _ in range(3):
                run(ops, problem)
        done.set()

    thread = threading.Thread(target=call)
    thread.start()
    while not done.wait(0.001):
        ticks += 1
    thread.join()
    assert ticks >= 20


FORK = """
    import multiprocessing, sys, threading
    import numpy as np
    from helpers_ops import Case, make, run
    import pyrnn

    problems = [
        make(Case(cell, "float32", 20, rows, 64, 192))
        for cell in ("lstm", "gru", "rnn_tanh") for rows in (1, 40)
    ]

    def child(pipe):
        for _ in range(3):
            results = [run(pyrnn.ops, problem) for problem in problems]
        pipe.send([{k: v for k, v in r.items() if v is not None} for r in results])

    def fork_and_compare():
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs,))
        process.start()
        assert ours.poll(30), "the child hangs"
        for got, want in zip(ours.recv(), wants):
            for name, array in got.items():
                assert array is None or array.tobytes() == want[name].tobytes(), name
        process.join(30)
        assert process.exitcode == 0, process.exitcode
"""

fork_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@fork_only
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_forked_child_computes(threads: int) -> None:
    code = f"""
    pyrnn.set_num_threads({threads})
    wants = [run(pyrnn.ops, problem) for problem in problems]
    fork_and_compare()
    fork_and_compare()
    again = [run(pyrnn.ops, problem) for problem in problems]
    for got, want in zip(again, wants):
        for name, array in got.items():
            assert array is None or array.tobytes() == want[name].tobytes(), name
    """
    check_script(FORK + code, timeout=90)


@fork_only
def test_a_child_forked_during_a_call_computes() -> None:
    code = """
    pyrnn.set_num_threads(2)
    wants = [run(pyrnn.ops, problem) for problem in problems]
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            run(pyrnn.ops, problems[0])

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(3):
            fork_and_compare()
    finally:
        stop.set()
        thread.join()
    """
    check_script(FORK + code, timeout=90)


@fork_only
def test_a_pool_of_processes() -> None:
    code = """
    wants = [run(pyrnn.ops, problem) for problem in problems]

    def y(k):
        return run(pyrnn.ops, problems[k])["y"].tobytes()

    with multiprocessing.get_context("fork").Pool(3) as pool:
        got = pool.map_async(y, range(len(problems))).get(60)
    assert got == [want["y"].tobytes() for want in wants]
    """
    check_script(FORK + code, timeout=90)


# A call of 2 seconds or more on any machine: the number of steps is found by doubling. Backward
# takes at least twice as long as forward.
INTERRUPT = """
    import time
    import numpy as np
    from helpers_ops import Case, backward, forward, make
    from helpers_script import seconds_to_interrupt
    from pyrnn import ops
    import pyrnn

    pyrnn.set_num_threads({threads})
    small = make(Case("lstm", "float32", 9, 5, 7, 11))
    want = backward(ops, small, forward(ops, small)["tape"])

    def problem(steps):
        return make(Case("lstm", "float32", steps, {rows}, 1, {hidden}, tokens=True))

    def seconds(steps):
        long = problem(steps)
        start = time.perf_counter()
        forward(ops, long, save={backward})
        return time.perf_counter() - start

    steps = 64
    while (took := seconds(steps)) < 0.2:
        steps *= 2
    long = problem(int(steps * {seconds} / took))
    call = lambda: forward(ops, long, save=False)
    if {backward}:
        tape = forward(ops, long)["tape"]
        call = lambda: backward(ops, long, tape)

    print(seconds_to_interrupt(call))
    got = backward(ops, small, forward(ops, small)["tape"])
    for name, array in want.items():
        assert array is None or array.tobytes() == got[name].tobytes(), name
    assert np.isfinite(forward(ops, problem(64))["y"]).all()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGINT to send")
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("threads", "rows", "hidden"), [(1, 1, 1024), (2, 1, 512), (2, 32, 256)])
def test_ctrl_c(threads: int, rows: int, hidden: int, direction: str) -> None:
    code = INTERRUPT.format(
        threads=threads,
        rows=rows,
        hidden=hidden,
        backward=direction == "backward",
        seconds=1 if direction == "backward" else 2,
    )
    delay = float(check_script(code, timeout=120))
    assert delay < 1, f"KeyboardInterrupt came after {delay:.2f} s"


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGINT to send")
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_ctrl_c_of_linear(direction: str) -> None:
    code = f"""
    import time
    import numpy as np
    from helpers_script import seconds_to_interrupt
    import pyrnn

    pyrnn.set_num_threads(1)
    layer = pyrnn.Linear(4096, 4096, rng=0)

    def call_of(rows):
        x = np.ones((rows, 4096), np.float32)
        if {direction!r} == "forward":
            return lambda: layer(x)
        y, tape = layer.forward(x)
        return lambda: layer.backward(tape, y)

    short = call_of(256)
    start = time.perf_counter()
    short()
    print(seconds_to_interrupt(call_of(int(256 * 2 / (time.perf_counter() - start)))))
    """
    delay = float(check_script(code, timeout=120))
    assert delay < 1, f"KeyboardInterrupt came after {delay:.2f} s"


def test_ctrl_c_before_a_call_is_not_lost() -> None:
    code = """
    import os, signal
    from helpers_ops import Case, make, run
    from pyrnn import ops
    problem = make(Case("gru", "float32", 5, 2, 3, 4))
    for _ in range(200):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            run(ops, problem)
        except KeyboardInterrupt:
            continue
        raise SystemExit("lost")
    """
    check_script(code)


def test_a_process_that_has_computed_exits() -> None:
    code = "from helpers_ops import *; run_kernels(Case('lstm', 'float32', 9, 40, 8, 64))"
    try:
        check_script(code, timeout=30)
    except subprocess.TimeoutExpired as error:
        raise AssertionError("the process hangs at its end") from error
