"""The examples in the docstrings of ``pyrnn.keras``, which tests/test_doctests.py leaves out."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import pyrnn.keras

MODULES = ["", *(f".{m.name}" for m in pkgutil.iter_modules(pyrnn.keras.__path__))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name == ".autograd":
        pytest.importorskip("torch")
    module = importlib.import_module(f"pyrnn.keras{name}")
    assert doctest.testmod(module).failed == 0
