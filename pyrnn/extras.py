"""Packages that only some of pyrnn needs, which a plain install does not bring."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, extra: str, what: str) -> Any:
    """The module, or an error that names the extra that brings it and what needs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(
            f'{what} needs the package {module}: pip install "pyrnn-kernels[{extra}]"',
            name=module,
        ) from None
