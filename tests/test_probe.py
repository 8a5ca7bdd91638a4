"""The machine's limits: that the probe does the work that it counts."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyrnn import _core

ROOT = Path(__file__).resolve().parents[1]

# Flags of an instruction set, and what its probe runs in each chain: multiply-adds and additions.
ISAS = {
    "avx512": (["-mavx512f", "-mfma"], r"vfn?madd\w+ps\s.*%zmm", r"vaddps\s.*%zmm"),
    "avx2": (["-mavx2", "-mfma"], r"vfn?madd\w+ps\s.*%ymm", r"vaddps\s.*%ymm"),
    "baseline": ([], r"mulps\s.*%xmm", r"addps\s.*%xmm"),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_no_chain_is_left_out(isa: str, compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"needs {compiler} on x86-64")
    flags, product, addition = ISAS[isa]
    for call, pattern, chains in (
        ("probe<float>(n, s)", product, 12),
        ("read(x, n, n, s)", addition, 8),
    ):
        source = tmp_path / "probe.cpp"
        source.write_text(
            f'#include "{ROOT / "csrc" / "isa" / "probe.hpp"}"\n'
            f"void run(const float* x, long n, float* s) {{ (void)x; pyrnn::probed::{call}; }}\n"
        )
        made = subprocess.run(
            [
                *(compiler, "-std=c++17", "-O3", "-fno-math-errno", "-ffp-contract=fast", *flags),
                *("-DPYRNN_ISA=probed", "-S", "-o", "-", str(source)),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(re.findall(pattern, made.stdout)) >= chains, call


def test_rates_of_threads() -> None:
    for threads in (1, 2):
        found = _core.probe(threads)
        assert found.keys() == {"fma_float32", "fma_float64", "region_ns", "barrier_ns"}
        assert min(found.values()) > 0
        assert _core.read_rate(1 << 14, threads) > 0
    # Either it is measured, or there is one processor alone.
    assert not _core.core_latency() <= 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs affinities")
def test_the_latency_leaves_the_process_where_it_may_run() -> None:
    before = os.sched_getaffinity(0)
    for _ in range(10):
        _core.core_latency()
    assert os.sched_getaffinity(0) == before


def test_arguments() -> None:
    for call in (
        lambda: _core.probe(0),
        lambda: _core.read_rate(4095),
        lambda: _core.read_rate(1 << 40),
        lambda: _core.read_rate(4096, 0),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
