"""The gates on a tape: their values, and how many of them are saturated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .blocks import COUPLED, GATES
from .layer_tape import LayerTape
from .reference.rules import Rule
from .tape import Array, Tape
from .variants import NUM_GATES, Activation

__all__ = ["GateStatistics", "gate_statistics"]

# What other libraries have, and the minimal gated unit.
_NAMES = {**GATES, "MGU": ("f", "n")}
# The gate that goes through `activation`, the others through `gate_activation`.
_CANDIDATES = ("h", "n", "g")
# As in Karpathy, Johnson & Fei-Fei, arXiv:1506.02078: near a bound is within so much of it, that
# is below 0.05 or above 0.95 for a sigmoid.
_MARGIN = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class GateStatistics:
    """Of one gate of one layer in one direction, over all steps and rows but the padding.

    Attributes
    ----------
    layer : int
        From 0.
    reverse : bool
        Whether this is the reverse direction.
    gate : str
        i, f, g, o of the LSTM; r, z, n of the GRU; f, n of the MGU; h of the Elman network.
    means, lows, highs : ndarray
        (H), for each unit: the mean, and the shares of values near the lower and the upper bound.
    """

    layer: int
    reverse: bool
    gate: str
    means: Array
    lows: Array
    highs: Array

    @property
    def mean(self) -> float:
        """Of all units."""
        return float(self.means.mean())

    @property
    def low(self) -> float:
        """Share of all values near the lower bound."""
        return float(self.lows.mean())

    @property
    def high(self) -> float:
        """Share of all values near the upper bound."""
        return float(self.highs.mean())

    @property
    def name(self) -> str:
        """Gate, layer and direction in words."""
        return f"{self.gate}, layer {self.layer}{' reverse' if self.reverse else ''}"


def gate_statistics(tape: LayerTape) -> list[GateStatistics]:
    """Whether gates are open, shut or stuck: mean and saturation of each gate of each layer.

    A value counts as saturated within 0.05 of a bound of its activation: below 0.05 or above 0.95
    for a sigmoid, beyond ±0.95 for tanh. Hardly any gradient passes it. Of a relu, values of 0
    count; an activation without a bound has none.

    Parameters
    ----------
    tape : LayerTape
        From ``layer.forward``, without ``checkpoint``.

    Returns
    -------
    list of GateStatistics
        Layer by layer, forward half first, gates in the order of the parameters.

    Raises
    ------
    TypeError
        Not the tape of a recurrent layer.
    ValueError
        A tape that holds states instead of gates.

    Notes
    -----
    Karpathy, Johnson & Fei-Fei, "Visualizing and understanding recurrent networks",
    arXiv:1506.02078.

    Examples
    --------
    A forget gate with a bias of 4 is open, and stays so:

    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.LSTM(1, 2, rng=0, forget_bias=4.0)
    >>> y, state, tape = layer.forward(np.zeros((5, 1, 1), "float32"))
    >>> forget = pyrnn.gate_statistics(tape)[1]
    >>> forget.gate, round(forget.mean, 2), forget.low, forget.high
    ('f', 0.98, 0.0, 1.0)
    """
    if not isinstance(tape, LayerTape):
        raise TypeError(f"tape: expected that of a recurrent layer, got {type(tape).__name__}")
    owner: Any = tape.owner
    found = []
    for k, part in enumerate(tape.tapes):
        if not isinstance(part, Tape):
            raise ValueError("tape: expected one with gates, got one of forward(checkpoint=...)")
        layer, direction = divmod(k, owner._directions)
        for gate, values, activation in opened_gates(part):
            kept = values[valid_steps(part)].astype(np.float64)  # [N, H]
            low, high = _saturated(activation, kept)
            found.append(
                GateStatistics(layer, direction == 1, gate, *map(_means, (kept, low, high)))
            )
    return found


def opened_gates(tape: Tape) -> list[tuple[str, Array, Activation]]:
    """Name, values [T, B, H] and activation of each gate, whatever the tape holds of it."""
    size = len(tape.w_hh) // NUM_GATES[tape.cell]
    rule = Rule(tape.cell, tape.variant)
    found = []
    for n, name in enumerate(gate_names(tape.cell)):
        taped = tape.gates[..., n * size : (n + 1) * size]
        with np.errstate(all="ignore"):
            if name in _CANDIDATES:
                found.append((name, rule.open_candidate(taped).value, rule.variant.activation))
            else:
                found.append((name, rule.open_gate(taped).value, rule.variant.gate_activation))
    return found


def gate_names(cell: str) -> Sequence[str]:
    """In the order of the parameters."""
    return COUPLED if cell == "lstm_coupled" else _NAMES[cell.partition("_")[0].upper()]


def valid_steps(tape: Tape) -> Array:
    """[T, B], bool: False in the padding."""
    seq_len, batch = tape.x.shape[:2]
    if tape.lengths is None:
        return np.ones((seq_len, batch), bool)
    return np.arange(seq_len)[:, None] < tape.lengths


def _means(values: Array) -> Array:
    """Of each column [H]; NaN where there is no row."""
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _saturated(activation: Activation, values: Array) -> tuple[Array, Array]:
    """Whether near the lower bound, and whether near the upper one."""
    name, alpha, _ = activation
    if name in ("relu", "thresholded_relu"):
        return values <= 0, np.zeros_like(values, bool)
    lower, upper, scale = {
        "tanh": (-1.0, 1.0, 1.0),
        "softsign": (-1.0, 1.0, 1.0),
        "scaled_tanh": (-abs(alpha), abs(alpha), abs(alpha)),
        "sigmoid": (0.0, 1.0, 1.0),
        "hard_sigmoid": (0.0, 1.0, 1.0),
        "softplus": (0.0, np.inf, 1.0),
        "elu": (-alpha, np.inf, abs(alpha)),
    }.get(name, (-np.inf, np.inf, 1.0))
    return values < lower + _MARGIN * scale, values > upper - _MARGIN * scale
