"""``python -m bench keras``: layers of Keras 3, plugged into pyrnn and not.

``KERAS_BACKEND`` chooses Keras's backend: numpy (inference alone) or torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "numpy")

import keras
import numpy as np
from compare import Mismatch, alternate, turn_of
from report import introduce, matches
from results import micros, paired_ratio, save, table_head, table_line
from tolerances import RELATIVE, relative_error

import pyrnn
import pyrnn.keras

_SHAPES = ((1, 1, 64), (100, 1, 64), (100, 1, 256), (100, 32, 64), (100, 32, 256))  # T, B, I = H
_MASKS = ("", "masked")
_LAYERS = ("LSTM", "GRU", "SimpleRNN", "Bidirectional")


@dataclass
class Subject:
    """One layer on one input; ``plugged`` says on whose loop."""

    layer: Any
    x: Any
    mask: Any
    mode: str
    plugged: bool

    def call(self) -> Any:
        if self.mode == "train":
            y = self.layer(self.x, mask=self.mask)
            y.sum().backward()
            return y
        return self.layer(self.x, mask=self.mask)

    def result(self) -> Any:
        if not self.plugged:
            return self.call()
        with pyrnn.keras.plugged_in():
            return self.call()

    def turn(self) -> float:
        if not self.plugged:
            return turn_of(self.call)
        with pyrnn.keras.plugged_in():
            return turn_of(self.call)


def subjects(kind: str, shape: tuple[int, int, int], mask: str, mode: str) -> list[Subject]:
    """Plugged in, and not."""
    seq_len, batch, size = shape
    rng = np.random.default_rng(0)
    layer = keras.layers.Bidirectional(keras.layers.LSTM(size, return_sequences=True))
    if kind != "Bidirectional":
        layer = getattr(keras.layers, kind)(size, return_sequences=True)
    x = keras.ops.convert_to_tensor(rng.normal(size=(batch, seq_len, size)).astype("float32"))
    lengths = rng.integers(1, seq_len + 1, batch)
    valid = keras.ops.convert_to_tensor(np.arange(seq_len) < lengths[:, None]) if mask else None
    if mode == "train":
        x.requires_grad_()
    both = [Subject(layer, x, valid, mode, plugged) for plugged in (True, False)]
    layer(x)
    got, want = (keras.ops.convert_to_numpy(one.result()) for one in both)
    error = relative_error(got, want)
    if not error <= 10 * RELATIVE["float32"]:
        raise Mismatch(f"{kind}: relative error {error:.1e}")
    return both


def report(threads: int, seconds: float, part: str, folder: Path | None) -> None:
    """Print a line for each case; save keras-numpy.json or keras-torch.json."""
    backend = keras.config.backend()
    machine, limits = introduce(threads)
    pyrnn.set_num_threads(threads)
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
    print(f"Keras {keras.__version__} on {backend}; medians of turns one after the other\n")
    print(table_head(["case", "plugged µs", "Keras µs", "ratio"]))
    rows = []
    for kind in _LAYERS:
        for shape in _SHAPES:
            for mask in _MASKS:
                for mode in ("infer", "train")[: 1 + (backend == "torch")]:
                    seq_len, batch, size = shape
                    name = f"{mode}-{kind.lower()}-{size}-b{batch}-t{seq_len}"
                    name += f"-{mask}" if mask else ""
                    if not matches(part, name):
                        continue
                    turns = alternate(subjects(kind, shape, mask, mode), seconds, None)
                    times = [median(of_one) for of_one in turns]
                    ratio = paired_ratio(turns[1], turns[0])
                    rows.append({"case": name, "seconds": times, "ratio": ratio})
                    print(table_line([name, *map(micros, times), f"{ratio:.1f}"]), flush=True)
    if folder is not None:
        save(
            folder / f"keras-{backend}.json",
            machine,
            [x.as_dict() for x in limits],
            threads=threads,
            cases=rows,
        )
