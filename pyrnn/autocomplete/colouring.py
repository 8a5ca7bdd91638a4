"""``pyrnn colour``: text coloured by what one unit of a saved model does at each character."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..coloured import coloured_text
from ..tape import Array
from .cli import at_least
from .corpus import language_reference, read_texts, split
from .errors import InputError
from .model import CharModel


def add_command(commands: Any) -> None:
    """Add ``colour`` to the subparsers of the command."""
    parser = commands.add_parser(
        "colour",
        help="colour text by what a unit of a saved model does",
        description="Write a web page with text in which the ground of each character shows h of "
        "one unit of the last layer, after it has read that character: orange above 0, blue below.",
    )
    parser.add_argument("model", metavar="MODEL", help="that pyrnn autocomplete --save wrote")
    parser.add_argument(
        "--text", nargs="+", metavar="FILE",
        help="UTF-8 text (default: what was held out of the language reference of Python)",
    )  # fmt: skip
    parser.add_argument(
        "--unit", type=at_least(0), metavar="N",
        help="from 0 (default: the one that changes slowest)",
    )  # fmt: skip
    parser.add_argument(
        "--characters", type=at_least(1), default=3000, metavar="N", help="at most (default 3000)"
    )
    parser.add_argument("--output", metavar="FILE", help="(default: standard output)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """The command.

    Raises
    ------
    InputError
        Something given cannot be used.
    """
    model = CharModel.load(arguments.model)
    units = model.layer.hidden_size
    if arguments.unit is not None and arguments.unit >= units:
        raise InputError(f"--unit: expected 0..{units - 1}, got {arguments.unit}")
    if arguments.text is None:
        text = split(language_reference())[1]
    else:
        text = read_texts(arguments.text)
    text = text[: arguments.characters]
    unit = slowest_unit(model, text) if arguments.unit is None else arguments.unit
    page = coloured_text(
        text, unit_values(model, text)[:, unit], title=f"{model.description()}; unit {unit}"
    )
    if arguments.output is None:
        sys.stdout.write(page)
        return
    try:
        Path(arguments.output).write_text(page, "utf-8")
    except OSError as error:
        raise InputError(f"--output {arguments.output}: {error.strerror or error}") from None


def unit_values(model: CharModel, text: str) -> Array:
    """h of the last layer after each character, (N, H).

    Examples
    --------
    >>> model = CharModel.create("to be or not to be", hidden_size=8)
    >>> unit_values(model, "not").shape
    (3, 8)
    """
    y, _ = model.layer(model.vocabulary.encode(text)[:, None])
    return y[:, 0]


def slowest_unit(model: CharModel, text: str) -> int:
    """The unit that changes least from one character to the next for how much it varies at all.

    What it follows lasts for more than a letter: a line, a word, what stands in brackets.
    """
    h = unit_values(model, text)
    change = np.abs(np.diff(h, axis=0)).sum(axis=0)
    spread = np.abs(h - h.mean(axis=0)).sum(axis=0)
    still = np.full_like(spread, np.inf)  # a unit that never changes follows nothing
    return int(np.argmin(np.divide(change, spread, out=still, where=spread > 0)))
