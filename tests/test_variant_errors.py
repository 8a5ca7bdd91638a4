"""Arguments of the variants that are refused: by name, with what was expected and what came."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers_ops import Problem
from helpers_variants import make_variant, variant_forward

from pyrnn import reference
from pyrnn.reference.activations import opened
from pyrnn.variants import ACTIVATIONS, checked_activation, variant_of

LISTED = f"a name or (name, alpha, beta) out of {', '.join(ACTIVATIONS)}"
KEYED = "key: expected (seed, layer, direction), integers of 64, 32 and 32 bits, got "
FLOAT32 = np.dtype("float32")


def problem_of(cell: str, **options: Any) -> Problem:
    problem = make_variant(cell, {}, "float32", 3, 2, 4, 5)
    problem.options |= options
    return problem


def norms(rows: int, *missing: str, cell: bool = True) -> dict[str, Any]:
    sizes = {"ih": rows, "hh": rows} | ({"c": 5} if cell else {})
    arrays = {
        f"ln_{name}_{kind}": np.ones(size, "float32")
        for name, size in sizes.items()
        for kind in ("weight", "bias")
    }
    return {name: array for name, array in arrays.items() if name not in missing}


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("rnn", {"nonlinearity": "sine"}, f"nonlinearity: expected {LISTED}, got 'sine'"),
        ("gru", {"activation": 3}, f"activation: expected {LISTED}, got 3"),
        ("gru", {"activation": ("elu", 1, 2, 3)}, f"activation: expected {LISTED}, got ('elu', 1"),
        ("lstm", {"gate_activation": ()}, f"gate_activation: expected {LISTED}, got ()"),
        ("lstm", {"gate_activation": ["Tanh"]}, f"gate_activation: expected {LISTED}, got ['Tanh"),
        ("lstm", {"activation": ("elu", np.nan)}, "activation: expected a number at least -inf"),
        (
            "lstm",
            {"activation": ("elu", np.inf)},
            "activation: expected finite alpha and beta",
        ),
        ("rnn", {"clip": 0.0}, "clip: expected a positive number or None, got 0.0"),
        ("gru", {"clip": -1}, "clip: expected a number at least 0, got -1"),
        ("lstm", {"cell_clip": np.nan}, "cell_clip: expected a number at least 0, got nan"),
        ("lstm", {"cell_clip": 0}, "cell_clip: expected a positive number or None, got 0"),
        ("rnn", {"zoneout": 1.5}, "zoneout: expected a number between 0 and 1, got 1.5"),
        ("gru", {"zoneout": (0.1, 0.2)}, "zoneout: expected a number, got (0.1, 0.2)"),
        ("lstm", {"zoneout": (0.1,)}, "zoneout: expected a number or (h, c), got (0.1,)"),
        ("lstm", {"zoneout": (0.1, -1)}, "zoneout: expected a number between 0 and 1, got -1"),
        ("gru", {"recurrent_dropout": 2}, "recurrent_dropout: expected a number between 0 and 1, "),
        ("gru", {"key": 3}, KEYED + "3"),
        ("gru", {"key": (1, 2)}, KEYED + "(1, 2)"),
        ("gru", {"key": (2**64, 2, 3)}, KEYED + "(18446744073709551616, 2, 3)"),
        ("gru", {"key": (1, 2**32, 3)}, KEYED),
        ("gru", {"key": (1, 0, -1)}, KEYED),
        (
            "lstm",
            {"w_peephole": np.ones((2, 5), "float32")},
            "w_peephole: expected shape (3, H) = (3, 5) or (3, H, H) = (3, 5, 5), got (2, 5)",
        ),
        (
            "lstm",
            {"w_peephole": np.ones((3, 5), "float32"), "coupled": True},
            "w_peephole: expected shape (2, H) = (2, 5) or (2, H, H) = (2, 5, 5), got (3, 5)",
        ),
        (
            "lstm",
            {"w_hr": np.ones((5, 2), "float32")},
            "w_hr: expected shape (P, H) = (5, 5), got (5, 2)",
        ),
        (
            "lstm",
            norms(20) | {"ln_hh_bias": np.ones(5, "float32")},
            "ln_hh_bias: expected shape (4·H) = (20,), got (5,)",
        ),
        ("rnn", norms(15, cell=False), "ln_ih_weight: expected shape (H) = (5,), got (15,)"),
        ("lstm", norms(20, "ln_c_bias"), "layer norm: missing ln_c_bias"),
        ("lstm", norms(20, cell=False), "layer norm: missing ln_c_weight, ln_c_bias"),
        ("gru", norms(15, "ln_ih_weight", cell=False), "layer norm: missing ln_ih_weight"),
        (
            "gru_reset_before",
            norms(15, cell=False),
            "layer norm: not with reset_after=False, where W_hh has two products to normalise",
        ),
    ],
)
def test_values(cell: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        variant_forward(reference, problem_of(cell, **options))


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("rnn", {"clip": "1"}, "clip: expected a number, got str"),
        ("gru", {"zoneout": None}, "zoneout: expected a number, got NoneType"),
        ("lstm", {"activation": ("elu", "1")}, "activation: expected a number, got str"),
        ("gru", {"key": (1.0, 0, 0)}, KEYED + "(1.0, 0, 0)"),
        ("lstm", {"w_peephole": np.ones((3, 5))}, "w_peephole: expected float32, got float64"),
        ("lstm", {"w_hr": np.ones((5, 5), int)}, "w_hr: expected float32, got int64"),
    ],
)
def test_types(cell: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        variant_forward(reference, problem_of(cell, **options))


@pytest.mark.parametrize("family", ["rnn", "gru"])
@pytest.mark.parametrize(
    "option",
    [
        {"coupled": True},
        {"cell_clip": 1.0},
        {"w_hr": np.ones((5, 5))},
        {"w_peephole": np.ones((3, 5))},
        {"ln_c_bias": np.ones(5)},
    ],
)
def test_only_the_lstm_has_a_cell(family: str, option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f"^{name}: only the LSTM has it$"):
        variant_of(family, (5, 5), FLOAT32, **option)


def test_an_unknown_keyword() -> None:
    with pytest.raises(TypeError, match=r"^unexpected keyword argument 'w_peepholes'$"):
        variant_of("lstm", (5, 5), FLOAT32, w_peepholes=np.ones((3, 5)))


def test_arrays_of_any_layout_come_back_plain() -> None:
    want = np.arange(15, dtype="float32").reshape(3, 5)
    backwards, swapped = want[::-1][::-1, ::-1][:, ::-1], want.astype(">f4")
    misaligned = np.frombuffer(b"x" + want.tobytes(), np.uint8)[1:].view("float32").reshape(3, 5)
    for given in (backwards, np.asfortranarray(want), swapped, misaligned):
        cell, variant = variant_of("lstm", (5, 5), FLOAT32, w_peephole=given)
        assert cell == "lstm"
        assert variant is not None
        got = variant.w_peephole
        assert got is not None
        assert got.dtype == FLOAT32
        assert got.flags.c_contiguous
        assert got.flags.aligned
        np.testing.assert_array_equal(got, want)


def test_names_and_what_is_plain() -> None:
    def cell_of(family: str, **options: Any) -> tuple[str, bool]:
        cell, variant = variant_of(family, (5, 5), FLOAT32, **options)
        return cell, variant is None

    assert cell_of("rnn") == ("rnn_tanh", True)
    assert cell_of("rnn", nonlinearity=("relu", 3.0, 1.0)) == ("rnn_relu", True)
    assert cell_of("rnn", nonlinearity="relu", clip=1) == ("rnn_relu", False)
    assert cell_of("rnn", nonlinearity="elu") == ("rnn", False)
    assert cell_of("gru", reset_after=False) == ("gru_reset_before", True)
    assert cell_of("gru", activation="relu") == ("gru", False)
    assert cell_of("lstm", coupled=True) == ("lstm_coupled", True)
    assert cell_of("lstm", clip=np.inf, cell_clip=None, zoneout=(0, 0)) == ("lstm", True)
    assert cell_of("lstm", recurrent_dropout=0.5) == ("lstm", True)
    assert cell_of("lstm", recurrent_dropout=0.5, key=(0, 0, 0)) == ("lstm", False)
    assert cell_of("lstm", key=(0, 0, 0)) == ("lstm", True)
    assert cell_of("lstm", zoneout=(0, 0.1)) == ("lstm", False)


def test_defaults_are_those_of_onnx() -> None:
    """Values at -0.7 and 2, from the operator's text."""
    minus, two = -0.7, 2.0
    want = {
        "tanh": (np.tanh(minus), np.tanh(two)),
        "sigmoid": (1 / (1 + np.exp(-minus)), 1 / (1 + np.exp(-two))),
        "relu": (0, 2),
        "affine": (minus, 2),
        "leaky_relu": (-0.007, 2),
        "thresholded_relu": (0, 2),
        "scaled_tanh": (np.tanh(minus), np.tanh(two)),
        "hard_sigmoid": (0.36, 0.9),
        "elu": (np.exp(minus) - 1, 2),
        "softsign": (minus / 1.7, 2 / 3),
        "softplus": (np.log(1 + np.exp(minus)), np.log(1 + np.exp(two))),
        "identity": (minus, 2),
    }
    assert list(want) == list(ACTIVATIONS)
    for name, values in want.items():
        activation = checked_activation("activation", name)
        np.testing.assert_allclose(opened(activation, np.array([minus, two])).value, values)
