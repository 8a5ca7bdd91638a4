"""A Cython program cimports the stream and steps it in a loop without the GIL."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers_layers import assert_all_same
from tolerances import assert_same_bits

import pyrnn

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(pyrnn.__file__).parent
HEADER = "# cython: language_level=3\nfrom pyrnn.stream cimport Stream\n"


def compiled(folder: Path, source: Path) -> Any:
    """The module that Cython and the compiler make of the source."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if importlib.util.find_spec("Cython") is None or compiler is None:
        pytest.skip("needs Cython and a C compiler")
    made = folder / f"{source.stem}.c"
    cython = [sys.executable, "-m", "cython", "-3", "-I", str(PACKAGE.parent)]
    subprocess.run([*cython, "-o", str(made), str(source)], check=True, cwd=folder)
    module = folder / f"{source.stem}{sysconfig.get_config_var('EXT_SUFFIX')}"
    link = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    include = f"-I{sysconfig.get_path('include')}"
    command = [compiler, "-O1", "-shared", "-fPIC", include, *link, str(made), "-o", str(module)]
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location(source.stem, module)
    assert spec is not None
    assert spec.loader is not None
    loaded: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The example that the documentation shows."""
    return compiled(tmp_path_factory.mktemp("cython"), ROOT / "examples" / "stepping.pyx")


def test_the_pxd_files_are_installed() -> None:
    for name in ("stream.pxd", "_stream.pxd"):
        assert (PACKAGE / name).is_file()


@pytest.mark.parametrize("cls", [pyrnn.RNN, pyrnn.GRU, pyrnn.LSTM])
def test_steps_without_the_gil(stepping: Any, cls: Any) -> None:
    layer = cls(5, 12, num_layers=2, rng=0)
    stream = layer.freeze().stream(3)
    x = np.random.default_rng(0).normal(size=(20, 3, 5)).astype("float32")
    y = np.empty((20, 3, 12), "float32")
    stepping.run(stream, x, y)
    want, last = layer(x)
    assert_same_bits(y, want)
    assert_all_same(stream.state, last)


def test_four_threads_at_once(stepping: Any) -> None:
    layer = pyrnn.LSTM(8, 40, rng=0)
    frozen = layer.freeze()
    x = np.random.default_rng(0).normal(size=(2000, 1, 8)).astype("float32")
    y = np.empty((4, 2000, 1, 40), "float32")
    threads = [
        threading.Thread(target=stepping.run, args=(frozen.stream(), x, y[i])) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want, _ = layer(x)
    for part in y:
        assert_same_bits(part, want)


def test_errors_take_the_gil(stepping: Any) -> None:
    x, y = np.zeros((1, 1, 2), "float32"), np.zeros((1, 1, 3), "float32")
    with pytest.raises(TypeError, match=r"^stream: of float64, stepped with another dtype"):
        stepping.run(pyrnn.GRU(2, 3).freeze("float64").stream(), x, y)
    with pytest.raises(ValueError, match=r"^x: expected shape"):
        stepping.run(pyrnn.GRU(2, 3).freeze().stream(2), x, y)


def test_tokens_and_float64(tmp_path: Path) -> None:
    source = tmp_path / "tokens.pyx"
    source.write_text(
        HEADER
        + """
from libc.stdint cimport int64_t

def run(Stream stream, const int64_t[:, ::1] tokens, double[:, :, ::1] y):
    cdef Py_ssize_t t
    with nogil:
        for t in range(tokens.shape[0]):
            stream.step_tokens_float64(&tokens[t, 0], &y[t, 0, 0])
"""
    )
    module = compiled(tmp_path, source)
    layer = pyrnn.LSTM(7, 5, dtype="float64", rng=0)
    stream = layer.freeze("float64").stream(2)
    tokens = np.random.default_rng(0).integers(0, 7, (6, 2))
    y = np.empty((6, 2, 5))
    module.run(stream, tokens, y)
    assert_same_bits(y, layer(tokens)[0])
    before = stream.state
    with pytest.raises(IndexError, match=r"^x_t: expected tokens in 0..I-1 = 0..6, got 7"):
        module.run(stream, np.array([[0, 7]]), y)
    assert_all_same(stream.state, before)
