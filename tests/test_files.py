"""Layers written to files and read again."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_layers import assert_all_same
from safetensors.numpy import load_file, save_file

import pyrnn
from pyrnn.files import load_modules, save_modules

LAYERS = (
    pyrnn.RNN(3, 4, rng=0),
    pyrnn.RNN(3, 4, 2, "relu", bias=False, batch_first=True, dropout=0.25, dtype="float64", rng=0),
    pyrnn.GRU(3, 4, 2, bidirectional=True, reset_after=False, rng=0),
    pyrnn.LSTM(3, 4, 3, dropout=0.5, forget_bias=2.0, init="orthogonal", rng=0),
    pyrnn.Linear(3, 4, rng=0),
    pyrnn.Linear(3, 4, bias=False, dtype="float64", rng=0),
)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_round_trip(layer: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for where in (path, str(path)):
        pyrnn.save(layer, where)
        loaded = pyrnn.load(where)
        assert type(loaded) is type(layer)
        assert repr(loaded) == repr(layer)
        assert_all_same(loaded.params, layer.params)
        assert all(array.flags.writeable for array in loaded.params.values())
        x = np.ones((2, 5, 3), layer.dtype)
        assert_all_same(loaded(x), layer(x))
    # Any reader finds PyTorch's names.
    assert_all_same(load_file(path), layer.params)


def test_several_modules_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model"
    modules = {"rnn": LAYERS[3], "head": LAYERS[4]}
    extra = {"vocabulary": json.dumps(["a", "ß", "\n", '"']), "format": "mine", "": ""}
    save_modules(path, modules, extra)
    loaded, metadata = load_modules(path)
    assert metadata == extra
    assert list(loaded) == ["rnn", "head"]
    for name, module in modules.items():
        assert repr(loaded[name]) == repr(module)
        assert_all_same(loaded[name].params, module.params)
    names = {f"{n}.{p}" for n, module in modules.items() for p in module.params}
    assert set(load_file(path)) == names
    pyrnn.save(LAYERS[0], path, metadata={"note": "kept"})
    assert load_modules(path)[1] == {"note": "kept"}


def test_parameters_in_any_layout(tmp_path: Path) -> None:
    layer = pyrnn.GRU(3, 4, rng=0)
    want = layer.state_dict()
    layer.params["weight_hh_l0"] = np.asfortranarray(want["weight_hh_l0"])
    layer.params["weight_ih_l0"] = want["weight_ih_l0"].astype(">f4")
    pyrnn.save(layer, tmp_path / "model")
    assert_all_same(pyrnn.load(tmp_path / "model").params, want)


def test_pytorch_reads_the_tensors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is not installed")
    from safetensors.torch import load_file as load_tensors

    layer = pyrnn.LSTM(3, 4, 2, bidirectional=True, rng=0)
    pyrnn.save(layer, tmp_path / "model")
    module = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    module.load_state_dict(load_tensors(tmp_path / "model"))
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("f4")
    np.testing.assert_allclose(
        layer(x)[0], module(torch.from_numpy(x))[0].detach().numpy(), atol=1e-6
    )


def test_a_file_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    pyrnn.save(LAYERS[0], path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        pyrnn.save(LAYERS[2], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    pyrnn.save(LAYERS[2], path)
    assert repr(pyrnn.load(path)) == repr(LAYERS[2])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="needs the file system of POSIX")
def test_links_permissions_and_readers(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    before = os.umask(0o027)
    try:
        pyrnn.save(LAYERS[0], link)
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    # Who has the old file open keeps reading the old file.
    old = target.read_bytes()
    with open(target, "rb") as reader:
        pyrnn.save(LAYERS[2], link)
        assert reader.read() == old


def refuses(error: type[Exception], message: str, call: Any, *arguments: Any) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call(*arguments)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    class Own(pyrnn.GRU):
        pass

    path = tmp_path / "model"
    wanted = "expected one of RNN, GRU, MGU, LSTM, Linear, got "
    refuses(TypeError, "layer: " + wanted + "Own", pyrnn.save, Own(2, 3), path)
    refuses(TypeError, "layer: " + wanted + "dict", pyrnn.save, LAYERS[0].params, path)
    refuses(TypeError, "rnn: " + wanted + "int", save_modules, path, {"rnn": 3})
    message = "metadata['epoch']: expected text, got int"
    refuses(TypeError, message, pyrnn.save, LAYERS[0], path, {"epoch": 3})
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        pyrnn.save(LAYERS[0], tmp_path / "no such folder" / "model")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        pyrnn.load(path)
    with pytest.raises(IsADirectoryError):
        pyrnn.load(tmp_path)
    for content in (b"", b"text", b"\xff" * 100, b"\x08" + bytes(7) + b"{}      "):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            pyrnn.load(path)
    pyrnn.save(LAYERS[0], path)
    content = path.read_bytes()
    for cut in (4, 20, len(content) - 1):
        path.write_bytes(content[:cut])
        refuses(ValueError, f"{path}: not a safetensors file", pyrnn.load, path)


def test_files_that_are_no_models_of_pyrnn(tmp_path: Path) -> None:
    path = tmp_path / "file"
    tensors = LAYERS[0].state_dict()
    modules = {"": {"class": "RNN", "arguments": LAYERS[0].arguments()}}
    good = {"format": "pyrnn 1", "modules": json.dumps(modules), "metadata": "{}"}

    def refused(message: str, header: dict[str, str] | None, **changed: Any) -> None:
        found = {n: a for n, a in (tensors | changed).items() if a is not None}
        save_file(found, path, metadata=header)
        refuses(ValueError, f"{path}: {message}", pyrnn.load, path)

    save_file(tensors, path, metadata=good)
    assert_all_same(pyrnn.load(path).params, tensors)

    refused("not a pyrnn model: expected format 'pyrnn 1' in its metadata, got None", None)
    refused("not a pyrnn model: expected format", good | {"format": "pyrnn 2"})
    refused("not a pyrnn model: no JSON object 'modules'", {"format": "pyrnn 1"})
    refused("not a pyrnn model: no JSON object 'modules'", good | {"modules": "[1]"})
    refused("not a pyrnn model: no JSON object 'metadata'", good | {"metadata": "{"})
    refused("layer: state_dict of RNN(3, 4): missing bias_hh_l0", good, bias_hh_l0=None)
    refused(
        "layer: weight_ih_l0: expected shape (4, 3), got (3, 4)",
        good,
        weight_ih_l0=np.zeros((3, 4), "f4"),
    )
    refused(
        "layer: weight_ih_l0: expected float32, got float64", good, weight_ih_l0=np.zeros((4, 3))
    )
    refused("unexpected tensors extra", good, extra=np.zeros(3))

    def entry(**changed: Any) -> dict[str, str]:
        return good | {"modules": json.dumps({"": modules[""] | changed})}

    refused(
        "layer: expected one of RNN, GRU, MGU, LSTM, Linear, got 'Tape'", entry(**{"class": "Tape"})
    )
    refused("layer: expected one of", entry(**{"class": ["RNN"]}))
    refused("layer: expected one of", good | {"modules": json.dumps({"": 3})})
    arguments = LAYERS[0].arguments()
    refused("layer: ", entry(arguments=arguments | {"colour": 3}))
    refused("layer: ", entry(arguments=None))
    refused(
        "layer: hidden_size: expected at least 1", entry(arguments=arguments | {"hidden_size": 0})
    )
    two = {"a": modules[""], "b": modules[""]}
    save_modules(path, {"a": LAYERS[0], "b": LAYERS[1]})
    refuses(ValueError, f"{path}: expected one layer, got a, b", pyrnn.load, path)
    assert list(two) == list(load_modules(path)[0])


def test_safetensors_is_imported_when_it_is_used(tmp_path: Path) -> None:
    code = (
        "import sys, pyrnn; assert 'safetensors' not in sys.modules\n"
        "pyrnn.save(pyrnn.RNN(1, 1), 'model'); assert 'safetensors' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
