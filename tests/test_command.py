"""The command ``pyrnn``: bad input ends in one line, Ctrl-C and closed pipes in silence."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from helpers_command import QUICK, SENTENCES, run_command

import pyrnn
from pyrnn.__main__ import main
from pyrnn.autocomplete.model import CharModel
from pyrnn.files import save_modules


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows its vocabulary and nothing else."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    CharModel.create(SENTENCES, hidden_size=8, seed=0).save(path)
    return path


_ROWS: dict[str, tuple[list[str], str]] = {
    "no command": ([], "COMMAND"),
    "unknown command": (["autocorrect"], "autocorrect"),
    "unknown option": (["autocomplete", "--depth", "3"], "--depth 3"),
    "hidden 0": (["autocomplete", "--hidden", "0"], "--hidden: expected an integer of at least 1"),
    "hidden text": (["autocomplete", "--hidden", "many"], "got 'many'"),
    "hidden huge": (["autocomplete", "--hidden", "100000000000"], ""),
    "layers 0": (["autocomplete", "--layers", "0"], "--layers: expected"),
    "epochs 0": (["autocomplete", "--epochs", "0"], "--epochs: expected"),
    "epochs negative": (["autocomplete", "--epochs", "-2"], "--epochs: expected"),
    "epochs fraction": (["autocomplete", "--epochs", "1.5"], "got '1.5'"),
    "seed negative": (["autocomplete", "--seed", "-1"], "--seed: expected"),
    "threads 0": (["autocomplete", "--threads", "0"], "--threads: expected"),
    "batch size 0": (["autocomplete", "--batch-size", "0"], "--batch-size: expected"),
    "steps 0": (["autocomplete", "--steps", "0"], "--steps: expected"),
    "rate 0": (["autocomplete", "--learning-rate", "0"], "--learning-rate: expected"),
    "rate nan": (["autocomplete", "--learning-rate", "nan"], "got 'nan'"),
    "dropout 1": (["autocomplete", "--dropout", "1"], "--dropout: expected"),
    "words 0": (["autocomplete", "--words", "0"], "--words: expected"),
    "beam 0": (["autocomplete", "--beam", "0"], "--beam: expected"),
    "completions 0": (["autocomplete", "--completions", "0"], "--completions: expected"),
    "cell": (["autocomplete", "--cell", "tree"], "'tree'"),
    "missing text": (["autocomplete", "--text", "{tmp}/none"], "none: No such file"),
    "second text missing": (["autocomplete", "--text", "{text}", "{tmp}/none"], "none: No such"),
    "folder as text": (["autocomplete", "--text", "{tmp}"], "Is a directory"),
    "empty text": (["autocomplete", "--text", "{empty}"], "empty: the file is empty"),
    "blank text": (["autocomplete", "--text", "{blank}"], "blank: the file is empty"),
    "binary text": (["autocomplete", "--text", "{binary}"], "binary: expected UTF-8 text, got"),
    "short text": (["autocomplete", "--text", "{short}"], "text: expected at least 200 characters"),
    "unknown character": (["autocomplete", "--text", "{text}", "--prefix", "é"], "'é' (U+00E9)"),
    "empty prefix": (["autocomplete", "--text", "{text}", "--prefix", ""], "prefix: expected"),
    "save nowhere": (["autocomplete", "--save", "{tmp}/no/model"], "there is no folder"),
    "save as folder": (["autocomplete", "--save", "{tmp}"], "this is a folder"),
    "save over text": (["autocomplete", "--text", "{text}", "--save", "{text}"], "also a text"),
    "model missing": (["autocomplete", "--model", "{tmp}/none"], "none: No such file"),
    "model folder": (["autocomplete", "--model", "{tmp}"], "Is a directory"),
    "model empty": (["autocomplete", "--model", "{empty}"], "empty: not a safetensors file"),
    "model binary": (["autocomplete", "--model", "{binary}"], "binary: not a safetensors file"),
    "model cut short": (["autocomplete", "--model", "{cut}"], "cut: not a safetensors file"),
    "model of a layer": (["autocomplete", "--model", "{layer}"], "not a model of pyrnn autocompl"),
    "model without head": (["autocomplete", "--model", "{headless}"], "not a model of pyrnn autoc"),
    "model that misfits": (["autocomplete", "--model", "{misfit}"], "not a model of pyrnn autoc"),
    "model and training": (["autocomplete", "--model", "{model}", "--seed", "0"], "--seed is for"),
    "model, unknown": (["autocomplete", "--model", "{model}", "--prefix", "tÿ"], "'ÿ' (U+00FF)"),
    "model, empty prefix": (["autocomplete", "--model", "{model}", "--prefix", ""], "prefix: exp"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> dict[str, Any]:
    """What the names in braces of the rows stand for."""
    folder = tmp_path_factory.mktemp("bad")
    content = {
        "empty": b"",
        "blank": b" \n\t\n",
        "binary": b"\x93NUMPY\x01\x00\xff\xfe",
        "short": b"a few words\n",
        "text": SENTENCES.encode(),
        "cut": model_file.read_bytes()[:-100],
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    layer = pyrnn.LSTM(4, 5, rng=0)
    pyrnn.save(layer, folder / "layer")
    save_modules(folder / "headless", {"layer": layer, "head": pyrnn.Linear(5, 3)}, {})
    vocabulary = {"characters": "abc", "leads": '["a"]'}
    save_modules(folder / "misfit", {"layer": layer, "head": pyrnn.Linear(5, 3)}, vocabulary)
    names = (*content, "layer", "headless", "misfit")
    return {name: folder / name for name in names} | {"tmp": folder, "model": model_file}


@pytest.mark.parametrize("row", _ROWS)
def test_bad_input_is_one_line_and_exit_code_2(
    row: str, places: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = _ROWS[row]
    try:
        code: object = main([argument.format(**places) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert re.fullmatch(r"pyrnn: error: [^\n]*\n", err)
    assert expected in err
    assert sorted(p.name for p in places["tmp"].iterdir()) == sorted(
        name for name in places if name not in ("tmp", "model")
    )


def test_bad_input_in_a_process_of_its_own(model_file: Path) -> None:
    done = run_command("autocomplete", "--hidden", "0")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == (
        b"pyrnn: error: argument --hidden: expected an integer of at least 1, got '0'\n"
    )
    # Lines before the bad one are answered; one that is not text is an unknown character.
    done = run_command("autocomplete", "--model", model_file, stdin=b"the\n\xff\nthe\n")
    assert done.returncode == 2
    assert done.stdout.count(b'"the"') == 1
    assert done.stderr.startswith(b"pyrnn: error: prefix '\\udcff': the character '\\udcff'")
    assert done.stderr.count(b"\n") == 1


def test_output_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    path = tmp_path / "german.txt"
    path.write_text("die größte Überraschung für Änne\n" * 20, encoding="utf-8")
    done = run_command(
        "autocomplete", "--text", path, *QUICK, environment={"PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"gr\\xf6"' in done.stdout


# The process


def test_ctrl_c_ends_quietly_and_leaves_nothing(tmp_path: Path) -> None:
    text_file = tmp_path / "text"
    text_file.write_text(SENTENCES)
    process = subprocess.Popen(
        [
            sys.executable, "-m", "pyrnn", "autocomplete", "--text", text_file,
            "--epochs", "100000", "--save", tmp_path / "model",
        ],
        cwd=Path(sys.prefix),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    while b"epoch" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, b"")
    assert list(tmp_path.iterdir()) == [text_file]


def test_a_reader_that_goes_away(model_file: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pyrnn", "autocomplete", "--model", model_file],
        cwd=Path(sys.prefix),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(b"the\n" * 3, timeout=30)
    assert (process.returncode, err) == (141, b"")


def test_config_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    assert capsys.readouterr().out.startswith(f"pyrnn {pyrnn.__version__}\n  isa: ")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"pyrnn {pyrnn.__version__}\n"


def test_source_folder_says_that_it_is_one(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[1] / "pyrnn"
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(source, tmp_path / "pyrnn", ignore=ignored)
    done = subprocess.run(
        # Without site-packages, whose finder of an editable install would know the module.
        [sys.executable, "-S", "-m", "pyrnn", "autocomplete"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(numpy.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "this is a source folder. Install the package (pip install .)" in done.stderr
