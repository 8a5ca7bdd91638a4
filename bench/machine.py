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
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case

import pyrnn
import pyrnn._core as _core

DTYPES = ("float32", "float64")

# One in each of L1, L2, L3 and memory of current processors, per thread.
SIZES = (1 << 14, 1 << 18, 3 << 20, 1 << 27)


@dataclass(frozen=True)
class Limits:
    """Rates of ``threads`` threads together, measured in this run."""

    threads: int
    fma: dict[str, float]  # dtype -> GFLOP/s
    activation: dict[str, float]  # dtype -> ns per tanh or sigmoid, on one thread
    region_ns: float  # a parallel region that does nothing
    barrier_ns: float
    latency_ns: float  # a cache line from core to core; NaN on one core
    read: dict[int, float] = field(default_factory=dict)  # bytes per thread -> GB/s

    def read_rate(self, nbytes: float) -> float:
        """GB/s of all threads together, each reading ``nbytes`` of its own again and again."""
        # Below a page nothing but L1 is measured anyway.
        size = max(4096, round(nbytes))
        if size not in self.read:
            self.read[size] = _core.read_rate(size, self.threads)
        return self.read[size]

    def bound(self, case: Case) -> float:
        """Seconds. Training counts FLOPs and weights alone, without the activations.

        Of reduced precision too: the rate of its products differs between processors and is not
        measured.
        """
        rate = float("inf") if case.precision else self.fma[case.dtype] * 1e9
        reads = case.seq_len * case.num_layers * case.directions * case.recurrent_bytes
        bandwidth = self.read_rate(case.recurrent_bytes / self.threads) * 1e9
        loop = max(case.recurrent_flops / rate, reads / bandwidth)
        if case.mode == "infer":
            activations = case.activations * self.activation[case.dtype] * 1e-9 / self.threads
            weights = case.input_bytes / (self.read_rate(case.input_bytes / self.threads) * 1e9)
            return loop + max(case.input_flops / rate, weights) + activations
        gradient_of_weights = case.recurrent_flops / rate
        return 2 * loop + gradient_of_weights + 3 * case.input_flops / rate

    def again(self) -> Limits:
        """The same, measured now; activations, which take longest, as they were."""
        # A thread that the system wakes too late leaves its work to the others: half the rate, of
        # which the bound of a case would be made.
        for _ in range(5):
            now = _probe(self.threads)
            if all(now.fma[dtype] > 0.7 * rate for dtype, rate in self.fma.items()):
                break
        return replace(now, activation=self.activation)

    def as_dict(self) -> dict[str, Any]:
        return {
            "threads": self.threads,
            "fma_gflops": self.fma,
            "read_gbs": {str(size): rate for size, rate in self.read.items()},
            "activation_ns": self.activation,
            "empty_region_ns": self.region_ns,
            "barrier_ns": self.barrier_ns,
            "core_latency_ns": self.latency_ns if self.latency_ns > 0 else None,
        }


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


def _probe(threads: int) -> Limits:
    found = _core.probe(threads)
    fma = {dtype: found[f"fma_{dtype}"] for dtype in DTYPES}
    latency = _core.core_latency()
    return Limits(threads, fma, {}, found["region_ns"], found["barrier_ns"], latency)


def measure_limits(threads: int) -> Limits:
    limits = _probe(threads)
    for dtype in DTYPES:
        # 8192 elements stay in L1 or L2 and hide the cost of the call.
        x = np.linspace(-4, 4, 8192, dtype=dtype)
        calls = [partial(_core.vecmath, name, x) for name in ("tanh", "sigmoid")]
        limits.activation[dtype] = max(map(seconds_per_call, calls)) / x.size * 1e9
    for size in SIZES:
        limits.read_rate(size)
    return limits


def text(limits: Limits) -> str:
    """One line for people."""
    fma = ", ".join(f"{dtype} {rate:.0f} GFLOP/s" for dtype, rate in limits.fma.items())
    reads = ", ".join(f"{s >> 10} KiB {limits.read_rate(s):.0f}" for s in SIZES)
    line = f"{limits.threads} thread{'s'[: limits.threads > 1]}: FMA {fma}; read GB/s {reads}"
    if limits.threads > 1:
        line += f"; region {limits.region_ns:.0f} ns, barrier {limits.barrier_ns:.0f} ns"
        line += f"; core to core {limits.latency_ns:.0f} ns"
    return line


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
    for package in ("numpy", "torch", "onnxruntime", "openvino", "jax"):
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
