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
    "tokens": ("pyrnn.LSTM(16, 32)", "(T, 4)", "uint8", ""),
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
    small, large = pyrnn.LSTM(4, 8), pyrnn.LSTM(1500, 1500)
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
