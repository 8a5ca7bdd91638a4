"""What is written about the package is true of it."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import pyrnn

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and classes of ``__all__``, and the public methods of the classes."""
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, ModuleType):
            yield from public(thing)
        elif inspect.isclass(thing):
            yield f"{module.__name__}.{name}", thing
            for method, function in vars(thing).items():
                if not method.startswith("_") and inspect.isfunction(function):
                    yield f"{module.__name__}.{name}.{method}", function
        elif callable(thing):
            yield f"{module.__name__}.{name}", thing


PUBLIC = dict(public(pyrnn))
# Packages of an extra, and what they need.
for extra, needed in (("pyrnn.onnx", "onnx"), ("pyrnn.formats", "h5py")):
    if find_spec(needed):
        PUBLIC |= dict(public(import_module(extra)))


def section(doc: str, title: str) -> bool:
    return re.search(rf"^\s*{title}\n\s*-+$", doc, re.MULTILINE) is not None


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name: str) -> None:
    thing = PUBLIC[name]
    doc = inspect.getdoc(thing)
    assert doc, "no docstring"
    is_method = name.rpartition(".")[0] in PUBLIC
    # A method is shown at work by its class.
    assert ">>>" in doc or is_method, "no example"
    # A twin or a variant may point to where its sections stand.
    if re.search(r":(func|class|meth):", doc):
        return
    parameters = [p for p in inspect.signature(thing).parameters if p != "self"]
    assert section(doc, "Parameters") or not parameters, "no Parameters"
    if inspect.isclass(thing):
        return
    returns = inspect.signature(thing).return_annotation
    if returns not in ("None", None) and "Iterator" not in str(returns):
        short = not parameters and len(doc.split("\n\n")[0].splitlines()) == 1
        assert section(doc, "Returns") or short, "no Returns"
    if re.search(r"^\s+raise ", inspect.getsource(inspect.unwrap(thing)), re.MULTILINE):
        assert section(doc, "Raises"), "no Raises"


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_print_what_they_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in finder.find(PUBLIC[name], name, globs={"np": np, "pyrnn": pyrnn}):
        report: list[str] = []
        runner.run(test, out=report.append)
        assert not runner.failures, "".join(report)


def test_versions_are_in_step() -> None:
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    change = re.search(r"^## \[(\d.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert None not in (project, change)
    assert project[1] == change[1] == pyrnn.__version__ == pyrnn._core.__version__


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_shows_the_two_commands() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert "pip install . && pyrnn autocomplete" in lines
    assert 'pip install ".[test]" && pytest' in lines


def test_readme_example_runs(tmp_path: Path) -> None:
    code = "\n".join(blocks("python"))
    assert "pyrnn" in code
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_readme_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_benchmark_runs(tmp_path: Path) -> None:
    """From the checkout, where the source folder must not be taken for the package."""
    saved = tmp_path / "bench.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--filter", "infer-lstm-64-64-b1-t1$"),
            *("--peers", "pyrnn,numpy", "--repeat", "1", "--save", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "infer-lstm-64-64-b1-t1 |" in done.stdout
    assert saved.stat().st_size > 0


def test_the_equations_name_what_stands_in_the_code() -> None:
    """Tables of a column "reference" and one "kernels": each name is one of theirs."""
    text = (ROOT / "docs" / "equations.md").read_text()
    sources = {
        "reference": "".join(path.read_text() for path in (ROOT / "pyrnn/reference").glob("*.py")),
        "kernels": "".join(path.read_text() for path in (ROOT / "csrc/isa").glob("*.hpp")),
    }
    found = 0
    for header, rows in re.findall(
        r"^(\|.*reference.*kernels.*\|)\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.M
    ):
        columns = [name.strip() for name in header.strip("|").split("|")]
        for row in rows.splitlines():
            cells = dict(zip(columns, row.strip("|").split("|"), strict=True))
            for side, source in sources.items():
                for name in re.findall(r"`([^`]+)`", cells[side]):
                    found += 1
                    stem = name.partition("[")[0]
                    assert re.search(rf"\b{re.escape(stem)}\b", source), f"{side}: {name}"
    assert found > 30
