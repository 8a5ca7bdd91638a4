"""``python -m bench``: pyrnn beside its peers, one line per case."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Run from the checkout, Python would take the source folder pyrnn/, which has no compiled
# module, for the installed package. What is wanted instead are the modules beside this file,
# and the table of tolerances.
_HERE = Path(__file__).resolve().parent
sys.path[:1] = [str(_HERE), str(_HERE.parent / "tests")]

from threads import cores, keep_to  # noqa: E402

_WHAT = {
    "compare": "pyrnn and its peers, case by case (default)",
    "sweep": "time over T, B, H and threads, with the slope",
    "load": "pyrnn beside a busy process, beside PyTorch's threads, and on denormal numbers",
    "variants": "each variant of a cell beside the plain one",
    "torch": "PyTorch's layers on pyrnn and as they are, and the cost of a call",
    "onnx": "models in ONNX's reference evaluator, with pyrnn's operators and its own",
    "jitter": "the steps of a stream: median, percentiles, maximum",
    "jax": "pyrnn.jax beside jax.lax.scan, and what a call through XLA costs",
    "keras": "Keras plugged into pyrnn beside Keras itself, on the backend of KERAS_BACKEND",
    "figure": "draw the figures of --save's folder again",
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Verify every library against the float64 reference, then time them in turn.\n"
        "Times are medians in µs; share is the bound of this machine over pyrnn's time,\n"
        "ratio the best peer's time over pyrnn's.\n\n"
        + "\n".join(f"  {name:8} {what}" for name, what in _WHAT.items()),
    )
    parser.add_argument("what", nargs="?", choices=tuple(_WHAT), default="compare", metavar="WHAT")
    parser.add_argument(
        "--filter", default="", help="only cases whose name matches, such as lstm-256.*t1$"
    )
    parser.add_argument("--peers", help="comma-separated names, pyrnn among them; default: all")
    parser.add_argument("--threads", type=int, default=cores(), help="for every library")
    parser.add_argument("--isa", default="", help="pyrnn's kernels: avx512, avx2, baseline, ...")
    parser.add_argument("--seconds", type=float, help="time for each case")
    parser.add_argument("--repeat", type=int, help="compare: so many rounds, not --seconds")
    parser.add_argument("--full", action="store_true", help="compare: every case there is")
    parser.add_argument("--steps", type=int, default=1_000_000, help="jitter: of the stream")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write JSON and PNG there")
    arguments = parser.parse_args()
    if not 1 <= arguments.threads <= cores():
        parser.error(f"--threads: expected 1 to {cores()}, got {arguments.threads}")
    for name in ("repeat", "steps"):
        if (given := getattr(arguments, name)) is not None and given < 1:
            parser.error(f"--{name}: expected at least 1, got {given}")
    if arguments.what == "figure" and arguments.save is None:
        parser.error("figure: expected --save DIR, the folder of an earlier run")
    return arguments


def _run(arguments: argparse.Namespace) -> None:
    # The processes of the libraries inherit both.
    keep_to(arguments.threads)
    if arguments.isa:
        os.environ["PYRNN_ISA"] = arguments.isa
    threads, folder, part = arguments.threads, arguments.save, arguments.filter
    if arguments.what == "compare":
        from report import report, select

        cases, kinds = select(part, arguments.full, arguments.peers)
        report(cases, kinds, threads, arguments.seconds or 2.0, arguments.repeat, folder)
    elif arguments.what == "sweep":
        import sweep
        from report import chosen

        peers = chosen(arguments.peers or "pyrnn,torch")
        sweep.report(peers, threads, arguments.seconds or 0.5, part, folder)
    elif arguments.what == "load":
        import load

        load.report(threads, arguments.seconds or 1.0, part, folder)
    elif arguments.what == "variants":
        import variants

        variants.report(threads, arguments.seconds or 0.5, part, folder)
    elif arguments.what == "onnx":
        import evaluators

        evaluators.report(threads, arguments.seconds or 1.0, arguments.repeat, part, folder)
    elif arguments.what in ("jax", "keras"):
        from importlib import import_module

        host = import_module(f"{arguments.what}_host")
        host.report(threads, arguments.seconds or 0.5, part, folder)
    elif arguments.what == "torch":
        import drop_in

        drop_in.report(threads, arguments.seconds or 1.0, arguments.repeat, part, folder)
    elif arguments.what == "jitter":
        import jitter
        from report import chosen

        jitter.report(chosen(arguments.peers or "pyrnn"), threads, arguments.steps, folder)
    else:
        from figure import draw_comparison, draw_sweeps

        for name, draw in (("bench", draw_comparison), ("sweep", draw_sweeps)):
            if (file := folder / f"{name}.json").exists():
                print(draw(file))


def main() -> int:
    try:
        _run(_arguments())
    except ValueError as error:
        print(f"python -m bench: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        # An instruction set that is not there, or a library of an extra.
        print(f"python -m bench: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if type(error).__name__ != "Mismatch":
            raise
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
