"""``python -m bench variants``: what each variant of a cell costs beside the plain cell.

FLOPs are those of the products; a variant that has more or fewer of them, such as a projection,
may take as much longer or shorter. A projection leaves the activations as they are, however: the
column after that adds both up, at the rates of the machine. The last one asks of the difference
alone: the time that a variant saves or adds over what the FLOPs it saves or adds take at the rate
of fused multiply-adds. Of what is saved, 1 is all that these products can have taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cases import Array
from compare import Mismatch, alternate, turn_of
from machine import Limits
from report import introduce, matches
from results import micros, paired_ratio, save, table_head, table_line
from tolerances import RELATIVE, relative_error

import pyrnn

_SIZES = ((64, 1), (64, 32), (256, 1), (256, 32))  # I = H, B
_STEPS = 100
_LSTM: tuple[dict[str, Any], ...] = (
    {"peephole": "diagonal"},
    {"coupled": True},
    {"clip": 3.0},
    {"cell_clip": 3.0},
    {"zoneout": 0.1},
    {"recurrent_dropout": 0.2},
    {"gate_activation": "hard_sigmoid"},
    {"peephole": "full"},
    {"proj_size": -2},  # half of H
    {"layer_norm": True},
)
_GRU: tuple[dict[str, Any], ...] = (
    {"reset_after": False},
    {"zoneout": 0.1},
    {"layer_norm": True},
)
_VARIANTS = {"LSTM": _LSTM, "GRU": _GRU}


@dataclass
class Subject:
    """One layer on one input, to be called again and again."""

    layer: Any
    x: Array
    dy: Array
    mode: str

    @classmethod
    def new(cls, cell: str, size: int, batch: int, mode: str, options: dict[str, Any]) -> Subject:
        if options.get("proj_size"):
            options = {"proj_size": size // 2}
        layer = getattr(pyrnn, cell)(size, size, rng=0, **options)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((_STEPS, batch, size)).astype("float32")
        columns = getattr(layer, "proj_size", 0) or size
        dy = rng.standard_normal((_STEPS, batch, columns)).astype("float32")
        return cls(layer if mode == "train" else layer.freeze(), x, dy, mode)

    def call(self) -> Any:
        if self.mode == "infer":
            return self.layer(self.x)[0]
        y, _, tape = self.layer.forward(self.x)
        return y, self.layer.backward(tape, self.dy)

    def turn(self) -> float:
        return turn_of(self.call)

    def verify(self, name: str) -> None:
        """Inference agrees with the reference in float64."""
        if self.mode == "train":
            return
        got = self.call()
        with pyrnn.backend("reference"):
            want = self.call()
        error = relative_error(got, want)
        if not error <= 10 * RELATIVE["float32"]:
            raise Mismatch(f"{name}: relative error {error:.1e}")


def gates_of(cell: str, options: dict[str, Any]) -> int:
    return {"LSTM": 4, "GRU": 3}[cell] - bool(options.get("coupled"))


def flops(cell: str, size: int, options: dict[str, Any]) -> float:
    """Multiply-adds of one step of one row."""
    columns = size // 2 if options.get("proj_size") else size
    gates = gates_of(cell, options)
    count = gates * size * (size + columns)
    if options.get("proj_size"):
        count += size * columns
    if options.get("peephole") == "full":
        count += (gates - 1) * size * size
    return float(count)


def products(cell: str, size: int, options: dict[str, Any], mode: str) -> float:
    """FLOPs of one step of one row; backward has two products for each of forward."""
    return (3 if mode == "train" else 1) * 2 * flops(cell, size, options)


def work(cell: str, size: int, options: dict[str, Any], mode: str, limits: Limits) -> float:
    """Seconds that one step of one row takes a thread at the rates of products and of activations.

    There is one activation for each gate and for the LSTM's c, which backward takes again.
    """
    of_c = cell == "LSTM"
    activations = size * (gates_of(cell, options) + of_c + (of_c and mode == "train"))
    rate = limits.fma["float32"] * 1e9 / limits.threads
    flops_of_all = products(cell, size, options, mode)
    return flops_of_all / rate + activations * limits.activation["float32"] * 1e-9


def report(threads: int, seconds: float, part: str, folder: Path | None) -> None:
    """Print a line for each variant; save variants.json."""
    machine, limits = introduce(threads)
    pyrnn.set_num_threads(threads)
    print("time of a variant over that of the plain cell, medians of turns one after the other\n")
    titles = ["case", "plain µs", "variant µs", "ratio", "FLOPs", "+ activations", "difference"]
    print(table_head(titles))
    rows = []
    for cell, variants in _VARIANTS.items():
        for size, batch in _SIZES:
            for mode in ("infer", "train"):
                plain = Subject.new(cell, size, batch, mode, {})
                of = partial(work, cell, size, mode=mode, limits=limits[-1])
                for options in variants:
                    text = ",".join(f"{k}={v}" for k, v in options.items())
                    name = f"{mode}-{cell.lower()}-{size}-b{batch}-{text}"
                    if not matches(part, name):
                        continue
                    variant = Subject.new(cell, size, batch, mode, options)
                    variant.verify(name)
                    turns = alternate([plain, variant], seconds, None)
                    ratio = paired_ratio(turns[1], turns[0])
                    share = flops(cell, size, options) / flops(cell, size, {})
                    bound = of(options) / of({})
                    times = [median(of_one) for of_one in turns]
                    more = products(cell, size, options, mode) - products(cell, size, {}, mode)
                    takes = more * _STEPS * batch / (limits[-1].fma["float32"] * 1e9)
                    difference = (ratio - 1) * times[0] / takes if takes else None
                    figures = (ratio, share, bound, difference)
                    names = ("ratio", "flops", "with_activations", "difference")
                    rows.append(
                        {"case": name, "seconds": times} | dict(zip(names, figures, strict=True))
                    )
                    shown = ("" if f is None else f"{f:.2f}" for f in figures)
                    print(table_line([name, *map(micros, times), *shown]), flush=True)
    if folder is not None:
        save(
            folder / "variants.json",
            machine,
            [x.as_dict() for x in limits],
            threads=threads,
            cases=rows,
        )
