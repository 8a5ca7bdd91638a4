"""Small stand-ins for the data of the examples, in the formats of the originals.

Each holds what its example has to learn and its baseline cannot, and the oddities of the original.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


def digits(folder: Path, rng: np.random.Generator) -> None:
    """Each digit is a shape or its negative: all mean images are the same grey."""
    shapes = rng.integers(0, 17, (10, 64))
    rows = []
    for _ in range(600):
        digit, negative = rng.integers(10), rng.random() < 0.5
        shape = 16 - shapes[digit] if negative else shapes[digit]
        image = np.clip(shape + rng.integers(-2, 3, 64), 0, 16)
        rows.append(",".join(map(str, [*image, digit])))
    with gzip.open(folder / "digits.csv.gz", "wt") as file:
        file.write("\n".join(rows) + "\n")


def snippets(folder: Path, rng: np.random.Generator) -> None:
    """A negation turns the words behind it round."""
    words = {"great": 2.0, "good": 1.5, "dull": -1.5, "awful": -2.0}
    fillers = ["the", "film", "isn't", "plot", "and", "It"]
    lines = []
    for number in range(1, 1201):
        word = rng.choice(list(words))
        no = rng.random() < 0.5
        filler = rng.choice(fillers, rng.integers(1, 4))
        text = " ".join([*filler, *(["not"] if no else []), word, "!"])
        rating = words[word] * (-1 if no else 1) + rng.normal(0, 0.2)
        lines.append(f"{number}\t{rating}\t{text}")
    (folder / "movieReviewSnippets_GroundTruth.txt").write_text("\n".join(lines))


def corpus(folder: Path, rng: np.random.Generator) -> None:
    """丙 ends a word, wherever one is seen for the first time."""
    lines = []
    for _ in range(500):
        words = [
            "".join(rng.choice(list("甲乙丁戊己庚辛壬癸子丑寅"), rng.integers(0, 4))) + "丙"
            for _ in range(6)
        ]
        lines.append("  ".join(f"{word}/n" for word in [*words[:3], "，", *words[3:], "。"]))
    (folder / "199801.txt").write_text("\n".join([*lines, ""]), "utf-8")


def sunspots(folder: Path, rng: np.random.Generator) -> None:
    """A cycle of ten years: what came eleven years ago is one year late."""
    years = np.arange(1700, 2009)
    spots = 60 * (1 + np.sin(years * 2 * np.pi / 10)) + rng.normal(0, 2, len(years))
    lines = ['"YEAR","SUNACTIVITY"', *(f"{y},{s:.1f}" for y, s in zip(years, spots, strict=True))]
    (folder / "sunspots.csv").write_text("\n".join(lines) + "\n")


def dictionary(folder: Path, rng: np.random.Generator) -> None:
    """Two letters for one sound, and a letter that depends on the next one."""
    sounds = {"ch": "CH", "ca": "K AA1", "ce": "S EH0", "to": "T OW2", "hi": "HH IH1", "t": "T"}
    lines = ["'tis T IH1 Z", "a(2) EY1", "c3po S IY1 # robot"]
    for _ in range(1500):
        parts = rng.choice(list(sounds), rng.integers(1, 4))
        lines.append(f"{''.join(parts)} {' '.join(sounds[part] for part in parts)} # made up")
    (folder / "cmudict.dict").write_text("\n".join(lines) + "\n")


def vowels(folder: Path, rng: np.random.Generator) -> None:
    """A speaker is known by which of nine numbers rises: the mean frame says nothing."""
    for part in ("TRAIN", "TEST"):
        lines = ["#about", "@problemName JapaneseVowels", "@classLabel true 1 2 3", "@data"]
        for number in range(180):
            frames = rng.normal(0, 0.1, (12, rng.integers(7, 30)))
            frames[number % 9] += np.linspace(-1, 1, frames.shape[1])
            rows = [",".join(f"{x:.6f}" for x in row) for row in frames]
            lines.append(":".join([*rows, str(number % 9 + 1)]))
        (folder / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines) + "\n")
