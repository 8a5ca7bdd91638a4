"""The command ``pyrnn``, also ``python -m pyrnn``.

Exit codes: 0; 2 for input that cannot be used, with one line saying why; 130 after Ctrl-C; 141
where the reader of the output went away.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import __version__, figures, show_config
from .autocomplete import cli as autocomplete
from .autocomplete import colouring
from .autocomplete.errors import InputError


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, like every other error of the command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, _error_line(message))


def _error_line(message: object) -> str:
    return f"pyrnn: error: {' '.join(str(message).split())}\n"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pyrnn", description="Recurrent networks on a CPU.")
    parser.add_argument("--version", action="version", version=f"pyrnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (autocomplete, colouring, figures):
        command.add_command(commands)
    config = commands.add_parser("config", help="print the version and what this build is")
    config.set_defaults(run=lambda _: show_config())
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; None stands for those of the process.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    SystemExit
        From ``--help``, ``--version`` and arguments that cannot be parsed.

    Examples
    --------
    >>> main(["config"])  # doctest: +ELLIPSIS
    pyrnn ...
    0
    """
    # Completions hold whatever the text held, and a terminal may not be able to show it.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except InputError as error:
        sys.stderr.write(_error_line(error))
        return 2
    except MemoryError as error:
        sys.stderr.write(_error_line(f"not enough memory: {error}"))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes standard output once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main())
