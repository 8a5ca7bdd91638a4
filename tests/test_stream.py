"""Streams: each step gives the bits of the layer's forward over the sequence."""

from __future__ import annotations

import doctest
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers_layers import KINDS, assert_all_same, build, inputs, states_of
from helpers_script import check_script
from tolerances import assert_same_bits

import pyrnn
from pyrnn import _stream

DTYPES = ("float32", "float64")


def random_layer(kind: str, input_size: int, hidden_size: int, dtype: str, **options: Any) -> Any:
    cls, fixed = KINDS[kind]
    return cls(input_size, hidden_size, dtype=dtype, rng=hidden_size, **fixed, **options)


def stepped(stream: Any, x: Any) -> Any:
    return np.stack([stream.step(x_t) for x_t in x])


# I, H, B: around the widths of vectors and panels, more rows than stand on the stack at once, and
# sizes that two threads share.
SIZES = [(3, 1, 1), (1, 7, 2), (16, 15, 3), (17, 16, 1), (33, 17, 5), (5, 33, 65), (70, 64, 1),
         (64, 65, 4), (256, 192, 1)]  # fmt: skip


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_steps_are_the_sequence(kind: str, dtype: str, size: tuple[int, int, int]) -> None:
    input_size, hidden_size, batch_size = size
    for options in ({}, {"num_layers": 3, "bias": False}):
        layer = random_layer(kind, input_size, hidden_size, dtype, **options)
        frozen = layer.freeze(dtype)
        for threads in (1, 2):
            pyrnn.set_num_threads(threads)
            for tokens in (False, True):
                x, state = inputs(layer, 3, batch_size, tokens=tokens)
                stream = frozen.stream(batch_size)
                for given in (None, state):
                    y, last = layer(x, given)
                    stream.reset(given)
                    assert_same_bits(stepped(stream, x), y)
                    assert_all_same(stream.state, last)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_batch(kind: str) -> None:
    layer = build(kind, dtype="float32", num_layers=2)
    stream = layer.freeze().stream()
    x, state = inputs(layer, 5, unbatched=True)
    y, last = layer(x, state)
    stream.reset(state)
    assert_same_bits(stepped(stream, x), y)
    assert [s[:, 0].tolist() for s in states_of(stream.state)] == [
        s.tolist() for s in states_of(last)
    ]
    assert stream.step(x[0]).shape == (4,)
    assert stream.step(x[:1]).shape == (1, 4)


def test_kinds_of_one_token() -> None:
    layer = build("gru", dtype="float32")
    frozen = layer.freeze()
    y, _ = layer([2, 1])
    for two, one in (
        (2, 1),
        (np.int32(2), np.uint8(1)),
        (np.array(2), np.array(1)),
        (np.array([2], np.int16), [1]),
        (np.array([2], ">i8"), np.array([1], np.uint64)),
        (np.arange(6)[4:5] - 2, np.arange(9)[1:4:5]),
    ):
        stream = frozen.stream()
        assert_same_bits(stream.step(two).reshape(-1), y[0])
        assert_same_bits(stream.step(one).reshape(-1), y[1])
    assert frozen.stream().step(2).shape == frozen.stream().step(np.int64(2)).shape == (4,)
    assert frozen.stream().step([2]).shape == (1, 4)


def odd_copies(x: Any) -> list[Any]:
    """The same numbers: byte-swapped, strided, misaligned, Fortran, read-only, a subclass."""
    read_only = x.copy()
    read_only.flags.writeable = False
    padded = np.zeros(x.nbytes + 1, np.uint8)
    padded[1:] = x.view(np.uint8).ravel()
    return [
        x.astype(x.dtype.newbyteorder()),
        np.repeat(x, 2, axis=-1)[..., ::2],
        padded[1:].view(x.dtype).reshape(x.shape),
        np.asfortranarray(x),
        read_only,
        np.ma.masked_array(x),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_but_valid_inputs(dtype: str) -> None:
    layer = build("lstm", dtype=dtype)
    frozen = layer.freeze(dtype)
    x, state = inputs(layer, 2, 3)
    want = layer(x, state)
    for first, second in zip(*map(odd_copies, x), strict=True):
        stream = frozen.stream(3)
        stream.reset(tuple(np.asfortranarray(s).astype(s.dtype.newbyteorder()) for s in state))
        assert_same_bits(np.stack([stream.step(first), stream.step(second)]), want[0])
        assert_all_same(stream.state, want[1])


# --- out --------------------------------------------------------------------------------------


def test_out_is_written_and_returned() -> None:
    layer = build("lstm", dtype="float32", num_layers=2)
    stream = layer.freeze().stream(2)
    x, _ = inputs(layer, 3)
    y, _ = layer(x)
    whole = np.full((3, 2, 4), np.nan, "float32")
    for t in range(3):
        out = whole[t]
        assert stream.step(x[t], out=out) is out
    assert_same_bits(whole, y)
    stream.reset()
    assert_same_bits(stream.step(x[0], np.empty((2, 4), "float32")), y[0])
    single = layer.freeze().stream()
    assert_same_bits(single.step(x[0, 0], out=np.empty(4, "float32")), y[0, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden_size", [6, 160])
def test_out_may_be_the_input(kind: str, hidden_size: int) -> None:
    """Also where two threads share the step: out is written last."""
    layer = random_layer(kind, hidden_size, hidden_size, "float32")
    stream = layer.freeze().stream(3)
    x, _ = inputs(layer, 3, 3)
    y, _ = layer(x)
    memory = np.empty((4, hidden_size), "float32")
    for shift in (0, 1):  # the same array, and one that overlaps it
        stream.reset()
        for t in range(3):
            memory[:3] = x[t]
            stream.step(memory[:3], memory[shift : 3 + shift])
            assert_same_bits(memory[shift : 3 + shift], y[t])


def test_an_array_that_nobody_has_is_used_again() -> None:
    stream = build("lstm", dtype="float32").freeze().stream(2)
    x = np.ones((2, stream.input_size), "float32")
    places = set()
    for _ in range(20):
        y = stream.step(x)
        places.add(y.ctypes.data)
    assert len(places) == 2
    del y
    assert {stream.step(x).ctypes.data for _ in range(20)} == places


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda y: y,
    "a view": lambda y: y[1:],
    "a buffer": memoryview,
    "a weak reference": weakref.ref,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_an_array_that_somebody_has_stays(holder: str) -> None:
    layer = build("gru", dtype="float32")
    stream = layer.freeze().stream(2)
    x, _ = inputs(layer, 9, 2)
    y, _ = layer(x)
    held = [HOLDERS[holder](stream.step(x_t)) for x_t in x]
    for h, want in zip(held, y, strict=True):
        value = h() if isinstance(h, weakref.ref) else h
        if value is not None:
            assert_same_bits(np.asarray(value), want[-len(value) :])


def test_an_array_changed_in_place_is_not_used_again() -> None:
    layer = build("lstm", dtype="float32")
    stream = layer.freeze().stream(2)
    x, _ = inputs(layer, 12, 2)
    y, _ = layer(x)
    for t, change in enumerate(
        [
            lambda a: a.setflags(write=False),
            lambda a: a.resize((3, 5), refcheck=False),
            lambda a: a.resize(8, refcheck=False),
        ]
        * 4
    ):
        h = stream.step(x[t])
        assert h.flags.writeable
        assert_same_bits(h, y[t])
        change(h)


# --- state ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_state_out_and_in(kind: str) -> None:
    layer = build(kind, num_layers=2)
    frozen = layer.freeze("float64")
    x, state = inputs(layer, 6)
    stream, other = frozen.stream(2), frozen.stream(2)
    assert_all_same(stream.state, layer(x[:0])[1])
    stream.reset(state)
    assert_all_same(stream.state, state)
    kept = stream.state
    first = stepped(stream, x)
    other.reset(kept)
    assert_same_bits(stepped(other, x), first)
    assert_all_same(kept, state)  # a copy, which steps do not reach
    for part in states_of(stream.state):
        part[...] = np.nan
    assert not any(np.isnan(part).any() for part in states_of(stream.state))
    stream.reset()
    assert_same_bits(stepped(stream, x), layer(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_one_layer_do_not_meet(kind: str) -> None:
    layer = build(kind, dtype="float32")
    frozen = layer.freeze()
    streams = [frozen.stream() for _ in range(3)]
    x = np.random.default_rng(0).normal(size=(3, 5, 3)).astype("float32")
    y = [[stream.step(x[i, t]) for i, stream in enumerate(streams)] for t in range(5)]
    for i in range(3):
        assert_same_bits(np.stack([row[i] for row in y]), layer(x[i])[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_pickled_in_the_middle(kind: str, dtype: str) -> None:
    layer = build(kind, dtype=dtype, num_layers=2)
    x, state = inputs(layer, 6)
    stream = layer.freeze(dtype).stream(2)
    stream.reset(state)
    stepped(stream, x[:3])
    twin = pickle.loads(pickle.dumps(stream))
    assert repr(twin) == repr(stream)
    want = layer(x, state)
    for each in (twin, stream):
        assert_same_bits(stepped(each, x[3:]), want[0][3:])
        assert_all_same(each.state, want[1])


def test_the_stream_outlives_its_layer() -> None:
    layer = build("gru", dtype="float32")
    x, _ = inputs(layer, 4, 1)
    want = layer(x)[0]
    stream = layer.freeze().stream()
    layer.params.clear()
    del layer
    assert_same_bits(stepped(stream, x), want)


# --- threads, memory --------------------------------------------------------------------------


def run_together(*calls: Any) -> list[BaseException]:
    failures: list[BaseException] = []

    def guarded(call: Any) -> None:
        try:
            call()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


# Short steps keep the GIL, long ones let it go.
@pytest.mark.parametrize("hidden_size", [16, 200])
def test_two_streams_on_two_threads(hidden_size: int) -> None:
    layer = random_layer("lstm", 8, hidden_size, "float32", num_layers=2)
    frozen = layer.freeze()
    rng = np.random.default_rng(0)

    def stepping(x: Any) -> Any:
        want = layer(x)[0]

        def call() -> None:
            stream = frozen.stream()
            for _ in range(5):
                stream.reset()
                assert_same_bits(stepped(stream, x), want)

        return call

    x = rng.normal(size=(4, 60, 8)).astype("float32")
    assert not run_together(*map(stepping, x))


def test_one_stream_on_two_threads_refuses_one_of_them() -> None:
    """Never a crash and never half a step: who is refused has changed nothing."""
    layer = random_layer("lstm", 32, 256, "float32")
    stream = layer.freeze().stream()
    x = np.random.default_rng(0).normal(size=32).astype("float32")
    done: list[int] = []
    refused: set[str] = set()

    def call() -> None:
        for _ in range(300):
            try:
                stream.step(x)
                done.append(1)
            except RuntimeError as error:
                refused.add(str(error))

    assert not run_together(call, call, call)
    assert refused <= {"stream: another thread is using it"}
    want = layer(np.repeat(x[None], len(done), axis=0))[1]
    assert_all_same(tuple(s[:, 0] for s in stream.state), want)


def test_steps_leave_no_memory_behind() -> None:
    code = """
    import tracemalloc, numpy as np, pyrnn
    x = np.ones((2, 16), "float32")
    odd = np.ones((2, 32), "float32")[:, ::2]
    out = np.empty((2, 24), "float32")
    stream = pyrnn.LSTM(16, 24, num_layers=2, rng=0).freeze().stream(2)

    def resident():
        return int(open("/proc/self/statm").read().split()[1])

    def run(count):
        for _ in range(count):
            stream.step(x)
            stream.step(x, out=out)
            stream.step(odd)
            stream.step([3, 4], out)

    run(2000)
    pages = resident()
    run(20_000)
    grown = resident() - pages
    tracemalloc.start()
    run(10)
    before = tracemalloc.get_traced_memory()[0]
    run(100)
    blocks = tracemalloc.get_traced_memory()[0] - before

    def peak(call):
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            call(x, out=out)
        return tracemalloc.get_traced_memory()[1] - start

    peak(stream.step)
    print(grown, blocks, peak(stream.step) - peak(lambda x, out: None))
    """
    grown, blocks, peak = map(int, check_script(code, timeout=120).split())
    assert grown < 64, f"{grown} pages"
    assert blocks < 512, f"{blocks} bytes"
    assert peak <= 0, f"{peak} bytes in steps with out="


def test_ctrl_c_ends_a_step_and_leaves_the_state() -> None:
    check_script("""
        import signal, time, numpy as np, pyrnn
        stream = pyrnn.LSTM(64, 1024, num_layers=3, rng=0).freeze().stream(300)
        x = np.ones((300, 64), "float32")
        stream.step(x)
        before = stream.state
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start = time.monotonic()
        try:
            while time.monotonic() < start + 20:
                before = stream.state
                stream.step(x)
            raise SystemExit("no step was interrupted")
        except KeyboardInterrupt:
            pass
        after = stream.state
        same = [(a == b).all() for a, b in zip(after, before)]
        stream.reset(before)
        stream.step(x)
        # The signal may also have arrived in Python, after the step.
        stepped = [(a == b).all() for a, b in zip(after, stream.state)]
        assert all(same) or all(stepped)
        """)


def test_a_fork_steps_on() -> None:
    check_script("""
        import os, numpy as np, pyrnn
        layer = pyrnn.LSTM(64, 256, rng=0)
        stream = layer.freeze().stream()
        x = np.ones(64, "float32")
        pyrnn.set_num_threads(2)
        stream.step(x)
        want = layer(np.ones((2, 64), "float32"))[0][1]
        child = os.fork()
        y = stream.step(x)
        if child == 0:
            os._exit(0 if (y == want).all() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (y == want).all()
        """)


def test_examples_in_its_documentation() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    (test,) = finder.find(_stream.Stream, "Stream", globs={})
    assert len(test.examples) > 3
    result = doctest.DocTestRunner().run(test)
    assert result.failed == 0
