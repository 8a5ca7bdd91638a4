"""``pyrnn autocomplete``: train a character model and complete prefixes, or only complete."""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..config import get_num_threads, set_num_threads
from .completing import complete
from .corpus import language_reference, read_texts, split
from .errors import InputError
from .model import CELLS, CharModel
from .ngram import NgramModel, bits_per_symbol
from .training import Settings, step_seconds, train

#: What is completed after training on the language reference; it holds them all.
PREFIXES = ("deep", "the ", "import ", "except", "def ", "gener")

_ORDER = 5

# Defaults of what only training uses; None on the command line says that an option was not given.
_TRAINING: dict[str, Any] = {
    "text": None,
    "cell": "lstm",
    "hidden": 256,
    "layers": 1,
    "epochs": 8,
    "batch_size": 16,
    "steps": 50,
    "learning_rate": 0.009,
    "dropout": 0.25,
    "seed": 0,
    "save": None,
}


def add_command(commands: Any) -> None:
    """Add ``autocomplete`` to the subparsers of the command."""
    parser = commands.add_parser(
        "autocomplete",
        help="train a character model on text and complete prefixes",
        description="Train a character model by truncated backpropagation through time, on the "
        "language reference of Python or on text files, and print the likeliest completions of "
        "prefixes; or complete with a model that was saved.",
    )
    option = parser.add_argument

    def default(name: str) -> str:
        return f"(default {_TRAINING[name]})"

    option("--text", nargs="+", metavar="FILE", help="UTF-8 text to train on, in this order")
    option("--cell", choices=sorted(CELLS), help=default("cell"))
    option("--hidden", type=at_least(1), metavar="H", help=f"hidden size {default('hidden')}")
    option("--layers", type=at_least(1), metavar="L", help=default("layers"))
    option("--epochs", type=at_least(1), metavar="N", help=default("epochs"))
    option(
        "--batch-size", type=at_least(1), metavar="B",
        help=f"stretches of the text side by side {default('batch_size')}",
    )  # fmt: skip
    option(
        "--steps", type=at_least(1), metavar="T",
        help=f"characters that errors are propagated back over {default('steps')}",
    )  # fmt: skip
    option(
        "--learning-rate", type=_number("above 0", lambda n: 0.0 < n < math.inf), metavar="RATE",
        help=f"of Adam, at its largest {default('learning_rate')}",
    )  # fmt: skip
    option(
        "--dropout", type=_number("of 0 to below 1", lambda n: 0.0 <= n < 1.0), metavar="P",
        help=f"share of each layer's outputs dropped in training {default('dropout')}",
    )  # fmt: skip
    option(
        "--seed", type=at_least(0), metavar="N",
        help=f"the same seed makes the same model, whatever the threads {default('seed')}",
    )  # fmt: skip
    option("--save", metavar="FILE", help="write the trained model here")
    option("--model", metavar="FILE", help="complete with this saved model instead of training")
    option(
        "--prefix", action="append", metavar="TEXT",
        help="complete this (may be repeated); with --model and without this, each line of "
        "standard input is a prefix",
    )  # fmt: skip
    option("--completions", type=at_least(1), default=5, metavar="N", help="(default 5)")
    option(
        "--words", type=at_least(1), default=2, metavar="N",
        help="a completion ends with its Nth word, the one that the prefix breaks off in counted, "
        "or with the line (default 2)",
    )  # fmt: skip
    option(
        "--beam", type=at_least(1), default=64, metavar="N",
        help="unfinished completions followed at once (default 64)",
    )  # fmt: skip
    option("--threads", type=at_least(1), metavar="N", help="(default: every core)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """The command.

    Raises
    ------
    InputError
        Something given cannot be used; before training wherever it can be known by then.
    """
    if arguments.threads is not None:
        set_num_threads(arguments.threads)
    if arguments.model is not None:
        given = [name for name in _TRAINING if getattr(arguments, name) is not None]
        if given:
            option = "--" + given[0].replace("_", "-")
            raise InputError(f"{option} is for training, and --model completes without it")
        model = CharModel.load(arguments.model)
        prefixes = _lines() if arguments.prefix is None else arguments.prefix
        for prefix in prefixes:
            _complete(model, prefix, arguments)
        return
    for name, value in _TRAINING.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    _train(arguments)


def _train(arguments: argparse.Namespace) -> None:
    if arguments.save is not None:
        _check_writable(arguments.save, arguments.text or [])
    if arguments.text is None:
        name = f"the language reference of Python {platform.python_version()}"
        text, prefixes = language_reference(), list(PREFIXES)
    else:
        name = ", ".join(arguments.text)
        text = read_texts(arguments.text)
        prefixes = frequent_beginnings(text)
    training, held_out = split(text)
    try:
        model = CharModel.create(
            training, arguments.cell, arguments.hidden, arguments.layers, arguments.dropout,
            arguments.seed,
        )  # fmt: skip
    except ValueError as error:  # what no array can hold
        raise InputError(f"--hidden {arguments.hidden}: {error}") from None
    if arguments.prefix is not None:
        prefixes = arguments.prefix
    for prefix in prefixes:
        model.check_prefix(prefix)
    training_ids = model.vocabulary.encode(training)
    held_out_ids = model.vocabulary.encode(held_out)
    unknown = int((held_out_ids == model.vocabulary.UNKNOWN).sum())
    print(
        f"text: {name}\n"
        f"  {len(training):,} characters to train on, {len(held_out):,} held out "
        f"({unknown} of them unknown), {len(model.vocabulary.characters)} different\n"
        f"model: {model.description()}, seed {arguments.seed}, "
        f"threads {get_num_threads()}"
    )

    ngram = NgramModel(training_ids, len(model.vocabulary), _ORDER)
    yardstick = bits_per_symbol(ngram, held_out_ids)
    settings = Settings(
        arguments.epochs,
        arguments.batch_size,
        arguments.steps,
        arguments.learning_rate,
        dropout=arguments.dropout,
        seed=arguments.seed,
    )
    name = arguments.cell.upper()
    print(f"\nheld-out bits per character:\n  epoch  {name:>7}  {_ORDER}-gram  characters/s")
    start = time.perf_counter()
    bits = math.nan
    for epoch in train(model, training_ids, held_out_ids, settings):
        bits = epoch.held_out_bits
        print(
            f"  {epoch.number:5}  {bits:7.3f}  {yardstick:6.3f}  "
            f"{epoch.characters_per_second:12,.0f}",
            flush=True,
        )
    seconds = time.perf_counter() - start
    ratio = bits / yardstick - 1.0
    print(
        f"after {seconds:.0f} s: {bits:.3f} bits per character, {abs(ratio):.1%} "
        f"{'below' if ratio < 0 else 'above'} the {_ORDER}-gram model "
        f"({_ORDER - 1} characters of context, modified Kneser-Ney)"
    )
    if arguments.save is not None:
        model.save(arguments.save)
        print(f"saved in {arguments.save}")
    kernels, reference = step_seconds(model, training_ids, settings)
    print(
        f"one training step: {1e3 * kernels:.1f} ms; on the NumPy reference "
        f"{1e3 * reference:.1f} ms, {reference / kernels:.1f} times as long"
    )
    for prefix in prefixes:
        _complete(model, prefix, arguments)


def _complete(model: CharModel, prefix: str, arguments: argparse.Namespace) -> None:
    completions = complete(
        model, prefix, count=arguments.completions, words=arguments.words, width=arguments.beam
    )
    print(f'\n"{visible(prefix)}"')
    for text, probability in completions:
        print(f"  {100 * probability:6.2f} %  {visible(prefix + text)}")
    if not completions:
        print("  nothing follows")
    # Whoever reads a pipe waits for this answer before the next prefix.
    sys.stdout.flush()


def _lines() -> Iterable[str]:
    """The lines of standard input as they come, without empty ones."""
    if sys.stdin.isatty():
        print("a prefix and Enter; Ctrl-D ends", file=sys.stderr)
    for line in sys.stdin:
        prefix = line.rstrip("\r\n")
        if prefix:
            yield prefix


def frequent_beginnings(text: str, count: int = 5) -> list[str]:
    """The first three letters of the commonest words of at least five.

    Examples
    --------
    >>> frequent_beginnings("a white whale, the white whiteness of a wide ocean", count=2)
    ['whi', 'wha']
    """
    words = Counter(re.findall(r"[^\W\d_]{5,}", text))
    # Of equally common words, the one that comes first.
    beginnings = dict.fromkeys(word[:3] for word, _ in words.most_common())
    return list(beginnings)[:count] or [text.split()[0][:3]]


def visible(text: str) -> str:
    """The text with escapes for what would not be seen, or would move the cursor.

    Examples
    --------
    >>> visible("a\\tb\\x1b[2J")
    'a\\\\tb\\\\x1b[2J'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _check_writable(path: str, texts: Iterable[str]) -> None:
    """Refuse a path that cannot be written, before the work rather than after it."""
    target = Path(path)
    folder = target.parent
    if target.is_dir():
        raise InputError(f"--save {path}: this is a folder")
    if not folder.is_dir():
        raise InputError(f"--save {path}: there is no folder {folder}")
    if not os.access(target if target.exists() else folder, os.W_OK):
        raise InputError(f"--save {path}: no permission to write")
    if any(target.exists() and Path(text).exists() and target.samefile(text) for text in texts):
        raise InputError(f"--save {path}: this is also a text to train on")


def at_least(least: int) -> Callable[[str], int]:
    def integer(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(
                f"expected an integer of at least {least}, got {value!r}"
            )
        return number

    return integer


def _number(wanted: str, valid: Callable[[float], bool]) -> Callable[[str], float]:
    def number(value: str) -> float:
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not valid(found):
            raise argparse.ArgumentTypeError(f"expected a number {wanted}, got {value!r}")
        return found

    return number
