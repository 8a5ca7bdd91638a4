"""Random layers and their inputs, a layer composed of operations by hand, and differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from tolerances import (
    DIFFERENCE_RELATIVE,
    DIFFERENCE_STEP,
    assert_same_bits,
    relative_error,
)

import pyrnn
from pyrnn import ops
from pyrnn.parameters import ARRAYS, PLAIN

Array = npt.NDArray[Any]

# Every cell as a layer.
KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "rnn_tanh": (pyrnn.RNN, {}),
    "rnn_relu": (pyrnn.RNN, {"nonlinearity": "relu"}),
    "gru": (pyrnn.GRU, {}),
    "gru_reset_before": (pyrnn.GRU, {"reset_after": False}),
    "mgu": (pyrnn.MGU, {}),
    "lstm": (pyrnn.LSTM, {}),
    "gru_variant": (pyrnn.GRU, {"layer_norm": True, "activation": "softsign", "clip": 0.7}),
    "lstm_variant": (pyrnn.LSTM, {"peephole": "full", "layer_norm": True, "cell_clip": 0.4}),
    "lstm_coupled": (pyrnn.LSTM, {"coupled": True, "peephole": "diagonal"}),
}
# Those whose parameters start as in PyTorch; those without clips, whose gradients jump, and layer
# norm, which may enlarge a small difference; and all kinds, a projection's columns among them.
PLAIN_KINDS = [kind for kind in KINDS if not kind.endswith(("_variant", "_coupled"))]
SMOOTH_KINDS = [kind for kind in KINDS if not kind.endswith("_variant")]
KINDS_AND_PROJECTIONS = KINDS | {"lstm_projection": (pyrnn.LSTM, {"proj_size": 2})}
INPUT_SIZE, HIDDEN_SIZE = 3, 4


def build(kind: str, **options: Any) -> Any:
    """A layer of 3 inputs and 4 units in float64, unless the options say otherwise."""
    cls, fixed = KINDS_AND_PROJECTIONS[kind]
    return cls(INPUT_SIZE, HIDDEN_SIZE, **({"dtype": "float64", "rng": 0} | fixed | options))


def inputs(
    layer: Any,
    seq_len: int = 5,
    batch_size: int = 2,
    *,
    unbatched: bool = False,
    tokens: bool = False,
    seed: int = 1,
) -> tuple[Array, Any]:
    """x and a state as the layer wants them."""
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (seq_len, batch_size)
    if unbatched:
        shape = (seq_len,)
    elif layer.batch_first:
        shape = (batch_size, seq_len)
    x = rng.integers(0, layer.input_size, shape)
    if not tokens:
        x = rng.normal(size=(*shape, layer.input_size)).astype(layer.dtype)
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    of_rows = (rows,) if unbatched else (rows, batch_size)
    columns = getattr(layer, "proj_size", 0) or layer.hidden_size, layer.hidden_size  # of h, of c
    parts = [rng.normal(size=(*of_rows, n)).astype(layer.dtype) / 2 for n in columns]
    return x, tuple(parts) if isinstance(layer, pyrnn.LSTM) else parts[0]


def states_of(state: Any) -> list[Any]:
    return list(state) if isinstance(state, tuple) else [state]


def flat(result: Any) -> Iterator[tuple[str, Array]]:
    """All arrays of nested results, with names for messages."""
    if isinstance(result, np.ndarray):
        yield "", result
    elif isinstance(result, (tuple, list)):
        for index, part in enumerate(result):
            for name, array in flat(part):
                yield f"[{index}]{name}", array
    elif isinstance(result, dict):
        for key, part in result.items():
            for name, array in flat(part):
                yield f"[{key}]{name}", array


def assert_all_same(got: Any, want: Any) -> None:
    """The same arrays under the same names, to the bit."""
    got, want = dict(flat(got)), dict(flat(want))
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert_same_bits(got[name], array, name)


def compose(
    layer: Any, x: Array, state: Any, lengths: Array | None, dy: Array, dstate: Any
) -> tuple[Array, list[Array], Array | None, list[Array], dict[str, Array]]:
    """y, states, dx, dstates and parameter gradients of a layer without dropout on time-major
    arrays, one operation after the other."""
    family = type(layer).__name__.lower()
    forward, backward = (getattr(ops, f"{family}_{way}") for way in ("forward", "backward"))
    options = {name: getattr(layer, name) for name in layer._options}
    suffixes = ("", "_reverse") if layer.bidirectional else ("",)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if layer.bias else 2]
    extras = [kind for kind in ARRAYS if kind not in PLAIN and f"{kind}_l0" in layer.params]
    first, dlast = states_of(state), states_of(dstate)
    count, tapes, last, k = len(first), [], [], 0
    for level in range(layer.num_layers):
        outputs = []
        for suffix in suffixes:
            weights = [layer.params[f"{kind}_l{level}{suffix}"] for kind in kinds]
            more = {ARRAYS[n]: layer.params[f"{n}_l{level}{suffix}"] for n in extras}
            y, *after, tape = forward(
                x,
                *(s[k] for s in first),
                *weights,
                **more,
                lengths=lengths,
                reverse=suffix != "",
                **options,
            )
            outputs.append(y)
            last.append(after)
            tapes.append(tape)
            k += 1
        x = np.concatenate(outputs, axis=-1)
    states = [np.stack([after[i] for after in last]) for i in range(count)]

    params: dict[str, Array] = {}
    dfirst: list[Any] = [None] * len(tapes)
    size, above = layer.proj_size or layer.hidden_size, dy
    for level in reversed(range(layer.num_layers)):
        below: Any = None
        for direction, suffix in enumerate(suffixes):
            k = level * len(suffixes) + direction
            half = np.ascontiguousarray(above[..., direction * size : (direction + 1) * size])
            gradients = backward(tapes[k], half, *(d[k] for d in dlast))
            dx, *rest = gradients
            dfirst[k] = rest[:count]
            for kind in (*kinds, *extras):
                params[f"{kind}_l{level}{suffix}"] = getattr(gradients, "d" + ARRAYS[kind])
            below = dx if below is None or dx is None else below + dx
        above = below
    return x, states, above, [np.stack([d[i] for d in dfirst]) for i in range(count)], params


def assert_gradient(loss: Callable[[], float], array: Array, gradient: Array, name: str) -> None:
    """Every entry of ``gradient`` against a central difference of ``loss`` by ``array``."""
    want = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + DIFFERENCE_STEP
        above = loss()
        array[index] = kept - DIFFERENCE_STEP
        below = loss()
        array[index] = kept
        want[index] = (above - below) / (2 * DIFFERENCE_STEP)
    assert gradient.shape == array.shape, name
    error = relative_error(gradient, want)
    assert error <= DIFFERENCE_RELATIVE, f"{name}: relative error {error:.3g}"
