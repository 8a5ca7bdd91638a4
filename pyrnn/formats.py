"""Tensors in the files of others: safetensors, ``.npz``, PyTorch's ``.pt`` and Keras's ``.h5``.

What a file holds is read as it is; :mod:`pyrnn.weights` turns it into parameters.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .extras import needed
from .files import read_safetensors, safetensors_of, write_whole
from .tape import Array

__all__ = ["read_keras", "read_tensors", "write_keras", "write_tensors"]

_TORCH = (".pt", ".pth", ".bin")
_SUFFIXES = (".safetensors", ".npz", *_TORCH)


def read_tensors(path: str | os.PathLike[str], prefix: str = "") -> dict[str, Array]:
    """Read named tensors, for instance a state dict that PyTorch saved.

    Parameters
    ----------
    path : str or path
        A file of safetensors (``.safetensors``), of NumPy (``.npz``), or of ``torch.save``
        (``.pt``, ``.pth``, ``.bin``; needs PyTorch), read without running what it may contain.
    prefix : str
        Take the tensors of this module alone and drop it from their names: ``"encoder.rnn."``.

    Returns
    -------
    dict of str to ndarray
        As ``layer.load_state_dict`` takes them, which checks names, shapes and dtypes.

    Raises
    ------
    ValueError
        Another kind of file, a broken one, or no tensor with the prefix.
    TypeError
        An entry that is no tensor, or one of a dtype that NumPy has not, such as bfloat16.
    ImportError
        PyTorch is needed and not installed.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.formats import read_tensors, write_tensors
    >>> layer = pyrnn.GRU(3, 4, rng=0)
    >>> tensors = {f"encoder.{name}": array for name, array in layer.params.items()}
    >>> write_tensors("model.npz", tensors)
    >>> other = pyrnn.GRU(3, 4)
    >>> other.load_state_dict(read_tensors("model.npz", "encoder."))
    """
    where = os.fspath(path)
    suffix = _suffix(where)
    if suffix == ".safetensors":
        _, tensors = read_safetensors(where)
    elif suffix == ".npz":
        tensors = _read_npz(where)
    else:
        tensors = _read_torch(where)
    found = {name.removeprefix(prefix): a for name, a in tensors.items() if name.startswith(prefix)}
    if prefix and not found:
        names = ", ".join(tensors)
        raise ValueError(f"{where}: expected names that start with {prefix!r}, got {names}")
    return found


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, npt.ArrayLike]) -> None:
    """Write named tensors, for instance ``layer.state_dict()``.

    Parameters
    ----------
    path : str or path
        Its ending says how, as for :func:`read_tensors`. The file appears under its name only when
        it is complete.
    tensors : mapping of str to array
        What to write.

    Raises
    ------
    ValueError
        Another ending.
    ImportError
        PyTorch is needed and not installed.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.formats import write_tensors
    >>> write_tensors("model.safetensors", pyrnn.LSTM(3, 4, rng=0).state_dict())
    """
    where = os.fspath(path)
    suffix = _suffix(where)
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    if suffix == ".safetensors":
        content = safetensors_of(arrays, None)
    elif suffix == ".npz":
        content = _npz_of(arrays)
    else:
        content = _torch_of(arrays, where)
    write_whole(Path(where), content)


def read_keras(path: str | os.PathLike[str]) -> dict[str, list[Array]]:
    """Read the weights of a Keras model.

    Parameters
    ----------
    path : str or path
        What ``model.save_weights("name.weights.h5")`` of Keras 3 writes; or an ``.h5`` file of the
        older format, of weights or a whole model. Needs h5py.

    Returns
    -------
    dict of str to list of ndarray
        By the place in the file of what owns them, such as ``"layers/lstm/cell"`` or
        ``"layers/bidirectional/forward_layer/cell"``; in the older format by the name of the layer.
        Each list is one of ``get_weights()``, as :func:`pyrnn.weights.from_keras` takes it; that of
        an older ``Bidirectional`` has the forward half first.

    Raises
    ------
    ValueError
        A file without weights.
    ImportError
        h5py is not installed.
    OSError
        The file cannot be read, or is none of HDF5.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.formats import read_keras, write_keras
    >>> from pyrnn.weights import from_keras, to_keras
    >>> layer = pyrnn.LSTM(3, 4, rng=0)
    >>> write_keras("m.weights.h5", {"layers/lstm/cell": to_keras(layer.params, "lstm")})
    >>> weights = read_keras("m.weights.h5")
    >>> layer.load_state_dict(from_keras(weights["layers/lstm/cell"], "lstm"))
    """
    where = os.fspath(path)
    h5py = needed("h5py", "h5", where)
    with h5py.File(where, "r") as file:
        older = file.get("model_weights", file)
        if "layer_names" in older.attrs:
            found = _read_older(older)
        else:
            found = {}
            file.visititems(lambda name, item: _take_vars(h5py, name, item, found))
    if not found:
        raise ValueError(f"{where}: not the weights of a Keras model: no variables in it")
    return found


def write_keras(
    path: str | os.PathLike[str], weights: Mapping[str, Sequence[npt.ArrayLike]]
) -> None:
    """Write weights so that ``model.load_weights`` of Keras 3 reads them.

    Parameters
    ----------
    path : str or path
        Keras wants a name that ends in ``.weights.h5``. Needs h5py.
    weights : mapping of str to list of array
        As :func:`read_keras` gives them: those of every layer of the model that has any.

    Raises
    ------
    ImportError
        h5py is not installed.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import pyrnn
    >>> from pyrnn.formats import write_keras
    >>> from pyrnn.weights import to_keras
    >>> weights = {"layers/gru/cell": to_keras(pyrnn.GRU(3, 4, rng=0).params, "gru")}
    >>> write_keras("model.weights.h5", weights)
    """
    where = os.fspath(path)
    h5py = needed("h5py", "h5", where)
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for place, arrays in weights.items():
            group = file.create_group(f"{place}/vars")
            for k, array in enumerate(arrays):
                group[str(k)] = np.asarray(array)
    write_whole(Path(where), content.getvalue())


def _suffix(where: str) -> str:
    suffix = Path(where).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"{where}: expected a name that ends in {', '.join(_SUFFIXES)}")
    return suffix


def _read_npz(where: str) -> dict[str, Array]:
    try:
        loaded = np.load(where)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array without a name")
        with loaded as file:
            return {name: file[name] for name in file.files}
    # NumPy refuses objects, which could run anything as they are read.
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{where}: not an .npz file of number arrays: {error}") from None


def _npz_of(arrays: Mapping[str, Array]) -> bytes:
    """As ``numpy.savez`` does, which refuses the name ``file``; the same arrays, the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return content.getvalue()


def _torch_of(arrays: Mapping[str, Array], where: str) -> bytes:
    torch = needed("torch", "torch", where)
    content = io.BytesIO()
    # Copies, since a tensor must be writable and native.
    natives = {n: np.array(a, a.dtype.newbyteorder("=")) for n, a in arrays.items()}
    torch.save({name: torch.from_numpy(array) for name, array in natives.items()}, content)
    return content.getvalue()


def _read_torch(where: str) -> dict[str, Array]:
    torch = needed("torch", "torch", where)
    with open(where, "rb") as file:
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle, zip and torch each have their own
            raise ValueError(f"{where}: not a file of tensors that torch.save wrote") from error
    if not isinstance(loaded, Mapping):
        kind = type(loaded).__name__
        raise ValueError(f"{where}: expected a state dict, got {kind}")
    tensors = {}
    for name, value in loaded.items():
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise TypeError(f"{where}: {name}: expected a tensor, got {kind}")
        try:
            tensors[str(name)] = np.asarray(value.detach())
        except TypeError as error:
            raise TypeError(f"{where}: {name}: {error}") from None
    return tensors


def _take_vars(h5py: Any, name: str, item: Any, found: dict[str, list[Array]]) -> None:
    """A group ``vars`` that is not empty: datasets 0, 1, ..."""
    owner, _, last = name.rpartition("/")
    if last == "vars" and isinstance(item, h5py.Group) and len(item):
        found[owner] = [np.array(item[str(k)]) for k in range(len(item))]


def _read_older(group: Any) -> dict[str, list[Array]]:
    def names(item: Any, attribute: str) -> list[str]:
        return [n.decode() if isinstance(n, bytes) else str(n) for n in item.attrs[attribute]]

    layers = {layer: group[layer] for layer in names(group, "layer_names")}
    found = {
        layer: [np.array(item[name]) for name in names(item, "weight_names")]
        for layer, item in layers.items()
    }
    return {layer: arrays for layer, arrays in found.items() if arrays}
