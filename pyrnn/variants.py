"""What makes a variant of a cell: activations, clips, peepholes, projection, norms, masks."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import Array, checked_number, shape_text, with_dtype

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

PARAMETERLESS = {name for name, numbers in ACTIVATIONS.items() if numbers == (0.0, 0.0)}

Activation = tuple[str, float, float]
ActivationLike = str | tuple[Any, ...]  # as callers may write it
TANH: Activation = ("tanh", 0.0, 0.0)
SIGMOID: Activation = ("sigmoid", 0.0, 0.0)
RELU: Activation = ("relu", 0.0, 0.0)

# Elman's cells with a name of their own.
NONLINEARITIES = {"rnn_tanh": TANH, "rnn_relu": RELU}

# Blocks of H rows in the weights, and rows of w_peephole.
NUM_GATES = {
    "rnn_tanh": 1,
    "rnn_relu": 1,
    "rnn": 1,
    "gru": 3,
    "gru_reset_before": 3,
    "mgu": 2,
    "lstm": 4,
    "lstm_coupled": 3,
}
NUM_PEEPHOLES = {"lstm": 3, "lstm_coupled": 2}  # of i, f, o; of f, o


@dataclass(frozen=True, eq=False)
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
GATE_NORMS, CELL_NORMS = VARIANT_ARRAYS[2:6], VARIANT_ARRAYS[6:]
OF_THE_LSTM = ("w_peephole", "w_hr", *CELL_NORMS)
EPS = 1e-5  # of layer normalisation
# The tape multiplies a candidate's value by the first where its sum was clipped, and negates a
# gate's; tanh of a clip from the second on comes out above 1.
CLIP_MARK, LEAST_MARKED_CLIP = 2.0**64, 2.0**-60


def tapes_sums(cell: str, variant: Variant | None) -> bool:
    """Whether the tape's gates are sums: their slopes cannot be told from their values."""
    if variant is None:
        return False
    elman = cell.startswith("rnn")
    told = ("tanh", "relu") if elman else ("tanh",)
    return (
        (variant.clip > 0 and (elman or variant.clip < LEAST_MARKED_CLIP))
        or variant.activation[0] not in told
        or variant.gate_activation[0] != "sigmoid"
    )


def tapes_h(cell: str, variant: Variant | None) -> bool:
    """Whether the tape has every h_t: where it is not read off the gates and c_t."""
    if cell.startswith(("gru", "mgu")):
        return True
    if variant is None:
        return False
    blends = variant.zoneout_h > 0 or variant.zoneout_c > 0
    shaped = variant.w_hr is not None or variant.ln_ih_weight is not None
    return blends or shaped or (cell.startswith("rnn") and tapes_sums(cell, variant))


def variant_of(
    family: str,
    sizes: tuple[int, int],
    dtype: np.dtype[Any],
    *,
    nonlinearity: Any = "tanh",
    activation: Any = "tanh",
    gate_activation: Any = "sigmoid",
    reset_after: bool = True,
    coupled: bool = False,
    clip: float | None = None,
    cell_clip: float | None = None,
    zoneout: Any = 0.0,
    recurrent_dropout: float = 0.0,
    key: tuple[int, int, int] | None = None,
    **arrays: npt.ArrayLike | None,
) -> tuple[str, Variant | None]:
    """Name of the cell, and its variant or None for the plain one, out of an operation's keywords.

    ``family`` is "rnn", "gru", "mgu" or "lstm", ``sizes`` H and P; ``arrays`` are those of
    ``VARIANT_ARRAYS``, which come back native and contiguous.

    Raises
    ------
    ValueError
        A value out of its range, an array of a wrong shape, a combination that makes no sense.
    TypeError
        Not a number, or an array of another dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from pyrnn.variants import variant_of
    >>> variant_of("rnn", (3, 3), np.dtype("float32"), nonlinearity="relu")
    ('rnn_relu', None)
    >>> cell, variant = variant_of("lstm", (3, 3), np.dtype("float32"), coupled=True, cell_clip=2)
    >>> cell, variant.cell_clip
    ('lstm_coupled', 2.0)
    """
    if family != "lstm":
        _only_the_lstm_has(coupled=coupled, cell_clip=cell_clip, **arrays)
    options: dict[str, Any] = {}
    if family == "rnn":
        phi = checked_activation("nonlinearity", nonlinearity)
        cell = next((name for name, known in NONLINEARITIES.items() if known == phi), "rnn")
        plain_activation = NONLINEARITIES.get(cell)
        options["activation"] = phi
    else:
        cell = "lstm_coupled" if coupled else family
        if family == "gru" and not reset_after:
            cell = "gru_reset_before"
        plain_activation = TANH
        options["activation"] = checked_activation("activation", activation)
        options["gate_activation"] = checked_activation("gate_activation", gate_activation)
    options["clip"] = _checked_clip("clip", clip)
    options["cell_clip"] = _checked_clip("cell_clip", cell_clip)
    options |= _regularisers(family, zoneout, recurrent_dropout, key)
    given = {name: array for name, array in arrays.items() if array is not None}
    if given:
        options |= _checked_arrays(cell, sizes, dtype, given)
        return cell, Variant(**options)
    plain = Variant(activation=plain_activation) if plain_activation else None
    if plain and all(value == getattr(plain, name) for name, value in options.items()):
        return cell, None
    return cell, Variant(**options)


def checked_activation(argument: str, value: Any) -> Activation:
    """(name, alpha, beta), from a name or such a tuple."""
    parts = (value,) if isinstance(value, str) else value
    if (
        not isinstance(parts, (tuple, list))
        or not 1 <= len(parts) <= 3
        or not isinstance(parts[0], str)
        or parts[0] not in ACTIVATIONS
    ):
        raise ValueError(
            f"{argument}: expected a name or (name, alpha, beta) out of "
            f"{', '.join(ACTIVATIONS)}, got {value!r}"
        )
    name, *numbers = parts
    if name in PARAMETERLESS:
        return name, 0.0, 0.0
    given = [checked_number(argument, number, -np.inf) for number in numbers]
    if not np.isfinite(given).all():
        raise ValueError(f"{argument}: expected finite alpha and beta, got {value!r}")
    alpha, beta = [*given, *ACTIVATIONS[name][len(given) :]]
    return name, alpha, beta


def _checked_clip(argument: str, value: Any) -> float:
    """0 for none: an infinite clip is one too."""
    if value is None:
        return 0.0
    number = checked_number(argument, value, 0.0)
    if number == 0.0:
        raise ValueError(f"{argument}: expected a positive number or None, got {value!r}")
    return 0.0 if np.isinf(number) else number


def _regularisers(family: str, zoneout: Any, recurrent_dropout: Any, key: Any) -> dict[str, Any]:
    of_h = of_c = zoneout
    if isinstance(zoneout, (tuple, list)):
        if family != "lstm" or len(zoneout) != 2:
            wanted = "a number or (h, c)" if family == "lstm" else "a number"
            raise ValueError(f"zoneout: expected {wanted}, got {zoneout!r}")
        of_h, of_c = zoneout
    of_h, of_c = (checked_number("zoneout", value, 0.0, 1.0) for value in (of_h, of_c))
    dropped = checked_number("recurrent_dropout", recurrent_dropout, 0.0, 1.0)
    if key is not None:
        key = _checked_key(key)
    if family != "lstm":
        of_c = 0.0
    return {
        "zoneout_h": of_h,
        "zoneout_c": of_c,
        # Nothing is dropped where nothing is drawn.
        "recurrent_dropout": 0.0 if key is None else dropped,
        "key": key if of_h or of_c or dropped else None,
    }


def _checked_key(key: Any) -> tuple[int, int, int]:
    wanted = "key: expected (seed, layer, direction), integers of 64, 32 and 32 bits"
    if not isinstance(key, (tuple, list)) or len(key) != 3:
        raise ValueError(f"{wanted}, got {key!r}")
    try:
        seed, layer, direction = (operator.index(number) for number in key)
    except TypeError:
        raise TypeError(f"{wanted}, got {key!r}") from None
    if not (0 <= seed < 2**64 and 0 <= layer < 2**32 and 0 <= direction < 2**32):
        raise ValueError(f"{wanted}, got {key!r}")
    return seed, layer, direction


def _only_the_lstm_has(**options: Any) -> None:
    for name, value in options.items():
        absent = value is None or value is False
        if name in (*OF_THE_LSTM, "coupled", "cell_clip") and not absent:
            raise ValueError(f"{name}: only the LSTM has it")


def _checked_arrays(
    cell: str, sizes: tuple[int, int], dtype: np.dtype[Any], given: dict[str, Any]
) -> dict[str, Array]:
    unknown = set(given) - set(VARIANT_ARRAYS)
    if unknown:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    names = GATE_NORMS + (CELL_NORMS if cell.startswith("lstm") else ())
    missing = [name for name in names if name not in given]
    if missing and len(missing) < len(names):
        raise ValueError(f"layer norm: missing {', '.join(missing)}")
    if cell in ("gru_reset_before", "mgu") and not missing:
        which = "reset_after=False" if cell == "gru_reset_before" else "the minimal gated unit"
        raise ValueError(f"layer norm: not with {which}, where W_hh has two products to normalise")
    hidden, projected = sizes
    peepholes = NUM_PEEPHOLES.get(cell, 0)
    rows = NUM_GATES[cell]
    shapes: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
        "w_peephole": (
            (f"({peepholes}, H)", (peepholes, hidden)),
            (f"({peepholes}, H, H)", (peepholes, hidden, hidden)),
        ),
        "w_hr": (("(P, H)", (projected, hidden)),),
        **dict.fromkeys(GATE_NORMS, ((f"({rows}·H)" if rows > 1 else "(H)", (rows * hidden,)),)),
        **dict.fromkeys(CELL_NORMS, (("(H)", (hidden,)),)),
    }
    return {name: _checked(name, array, dtype, shapes[name]) for name, array in given.items()}


def _checked(
    name: str,
    value: Any,
    dtype: np.dtype[Any],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
) -> Array:
    array = with_dtype(name, np.asarray(value), dtype)
    if array.shape not in [shape for _, shape in shapes]:
        wanted = " or ".join(f"{symbols} = {shape_text(shape)}" for symbols, shape in shapes)
        raise ValueError(f"{name}: expected shape {wanted}, got {shape_text(array.shape)}")
    return np.require(array, requirements=["C", "A"])
