"""Tensors in files of others: there and back, read by their owners, and errors by name."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_layers import assert_all_same
from helpers_script import check_script
from tolerances import assert_same_bits

import pyrnn
from pyrnn import weights
from pyrnn.formats import read_keras, read_tensors, write_keras, write_tensors

LAYERS = (
    pyrnn.RNN(3, 4, rng=0),
    pyrnn.GRU(3, 4, 2, bidirectional=True, reset_after=False, dtype="float64", rng=0),
    pyrnn.LSTM(3, 4, 2, proj_size=2, rng=0),
    pyrnn.LSTM(3, 4, peephole="diagonal", layer_norm=True, bias=False, rng=0),
)
ENDINGS = [".safetensors", ".npz", ".pt", ".PTH"]


def needs(ending: str) -> None:
    if ending.lower() in (".pt", ".pth", ".bin"):
        pytest.importorskip("torch", reason="needs PyTorch")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_there_and_back(layer: Any, ending: str, tmp_path: Path) -> None:
    needs(ending)
    path = tmp_path / f"model{ending}"
    for where in (path, str(path)):
        write_tensors(where, layer.state_dict())
        read = read_tensors(where)
        assert set(read) == set(layer.params)
        assert_all_same({name: read[name] for name in layer.params}, layer.params)
    other = type(layer)(**layer.arguments())
    other.load_state_dict(read)
    assert_all_same(other.params, layer.params)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_part_of_a_model(ending: str, tmp_path: Path) -> None:
    needs(ending)
    path = tmp_path / f"model{ending}"
    layer = LAYERS[0]
    whole = {f"encoder.rnn.{name}": array for name, array in layer.params.items()}
    write_tensors(path, whole | {"head.weight": np.ones(3), "steps": np.array(7)})
    assert_all_same(read_tensors(path, "encoder.rnn."), layer.params)
    assert read_tensors(path)["steps"].shape == ()
    with pytest.raises(ValueError, match=r"expected names that start with 'decoder\.', got "):
        read_tensors(path, "decoder.")


@pytest.mark.parametrize("ending", ENDINGS)
def test_odd_arrays_are_written_as_numbers(ending: str, tmp_path: Path) -> None:
    needs(ending)
    path = tmp_path / f"model{ending}"
    plain = np.arange(6.0).reshape(2, 3)
    frozen = plain.copy()
    frozen.flags.writeable = False
    odd = {"file": plain.astype(">f8"), "turned": plain.T.copy().T, "frozen": frozen, "b": plain}
    write_tensors(path, odd)
    for name, array in read_tensors(path).items():
        np.testing.assert_array_equal(array, plain, name)
    before = path.read_bytes()
    write_tensors(path, odd)
    assert path.read_bytes() == before, "the same tensors make the same bytes"
    if ending == ".npz":
        entries = zipfile.ZipFile(path).infolist()
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}, "at any time"


def test_objects_are_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_tensors(tmp_path / "model.npz", {"w": np.array([{}], object)})
    assert not list(tmp_path.iterdir())


def test_what_pytorch_saves(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    module = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    torch.save(module.state_dict(), tmp_path / "model.pt")
    layer = pyrnn.LSTM(3, 4, 2, bidirectional=True)
    layer.load_state_dict(read_tensors(tmp_path / "model.pt"))
    for name, parameter in module.state_dict().items():
        assert_same_bits(layer.params[name], parameter.numpy(), name)
    write_tensors(tmp_path / "back.pt", layer.state_dict())
    other = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    other.load_state_dict(torch.load(tmp_path / "back.pt", weights_only=True))
    for name, parameter in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], parameter)


def test_a_state_dict_needs_no_file() -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    module = torch.nn.GRU(3, 4)
    layer = pyrnn.GRU(3, 4)
    layer.load_state_dict(module.state_dict())
    module.load_state_dict({name: torch.tensor(a) for name, a in layer.state_dict().items()})


def test_errors_of_what_a_file_holds(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    path = tmp_path / "model.pt"
    for saved, kind, message in (
        ([1], ValueError, "expected a state dict, got list"),
        ({"lr": 0.1}, TypeError, "lr: expected a tensor, got float"),
        ({"w": torch.ones(2, dtype=torch.bfloat16)}, TypeError, "w: Got unsupported ScalarType"),
        (pyrnn.RNN(1, 1), ValueError, "not a file of tensors that torch.save wrote"),
    ):
        torch.save(saved, path)
        with pytest.raises(kind, match=re.escape(f"{path}: {message}")):
            read_tensors(path)


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pt"])
def test_broken_and_missing_files(ending: str, tmp_path: Path) -> None:
    needs(ending)
    path = tmp_path / f"model{ending}"
    with pytest.raises(FileNotFoundError):
        read_tensors(path)
    for content in (b"", b"no such file", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="^" + re.escape(f"{path}: not a")):
            read_tensors(path)
    with pytest.raises(OSError):
        write_tensors(tmp_path / "missing" / path.name, {})


def test_an_npz_of_objects_or_of_one_array(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, w=np.array([{}], object))
    with pytest.raises(ValueError, match=r"not an \.npz file of number arrays: .*allow_pickle"):
        read_tensors(path)
    np.save(tmp_path / "one.npy", np.ones(2))
    path.write_bytes((tmp_path / "one.npy").read_bytes())
    with pytest.raises(ValueError, match="one array without a name"):
        read_tensors(path)


def test_another_ending(tmp_path: Path) -> None:
    for call in (read_tensors, lambda path: write_tensors(path, {})):
        with pytest.raises(ValueError, match=r"model\.onnx: expected a name that ends in \.safet"):
            call(tmp_path / "model.onnx")


def test_a_wrong_shape_is_named_by_the_layer(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m.npz", pyrnn.GRU(3, 5).state_dict())
    message = "weight_ih_l0: expected shape (12, 3), got (15, 3)"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        pyrnn.GRU(3, 4).load_state_dict(read_tensors(tmp_path / "m.npz"))


# --- Keras -----------------------------------------------------------------------------------

MODEL = """
    import os
    os.environ["KERAS_BACKEND"] = "numpy"
    import keras, numpy as np
    def model():
        return keras.Sequential([
            keras.layers.Input((5, 3)),
            keras.layers.LSTM(4, return_sequences=True),
            keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True)),
            keras.layers.SimpleRNN(4),
            keras.layers.Dense(2),
        ])
    folder = {folder!r}
"""
# Where the file has them, the cell, which layer of get_weights(), which half of its list.
KERAS = [
    ("layers/lstm/cell", "lstm", 0, slice(None)),
    ("layers/bidirectional/forward_layer/cell", "gru", 1, slice(3)),
    ("layers/bidirectional/backward_layer/cell", "gru", 1, slice(3, None)),
    ("layers/simple_rnn/cell", "rnn", 2, slice(None)),
]


def needs_keras() -> None:
    pytest.importorskip("h5py", reason="needs h5py")
    found = subprocess.run([sys.executable, "-c", "import keras"], capture_output=True)
    if found.returncode != 0 and b"No module named 'keras'" in found.stderr:
        pytest.skip("needs Keras")


@pytest.mark.parametrize("older", [False, True])
def test_what_keras_saves(older: bool, tmp_path: Path) -> None:
    needs_keras()
    name = "m.h5" if older else "m.weights.h5"
    code = (
        MODEL.format(folder=str(tmp_path))
        + f"""
    built = model()
    built.{"save" if older else "save_weights"}(os.path.join(folder, {name!r}))
    for k, layer in enumerate(built.layers):
        np.savez(os.path.join(folder, f"{{k}}.npz"), *layer.get_weights())
    """
    )
    check_script(code)
    read = read_keras(tmp_path / name)
    assert len(read) == (4 if older else 5)
    for place, cell, k, half in KERAS:
        want = list(read_tensors(tmp_path / f"{k}.npz").values())[half]
        got = read[place.split("/")[1]][half] if older else read[place]
        for ours, theirs in zip(got, want, strict=True):
            assert_same_bits(ours, theirs)
        params = weights.from_keras(got, cell)
        layer = {"lstm": pyrnn.LSTM, "gru": pyrnn.GRU, "rnn": pyrnn.RNN}[cell](
            want[0].shape[0], 4, dtype="float32"
        )
        layer.load_state_dict(params)


def test_keras_reads_what_is_written(tmp_path: Path) -> None:
    needs_keras()
    rng = np.random.default_rng(0)
    shapes = {
        KERAS[0][0]: [(3, 16), (4, 16), (16,)],
        KERAS[1][0]: [(4, 12), (4, 12), (2, 12)],
        KERAS[2][0]: [(4, 12), (4, 12), (2, 12)],
        KERAS[3][0]: [(8, 4), (4, 4), (4,)],
        "layers/dense": [(4, 2), (2,)],
    }
    wanted = {
        place: [rng.normal(size=shape).astype("float32") for shape in of_one]
        for place, of_one in shapes.items()
    }
    write_keras(tmp_path / "m.weights.h5", wanted)
    code = (
        MODEL.format(folder=str(tmp_path))
        + """
    built = model()
    built.load_weights(os.path.join(folder, "m.weights.h5"))
    for k, layer in enumerate(built.layers):
        np.savez(os.path.join(folder, f"{k}.npz"), *layer.get_weights())
    """
    )
    check_script(code)
    for place, _, k, half in KERAS:
        got = list(read_tensors(tmp_path / f"{k}.npz").values())[half]
        for ours, theirs in zip(got, wanted[place], strict=True):
            assert_same_bits(ours, theirs)


def test_keras_there_and_back(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="needs h5py")
    path = tmp_path / "m.weights.h5"
    layer = pyrnn.GRU(3, 4, rng=0, dtype="float64")
    many = {"layers/dense": [np.full(1, float(k)) for k in range(12)]}  # 10 comes behind 9
    written = many | {"layers/gru/cell": weights.to_keras(layer.params, "gru")}
    write_keras(path, written)
    read = read_keras(path)
    assert set(read) == set(written)
    for place, arrays in written.items():
        for got, want in zip(read[place], arrays, strict=True):
            assert_same_bits(got, np.asarray(want))
    assert_all_same(weights.from_keras(read["layers/gru/cell"], "gru"), layer.params)


def test_errors_of_keras_files(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="needs h5py")
    path = tmp_path / "m.weights.h5"
    write_keras(path, {})
    with pytest.raises(ValueError, match="not the weights of a Keras model: no variables in it"):
        read_keras(path)
    path.write_bytes(b"no such file")
    with pytest.raises(OSError):
        read_keras(path)
    with pytest.raises(FileNotFoundError):
        read_keras(tmp_path / "missing.h5")


@pytest.mark.parametrize(("module", "extra"), [("h5py", "h5"), ("torch", "torch")])
def test_a_missing_package_is_named(
    module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / ("m.h5" if module == "h5py" else "m.pt")
    message = f'{path} needs the package {module}: pip install "pyrnn-kernels[{extra}]"'
    for call in (
        (read_keras, lambda where: write_keras(where, {}))
        if module == "h5py"
        else (read_tensors, lambda where: write_tensors(where, {}))
    ):
        path.write_bytes(b"")
        with pytest.raises(ImportError, match="^" + re.escape(message)):
            call(path)
