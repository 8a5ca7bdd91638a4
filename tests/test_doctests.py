"""The examples in every docstring of every module print what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

import pyrnn

PACKAGE = Path(pyrnn.__path__[0])
# Not in this process: Keras takes one backend in each.
APART = ("keras",)
FILES = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
MODULES = sorted(
    ".".join(["pyrnn", *path.parts]).removesuffix(".__init__")
    for path in FILES
    # Importing __main__ runs the command.
    if path.name != "__main__" and path.parts[0] not in APART
)

# A package of an extra -> what it needs.
EXTRAS = {
    "pyrnn.jax": "jax",
    "pyrnn.onnx": "onnx",
    "pyrnn.formats": "h5py",
    "pyrnn.torch": "torch",
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if needed := next((EXTRAS[extra] for extra in EXTRAS if name.startswith(extra)), None):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"np": np},
        optionflags=doctest.ELLIPSIS,
        report=False,
    )
    assert result.failed == 0


def test_there_are_examples() -> None:
    for name in ("pyrnn.layers", "pyrnn.files", "pyrnn.truncated", "pyrnn.ops.forward"):
        finder = doctest.DocTestFinder()
        tests = finder.find(importlib.import_module(name))
        assert sum(len(test.examples) for test in tests) > 3, name
