"""The codebase is a test: its floors, its words, its sizes, and what a build exports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import pyrnn
from pyrnn import _stream
from pyrnn.reference import cells
from pyrnn.reference.cells import CELLS

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
ISA = CSRC / "isa"
PACKAGE = ROOT / "pyrnn"

# A file includes files of lower floors alone. What stands in isa/ without a number is a cell.
FLOORS = {
    "shapes.hpp": 0,
    "precision.hpp": 1,
    "stream_api.hpp": 0,
    "amx.hpp": 0,
    "scratch.hpp": 0,
    "wait.hpp": 0,
    "recycled.hpp": 0,
    "recycled.cpp": 1,
    "strain.hpp": 0,
    "strain.cpp": 1,
    "cache.hpp": 1,
    "cache.cpp": 2,
    "latency.hpp": 0,
    "latency.cpp": 2,
    "pool.hpp": 1,
    "pool.cpp": 2,
    "lender.hpp": 1,
    "lender.cpp": 2,
    "team.hpp": 2,
    "team.cpp": 3,
    "kernels.hpp": 3,
    "isa/vec.hpp": 3,
    "isa/vecmath.hpp": 5,
    "isa/probe.hpp": 5,
    "isa/range.hpp": 4,
    "isa/fingerprint.hpp": 6,
    "isa/panels.hpp": 5,
    "isa/tile.hpp": 6,
    "isa/gemm.hpp": 7,
    "isa/pack.hpp": 8,
    "isa/random.hpp": 5,
    "isa/activation.hpp": 6,
    "isa/row.hpp": 6,
    "isa/left.hpp": 8,
    "isa/variant.hpp": 7,
    "isa/cell.hpp": 8,
    "isa/pointwise.hpp": 9,
    "isa/masks.hpp": 10,
    "isa/reduced.hpp": 8,
    "isa/bfloat16.hpp": 9,
    "isa/dot.hpp": 10,
    "isa/int8.hpp": 9,
    "isa/tiles.hpp": 9,
    "isa/gradients.hpp": 9,
    "isa/norm.hpp": 9,
    "isa/scan.hpp": 9,
    "isa/walk.hpp": 10,
    "isa/window.hpp": 10,
    "isa/schedule.hpp": 10,
    "isa/structure.hpp": 10,
    "isa/structure_backward.hpp": 11,
    "isa/weights.hpp": 11,
    "isa/both.hpp": 12,
    "isa/forward.hpp": 13,
    "isa/forward_phases.hpp": 14,
    "isa/forward_products.hpp": 14,
    "isa/forward_rows.hpp": 14,
    "isa/step.hpp": 13,
    "isa/backward.hpp": 12,
    "isa/backward_phases.hpp": 13,
    "isa/backward_start.hpp": 13,
    "isa/backward_sums.hpp": 13,
    "isa/linear.hpp": 12,
    "isa/reduced_product.hpp": 11,
    "isa/operands.hpp": 10,
    "isa/precisions.cpp": 11,
    "isa/table.cpp": 15,
    "dispatch.hpp": 12,
    "dispatch.cpp": 13,
    "frozen.hpp": 12,
    "frozen.cpp": 13,
    "kept.hpp": 13,
    "probe.hpp": 12,
    "probe.cpp": 13,
    "selftest/naive.hpp": 4,
    "selftest/compare.hpp": 5,
    "selftest/cells.hpp": 6,
    "selftest/selftest.cpp": 14,
    "bindings.hpp": 12,
    "bind_arrays.hpp": 12,
    "bind.hpp": 13,
    "bind_inputs.hpp": 14,
    "bind_variant.hpp": 14,
    "bind_passes.hpp": 15,
    "bind_cells.cpp": 16,
    "bind_frozen.cpp": 15,
    "bind_linear.cpp": 15,
    "bind_machine.cpp": 15,
    "bind_reduced.cpp": 15,
    "module.cpp": 16,
}
CELL_FLOOR = 9

# Headers of pure templates and constants: nothing that allocates, and no container.
ISA_HEADERS = {
    "algorithm",
    "cmath",
    "cstddef",
    "cstdint",
    "cstring",
    "limits",
    "new",  # for construction in place
    "type_traits",
    "utility",
    "immintrin.h",
    "arm_neon.h",
}


def sources(folder: Path, *endings: str) -> list[Path]:
    return sorted(path for end in endings for path in folder.rglob(f"*.{end}"))


CPP = sources(CSRC, "hpp", "cpp")
PYTHON = [
    path for name in ("pyrnn", "tests", "bench", "examples") for path in sources(ROOT / name, "py")
]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def includes(path: Path) -> list[tuple[str, str]]:
    """Pairs of the opening sign, ``"`` or ``<``, and the name."""
    return re.findall(r'^\s*#\s*include\s*(["<])([^">]+)[">]', path.read_text(), re.MULTILINE)


def floor(path: Path) -> int:
    name = path.relative_to(CSRC).as_posix()
    if name not in FLOORS and path.parent == ISA:
        return CELL_FLOOR
    assert name in FLOORS, f"{name}: a new file needs a floor in FLOORS"
    return FLOORS[name]


def test_there_is_something_to_test() -> None:
    assert min(len(CPP), len(PYTHON)) > 10


@pytest.mark.parametrize("path", CPP, ids=relative)
def test_an_include_looks_down(path: Path) -> None:
    for sign, name in includes(path):
        if sign == '"' and not name.endswith(".inc"):  # .inc: generated from CMakeLists.txt
            below = (path.parent / name).resolve()
            assert below.is_file(), f"{name} is not beside {path.name}"
            # A source may include its own header, wherever both stand.
            assert floor(below) < floor(path), f"{relative(path)} looks up at {relative(below)}"


@pytest.mark.parametrize("path", sources(ISA, "hpp", "cpp"), ids=relative)
def test_kernels_know_neither_python_nor_containers(path: Path) -> None:
    systems = {name for sign, name in includes(path) if sign == "<"}
    assert systems <= ISA_HEADERS
    assert "pybind11" not in path.read_text()


def test_only_the_table_is_seen_from_outside() -> None:
    for path in CPP:
        if path.parent != ISA:
            assert not [name for _, name in includes(path) if name.startswith("isa/")], path.name


@pytest.mark.parametrize("path", sources(CSRC, "hpp"), ids=relative)
def test_a_header_opens_with_its_purpose(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("// ")
    assert text.count("#pragma once") == 1
    if path.parent == ISA:
        assert "namespace pyrnn::PYRNN_ISA {\nnamespace {" in text


def test_words() -> None:
    for path in CPP:
        assert "workspace" not in path.read_text().lower(), relative(path)


def test_no_file_is_two() -> None:
    lines = {relative(path): len(path.read_text().splitlines()) for path in CPP + PYTHON}
    assert not {name: n for name, n in lines.items() if n > 450}


def test_no_forbidden_flags() -> None:
    for name in ("CMakeLists.txt", "CMakePresets.json", "pyproject.toml"):
        flags = re.findall(
            r"-ffast-math|-Ofast|-march=native|-mtune=native", (ROOT / name).read_text()
        )
        assert not flags, f"{name}: {flags}"


def test_both_sides_have_the_same_cells() -> None:
    names = {
        name
        for path in sources(ISA, "hpp")
        for value in re.findall(r"constexpr const char\* name =([^;]+);", path.read_text())
        for name in re.findall(r'"(\w+)"', value)
    }
    # Elman's are one struct.
    assert names == {"rnn" if cell.startswith("rnn") else cell for cell in CELLS}


@pytest.mark.parametrize("name", sorted({cell.partition("_")[0] for cell in CELLS}))
def test_both_sides_use_the_same_names(name: str) -> None:
    header = {"rnn": "elman"}.get(name, name)
    kernels = (ISA / f"{header}.hpp").read_text()
    for function in ("pointwise", "pointwise_backward"):
        assert callable(getattr(cells, f"{header}_{function}"))
        assert f"PYRNN_INLINE void {function}(" in kernels


# --- Python ----------------------------------------------------------------------------------


def imports(path: Path) -> set[str]:
    """Absolute names, and relative ones with their dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            if node.module is None:
                found |= {dots + alias.name for alias in node.names}
            else:
                found.add(dots + node.module)
    return found


@pytest.mark.parametrize("path", sources(PACKAGE / "reference", "py"), ids=relative)
def test_the_reference_imports_numpy_alone(path: Path) -> None:
    for name in imports(path):
        if name.startswith(".."):
            assert name in ("..tape", "..variants")
        elif not name.startswith("."):
            top = name.partition(".")[0]
            assert top == "numpy" or top in sys.stdlib_module_names


def test_import_brings_numpy_alone(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import pyrnn\n"
        "print(*{m.partition('.')[0] for m in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"numpy", "pyrnn"}


def test_some_is_imported_when_it_is_asked_for(tmp_path: Path) -> None:
    code = """
import sys, pyrnn

later = {f"pyrnn.{module}" for module in pyrnn._LATER.values()}
assert not later & set(sys.modules), later & set(sys.modules)
assert {*pyrnn.__all__, "diagnostics"} <= set(dir(pyrnn))
assert pyrnn.weights is sys.modules["pyrnn.weights"]
from pyrnn import *
assert later <= set(sys.modules), later - set(sys.modules)
for name, module in pyrnn._LATER.items():
    assert globals()[name] is getattr(sys.modules[f"pyrnn.{module}"], name), name
try:
    pyrnn.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise SystemExit("nothing was found")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --- The build -------------------------------------------------------------------------------


def test_the_package_is_small() -> None:
    compiled = [Path(module.__file__) for module in (pyrnn._core, _stream)]
    files = [*compiled, *sources(PACKAGE, "py", "pyx", "pxd")]
    packed = sum(len(zlib.compress(path.read_bytes())) for path in files)
    assert packed < 3_000_000
