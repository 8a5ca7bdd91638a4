"""A network that others trained: where in a recording somebody speaks.

Silero's voice detector is an ONNX model: a short-time Fourier transform and convolutions in front
of an LSTM, whose node runs on pyrnn inside ONNX's reference evaluator. ONNX Runtime, where it is
installed, runs the whole model: the same probabilities come out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from _common import Array, Source, fetch

MODEL = Source(
    "silero-vad==6.2.3",
    "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    "wheel",
    ("silero_vad/data/silero_vad_16k_sequence.onnx",),
)
# A second of a man's voice, 8 kHz, 16 bits.
RECORDING = Source(
    "webrtcvad==2.0.10",
    "f1bed2fb25b63fb7b1a55d64090c993c9c9167b28485ae0bcdd81cf6ede96aea",
    "sdist",
    ("webrtcvad-2.0.10/test-audio.raw",),
)
RATE = 16_000
FRAME, CONTEXT = 512, 64  # samples of a frame, and of the one before that the model sees with it
UNITS = 128

Run = Callable[[dict[str, Array]], Sequence[Any]]


class Detected(NamedTuple):
    """What the example prints."""

    probabilities: dict[str, Array]  # of speech in each frame, by what ran the model
    seconds: dict[str, float]
    is_voice: Array  # whether a frame lies within the recording, not in the noise between


def main(argv: Sequence[str] | None = None) -> Detected:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=5, help="how long to listen")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the median is shown")
    parser.add_argument("--data", type=Path, help="a folder with the data, instead of the cache")
    args = parser.parse_args(argv)
    (model,) = fetch(MODEL, args.data)
    (recording,) = fetch(RECORDING, args.data)

    samples, is_voice = conversation(recording, args.seconds)
    feeds = {"input": frames(samples)} | {name: np.zeros((1, 1, UNITS), "f4") for name in "hc"}
    runs = evaluators(str(model))
    probabilities: dict[str, Array] = {}
    for name, run in list(runs.items()):
        try:
            probabilities[name] = np.asarray(run(feeds)[0])
        except RuntimeError:  # before onnx 1.21, whose own LSTM has no Y_c
            print(f"{name}: cannot run this model")
            del runs[name]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.repeat):
        for name, run in runs.items():
            start = time.perf_counter()
            run(feeds)
            seconds[name].append(time.perf_counter() - start)

    ours = probabilities["pyrnn"]
    print("voice  ", "".join(" █"[int(voice)] for voice in is_voice[::2]))
    print("speech ", "".join(" ░▒▓█"[min(int(p * 5), 4)] for p in ours[::2]))
    for name, found in probabilities.items():
        print(
            f"{name}: {median(seconds[name]) * 1e3:.1f} ms for {args.seconds} s, "
            f"largest difference {np.abs(found - ours).max():.1e}"
        )
    return Detected(probabilities, {name: median(s) for name, s in seconds.items()}, is_voice)


def evaluators(path: str) -> dict[str, Run]:
    """By name: the reference evaluator with pyrnn's operators and its own, and ONNX Runtime."""
    from onnx.reference import ReferenceEvaluator

    from pyrnn.onnx import reference_ops

    sessions: dict[str, Any] = {
        "pyrnn": ReferenceEvaluator(path, new_ops=reference_ops),
        "onnx": ReferenceEvaluator(path),
    }
    try:
        import onnxruntime
    except ImportError:
        print("ONNX Runtime is not installed")
    else:
        sessions["onnxruntime"] = onnxruntime.InferenceSession(
            path, providers=["CPUExecutionProvider"]
        )
    return {name: lambda feeds, s=s: s.run(None, feeds) for name, s in sessions.items()}  # type: ignore[misc]


def conversation(path: Path, seconds: int) -> tuple[Array, Array]:
    """The voice again and again, a second of faint noise between; and which frames have it."""
    slow = np.fromfile(path, "<i2") / 2**15
    voice = np.interp(np.arange(2 * len(slow)) / 2, np.arange(len(slow)), slow)
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.003, seconds * RATE)
    spoken = np.zeros(len(samples), bool)
    for start in range(RATE, len(samples), RATE + len(voice)):
        length = min(len(voice), len(samples) - start)
        samples[start : start + length] += voice[:length]
        spoken[start : start + length] = True
    count = len(samples) // FRAME
    return samples.astype("f4"), spoken[: count * FRAME].reshape(count, FRAME).mean(axis=1) > 0.5


def frames(samples: Array) -> Array:
    """(T, CONTEXT + FRAME): each frame behind the last samples of the one before."""
    own = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    before = np.concatenate([np.zeros((1, CONTEXT), samples.dtype), own[:-1, -CONTEXT:]])
    return np.concatenate([before, own], axis=1)


if __name__ == "__main__":
    main()
