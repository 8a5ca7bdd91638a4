"""Stacked and bidirectional layers on many threads, busy machines, and limits on threads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from helpers_layers import KINDS, PLAIN_KINDS, flat
from helpers_script import check_script
from tolerances import assert_same_bits

import pyrnn


@pytest.fixture
def threads_of_the_kernels(threads_whatever_the_load: None) -> Iterator[None]:
    with pyrnn.backend("kernels"):
        yield


def problem(layer: Any, steps: int, rows: int, tokens: bool) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(steps + rows)
    size, count = layer.hidden_size, layer.num_layers * (2 if layer.bidirectional else 1)
    x = rng.integers(0, layer.input_size, (steps, rows))
    if not tokens:
        x = rng.normal(size=(steps, rows, layer.input_size)).astype(layer.dtype)
    parts = [rng.normal(size=(count, rows, size)).astype(layer.dtype) for _ in range(2)]
    width = size * (2 if layer.bidirectional else 1)
    dy = rng.normal(size=(steps, rows, width)).astype(layer.dtype)
    return x, tuple(parts) if isinstance(layer, pyrnn.LSTM) else parts[0], dy


def outcome(layer: Any, x: Any, state: Any, dy: Any, lengths: Any) -> dict[str, Any]:
    y, last, tape = layer.forward(x, state, lengths)
    grads = layer.backward(tape, dy, last)
    plain = layer(x, state, lengths)
    found = {"trained": (y, last), "inferred": plain, "params": grads.params, "dstate": grads.state}
    return dict(flat(found | ({} if grads.x is None else {"dx": grads.x})))


# Steps, rows, inputs, units: in chunks of a wavefront and without them, by rows and by units.
SHAPES = ((97, 1, 12, 32), (130, 2, 9, 65), (100, 5, 16, 40), (40, 9, 8, 64), (33, 17, 20, 33))


@pytest.mark.usefixtures("threads_of_the_kernels")
@pytest.mark.parametrize("lengths", [False, True], ids=["", "ragged"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("stack", [(2, False), (3, False), (4, False), (1, True), (2, True)])
@pytest.mark.parametrize("kind", PLAIN_KINDS)
def test_any_number_of_threads_gives_the_same_bits(
    kind: str, stack: tuple[int, bool], shape: tuple[int, ...], lengths: bool
) -> None:
    steps, rows, inputs, units = shape
    cls, fixed = KINDS[kind]
    layer = cls(inputs, units, stack[0], bidirectional=stack[1], rng=0, **fixed)
    given = problem(layer, steps, rows, tokens=rows == 2)
    limits = np.random.default_rng(0).integers(0, steps + 1, rows) if lengths else None
    pyrnn.set_num_threads(1)
    want = outcome(layer, *given, limits)
    for threads in (2, 3, 4):
        pyrnn.set_num_threads(threads)
        got = outcome(layer, *given, limits)
        assert got.keys() == want.keys()
        for name, array in got.items():
            assert_same_bits(array, want[name], f"{threads} threads, {name}")


@pytest.mark.usefixtures("threads_of_the_kernels")
@pytest.mark.parametrize("stack", [(3, False), (2, True)])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in PLAIN_KINDS])
def test_variants_on_two_threads_give_the_same_bits(kind: str, stack: tuple[int, bool]) -> None:
    cls, fixed = KINDS[kind]
    layer = cls(9, 40, stack[0], bidirectional=stack[1], rng=0, **fixed)
    given = problem(layer, 20, 3, tokens=False)
    pyrnn.set_num_threads(1)
    want = outcome(layer, *given, [20, 0, 13])
    pyrnn.set_num_threads(2)
    for name, array in outcome(layer, *given, [20, 0, 13]).items():
        assert_same_bits(array, want[name], name)


@pytest.mark.usefixtures("threads_of_the_kernels")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_side_by_side_is_one_after_the_other(bidirectional: bool) -> None:
    """The layers' passes against single operations, each on its own."""
    layer = pyrnn.LSTM(12, 32, 1 if bidirectional else 3, bidirectional=bidirectional, rng=0)
    x, (h, c), _ = problem(layer, 120, 4, tokens=False)
    pyrnn.set_num_threads(2)
    got = layer(x, (h, c))[0]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    halves, below = [], x
    for k in range(len(h)):
        suffix = f"_l0{'_reverse' * k}" if bidirectional else f"_l{k}"
        weights = [layer.params[name + suffix] for name in names]
        reverse = bidirectional and k == 1
        y = pyrnn.ops.lstm_forward(below, h[k], c[k], *weights, reverse=reverse)[0]
        halves.append(y)
        below = below if bidirectional else y
    want = np.concatenate(halves, axis=2) if bidirectional else halves[-1]
    assert_same_bits(got, want, "y")


STACK = """
    import os, signal, sys, threading, time
    import numpy as np
    import pyrnn
    pyrnn.set_num_threads(2)
    layer = pyrnn.LSTM(64, {units}, {layers}, bidirectional={bidirectional}, rng=0)
    x = np.zeros(({steps}, {rows}, 64), "float32")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGINT to send")
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("layers", "bidirectional"), [(2, False), (1, True)])
def test_ctrl_c(layers: int, bidirectional: bool, backward: bool) -> None:
    code = STACK.format(units=64, layers=layers, bidirectional=bidirectional, steps=20000, rows=8)
    code += f"""
    small = x[:200]
    y, state, tape = layer.forward(x) if {backward} else layer.forward(small)
    want = layer(small)[0].tobytes()
    sent = []

    def interrupt():
        time.sleep(0.1)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        while True:
            layer.backward(tape, y) if {backward} else layer(x)
    except KeyboardInterrupt:
        print(time.perf_counter() - sent[0])
    assert layer(small)[0].tobytes() == want
    """
    assert float(check_script(code, timeout=120)) < 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(("layers", "bidirectional"), [(3, False), (1, True)])
def test_a_forked_child_computes(layers: int, bidirectional: bool) -> None:
    code = STACK.format(units=64, layers=layers, bidirectional=bidirectional, steps=200, rows=2)
    code += """
    import multiprocessing

    def y(_):
        return layer(x)[0].tobytes()

    want = y(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        got = pool.map_async(y, range(4)).get(60)
    assert got == [want] * 4
    """
    check_script(code, timeout=120)


# --- limits --------------------------------------------------------------------------------------

LIMITED = """
    import os
    import numpy as np, pyrnn
    layer = pyrnn.LSTM(64, 128, 3, rng=0)
    x = np.zeros((200, 2, 64), "float32")
    layer.backward(layer.forward(x)[2], np.ones((200, 2, 128), "float32"))
    print(pyrnn.get_num_threads(), len(os.listdir("/proc/self/task")))
"""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")


@linux_only
@pytest.mark.parametrize(
    ("environment", "want"),
    [
        ({"OMP_NUM_THREADS": "1"}, "1 1"),
        ({"OMP_NUM_THREADS": "3"}, "3 3"),
        ({"OMP_NUM_THREADS": "3,2"}, "3 3"),
        ({}, "2 2"),
        ({"OMP_THREAD_LIMIT": "1"}, "1 1"),
        ({"OMP_THREAD_LIMIT": "2", "OMP_NUM_THREADS": "4"}, "2 2"),
    ],
    ids=str,
)
def test_the_environment_says_how_many_threads(environment: dict[str, str], want: str) -> None:
    others = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "2", "OMP_THREAD_LIMIT": "9"}
    assert check_script(LIMITED, environment=others | environment).split() == want.split()


@pytest.mark.skipif(pyrnn._core.config()["openmp"] == "none", reason="nothing that it could limit")
@pytest.mark.parametrize("api", [None, "openmp"])
@pytest.mark.parametrize("chosen", [None, 2])
def test_threadpoolctl_limits(api: str | None, chosen: int | None) -> None:
    if chosen is not None:
        pyrnn.set_num_threads(chosen)
    before = pyrnn.get_num_threads()
    with threadpoolctl.threadpool_limits(1, user_api=api):
        assert pyrnn.get_num_threads() == 1
    assert pyrnn.get_num_threads() == before


def test_a_call_changes_nothing_for_others() -> None:
    layer = pyrnn.GRU(16, 96, 2, bidirectional=True, rng=0)
    before = threadpoolctl.threadpool_info()
    pyrnn.set_num_threads(2)
    layer(np.zeros((50, 2, 16), "float32"))
    assert threadpoolctl.threadpool_info() == before


# --- cores far apart -----------------------------------------------------------------------------


two_processors = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")


def work_of_others(call: Any, latency: int) -> float:
    """Processor time of all other threads over that of the caller, in a call that takes a word to
    be so many nanoseconds on its way between them.
    """
    time.sleep(0.01)  # until those of the call before are asleep
    pyrnn._core.note_latency(latency)
    of_all, own = time.process_time(), time.thread_time()
    call()
    own = time.thread_time() - own
    return (time.process_time() - of_all - own) / own


@two_processors
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_few_units_stay_on_one_thread_where_cores_are_far_apart(cell: str) -> None:
    pyrnn.set_num_threads(2)
    frozen = getattr(pyrnn, cell)(64, 64, rng=0).freeze()
    x = np.zeros((10_000, 1, 64), "float32")
    frozen(x)
    # A call beside a busy process has one thread too, for a while.
    assert any(work_of_others(lambda: frozen(x), 20) > 0.5 for _ in range(100))
    assert np.median([work_of_others(lambda: frozen(x), 1000) for _ in range(5)]) < 0.1


@two_processors
def test_calls_on_several_threads_measure_how_far_apart_they_are() -> None:
    pyrnn.set_num_threads(2)
    layer = pyrnn.LSTM(256, 256, rng=0)
    x = np.zeros((20, 1, 256), "float32")
    pyrnn._core.note_latency(0)
    for _ in range(200):  # both threads have to be there at once
        time.sleep(0.011)
        layer(x)
        if pyrnn._core.latency() > 0:
            break
    assert 0 < pyrnn._core.latency() < 20_000


@pytest.mark.usefixtures("threads_whatever_the_load")
def test_where_the_load_is_not_heeded_threads_are_as_near_as_any() -> None:
    pyrnn._core.note_latency(1000)
    assert pyrnn._core.latency() == 0


# --- a busy machine ------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processors cannot be chosen")
def test_a_busy_machine_costs_no_more_than_one_thread() -> None:
    """One busy process on each processor; without a remedy such a call takes hundreds of ms."""
    rng = np.random.default_rng(0)
    layer = pyrnn.LSTM(128, 128, rng=rng)
    x = rng.normal(size=(100, 1, 128)).astype("float32")
    loop = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    busy = [
        subprocess.Popen([sys.executable, "-c", loop, str(cpu)]) for cpu in os.sched_getaffinity(0)
    ]
    try:
        time.sleep(0.5)
        taken: dict[int, list[float]] = {1: [], 2: []}
        start = time.perf_counter()
        while time.perf_counter() - start < 5:
            for threads, times in taken.items():
                pyrnn.set_num_threads(threads)
                one = time.perf_counter()
                layer(x)
                times.append(time.perf_counter() - one)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert len(taken[2]) >= 10
    assert np.median(taken[2]) < 2 * np.median(taken[1])
