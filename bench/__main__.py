"""``python -m bench``: pyrnn beside its peers, one line per case."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Run from the checkout, Python would take the source folder pyrnn/, which has no compiled
# module, for the installed package. What is wanted instead are the modules beside this file,
# and the table of tolerances.
_HERE = Path(__file__).resolve().parent
sys.path[:1] = [str(_HERE), str(_HERE.parent / "tests")]

from threads import cores, keep_to  # noqa: E402


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Verify every library against the float64 reference, then time them in turn. "
        "Times are medians in µs; share is the bound of this machine over pyrnn's time, "
        "ratio the best peer's time over pyrnn's.",
    )
    parser.add_argument("--filter", default="", help="only cases whose name contains this text")
    parser.add_argument("--peers", help="comma-separated names, pyrnn among them; default: all")
    parser.add_argument("--threads", type=int, default=cores(), help="for every library")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each case")
    parser.add_argument("--repeat", type=int, help="this many rounds instead of --seconds")
    parser.add_argument("--grid", action="store_true", help="every cell at H = 64 to 512, T = 100")
    parser.add_argument("--json", type=Path, help="also write every sample to this file")
    arguments = parser.parse_args()
    if not 1 <= arguments.threads <= cores():
        parser.error(f"--threads: expected 1 to {cores()}, got {arguments.threads}")
    if arguments.repeat is not None and arguments.repeat < 1:
        parser.error(f"--repeat: expected at least 1, got {arguments.repeat}")
    return arguments


def main() -> int:
    arguments = _arguments()
    keep_to(arguments.threads)
    from compare import Mismatch
    from report import report, select

    try:
        cases, kinds = select(arguments.filter, arguments.grid, arguments.peers)
    except ValueError as error:
        print(f"python -m bench: {error}", file=sys.stderr)
        return 2
    try:
        report(cases, kinds, arguments.threads, arguments.seconds, arguments.repeat, arguments.json)
    except Mismatch as mismatch:
        print(mismatch, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
