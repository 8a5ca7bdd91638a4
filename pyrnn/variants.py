"""What makes a variant of a cell: activations, clips, peepholes, projection, norms, masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# ONNX's list: name -> default alpha and beta. The order is that of csrc/shapes.hpp.
ACTIVATIONS = {
    "tanh": (0.0, 0.0),
    "sigmoid": (0.0, 0.0),
    "relu": (0.0, 0.0),
    "affine": (1.0, 0.0),
    "leaky_relu": (0.01, 0.0),
    "thresholded_relu": (1.0, 0.0),
    "scaled_tanh": (1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
    "softsign": (0.0, 0.0),
    "softplus": (0.0, 0.0),
    "identity": (0.0, 0.0),
}

Activation = tuple[str, float, float]
TANH: Activation = ("tanh", 0.0, 0.0)
SIGMOID: Activation = ("sigmoid", 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """What distinguishes a cell from the plain one of its name.

    ``clip`` and ``cell_clip`` of 0 stand for none. ``key`` is (seed, layer, direction) while
    masks are drawn; None blends zoneout with its expectation and drops nothing.
    """

    activation: Activation = TANH
    gate_activation: Activation = SIGMOID
    clip: float = 0.0
    cell_clip: float = 0.0
    w_peephole: Array | None = None  # (3, H) or (3, H, H); coupled: (2, H) or (2, H, H)
    w_hr: Array | None = None  # (P, H)
    ln_ih_weight: Array | None = None  # (G*H)
    ln_ih_bias: Array | None = None  # (G*H)
    ln_hh_weight: Array | None = None  # (G*H)
    ln_hh_bias: Array | None = None  # (G*H)
    ln_c_weight: Array | None = None  # (H)
    ln_c_bias: Array | None = None  # (H)
    zoneout_h: float = 0.0
    zoneout_c: float = 0.0
    recurrent_dropout: float = 0.0
    key: tuple[int, int, int] | None = None


# Names of the arrays, in the order in which gradients come back.
VARIANT_ARRAYS = (
    "w_peephole",
    "w_hr",
    "ln_ih_weight",
    "ln_ih_bias",
    "ln_hh_weight",
    "ln_hh_bias",
    "ln_c_weight",
    "ln_c_bias",
)
EPS = 1e-5  # of layer normalisation


def checked_activation(argument: str, value: Any) -> Activation:
    """(name, alpha, beta), from a name or such a tuple."""
    name, *numbers = (value,) if isinstance(value, str) else tuple(value)
    if name not in ACTIVATIONS or len(numbers) > 2:
        raise ValueError(
            f"{argument}: expected a name or (name, alpha, beta) out of "
            f"{', '.join(ACTIVATIONS)}, got {value!r}"
        )
    alpha, beta = (*map(float, numbers), *ACTIVATIONS[name][len(numbers) :])
    if not np.isfinite([alpha, beta]).all():
        raise ValueError(f"{argument}: expected finite alpha and beta, got {value!r}")
    return name, alpha, beta
