"""``python -m bench jax``: ``pyrnn.jax`` beside ``jax.lax.scan``, and beside ``pyrnn.ops``.

The last column is what the way through XLA costs a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax_scan
import numpy as np
from cases import Case
from compare import Mismatch, alternate, turn_of
from report import introduce, matches
from results import micros, paired_ratio, save, table_head, table_line
from tolerances import RELATIVE, relative_error

import pyrnn
import pyrnn.jax

_SHAPES = ((1, 1, 64), (100, 1, 64), (100, 1, 256), (100, 32, 64), (100, 32, 256))  # T, B, I = H
_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


@dataclass
class Subject:
    """One way to compute a case."""

    call: Any

    def turn(self) -> float:
        return turn_of(self.call)


def subjects(case: Case) -> list[Subject]:
    """pyrnn.jax, lax.scan, and the operations on NumPy arrays."""
    rng = np.random.default_rng(0)
    size, gates = case.hidden_size, case.gates
    shapes = ((gates * size, size), (gates * size, size), (gates * size,), (gates * size,))
    weights = [(rng.uniform(-1, 1, s) / np.sqrt(size)).astype("float32") for s in shapes]
    x = rng.normal(size=(case.seq_len, case.batch_size, size)).astype("float32")
    states = [np.zeros((case.batch_size, size), "float32") for _ in range(1 + (gates == 4))]
    dy = rng.normal(size=(case.seq_len, case.batch_size, size)).astype("float32")
    ours = getattr(pyrnn.jax, case.cell)

    def on_kernels(x: Any, states: Any, weights: Any) -> Any:
        return ours(x, *states, *weights)[0]

    def on_scan(x: Any, states: Any, weights: Any) -> Any:
        params = dict(zip(_NAMES, weights, strict=True))
        return jax_scan.forward(case)(params, x, [s[None] for s in states])[0]

    def trained(run: Any) -> Any:
        def both(*arrays: Any) -> Any:
            y, pull = jax.vjp(run, *arrays)
            return y, pull(dy)

        return both

    def alone() -> Any:
        forward = getattr(pyrnn.ops, f"{case.cell}_forward")
        y, *_, tape = forward(x, *states, *weights, save=case.mode == "train")
        if case.mode == "infer":
            return y
        return y, getattr(pyrnn.ops, f"{case.cell}_backward")(tape, dy)

    arrays = jax.device_put((x, states, weights))

    def waited(compiled: Any) -> Any:
        return jax.block_until_ready(compiled(*arrays))

    calls: list[Any] = []
    for run in (on_kernels, on_scan):
        compiled = jax.jit(trained(run) if case.mode == "train" else run)
        calls.append(partial(waited, compiled))
    found = [call() for call in calls]
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        error = relative_error(np.asarray(a), np.asarray(b))
        if not error <= 10 * RELATIVE["float32"]:
            raise Mismatch(f"{case.name}: relative error {error:.1e}")
    return [Subject(call) for call in (*calls, alone)]


def report(threads: int, seconds: float, part: str, folder: Path | None) -> None:
    """Print a line for each case; save jax.json."""
    machine, limits = introduce(threads)
    pyrnn.set_num_threads(threads)
    print("medians of turns one after the other\n")
    print(table_head(["case", "pyrnn.jax µs", "lax.scan µs", "ratio", "pyrnn.ops µs", "way µs"]))
    rows = []
    for cell in ("lstm", "gru", "rnn"):
        for seq_len, batch, size in _SHAPES:
            for mode in ("infer", "train"):
                case = Case(mode, cell, size, size, batch, seq_len)
                if not matches(part, case.name):
                    continue
                turns = alternate(subjects(case), seconds, None)
                times = [median(of_one) for of_one in turns]
                ratio = paired_ratio(turns[1], turns[0])
                rows.append({"case": case.name, "seconds": times, "ratio": ratio})
                numbers = (*map(micros, times[:2]), f"{ratio:.2f}", micros(times[2]))
                print(table_line([case.name, *numbers, micros(times[0] - times[2])]), flush=True)
    if folder is not None:
        save(
            folder / "jax.json",
            machine,
            [x.as_dict() for x in limits],
            threads=threads,
            cases=rows,
        )
