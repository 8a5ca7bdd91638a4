"""Keras's own tests of recurrent layers, and pyrnn's, on each backend in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers_script import run_script

HERE = Path(__file__).parent
CASES = HERE / "keras_cases"

needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None, reason="Keras is not installed"
)

# Of Keras's own tests: what is left out, and why.
LEFT_OUT = {
    "numpy": {
        "time_distributed_test.py::TimeDistributedTest::test_with_mask_zero": (
            "calls fit, which Keras's NumPy backend does not have"
        ),
    },
    "torch": {},
}


def backend_or_skip(backend: str) -> None:
    for module in {"numpy": ["jax"], "torch": ["torch"]}[backend]:
        pytest.importorskip(module, reason=f"Keras's {backend} backend needs {module}")


def run_pytest(backend: str, folder: Path, *arguments: str, **environment: str) -> str:
    """Its output; what it collects must pass."""
    path = [str(HERE), str(CASES), str(HERE.parent / "examples"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull),
            *("--rootdir", str(folder), "-W", "ignore", *arguments),
        ],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "KERAS_BACKEND": backend}
        | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@needs_keras
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_tests_of_keras_pass(backend: str, tmp_path: Path) -> None:
    backend_or_skip(backend)
    spec = importlib.util.find_spec("keras")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "src" / "layers" / "rnn"
    files = sorted(path.name for path in folder.glob("*_test.py"))
    if not files:
        pytest.skip("the wheel of this version of Keras has no tests")
    assert len(files) >= 8
    left_out = [part for name in LEFT_OUT[backend] for part in ("--deselect", name)]
    counts = tmp_path / "counts.json"
    output = run_pytest(
        backend, folder, "-p", "keras_plugged", *left_out, *files, KERAS_PLUGGED=str(counts)
    )
    assert " passed" in output
    found: dict[str, dict[str, Any]] = json.loads(counts.read_text())
    assert min(found["calls"][family] for family in ("rnn", "lstm", "gru")) > 20
    # What these tests use that the kernels have not, and no more.
    expected = {"use_cudnn=False", "recurrent_dropout in training", "dtype float16", "device meta"}
    assert set(found["handed_back"]) <= expected


# Keras's NumPy backend has no gradients; docstrings choose that backend.
CHECKED = [
    (path.stem, backend)
    for path in sorted(CASES.glob("check_*.py"))
    for backend in ("numpy", "torch")
    if (path.stem, backend) not in {("check_training", "numpy"), ("check_doctests", "torch")}
]


@needs_keras
@pytest.mark.parametrize(("name", "backend"), CHECKED)
def test_cases(name: str, backend: str) -> None:
    backend_or_skip(backend)
    assert " passed" in run_pytest(backend, CASES, f"{name}.py")


@needs_keras
def test_another_backend_is_refused() -> None:
    pytest.importorskip("jax", reason="needs a backend that pyrnn has not")
    done = run_script("import pyrnn.keras; pyrnn.keras.plug_in()", 120, {"KERAS_BACKEND": "jax"})
    assert "expected KERAS_BACKEND to be numpy or torch, got jax" in done.stderr


def test_without_keras() -> None:
    """None in sys.modules is what an import of a missing module looks like to Python."""
    done = run_script("import sys; sys.modules['keras'] = None; import pyrnn.keras")
    assert 'pip install "pyrnn-kernels[keras]"' in done.stderr.splitlines()[-1]


def test_importing_pyrnn_brings_no_host() -> None:
    hosts = "{'keras', 'jax', 'torch', 'pyrnn.keras', 'pyrnn.jax'}"
    done = run_script(f"import sys, pyrnn; print(sorted({hosts} & set(sys.modules)))")
    assert done.stdout == "[]\n"
