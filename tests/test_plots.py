"""Plots and figures are made without a display, and show the numbers that they are given."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_command import SENTENCES, run_command
from helpers_layers import build, inputs

import pyrnn
from pyrnn import figures, plots
from pyrnn.autocomplete.colouring import slowest_unit
from pyrnn.autocomplete.model import CharModel
from pyrnn.gates import GateStatistics

pytest.importorskip("matplotlib", reason="plots need matplotlib")

ROOT = Path(__file__).resolve().parents[1]
DOC = (ROOT / "docs" / "diagnostics.md").read_text()


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    CharModel.create(SENTENCES, hidden_size=8, seed=0).save(path)
    return path


def png(figure: Any, tmp_path: Path) -> bytes:
    return plots.write_figure(figure, tmp_path / "figure.png", 60).read_bytes()


@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm"])
@pytest.mark.parametrize("jacobian", [False, True])
def test_gradient_flow_is_drawn(kind: str, jacobian: bool, tmp_path: Path) -> None:
    layer = build(kind, num_layers=2)
    x, state = inputs(layer)
    flow = pyrnn.gradient_flow(layer, x, state=state, jacobian=jacobian)
    figure = plots.draw_gradient_flow(flow)
    assert len(figure.axes) == 1 + jacobian
    norms = [flow.dh, flow.dc] if kind == "lstm" else [flow.dh]
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2 * len(norms)
    for k in range(2):
        for line, of_state in zip(lines[k * len(norms) :], norms, strict=False):
            drawn = np.nan_to_num(line.get_ydata())
            np.testing.assert_array_equal(drawn, of_state[k])
    assert png(figure, tmp_path).startswith(b"\x89PNG")


def test_gates_are_drawn(tmp_path: Path) -> None:
    shares = np.array([0.25, 0.75])
    one = GateStatistics(0, False, "f", shares, shares, 1 - shares)
    figure = plots.draw_gates([one, one])
    bars, dots = figure.axes
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == [0.5] * 4
    np.testing.assert_array_equal(dots.get_lines()[0].get_xdata(), one.lows)
    np.testing.assert_array_equal(dots.get_lines()[0].get_ydata(), one.highs)
    assert png(figure, tmp_path).startswith(b"\x89PNG")


def test_text_is_drawn_where_it_stands(tmp_path: Path) -> None:
    figure = plots.draw_text("ab$\ncdefg", np.linspace(-1, 1, 9), columns=4)
    places = {t.get_text(): t.get_position() for t in figure.axes[0].texts}
    assert places["b"] == (1.5, 0.55)
    assert places["$"] == (2.5, 0.55)
    assert places["⏎"] == (3.5, 0.55)
    assert places["f"] == (3.5, 1.55)
    assert places["g"] == (0.5, 2.55)
    assert png(figure, tmp_path).startswith(b"\x89PNG")
    assert png(plots.draw_text("", []), tmp_path).startswith(b"\x89PNG")


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        plots.new_figure(1, 1, (1, 1))
    arguments = figures.argparse.Namespace(folder=str(tmp_path), model=None)
    with pytest.raises(figures.InputError, match="pip install matplotlib"):
        figures.run(arguments)


def test_plots_load_neither_matplotlib_nor_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, pyrnn.__main__, pyrnn.plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "pyrnn.plots.draw_text('a', [1.0])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


# --- The figures of docs/diagnostics.md ------------------------------------------------------


def test_clipping_keeps_the_path_that_is_lost_without() -> None:
    paths = {limit: np.array(list(figures.descent(limit))) for limit in (None, 0.5)}
    lost, kept = paths[None], paths[0.5]
    np.testing.assert_array_equal(lost[:22], kept[:22])  # what is short is not changed
    assert np.hypot(*(lost[22] - lost[21])[:2]) > 100
    assert np.hypot(*(kept[22] - kept[21])[:2]) == pytest.approx(0.05)
    assert lost[-1, 2] > 0.48
    assert kept[-1, 2] < 0.03


def test_norms_of_the_chapter() -> None:
    """r^(T - t) bounds what vanishes; the product of forget gates is most of what is kept."""
    for radius in (0.5, 0.95):
        x = np.random.default_rng(0).normal(size=(20, 1, 1))
        norms = pyrnn.gradient_flow(figures.elman(radius), x).h_jacobian
        assert norms is not None
        bound = radius ** np.arange(20.0)[::-1]
        assert (norms[0] <= bound * (1 + 1e-12)).all()
        assert (norms[0] >= bound / 20).all()
    figure = figures.forget_gates()
    whole, product, *others = [np.nan_to_num(np.asarray(line.get_ydata()))
                               for line in figure.axes[0].get_lines()]  # fmt: skip
    assert whole[0] == product[0] == 1
    assert whole[-1] > 1 > product[-1] > 0.03  # bias 3
    assert others[0][-1] < 1e-6  # bias 1
    assert others[2][-1] < 1e-19  # bias 0


def test_the_command_draws_them_all(tmp_path: Path, model_file: Path) -> None:
    done = run_command("figures", tmp_path, "--model", model_file)
    assert done.returncode == 0, done.stderr.decode()
    made = sorted(path.name for path in tmp_path.iterdir())
    assert [str(tmp_path / name) for name in made] == sorted(done.stdout.decode().split())
    shown = set(re.findall(r"\]\(figures/([^)\s]+)\)", DOC))
    assert shown == set(made)
    for name in made:
        ours = ROOT / "docs" / "figures" / name
        assert ours.stat().st_size < 100_000, name
        if name.endswith(".png"):
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_command_says_what_is_wrong(tmp_path: Path, model_file: Path) -> None:
    for arguments, message in (
        (["figures", tmp_path / "none"], "none: there is no such folder"),
        (["figures", tmp_path, "--model", tmp_path / "none"], "none: No such file"),
        (["colour", tmp_path / "none"], "none: No such file"),
        (["colour", model_file, "--unit", "8"], "--unit: expected 0..7, got 8"),
        (["colour", model_file, "--unit", "-1"], "--unit: expected an integer of at least 0"),
        (["colour", model_file, "--characters", "0"], "--characters: expected an integer of at"),
        (["colour", model_file, "--text", tmp_path], "Is a directory"),
        (["colour", model_file, "--output", tmp_path], "Is a directory"),
    ):
        done = run_command(*arguments)
        error = done.stderr.decode()
        assert done.returncode == 2, error
        assert error.startswith("pyrnn: error: ")
        assert message in error
        assert error.count("\n") == 1


def test_the_command_colours_a_text(tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "text").write_text("the <river> sees\n")
    page, target = run_command("colour", model_file, "--text", tmp_path / "text"), tmp_path / "page"
    assert page.returncode == 0, page.stderr.decode()
    assert "&gt;" in page.stdout.decode()
    one = ("colour", model_file, "--text", tmp_path / "text", "--unit", "3", "--output", target)
    assert run_command(*one).stdout == b""
    model = CharModel.load(model_file)
    y, _ = model.layer(model.vocabulary.encode("the <river> sees\n")[:, None])
    want = pyrnn.coloured_text("the <river> sees\n", y[:, 0, 3], title="LSTM")
    assert target.read_text().split("<pre>")[1] == want.split("<pre>")[1]
    assert "unit 3" in target.read_text()


def test_the_slowest_unit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    t = np.arange(60)
    h = np.stack([np.sin(2 * t), 0.01 * np.sin(t / 10), np.zeros(60), np.sin(t)], axis=1)
    monkeypatch.setattr("pyrnn.autocomplete.colouring.unit_values", lambda model, text: h)
    assert slowest_unit(None, "") == 1  # type: ignore[arg-type]


def test_the_code_of_the_chapter_runs(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "x: nan at step 12, index (0, 3)" in done.stdout
