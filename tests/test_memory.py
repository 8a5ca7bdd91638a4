"""Peak memory is what docs/memory.md says: of inference, of checkpoints, of what stays."""

from __future__ import annotations

import sys

import pytest
from helpers_script import check_script

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory is read as Linux gives it"
)

MEASURE = """
    import numpy as np
    import pyrnn

    def status(key):  # MiB
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024

    def mib(*arrays):
        return sum(array.nbytes for array in arrays) / 2**20
"""

# What the allocator rounds up to and keeps, and the interpreter's own. MiB.
SLACK = 4


def measured(code: str, threads: int = 1, timeout: float = 60) -> float:
    """The number that a process of its own prints, on the kernels."""
    setting = f"    pyrnn.set_num_threads({threads})\n"
    return float(check_script(MEASURE + setting + code, timeout, {"PYRNN_BACKEND": "kernels"}))


# How the layer is made; x; how the call is made. Each has something that could grow with T: the
# outputs of the lower layers, copies of x and y in another layout, of tokens in another type.
CALLS = {
    "plain": ("pyrnn.LSTM(16, 32)", "(T, 4, 16)", "float32", ""),
    "stack": ("pyrnn.GRU(16, 32, 3)", "(T, 4, 16)", "float32", ""),
    "unbatched": ("pyrnn.LSTM(16, 64, 2)", "(T, 16)", "float32", ""),
    "batch-first": ("pyrnn.RNN(16, 32, batch_first=True)", "(4, T, 16)", "float32", ""),
    "tokens": ("pyrnn.RNN(16, 2)", "(T, 64)", "uint8", ""),
    "ragged": ("pyrnn.GRU(16, 32, 2)", "(T, 4, 16)", "float32", "lengths=[T, 1, T // 2, T]"),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CALLS)
def test_inference_of_any_length_takes_y_and_no_more(name: str, threads: int) -> None:
    layer, shape, dtype, more = CALLS[name]
    code = f"""
    layer = {layer}
    T = 20_000
    layer(np.zeros({shape}, {dtype!r}), {more})
    T = 60_000
    x = np.ones({shape}, {dtype!r})
    before = status("VmHWM")
    y, _ = layer(x, {more})
    print(status("VmHWM") - before - mib(y))
    """
    grown = measured(code, threads)
    assert grown < SLACK, f"{grown:.1f} MiB beside x and y"


@pytest.mark.parametrize("layers", [1, 3])
def test_training_with_checkpoints_takes_what_the_formula_says(layers: int) -> None:
    """Without them the tape alone would be 20 * T*B*H*L bytes: 41 MiB a layer."""
    code = f"""
    T, B, I, H, L, k = 4000, 8, 16, 64, {layers}, 100
    layer = pyrnn.LSTM(I, H, L, rng=0)
    train = lambda x, dy: layer.backward(layer.forward(x, checkpoint=k)[2], dy)
    x, dy = np.ones((T, B, I), "f"), np.ones((T, B, H), "f")
    train(x[:50], dy[:50])
    before = status("VmHWM")
    y, _, tape = layer.forward(x, checkpoint=k)
    assert tape.nbytes == 8 * (T // k - 1) * B * H * L
    forward = status("VmHWM") - before - mib(y) - tape.nbytes / 2**20
    grads = layer.backward(tape, dy)
    chunk = k * B * 4 * (6 * H * L + H * (L - 1)) / 2**20  # tapes and y, and what goes down
    total = status("VmHWM") - before - mib(y, grads.x) - tape.nbytes / 2**20 - chunk
    print(max(forward, total))
    """
    grown = measured(code)
    assert grown < SLACK, f"{grown:.1f} MiB beside what is due"


def test_a_large_scratch_goes_back_when_it_is_no_longer_needed() -> None:
    code = """
    small, large = pyrnn.LSTM(4, 8), pyrnn.LSTM(8, 2200)
    run = lambda layer, T: layer(np.zeros((T, 1, layer.input_size), "f"))
    run(small, 3)
    before = status("VmRSS")
    run(large, 2)
    held = status("VmRSS") - before
    assert held > 60, held  # packed weights
    for _ in range(900):
        run(small, 3)
    assert status("VmRSS") - before > 60
    run(large, 2)  # the count starts anew
    for _ in range(900):
        run(small, 3)
    assert status("VmRSS") - before > 60
    for _ in range(200):
        run(small, 3)
    print(status("VmRSS") - before)
    """
    kept = measured(code)
    assert kept < SLACK, f"{kept:.1f} MiB are kept"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_that_end_give_everything_back(threads: int) -> None:
    code = """
    import os, threading, time
    layer = pyrnn.LSTM(256, 512)
    x = np.zeros((4, 2, 256), "f")

    def at_once(count):
        running = [threading.Thread(target=layer, args=(x,)) for _ in range(count)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    layer(x)
    for _ in range(3):
        at_once(4)
    before, tasks = status("VmRSS"), len(os.listdir("/proc/self/task"))
    for _ in range(20):
        at_once(4)
    for _ in range(100):  # the last ones may still be on their way out
        if len(os.listdir("/proc/self/task")) <= tasks:
            break
        time.sleep(0.05)
    assert len(os.listdir("/proc/self/task")) <= tasks
    print(status("VmRSS") - before)
    """
    grown = measured(code, threads)
    # If kept, 80 times the packed weights, 6 MiB each; malloc's arenas keep a few.
    assert grown < 30, f"{grown:.1f} MiB stay"


def test_a_training_step_finds_the_pages_of_the_step_before() -> None:
    """Of results and gradients, of the tapes of all layers and directions."""
    code = """
    import resource
    layer = pyrnn.LSTM(64, 64, 3, bidirectional=True, rng=0)
    x = np.ones((100, 32, 64), "f")

    def step():
        y, _, tape = layer.forward(x)
        layer.backward(tape, y)

    for _ in range(4):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5)
    """
    faults = measured(code)
    assert faults < 500, f"{faults} page faults a step, of some 11 thousand pages"


def test_what_is_kept_was_in_use_at_once() -> None:
    code = """
    from pyrnn import _core
    most = 0
    for T in [400, *range(390, 10, -7), 420, *range(3, 200, 9)]:
        layer = pyrnn.GRU(64, 128, rng=0)
        y, _, tape = layer.forward(np.ones((T, 16, 64), "f"))
        grads = layer.backward(tape, y)
        used, kept = _core.recycled()
        most = max(most, used)
        assert used + kept <= most * 9 / 8, (T, used, kept, most)
        del y, tape, grads
        used, kept = _core.recycled()
        assert used == 0 and kept <= most * 9 / 8, (T, used, kept, most)
    print(status("VmHWM") - most / 2**20)
    """
    assert measured(code) < 100


def test_no_more_is_kept_than_the_page_says() -> None:
    code = """
    from pyrnn import _core
    layer = pyrnn.RNN(8, 512, rng=0)
    x = np.ones((500, 64, 8), "f")
    ys = [layer(x)[0] for _ in range(6)]  # 62.5 MiB each
    assert _core.recycled()[0] > 370 * 2**20
    ys.clear()
    used, kept = _core.recycled()
    assert used == 0
    print(kept / 2**20)
    """
    assert 180 < measured(code) <= 256


def test_an_array_keeps_its_values_while_others_come_and_go() -> None:
    code = """
    layer = pyrnn.GRU(64, 128, rng=0)
    xs = [np.full((100, 16, 64), value, "f") for value in range(5)]
    ys = [layer(x)[0] for x in xs]
    views = [y[::2, 3] for y in ys]
    copies = [view.copy() for view in views]
    del ys
    for x in xs:
        layer.backward(layer.forward(x)[2], np.ones((100, 16, 128), "f"))
    y = layer(xs[0])[0]
    y.flags.writeable = False
    y.flags.writeable = True  # as of an array that has its own memory
    for view, copy in zip(views, copies):
        np.testing.assert_array_equal(view, copy)
    print(0)
    """
    measured(code)
