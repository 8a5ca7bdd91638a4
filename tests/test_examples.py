"""Every example learns, on a stand-in for its data; and on the data where they are in the cache."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _common
import helpers_examples
import numpy as np
import pytest
from _common import Result, Source
from tolerances import LOSS_DIFFERENCE, LOSS_DIFFERENCE_STEP, assert_close

import pyrnn

ROOT = Path(__file__).resolve().parents[1]


class Example(NamedTuple):
    """How to run one in a few seconds."""

    stand_in: Callable[[Path, np.random.Generator], None]
    made: str  # options with the stand-in
    real: str  # options with the data
    higher_is_better: bool = True
    chance: float | None = None  # to beat with a small part of the data, in place of the baseline


EXAMPLES = {
    "one_to_one": Example(helpers_examples.digits, "--epochs 10", "--epochs 5"),
    "captioning": Example(helpers_examples.digits, "--epochs 15", "--epochs 15"),
    "sentiment": Example(
        helpers_examples.snippets, "--epochs 10 --hidden 16 --lr 0.02", "--epochs 2", chance=0.6
    ),
    "vowels": Example(helpers_examples.vowels, "--epochs 10 --hidden 16", "--epochs 30"),
    "forecasting": Example(helpers_examples.sunspots, "--epochs 15", "--epochs 20", False),
    "segmentation": Example(
        helpers_examples.corpus,
        "--epochs 8 --hidden 16",
        "--epochs 2 --limit 9000 --hidden 32",
        chance=0.6,
    ),
    "pronunciation": Example(
        helpers_examples.dictionary,
        "--epochs 6 --hidden 32 --lr 0.02 --batch-size 32",
        "--epochs 4 --limit 9000 --hidden 64 --lr 0.01 --batch-size 32",
        False,
    ),
}

# Networks of others, or in the hands of others: each with tests of its own.
OF_OTHERS = ("speech", "g2p", "torch_ddp")


def source_of(name: str) -> Source:
    module = importlib.import_module(name)
    found = [value for value in vars(module).values() if isinstance(value, Source)]
    return found[0] if found else _common.DIGITS


def check(name: str, result: Result, printed: str, chance: float | None = None) -> None:
    assert result.losses[-1] < 0.8 * result.losses[0]
    to_beat = result.baseline if chance is None else chance
    if EXAMPLES[name].higher_is_better:
        assert result.score > to_beat
    else:
        assert result.score < to_beat
    for number in (result.score, result.baseline):
        assert f"{number:.3f}" in printed


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_learns(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    EXAMPLES[name].stand_in(tmp_path, np.random.default_rng(5))
    options = EXAMPLES[name].made.split()
    result = importlib.import_module(name).main([*options, "--data", str(tmp_path)])
    check(name, result, capsys.readouterr().out)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_learns_from_its_data(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On a few of its data, which are fetched the first time."""
    try:
        _common.fetch(source_of(name))
    except SystemExit as error:  # no package index is at hand
        pytest.skip(str(error))
    result = importlib.import_module(name).main(EXAMPLES[name].real.split())
    check(name, result, capsys.readouterr().out, EXAMPLES[name].chance)


def test_a_published_program_says_the_same_words() -> None:
    g2p = importlib.import_module("g2p")
    try:
        result = g2p.main(["--limit", "60"])
    except SystemExit as error:  # no package index is at hand
        pytest.skip(str(error))
    assert result.words == result.same == 60
    assert 0.5 < result.exact < 0.9


class Stop(Exception):
    """Ends an example ahead of its training."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_goes_down_its_own_loss(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradients, put together by hand, are those of the loss that it reports."""
    found: list[Any] = []

    def instead(loss_and_grads: Any, params: Any, rows: Any, *_: Any) -> None:
        found.extend((loss_and_grads, params, rows[:7]))
        raise Stop

    module = importlib.import_module(name)
    monkeypatch.setattr(module, "train", instead)
    EXAMPLES[name].stand_in(tmp_path, np.random.default_rng(5))
    with pytest.raises(Stop):
        module.main(["--hidden", "8", "--data", str(tmp_path)])
    loss_and_grads, params, rows = found
    generator = inspect.getclosurevars(loss_and_grads).nonlocals.get("rng")
    start = generator.bit_generator.state if generator else None

    def loss(shift: float, along: dict[str, Any]) -> float:
        if generator:
            generator.bit_generator.state = start
        before = {key: param.copy() for key, param in params.items()}
        for key, param in params.items():
            param += np.float32(shift) * along[key]
        value = float(loss_and_grads(rows)[0])
        for key, param in params.items():
            param[...] = before[key]
        return value

    if generator:
        generator.bit_generator.state = start
    _, grads = loss_and_grads(rows)
    assert set(grads) == set(params)
    for key, grad in grads.items():
        norm = float(np.sqrt(np.square(grad).sum()))
        along = {k: grad / norm if k == key and norm else 0 for k in params}
        rise = loss(LOSS_DIFFERENCE_STEP, along) - loss(-LOSS_DIFFERENCE_STEP, along)
        slope = rise / (2 * LOSS_DIFFERENCE_STEP)
        assert slope == pytest.approx(norm, **LOSS_DIFFERENCE), key


def test_a_forecast_is_told_the_years_before_alone() -> None:
    forecasting = importlib.import_module("forecasting")
    layer, head = pyrnn.LSTM(1, 4, rng=0), pyrnn.Linear(4, 1, rng=1)
    series = np.random.default_rng(2).random((30, 1), np.float32)
    found = forecasting.rolled_forecasts(layer, head, series, 12)
    for n, forecast in enumerate(found):
        known = series[: 12 + n]
        for ahead in forecast[:, None]:
            y, _ = layer(known)
            assert_close(ahead, head(y[-1]), "float32")
            known = np.append(known, ahead[None], axis=0)
    assert len(found) == 30 - 12 - forecasting.CYCLE + 1


# --- Where the data come from ---------------------------------------------------------------------


def archive(*files: tuple[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return written.getvalue()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of archives in place of the package index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(folder: Path, *files: tuple[str, bytes]) -> Source:
    """A package of one archive that holds the files, among those that pip wants."""
    path = folder / "words-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: words\nVersion: 1.0\n"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("words-1.0.dist-info/METADATA", about)
        packed.writestr("words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        for name, content in files:
            packed.writestr(name, content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source("words==1.0", digest, "wheel", tuple(name for name, _ in files))


def test_an_archive_is_fetched_once(index: Path) -> None:
    inner = archive(("deep/b.txt", b"two"))
    source = wheel(index, ("words/a.txt", b"one"), ("words/inner.tar.gz", inner))
    source = source._replace(paths=("words/a.txt", "words/inner.tar.gz//deep/b.txt"))
    assert [file.read_bytes() for file in _common.fetch(source)] == [b"one", b"two"]
    (index / "words-1.0-py3-none-any.whl").unlink()
    files = _common.fetch(source)
    assert [file.read_bytes() for file in files] == [b"one", b"two"]
    assert sorted(files[0].parent.iterdir()) == sorted(files)  # nothing is left beside them


def test_another_archive_than_expected_is_refused(index: Path) -> None:
    source = wheel(index, ("words/a.txt", b"one"))
    wheel(index, ("words/a.txt", b"other"))
    with pytest.raises(SystemExit, match=r"(?is)hash.*cannot fetch words==1.0"):
        _common.fetch(source)
    assert not _common.cached(source)[0].exists()


def test_without_the_package_index(index: Path) -> None:
    source = Source("words==1.0", "0" * 64, "wheel", ("words/a.txt",))
    with pytest.raises(SystemExit, match=r"words==1.0: this needs.* a copy of a\.txt with --data"):
        _common.fetch(source)


def test_a_folder_without_the_data(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"sunspots\.csv is missing: --data"):
        importlib.import_module("forecasting").main(["--data", str(tmp_path)])


# --- What they are made of ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ab", 0), ("abc", "", 3)],
)
def test_edits(a: str, b: str, expected: int) -> None:
    assert importlib.import_module("pronunciation").edits(a, b) == expected


def test_words_of_labels() -> None:
    segmentation = importlib.import_module("segmentation")
    assert segmentation.labels_of(["甲", "乙丙", "丁戊己"]) == "SBEBME"
    assert segmentation.spans("SBEBME") == {(0, 1), (1, 3), (3, 6)}
    # What no text has, but a network may say.
    assert segmentation.spans("MMBSM") == {(0, 2), (2, 3), (3, 4), (4, 5)}
    assert segmentation.f1(["SBE"], ["SSS"]) == pytest.approx(0.4)


def test_greedy_decoding_ends_where_the_end_is_likeliest() -> None:
    decoder, head = pyrnn.GRU(3, 4, rng=0), pyrnn.Linear(4, 3, rng=0)
    state = np.zeros((1, 2, 4), np.float32)
    head.params["bias"][...] = [0, 0, 100]
    start = np.zeros(2, np.int64)
    assert _common.greedy(decoder, head, state, start, end=2, most=5) == [[], []]
    assert _common.greedy(decoder, head, state, start, end=0, most=3) == [[2, 2, 2]] * 2


@pytest.mark.parametrize("name", [*EXAMPLES, "g2p"])
def test_an_example_says_what_it_takes(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--limit" in done.stdout


def test_the_table_of_examples_is_whole() -> None:
    table = (ROOT / "examples" / "README.md").read_text()
    scripts = {path.stem for path in (ROOT / "examples").glob("[!_]*.py")}
    assert set(EXAMPLES) | set(OF_OTHERS) == scripts
    for name in scripts:
        assert f"python examples/{name}.py" in table
