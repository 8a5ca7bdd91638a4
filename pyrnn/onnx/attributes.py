"""Attributes of ONNX's RNN, GRU and LSTM nodes, as pyrnn names what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..checks import Array, shape_text
from ..variants import ACTIVATIONS, PARAMETERLESS, SIGMOID, TANH, Activation, checked_activation

# Names of the activations: ONNX's differ in capitals and underscores.
FROM_ONNX = {name.replace("_", ""): name for name in ACTIVATIONS if name != "identity"}
TO_ONNX = {name: name.title().replace("_", "") for name in FROM_ONNX.values()}
TO_ONNX["identity"] = "Affine"  # with alpha 1 and beta 0

# Those that take a number of activation_beta; all that are not without numbers take one of alpha.
TAKE_BETA = ("affine", "scaled_tanh", "hard_sigmoid")

# f; f and g; f, g and h of one direction.
DEFAULTS = {"RNN": (TANH,), "GRU": (SIGMOID, TANH), "LSTM": (SIGMOID, TANH, TANH)}

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


class Settings(NamedTuple):
    """What the attributes of a node say."""

    kind: str  # "RNN", "GRU" or "LSTM"
    direction: str
    activations: tuple[tuple[Activation, ...], ...]  # of each direction: f(, g(, h))
    clip: float | None
    batch_first: bool
    coupled: bool
    reset_after: bool
    hidden_size: int | None

    @property
    def directions(self) -> int:
        return DIRECTIONS[self.direction]

    def keywords(self, k: int) -> dict[str, Any]:
        """Those of pyrnn's operations for direction k; h of the LSTM is not among them."""
        of_gates, *others = self.activations[k]
        found: dict[str, Any] = {"clip": self.clip}
        if self.kind == "RNN":
            return found | {"nonlinearity": of_gates}
        found |= {"gate_activation": of_gates, "activation": others[0]}
        if self.kind == "GRU":
            return found | {"reset_after": self.reset_after}
        return found | {"coupled": self.coupled}


def settings_of(kind: str, attributes: Mapping[str, Any]) -> Settings:
    """Attributes by their names, absent ones as None or not at all.

    ``output_sequence`` of opset 1 says nothing: Y is given where a node names it.
    """
    given = {name: value for name, value in attributes.items() if value is not None}
    direction = given.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: expected one of {', '.join(DIRECTIONS)}, got {direction!r}")
    clip = given.get("clip")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip: expected a positive number, got {clip}")
    hidden_size = given.get("hidden_size")
    return Settings(
        kind,
        direction,
        _activations(kind, DIRECTIONS[direction], given),
        None if clip is None else float(clip),
        bool(given.get("layout", 0)),
        bool(given.get("input_forget", 0)),
        bool(given.get("linear_before_reset", 0)),
        None if hidden_size is None else int(hidden_size),
    )


def check_sizes(settings: Settings, r: Array) -> None:
    """Whether R is of the directions and the size that the attributes say."""
    if r.ndim == 3 and len(r) != settings.directions:
        raise ValueError(
            f"R: expected D = {settings.directions} for direction {settings.direction!r}, "
            f"got shape {shape_text(r.shape)}"
        )
    size = r.shape[-1] if r.ndim else 0
    if settings.hidden_size not in (None, size):
        raise ValueError(f"R: expected hidden_size = {settings.hidden_size} columns, got {size}")


def _activations(
    kind: str, directions: int, given: Mapping[str, Any]
) -> tuple[tuple[Activation, ...], ...]:
    defaults = DEFAULTS[kind]
    wanted = len(defaults) * directions
    names: Sequence[str] = given.get("activations") or ()
    if not names:
        return (defaults,) * directions
    # The default of an RNN are two, also where it has one direction.
    if len(names) < wanted or (kind != "RNN" and len(names) > wanted):
        raise ValueError(f"activations: expected {wanted}, got {len(names)}: {', '.join(names)}")
    alphas = iter(given.get("activation_alpha") or ())
    betas = iter(given.get("activation_beta") or ())
    found = []
    for theirs in names[:wanted]:
        name = FROM_ONNX.get(theirs.lower())
        if name is None:
            known = ", ".join(sorted(set(TO_ONNX.values())))
            raise ValueError(f"activations: expected names out of {known}, got {theirs!r}")
        alpha, beta = ACTIVATIONS[name]
        if name not in PARAMETERLESS:
            alpha = float(next(alphas, alpha))
        if name in TAKE_BETA:
            beta = float(next(betas, beta))
        found.append(checked_activation("activations", (name, alpha, beta)))
    size = len(defaults)
    return tuple(tuple(found[k * size : (k + 1) * size]) for k in range(directions))
