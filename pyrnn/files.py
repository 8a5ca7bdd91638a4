"""Layers in safetensors files: PyTorch's tensor names, and how to build the layers again."""

from __future__ import annotations

import json
import os
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .layers import GRU, LSTM, MGU, RNN
from .linear import Linear
from .module import Module
from .tape import Array

__all__ = ["load", "load_modules", "save", "save_modules"]

_FORMAT = "pyrnn 1"
_CLASSES: dict[str, type[Module]] = {kind.__name__: kind for kind in (RNN, GRU, MGU, LSTM, Linear)}


def save(
    layer: Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a layer to a safetensors file.

    The tensors have PyTorch's names. The file appears under its name only when it is complete.

    Parameters
    ----------
    layer : RNN, GRU, MGU, LSTM or Linear
        Its parameters and constructor arguments are written; the state of its ``rng`` is not.
    path : str or path
        Where to.
    metadata : mapping of str to str, optional
        Kept beside it, for :func:`load_modules`.

    Raises
    ------
    TypeError
        Anything but such a layer, or metadata that is not text.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import pyrnn
    >>> layer = pyrnn.LSTM(3, 4, num_layers=2, rng=0)
    >>> pyrnn.save(layer, "model.safetensors")
    >>> pyrnn.load("model.safetensors")
    LSTM(3, 4, num_layers=2)
    """
    save_modules(path, {"": layer}, metadata)


def load(path: str | os.PathLike[str]) -> Any:
    """Build the layer that :func:`save` wrote.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    RNN, GRU, MGU, LSTM or Linear
        With the same parameters, and a new ``rng``.

    Raises
    ------
    ValueError
        The file is not one of :func:`save`; the message says what is missing.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import pyrnn
    >>> pyrnn.save(pyrnn.GRU(3, 4, reset_after=False, rng=0), "model.safetensors")
    >>> pyrnn.load("model.safetensors")
    GRU(3, 4, reset_after=False)
    """
    modules, _ = load_modules(path)
    if list(modules) != [""]:
        raise ValueError(f"{os.fspath(path)}: expected one layer, got {', '.join(modules)}")
    return modules[""]


def save_modules(
    path: str | os.PathLike[str],
    modules: Mapping[str, Module],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write several layers to one safetensors file.

    Parameters
    ----------
    path : str or path
        Where to.
    modules : mapping of str to layer
        Tensors are named ``<name>.<parameter>``, as PyTorch does; just ``<parameter>`` for "".
    metadata : mapping of str to str, optional
        Anything to keep beside them.

    Raises
    ------
    TypeError
        Anything but layers, or metadata that is not text.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.files import load_modules, save_modules
    >>> modules = {"rnn": pyrnn.GRU(3, 4, rng=0), "head": pyrnn.Linear(4, 3, rng=1)}
    >>> save_modules("model.safetensors", modules, {"vocabulary": "abc"})
    >>> load_modules("model.safetensors")
    ({'rnn': GRU(3, 4), 'head': Linear(4, 3)}, {'vocabulary': 'abc'})
    """
    extra = dict(metadata or {})
    for key, text in extra.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"metadata[{key!r}]: expected text, got {type(text).__name__}")
    built: dict[str, Any] = {}
    tensors: dict[str, Array] = {}
    for name, module in modules.items():
        kind = type(module).__name__
        if _CLASSES.get(kind) is not type(module):
            wanted = ", ".join(_CLASSES)
            raise TypeError(f"{name or 'layer'}: expected one of {wanted}, got {kind}")
        built[name] = {"class": kind, "arguments": module.arguments()}
        for parameter, array in module.state_dict().items():
            tensors[_full_name(name, parameter)] = array
    header = {
        "format": _FORMAT,
        "modules": json.dumps(built),
        "metadata": json.dumps(extra),
    }
    write_whole(Path(path), safetensors_of(tensors, header))


def load_modules(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Build the layers that :func:`save_modules` or :func:`save` wrote.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    modules : dict of str to layer
        By the names they were written under.
    metadata : dict of str to str
        What was kept beside them.

    Raises
    ------
    ValueError
        The file is not one of these; the message says what is missing.
    OSError
        The file cannot be read.

    Examples
    --------
    See :func:`save_modules`.
    """
    where = os.fspath(path)
    header, tensors = read_safetensors(where)
    if header.get("format") != _FORMAT:
        raise ValueError(
            f"{where}: not a pyrnn model: expected format {_FORMAT!r} in its metadata, "
            f"got {header.get('format')!r}"
        )
    built, extra = (_json(where, header, key) for key in ("modules", "metadata"))
    modules: dict[str, Any] = {}
    for name, entry in built.items():
        title = f"{where}: {name or 'layer'}"
        kind = entry.get("class") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in _CLASSES:
            raise ValueError(f"{title}: expected one of {', '.join(_CLASSES)}, got {kind!r}")
        try:
            module = _CLASSES[kind](**entry.get("arguments"))
            own = {
                parameter: tensors.pop(_full_name(name, parameter))
                for parameter in module.params
                if _full_name(name, parameter) in tensors
            }
            module.load_state_dict(own)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(f"{title}: {error}") from error
        modules[name] = module
    if tensors:
        raise ValueError(f"{where}: unexpected tensors {', '.join(sorted(tensors))}")
    return modules, {str(key): str(text) for key, text in extra.items()}


def _full_name(module: str, parameter: str) -> str:
    return f"{module}.{parameter}" if module else parameter


def _json(where: str, header: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        found = json.loads(header.get(key, ""))
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{where}: not a pyrnn model: no JSON object {key!r} in its metadata")
    return found


def read_safetensors(where: str) -> tuple[dict[str, str], dict[str, Array]]:
    """Metadata and tensors."""
    from safetensors import SafetensorError, safe_open

    # safetensors reports a missing or unreadable file in words of its own.
    with open(where, "rb"):
        pass
    try:
        with safe_open(where, framework="numpy") as file:
            names = file.keys()
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in names}
    except (SafetensorError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: not a safetensors file of float arrays: {error}") from None


def safetensors_of(tensors: Mapping[str, Array], metadata: dict[str, str] | None) -> bytes:
    """The content of a file."""
    from safetensors.numpy import save as serialise

    native = {
        name: np.asarray(array, array.dtype.newbyteorder("="), order="C")
        for name, array in tensors.items()
    }
    return _ordered(serialise(native, metadata=metadata))


def _ordered(content: bytes) -> bytes:
    """The same file with the keys of its header in order, which safetensors leaves to chance, so
    that the same layers make the same bytes."""
    (size,) = struct.unpack_from("<Q", content)
    keys = json.loads(content[8 : 8 + size])
    header = json.dumps(keys, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # the tensors stay aligned
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file at once, so that no reader meets half of it; a link stays a link."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
