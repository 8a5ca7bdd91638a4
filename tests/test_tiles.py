"""Kernels that need a permission for the whole process: only for whoever names them."""

from __future__ import annotations

import platform
import sys

import pytest
from helpers_script import check_script, run_script

from pyrnn import _core

# What Linux permits this process, as a mask of parts of a processor's state (bit 18: the tiles of
# AMX); None where it knows no such permission.
PERMITTED = """
import ctypes
mask, arch_prctl, get_permitted = ctypes.c_uint64(), 158, 0x1022
libc = ctypes.CDLL(None, use_errno=True)
def permitted():
    done = libc.syscall(arch_prctl, get_permitted, ctypes.byref(mask))
    return mask.value if done == 0 else None
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="such tiles are there alone"
)


def test_nothing_is_asked_for_unless_it_is_named() -> None:
    code = """
    before = permitted()
    import numpy as np
    import pyrnn
    layer = pyrnn.LSTM(8, 8)
    for precision in ("float32", "bfloat16", "int8"):
        layer.freeze(precision)(np.zeros((3, 20, 8), "float32"))
    pyrnn.show_config()
    assert permitted() == before, (before, permitted())
    """
    check_script(PERMITTED + _dedented(code), environment={"PYRNN_ISA": ""})


def test_the_named_one_asks() -> None:
    code = """
    import pyrnn
    print(pyrnn._core.config()["isa"], permitted() >> 18 & 1)
    """
    done = run_script(PERMITTED + _dedented(code), environment={"PYRNN_ISA": "avx512_amx"})
    if "avx512_amx" in _core.available_isas():
        assert done.stdout.split() == ["avx512_amx", "1"], done.stderr
    else:
        assert "this processor lacks avx512_amx" in done.stderr


def test_it_says_that_the_system_refuses() -> None:
    """As Linux does where a stack for signals is too small for the state of tiles."""
    code = """
    class Stack(ctypes.Structure):
        _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
    room = ctypes.create_string_buffer(4096)
    stack = Stack(ctypes.addressof(room), 0, len(room))
    if libc.sigaltstack(ctypes.byref(stack), None) != 0:
        raise SystemExit("no such stack")
    import pyrnn
    """
    done = run_script(PERMITTED + _dedented(code), environment={"PYRNN_ISA": "avx512_amx"})
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    if "avx512_amx" in _core.available_isas() and said != "no such stack":
        assert said.startswith("ImportError: PYRNN_ISA: the system does not permit avx512_amx")


def _dedented(code: str) -> str:
    return "".join(line[4:] for line in code.splitlines(keepends=True))
