"""Random problems for the variants of the cells, and lists of options that cover every pair."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from helpers_ops import Case, Problem, family, make

# Every option of a family with its values; the first one is the plain cell's.
COMMON: dict[str, tuple[Any, ...]] = {
    "clip": (None, 0.45),
    "layer_norm": (False, True),
    "zoneout": (0.0, "expected", "drawn"),
    "recurrent_dropout": (0.0, 0.4),
}
GATED: dict[str, tuple[Any, ...]] = {
    "activation": ("tanh", "softsign", ("leaky_relu", 0.3)),
    "gate_activation": ("sigmoid", "hard_sigmoid"),
    **COMMON,
}
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "rnn": {"nonlinearity": ("tanh", "relu", "elu"), **COMMON},
    "gru": GATED,
    "gru_reset_before": {name: GATED[name] for name in GATED if name != "layer_norm"},
    "mgu": {name: GATED[name] for name in GATED if name != "layer_norm"},
    "lstm": {
        **GATED,
        "coupled": (False, True),
        "peephole": (None, "diagonal", "full"),
        "proj_size": (0, 2, 7),
        "cell_clip": (None, 0.5),
        "dcells": (False, True),
        "zoneout": (0.0, "expected", "drawn", "of c"),
    },
}
FAMILIES = tuple(OPTIONS)
# How a call goes through time, crossed with the options.
CALLS: dict[str, tuple[Any, ...]] = {
    "reverse": (False, True),
    "lengths": (None, "zeros"),
    "tokens": (False, True),
    "biases": ("both", "none"),
}

ZONEOUT = (0.3, 0.2)  # of h, of c
# Seed of more than 32 bits, layer, direction. Some seeds drop so much that of the gradient by h0 a
# ten-thousandth is left, and rounding is most of it.
KEY = (2**40 + 18, 3, 1)


def single(cell: str) -> list[dict[str, Any]]:
    """Each value of each option by itself."""
    return [
        {name: value}
        for name, values in OPTIONS[cell].items()
        for value in values[1:]
    ]  # fmt: skip


def pairwise(cell: str, seed: int = 0) -> list[dict[str, Any]]:
    """Options and ways to call in which every two values of two of them meet, greedily few."""
    axes = OPTIONS[cell] | CALLS
    draw = random.Random(f"{cell} {seed}")
    missing = {
        (a, i, b, j)
        for a, b in itertools.combinations(axes, 2)
        for i in range(len(axes[a]))
        for j in range(len(axes[b]))
    }

    def pairs(chosen: dict[str, int]) -> set[tuple[str, int, str, int]]:
        return {(a, chosen[a], b, chosen[b]) for a, b in itertools.combinations(axes, 2)}

    rows = []
    while missing:
        a, i, b, j = min(missing)
        candidates = []
        for _ in range(60):
            chosen = {name: draw.randrange(len(values)) for name, values in axes.items()}
            chosen |= {a: i, b: j}
            candidates.append(chosen)
        best = max(candidates, key=lambda chosen: len(pairs(chosen) & missing))
        missing -= pairs(best)
        rows.append({name: axes[name][k] for name, k in best.items()})
    return rows


def make_variant(cell: str, options: dict[str, Any], dtype: str, *shape: int) -> Problem:
    """A problem with these options, out of ``OPTIONS[cell]`` and ``CALLS``; arrays are keywords."""
    options = dict(options)
    calls = {name: options.pop(name) for name in CALLS if name in options}
    seq_len, batch_size, _, hidden_size = shape
    plain = "rnn_tanh" if cell == "rnn" else cell
    problem = make(Case(plain, dtype, *shape, **calls))
    rng = np.random.default_rng(random.Random(f"{cell} {options} {dtype} {shape}").getrandbits(64))

    def normal(*sizes: int, scale: float = 1.0) -> Any:
        return (scale * rng.normal(size=sizes)).astype(dtype)

    rows = len(problem.arrays["w_hh"])
    if options.pop("coupled", False):
        rows = 3 * hidden_size
        for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
            if problem.arrays[name] is not None:
                problem.arrays[name] = problem.arrays[name][:rows]
        problem.options["coupled"] = True
    peephole = options.pop("peephole", None)
    if peephole is not None:
        count = rows // hidden_size - 1
        sizes = (count, hidden_size) + (peephole == "full") * (hidden_size,)
        problem.options["w_peephole"] = normal(*sizes, scale=0.5)
    proj_size = options.pop("proj_size", 0)
    if proj_size:
        problem.options["w_hr"] = normal(proj_size, hidden_size, scale=0.5)
        problem.arrays["h0"] = normal(batch_size, proj_size)
        problem.arrays["w_hh"] = normal(rows, proj_size, scale=0.5)
        dy = normal(seq_len, batch_size, proj_size)
        if problem.options["lengths"] is not None:
            dy[np.arange(seq_len)[:, None] >= problem.options["lengths"]] = np.nan
        problem.incoming |= {"dy": dy, "dh_n": normal(batch_size, proj_size)}
    if options.pop("layer_norm", False):
        for name in ("ih", "hh", *(["c"] if cell == "lstm" else [])):
            count = hidden_size if name == "c" else rows
            problem.options[f"ln_{name}_weight"] = 1 + normal(count, scale=0.2)
            problem.options[f"ln_{name}_bias"] = normal(count, scale=0.2)
    zoneout = options.pop("zoneout", 0.0)
    if zoneout:
        problem.options["zoneout"] = ZONEOUT if cell == "lstm" else ZONEOUT[0]
    if zoneout == "of c":
        problem.options["zoneout"] = (0.0, ZONEOUT[1])
    if options.pop("dcells", False):
        problem.options["return_cells"] = True
        dcells = normal(seq_len, batch_size, hidden_size)
        if problem.options["lengths"] is not None:
            dcells[np.arange(seq_len)[:, None] >= problem.options["lengths"]] = np.nan
        problem.incoming["dcells"] = dcells
    if zoneout == "drawn" or options.get("recurrent_dropout"):
        problem.options["key"] = KEY
    problem.options |= options
    return problem


def float_arrays(problem: Problem) -> dict[str, Any]:
    """What has a gradient: arguments and keywords."""
    return {
        name: array
        for name, array in (problem.arrays | problem.options).items()
        if isinstance(array, np.ndarray) and array.dtype.kind == "f"
    }


def with_array(problem: Problem, name: str, array: Any) -> Problem:
    if name in problem.arrays:
        return replace(problem, arrays=problem.arrays | {name: array})
    return replace(problem, options=problem.options | {name: array})


def variant_astype(problem: Problem, dtype: str) -> Problem:
    for name, array in float_arrays(problem).items():
        problem = with_array(problem, name, array.astype(dtype))
    incoming = {k: None if v is None else v.astype(dtype) for k, v in problem.incoming.items()}
    return replace(problem, incoming=incoming)


def variant_forward(module: ModuleType, problem: Problem, **keywords: Any) -> dict[str, Any]:
    """Outputs by name: y, h_n, c_n, cells, tape."""
    names = ["y", "h_n", "tape"]
    if family(problem.cell) == "lstm":
        names[2:2] = ["c_n", *(["cells"] if problem.options.get("return_cells") else [])]
    call = getattr(module, f"{family(problem.cell)}_forward")
    outputs = call(*problem.arrays.values(), **problem.options, **keywords)
    return dict(zip(names, outputs, strict=True))


def variant_run(module: ModuleType, problem: Problem, **keywords: Any) -> dict[str, Any]:
    """Outputs, and gradients by name; the tape under "tape"."""
    outputs = variant_forward(module, problem, **keywords)
    call = getattr(module, f"{family(problem.cell)}_backward")
    gradients: dict[str, Any] = call(outputs["tape"], *problem.incoming.values())._asdict()
    return outputs | gradients
