"""What this machine can do at most, and what the run was made with.

The bound of a case is a time that no implementation on this machine can beat: every
multiply-add at the FMA rate, every recurrent weight read once per step, every
activation at the rate of the vectorised one.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case

import pyrnn
from pyrnn import _core


@dataclass(frozen=True)
class Limits:
    """Rates of one thread, measured in this run."""

    fma: dict[str, float]  # dtype -> GFLOP/s
    activation: dict[str, float]  # dtype -> ns per tanh or sigmoid
    read: dict[int, float] = field(default_factory=dict)  # bytes -> GB/s, as they were asked for

    def read_rate(self, nbytes: float) -> float:
        """GB/s of one thread that keeps reading ``nbytes``."""
        # Below a page nothing but L1 is measured anyway.
        size = max(4096, round(nbytes))
        if size not in self.read:
            self.read[size] = _core.read_rate(size)
        return self.read[size]

    def bound(self, case: Case, threads: int) -> float:
        """Seconds. Training counts FLOPs and weights alone, without the activations."""
        rate = self.fma[case.dtype] * threads * 1e9
        recurrent_reads = case.seq_len * case.num_layers * case.directions * case.recurrent_bytes
        bandwidth = self.read_rate(case.recurrent_bytes / threads) * threads * 1e9
        loop = max(case.recurrent_flops / rate, recurrent_reads / bandwidth)
        if case.mode == "infer":
            activations = case.activations * self.activation[case.dtype] * 1e-9 / threads
            input_bytes = case.input_flops / (2 * case.seq_len * case.batch_size)
            input_bytes *= np.dtype(case.dtype).itemsize
            weights = input_bytes / (self.read_rate(input_bytes / threads) * threads * 1e9)
            return loop + max(case.input_flops / rate, weights) + activations
        gradient_of_weights = case.recurrent_flops / rate
        return 2 * loop + gradient_of_weights + 3 * case.input_flops / rate


def seconds_per_call(call: Callable[[], Any], at_least: float = 0.02) -> float:
    """The best of five stretches of repeated calls, each ``at_least`` seconds long."""
    call()
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            call()
        if (elapsed := time.perf_counter() - start) >= at_least:
            break
        count = max(2 * count, int(1.2 * count * at_least / max(elapsed, 1e-9)))
    best = elapsed
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, time.perf_counter() - start)
    return best / count


def measure_limits() -> Limits:
    probe = _core.probe()
    activation = {}
    for dtype in ("float32", "float64"):
        # 8192 elements stay in L1 or L2 and hide the cost of the call.
        x = np.linspace(-4, 4, 8192, dtype=dtype)
        calls = [partial(_core.vecmath, name, x) for name in ("tanh", "sigmoid")]
        activation[dtype] = max(map(seconds_per_call, calls)) / x.size * 1e9
    return Limits({dtype: probe[f"fma_{dtype}"] for dtype in activation}, activation)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Processor, cores, versions and the build of pyrnn."""
    versions = {}
    for package in ("numpy", "torch", "onnxruntime", "jax"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions | {"pyrnn": pyrnn.__version__},
        "build": _core.config(),
    }
