"""pyrnn.torch in several processes: equal gradients and results, threads that share the cores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers_processes import infer
from helpers_torch import one_thread as one_thread
from helpers_torch import torch
from tolerances import RELATIVE, assert_same_bits

import pyrnn

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="counts threads the way Linux lists them"
)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_have_the_gradients_of_one() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "torch_ddp.py"), "--steps", "40"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"differ by (\S+)\nloss (\S+) -> (\S+)\n", done.stdout)
    assert found is not None, done.stdout
    difference, first, last = map(float, found.groups())
    assert difference < RELATIVE["float32"]
    assert last < 0.8 * first


def assert_alike(results: list[Any], threads: int) -> None:
    for seed, (h_n, may, started) in enumerate(results):
        assert_same_bits(h_n, infer(seed)[0])
        assert may == threads
        assert started <= threads - 1


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_joblib_shares_the_cores(n_jobs: int) -> None:
    joblib = pytest.importorskip("joblib")
    parallel = joblib.Parallel(n_jobs=n_jobs, backend="loky")
    results = parallel(joblib.delayed(infer)(seed) for seed in range(4))
    cores = len(os.sched_getaffinity(0))
    assert_alike(results, max(1, cores // n_jobs) if n_jobs > 1 else pyrnn.get_num_threads())


def test_joblib_takes_another_number() -> None:
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend="loky", inner_max_num_threads=2):
        results = joblib.Parallel(n_jobs=2)(joblib.delayed(infer)(seed) for seed in range(2))
    assert_alike(results, 2)


def test_dask_processes() -> None:
    dask = pytest.importorskip("dask")
    results = dask.compute(
        [dask.delayed(infer)(seed) for seed in range(2)],
        scheduler="processes",
        num_workers=2,
        initializer=partial(pyrnn.set_num_threads, 1),
    )[0]
    assert_alike(results, 1)
