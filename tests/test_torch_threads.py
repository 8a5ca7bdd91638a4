"""Whose threads do the work of pyrnn.torch: PyTorch's own where there are enough for a call."""

from __future__ import annotations

import sys

import pytest
from helpers_script import check_script
from helpers_torch import torch as torch  # the tests need it

from pyrnn import _core
from pyrnn.torch_threads import lent_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")

# A step of training with PyTorch's threads awake, its results as bytes, and threads of the process.
SET_UP = """
import os
import torch, pyrnn, pyrnn.torch
pyrnn._core.heed_load(False)  # of other processes

def threads():
    return len(os.listdir("/proc/self/task"))

torch.manual_seed(0)
layer = pyrnn.torch.LSTM(31, 131, num_layers=2, bidirectional=True)
x = torch.randn(53, 33, 31)
large = torch.ones(1 << 20)

def step():
    for parameter in layer.parameters():
        parameter.grad = None
    large.sum()
    y, _ = layer(x)
    y.square().sum().backward()
    return [t.detach().numpy().tobytes() for t in (y, *(p.grad for p in layer.parameters()))]

def set_threads(torchs, ours):
    torch.set_num_threads(torchs)
    pyrnn.set_num_threads(ours)
    large.sum()
    return threads()
"""

SHORT = "layer, x = pyrnn.torch.LSTM(31, 67), torch.randn(11, 17, 31)"  # two threads are worth it


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("dynamic", ["false", "true"])  # OpenMP may then give fewer than asked for
def test_the_work_is_done_by_threads_of_pytorch(count: int, dynamic: str) -> None:
    code = f"""{SET_UP}
before = set_threads({count}, {count})
found = step()
assert step() == found
assert threads() == before, (before, threads())
pyrnn.LSTM(64, 64, rng=0)(x.new_ones(50, 32, 64).numpy())
assert threads() > before, "an array's call ran on the threads of PyTorch"
pyrnn.set_num_threads(1)
assert step() == found
"""
    check_script(code, environment={"OMP_DYNAMIC": dynamic, "OMP_NUM_THREADS": "4"})


# Of a call that may use more threads than PyTorch has; of one too short for the many that it has.
@pytest.mark.parametrize(("torchs", "layer"), [(1, ""), (3, SHORT)], ids=["more", "short"])
def test_a_call_has_a_thread_of_its_own(torchs: int, layer: str) -> None:
    code = f"""{SET_UP}
{layer}
before = set_threads({torchs}, 2)
found = step()
assert threads() == before + 1
pyrnn.set_num_threads(1)
assert step() == found
"""
    check_script(code, environment={"OMP_NUM_THREADS": "4"})


def test_several_callers_at_once() -> None:
    code = f"""{SET_UP}
from concurrent.futures import ThreadPoolExecutor
set_threads(2, 2)
with torch.no_grad():
    wanted = layer(x)[0].numpy().tobytes()

def infer(_):
    torch.set_num_threads(2)
    with torch.no_grad():
        return layer(x)[0].numpy().tobytes()

with ThreadPoolExecutor(4) as callers:
    assert set(callers.map(infer, range(40))) == {{wanted}}
"""
    check_script(code)


def test_a_forked_child_computes() -> None:
    code = f"""{SET_UP}
set_threads(2, 2)
found = step()
child = os.fork()
if child == 0:
    with torch.no_grad():
        os._exit(0 if layer(x)[0].numpy().tobytes() == found[0] else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    check_script(code)


@pytest.mark.parametrize("backward", [False, True])
def test_ctrl_c(backward: bool) -> None:
    code = f"""{SET_UP}
import time
from helpers_script import seconds_to_interrupt
set_threads(2, 2)
layer = pyrnn.torch.LSTM(512, 512)

def call_of(steps):
    y, _ = layer(torch.ones(steps, 64, 512))
    total = y.sum()
    return total.backward if {backward} else lambda: layer(torch.ones(steps, 64, 512))

call_of(2)()
start = time.perf_counter()
call_of(10)()
spent = time.perf_counter() - start
print(seconds_to_interrupt(call_of(int(10 * 2 / spent))))
"""
    delay = float(check_script(code, timeout=120))
    assert delay < 1, f"KeyboardInterrupt came after {delay:.2f} s"


def test_where_pytorch_has_no_openmp() -> None:
    lender = _core.Lender("no library")
    assert not lender.found
    with lender:
        pass
    assert lent_threads.found or "USE_OPENMP=ON" not in torch.__config__.show()
