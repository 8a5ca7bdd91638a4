"""How much memory a tape holds, and that calls leave nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from helpers_ops import CELLS, DTYPES, Case, forward, make
from helpers_script import check_script

import pyrnn
from pyrnn import ops

# Values per step, row and unit.
TAPED = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 5, "gru_reset_before": 4, "mgu": 3, "lstm": 5}


@pytest.fixture(autouse=True)
def _on_the_kernels() -> Iterator[None]:
    with pyrnn.backend("kernels"):
        yield


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_size_of_the_tape(cell: str, dtype: str) -> None:
    for tokens in (False, True):
        tape = forward(ops, make(Case(cell, dtype, 7, 5, 3, 11, tokens=tokens)))["tape"]
        assert tape.nbytes == TAPED[cell] * 7 * 5 * 11 * tape.dtype.itemsize
        assert tape.dtype == dtype
    with pyrnn.backend("reference"):
        tape = forward(ops, make(Case(cell, dtype, 7, 5, 3, 11)))["tape"]
        assert tape.nbytes == TAPED[cell] * 7 * 5 * 11 * tape.dtype.itemsize


linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="peak memory is read as Linux gives it"
)

PEAK = """
    import random, resource
    import numpy as np
    from helpers_ops import CELLS, Case, backward, forward, make
    from pyrnn import ops
    import pyrnn

    def peak():  # MiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def train(*options, **more):
        problem = make(Case(*options, **more))
        backward(ops, problem, forward(ops, problem)["tape"])
"""


@pytest.mark.parametrize("rows", [8, 40, 600])
@pytest.mark.parametrize("way", ["layer", "frozen", "forward"])
def test_results_of_many_values_begin_on_a_cache_line(way: str, rows: int) -> None:
    """Two threads would share the line where the rows of one end and those of another begin."""
    layer = pyrnn.LSTM(5, 64, rng=0)
    call = {"layer": layer, "frozen": layer.freeze(), "forward": layer.forward}[way]
    kept = []  # so that each array is somewhere else
    for steps in range(1, 20):
        x = np.zeros((steps, rows, 5), "float32")
        kept.append(call(x))
        y, state, *_ = kept[-1]
        for array in (y, *state):
            assert array.nbytes >= 2048
            assert array.ctypes.data % 64 == 0
            array[...] = 1  # it is the caller's


@linux
def test_a_thousand_shapes_leave_the_peak_where_the_largest_left_it() -> None:
    code = """
    draw = random.Random(3)
    pyrnn.set_num_threads(2)
    largest = (60, 40, 60, 100)
    for _ in range(3):
        for cell in CELLS:
            for lengths in (None, "ragged"):
                train(cell, "float64", *largest, lengths=lengths)
    before = peak()
    for k in range(1000):
        shape = [draw.randint(1, most) for most in largest]
        train(draw.choice(CELLS), draw.choice(["float32", "float64"]), *shape,
              lengths=draw.choice([None, "ragged"]), reverse=draw.random() < 0.5,
              tokens=draw.random() < 0.2)
    print(peak() - before)
    """
    grown = float(check_script(PEAK + code, timeout=120))
    assert grown < 8, f"the peak grew by {grown:.1f} MiB"


@linux
def test_interrupted_and_refused_calls_leave_nothing_behind() -> None:
    code = """
    import signal
    problem = make(Case("lstm", "float32", 5000, 8, 8, 192, tokens=True))
    bad = problem.copy()
    bad.arrays["w_hh"] = bad.arrays["w_hh"][:, :-1]
    interrupts = 0

    def interrupt(*_):
        raise KeyboardInterrupt

    def attempt(count):
        global interrupts
        for _ in range(count):
            try:
                forward(ops, bad)
            except ValueError:
                pass
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                forward(ops, problem)
            except KeyboardInterrupt:
                interrupts += 1

    signal.signal(signal.SIGALRM, interrupt)
    pyrnn.set_num_threads(1)
    forward(ops, problem)
    attempt(3)
    before = peak()
    attempt(17)
    assert interrupts == 20, interrupts
    print(peak() - before)
    """
    grown = float(check_script(PEAK + code, timeout=60))
    assert grown < 8, f"the peak grew by {grown:.1f} MiB"


@linux
def test_many_python_threads_that_end_give_their_scratch_back() -> None:
    code = """
    import threading
    problem = make(Case("lstm", "float32", 4, 4, 512, 512))

    def spawn(count):
        for _ in range(count):
            thread = threading.Thread(target=forward, args=(ops, problem))
            thread.start()
            thread.join()

    pyrnn.set_num_threads(1)
    spawn(5)
    before = peak()
    spawn(60)
    print(peak() - before)
    """
    grown = float(check_script(PEAK + code, timeout=60))
    # If kept, the packed weights alone would be 60 times 8 MiB; malloc's arenas keep a few.
    assert grown < 120, f"the peak grew by {grown:.1f} MiB"
