"""The benchmark suite: all libraries compute the same, its arithmetic is right. No time counts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from tolerances import RELATIVE

import pyrnn

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.append(str(BENCH))

from cases import DEFAULT, FULL, Case, problem  # noqa: E402
from compare import Mismatch, alternate, authority, verify  # noqa: E402
from drop_in import PEERS as DROP_INS  # noqa: E402
from evaluators import KINDS as EVALUATORS  # noqa: E402
from jitter import steps, steps_into, summary  # noqa: E402
from load import worst  # noqa: E402
from machine import SIZES, Limits, text  # noqa: E402
from peers import PEERS  # noqa: E402
from pyrnn_peers import Pyrnn  # noqa: E402
from report import head, line, matches, select  # noqa: E402
from results import Row, load, save  # noqa: E402
from sweep import slope, sweeps  # noqa: E402

SMALL = [
    Case("infer", "lstm", 3, 5, 1, 1),
    Case("infer", "gru", 3, 5, 2, 4, num_layers=2, bidirectional=True),
    Case("infer", "rnn", 3, 5, 2, 4, dtype="float64"),
    Case("infer", "lstm", 3, 5, 4, 6, bidirectional=True, ragged=True),
    Case("train", "lstm", 3, 5, 2, 4, num_layers=2),
    Case("train", "gru", 3, 5, 4, 6, ragged=True),
    Case("train", "rnn", 3, 5, 2, 4, bidirectional=True, dtype="float64"),
    Case("infer", "lstm", 16, 16, 1, 4, precision="bfloat16"),
    Case("infer", "gru", 16, 16, 1, 4, precision="int8"),
]


KINDS = (*PEERS, *EVALUATORS[:2], *DROP_INS[:2])
PAIRS = [(kind, case) for kind in KINDS for case in SMALL if kind.supports(case)]


@pytest.fixture(scope="module", autouse=True)
def _threads_of_openmp() -> Iterator[None]:
    """What peers that share OpenMP with the tests set, is undone."""
    with threadpoolctl.threadpool_limits(pyrnn.get_num_threads(), user_api="openmp"):
        yield


@pytest.mark.parametrize(
    ("kind", "case"), PAIRS, ids=[f"{kind.__name__}-{case.name}" for kind, case in PAIRS]
)
def test_every_library_computes_the_case(kind: Any, case: Case) -> None:
    if (module := kind.missing()) is not None:
        pytest.skip(f"{module} is not installed")
    error = verify(kind(problem(case), 1), case, authority(case))
    assert 0 <= error <= kind.slack * RELATIVE[kind.precision(case)]


def test_a_wrong_result_is_refused() -> None:
    case = SMALL[0]
    peer = Pyrnn(problem(case), 1)
    with pytest.raises(Mismatch, match="relative error"):
        verify(peer, case, {k: v + 1e-3 for k, v in authority(case).items()})
    with pytest.raises(Mismatch, match="names"):
        verify(peer, case, {"y": authority(case)["y"]})


def test_names_are_unique_and_tell_what_differs() -> None:
    assert len({case.name for case in FULL}) == len(FULL)
    assert set(DEFAULT) <= set(FULL)


def test_work_of_a_case() -> None:
    # Two layers, both directions: inputs of 3 and then of 2 * 5.
    case = Case("infer", "gru", 3, 5, 2, 4, num_layers=2, bidirectional=True)
    rows = 4 * 2
    assert case.input_flops == 2 * rows * 3 * 5 * (3 + 3 + 10 + 10)
    assert case.recurrent_flops == 2 * rows * 3 * 5 * 5 * 4
    assert case.flops == case.input_flops + case.recurrent_flops
    assert replace(case, mode="train").flops == 3 * case.flops
    assert case.recurrent_bytes == 3 * 5 * 5 * 4
    assert case.activations == rows * 4 * 5 * 3
    assert replace(case, dtype="float64").recurrent_bytes == 2 * case.recurrent_bytes
    assert replace(case, precision="int8").recurrent_bytes == case.recurrent_bytes // 4


def test_work_of_a_ragged_batch_is_the_sum_of_its_lengths() -> None:
    case = Case("infer", "lstm", 3, 5, 64, 100, ragged=True)
    lengths = case.lengths
    assert lengths is not None
    assert lengths.max() == 100
    assert lengths.min() >= 1
    assert case.rows == lengths.sum() < 64 * 100
    assert case.flops * 64 * 100 == replace(case, ragged=False).flops * case.rows


@pytest.mark.parametrize("what", ["inputs", "states", "weights", "all"])
def test_denormal_cases_are_denormal(what: str) -> None:
    made = problem(Case("infer", "lstm", 3, 5, 2, 4, denormal=what))
    parts = {"inputs": [made.x], "states": list(made.state), "weights": list(made.params.values())}
    parts["all"] = [array for part in parts.values() for array in part]
    for array in parts[what]:
        tiny = np.finfo(array.dtype).tiny
        assert (np.abs(array) < tiny).all()
        assert array.any()


def limits(threads: int = 2) -> Limits:
    """100 GFLOP/s and 100 GB/s, 1 ns an activation."""
    made = Limits(threads, {"float32": 100.0, "float64": 50.0}, {}, 1e3, 100.0, 50.0)
    made.activation.update({"float32": 1.0, "float64": 2.0})
    return made


def test_bound() -> None:
    here = limits()
    many = Case("infer", "lstm", 64, 64, 32, 10)
    one = replace(many, batch_size=1)
    for case in (many, one):
        here.read[max(4096, case.recurrent_bytes // 2)] = 100.0
    # Many rows: the arithmetic; one row: the bytes of the weights.
    seconds = (many.flops / 100 + many.activations / 2) * 1e-9
    assert here.bound(many) == pytest.approx(seconds)
    seconds = (10 * one.recurrent_bytes / 100 + one.input_flops / 100 + one.activations / 2) * 1e-9
    assert here.bound(one) == pytest.approx(seconds)
    train = replace(many, mode="train")
    assert here.bound(train) == pytest.approx(train.flops / 100 * 1e-9)
    assert here.bound(replace(train, dtype="float64")) == pytest.approx(2 * here.bound(train))


def test_a_line_about_the_machine() -> None:
    here = limits()
    here.read.update(dict.fromkeys(SIZES, 100.0))
    assert "100 GFLOP/s" in text(here)
    assert "core to core 50 ns" in text(here)
    assert json.loads(json.dumps(here.as_dict()))["core_latency_ns"] == 50.0


def row(case: Case = DEFAULT[0]) -> Row:
    """The machine was twice as slow in the second round, and the best peer left after it."""
    samples = {
        "pyrnn": [1e-6, 2e-6, 1e-6],
        "pyrnn layer": [4e-7, 4e-7, 4e-7],
        "torch": [4e-6, 8e-6, 4e-6],
        "onnxruntime": [2e-6, 4e-6],
    }
    return Row(case, 5e-7, [50.0, float("nan")], 200.0, {"pyrnn": 1e-7}, samples)


def test_ratio_is_that_of_neighbouring_turns() -> None:
    found = row()
    assert found.ratio_to("torch") == pytest.approx(4)
    # Over the medians it would be 3. Another form of pyrnn is no peer, fast as it may be.
    assert found.best_peer == "onnxruntime"
    assert found.ratio == pytest.approx(2)
    assert found.share == pytest.approx(0.5)
    alone = Row(found.case, 5e-7, [50.0], 200.0, {}, {"pyrnn": [1e-6]})
    assert alone.best_peer is None
    assert alone.ratio is None


def test_what_is_saved_is_what_was_measured(tmp_path: Path) -> None:
    rows = [row(case) for case in DEFAULT]
    save(tmp_path / "a" / "bench.json", {}, [], rows=[r.as_dict() for r in rows])
    for before, saved in zip(rows, load(tmp_path / "a" / "bench.json")["rows"], strict=True):
        after = Row.of(saved)
        assert after.case == before.case
        assert after.share == pytest.approx(before.share)
        assert after.ratio == pytest.approx(before.ratio)
        assert math.isnan(after.latency[1])


def test_a_line_has_the_columns_of_the_head() -> None:
    names = [peer.name for peer in PEERS]
    columns = head(names).splitlines()[0].count("|")
    assert line(row(), names).count("|") == columns


MACHINE = {
    "processor": "one",
    "cores": 2,
    "versions": {"pyrnn": "0"},
    "build": {"isa": "avx2", "compiler": "gcc"},
}


def test_figures_come_from_saved_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from figure import draw_comparison, draw_sweeps

    monkeypatch.delenv("DISPLAY", raising=False)
    rows = [row(case).as_dict() for case in DEFAULT]
    save(tmp_path / "bench.json", MACHINE, [], threads=2, rows=rows)
    swept = [
        {
            "mode": sweep.case.mode,
            "symbol": sweep.symbol,
            "values": sweep.values,
            "fixed": sweep.fixed,
            "median_us": {
                "pyrnn": [1.0 * v for v in sweep.values],
                "torch": [None] * len(sweep.values),
            },
            "slope": {"pyrnn": 1.0, "torch": None},
        }
        for sweep in sweeps(2)
    ]
    save(tmp_path / "sweep.json", MACHINE, [], threads=2, sweeps=swept)
    for draw, name in ((draw_comparison, "bench"), (draw_sweeps, "sweep")):
        made = draw(tmp_path / f"{name}.json")
        assert made.suffix == ".png"
        first = made.read_bytes()
        assert first.startswith(b"\x89PNG")
        assert draw(tmp_path / f"{name}.json").read_bytes() == first


def test_sweeps_vary_one_size() -> None:
    for sweep in sweeps(4):
        cases = sweep.cases(4)
        assert len(cases) == len(sweep.values)
        assert [count for _, count in cases] == (
            list(sweep.values) if sweep.symbol == "threads" else [4] * len(cases)
        )
        assert len(set(cases)) == len(cases)
    assert [s.values for s in sweeps(6) if s.symbol == "threads"] == [(1, 2, 4, 6)] * 2


def test_slope() -> None:
    x = [1, 2, 4, 8, 16, 32]
    assert slope(x, [7.0, 7.0, 7.0, 3 * 8**1.5, 3 * 16**1.5, 3 * 32**1.5]) == pytest.approx(1.5)
    assert slope([1, 2], [1.0, 2.0]) == pytest.approx(1)
    assert slope([1], [1.0]) is None


def test_percentiles() -> None:
    found = summary(np.arange(1001) * 1000)
    assert found == pytest.approx({"median": 500, "p99": 990, "p99.9": 999, "max": 1000})
    for way in (steps, steps_into):
        assert (way(Pyrnn(problem(SMALL[0]), 1), 3) > 0).all()


def test_worst_ratio_counts_loads_and_threads_alone() -> None:
    rows = [{"over_alone": {"1": 1.0, "2": 9.0, "1 busy": 8.0, "2 busy": 1.5, "2 torch": 1.2}}]
    assert worst(rows) == 1.5


class Fake:
    """A library that takes as long as it says."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def turn(self) -> float:
        return self.seconds


def test_slow_peers_leave_after_three_rounds() -> None:
    found = alternate([Fake(9.0), Fake(1.0), Fake(6.0)], 0.0, 5)
    # The first one stays: it is pyrnn, whatever it takes.
    assert [len(turns) for turns in found] == [5, 5, 3]
    found = alternate([Fake(9.0), Fake(1.0), Fake(6.0)], 0.0, 5, all_stay=True)
    assert [len(turns) for turns in found] == [5, 5, 5]


def test_selection() -> None:
    cases, kinds = select("lstm-64.*t1$", False, "pyrnn,numpy")
    assert [case.name for case in cases] == ["infer-lstm-64-64-b1-t1"]
    assert [kind.name for kind in kinds] == ["pyrnn", "numpy"]
    for arguments in (("nothing", False, None), ("", False, "numpy"), ("", False, "pyrnn,x")):
        with pytest.raises(ValueError, match="--"):
            select(*arguments)
    with pytest.raises(ValueError, match="--filter"):
        matches("(", "a")
