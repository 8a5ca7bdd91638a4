"""Parameters of layers: how they start, dropout, and the state dict."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from helpers_layers import (
    HIDDEN_SIZE,
    INPUT_SIZE,
    KINDS,
    PLAIN_KINDS,
    assert_all_same,
    build,
    inputs,
)
from tolerances import assert_same_bits

import pyrnn

DTYPES = ("float32", "float64")

# Dropout.


def test_dropout_is_for_training_between_layers() -> None:
    plain = build("gru", num_layers=3, bidirectional=True)
    layer = build("gru", num_layers=3, bidirectional=True, dropout=0.5)
    layer.load_state_dict(plain.state_dict())
    x, state = inputs(layer)
    assert_all_same(layer(x, state), plain(x, state))
    y, _, tape = layer.forward(x, state)
    assert not np.array_equal(y, plain(x, state)[0])
    lowest, *others = (tape.tapes[k].x for k in (0, 2, 4))
    assert_same_bits(lowest, x)
    for passed_up in others:
        assert 0 < np.count_nonzero(passed_up == 0) < passed_up.size
    assert np.count_nonzero(y == 0) == 0
    # A second call draws another mask.
    assert not np.array_equal(layer.forward(x, state)[0], y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_statistics(dtype: str) -> None:
    layer = pyrnn.RNN(1, 50, 2, dropout=0.3, dtype=dtype, rng=0)
    x = np.ones((40, 30, 1), dtype)
    below = pyrnn.RNN(1, 50, dtype=dtype)
    below.load_state_dict({n: a for n, a in layer.params.items() if n.endswith("l0")})
    _, _, tape = layer.forward(x)
    ratio = tape.tapes[1].x / below(x)[0]
    kept = ratio != 0
    np.testing.assert_allclose(ratio[kept], 1 / 0.7, rtol=1e-6)
    # Binomial: four standard deviations over all, over each step and over each unit.
    for axes in ((0, 1, 2), (1, 2), (0, 1)):
        count = np.prod([ratio.shape[axis] for axis in axes])
        assert np.abs(kept.mean(axis=axes) - 0.7).max() < 4.5 * np.sqrt(0.21 / count)
    # Masks of layers and calls are drawn independently of each other.
    deep = pyrnn.RNN(50, 50, 3, dropout=0.5, dtype=dtype, rng=0)
    _, _, tape = deep.forward(np.ones((40, 30, 50), dtype))
    masks = [tape.tapes[k].x != 0 for k in (1, 2)]
    assert abs((masks[0] == masks[1]).mean() - 0.5) < 4.5 * np.sqrt(0.25 / masks[0].size)


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_dropout_of_nothing_and_of_all(dropout: float) -> None:
    layer = build("lstm", num_layers=2, dropout=dropout)
    x, _ = inputs(layer)
    y, _, tape = layer.forward(x)
    if dropout == 0.0:
        assert_same_bits(y, layer(x)[0])
    else:
        assert not tape.tapes[1].x.any()
        assert not layer.backward(tape, y).x.any()


def test_the_same_seed_gives_the_same_layer_and_masks() -> None:
    for kind in KINDS:
        a, b, c = (build(kind, num_layers=2, dropout=0.5, rng=seed) for seed in (7, 7, 8))
        x, _ = inputs(a)
        assert_all_same(a.params, b.params)
        assert not np.array_equal(a.params["weight_hh_l0"], c.params["weight_hh_l0"])
        assert_all_same(a.forward(x)[0], b.forward(x)[0])
    shared = np.random.default_rng(3)
    a, b = build("gru", rng=shared), build("gru", rng=shared)
    assert not np.array_equal(a.params["weight_hh_l0"], b.params["weight_hh_l0"])
    assert_all_same(build("gru", rng=np.random.default_rng(3)).params, a.params)


def test_dropout_that_does_nothing_says_so() -> None:
    with pytest.warns(UserWarning, match="num_layers=1") as caught:
        pyrnn.LSTM(3, 4, dropout=0.5)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pyrnn.LSTM(3, 4, 2, dropout=0.5)


# Starting values.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", PLAIN_KINDS)
def test_uniform_start(kind: str, dtype: str) -> None:
    cls, options = KINDS[kind]
    layer = cls(30, 25, 2, **options, dtype=dtype, rng=0)
    for name, array in layer.params.items():
        assert array.dtype == dtype
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert np.abs(array).max() <= 0.2, name
        assert np.abs(array).max() > 0.18, name
        # Mean and variance of a uniform distribution on [-0.2, 0.2].
        assert abs(array.mean()) < 5 * 0.2 / np.sqrt(3 * array.size), name
        assert abs(array.std() * np.sqrt(3) - 0.2) < 0.2 * 5 / np.sqrt(array.size), name


def test_orthogonal_start() -> None:
    layer = pyrnn.LSTM(5, 16, 2, bidirectional=True, init="orthogonal", dtype="float64", rng=0)
    blocks = [
        block
        for name, array in layer.params.items()
        if name.startswith("weight_hh")
        for block in np.split(array, 4)
    ]
    assert len(blocks) == 16
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(16), atol=1e-12)
    assert len({block.tobytes() for block in blocks}) == 16
    # Over the whole orthogonal group, the diagonal has mean 0 and variance 1 / H.
    diagonal = np.concatenate([np.diag(block) for block in blocks])
    assert abs(diagonal.mean()) < 4 * 0.25 / np.sqrt(diagonal.size)


def test_forget_bias() -> None:
    layer = pyrnn.LSTM(3, 4, 2, bidirectional=True, forget_bias=1.5, rng=0)
    plain = pyrnn.LSTM(3, 4, 2, bidirectional=True, rng=0)
    for name, array in layer.params.items():
        if name.startswith("bias"):
            assert (array[4:8] == (1.5 if "ih" in name else 0)).all()
            array[4:8] = plain.params[name][4:8]
        assert_same_bits(array, plain.params[name], name)


# The state dict.


def test_state_dict_round_trip() -> None:
    layer, other = (build("gru", num_layers=2, bidirectional=True, rng=s) for s in (0, 1))
    assert list(layer.state_dict())[:5] == [
        "weight_ih_l0",
        "weight_hh_l0",
        "bias_ih_l0",
        "bias_hh_l0",
        "weight_ih_l0_reverse",
    ]
    arrays = dict(other.params)
    kept = layer.state_dict()
    other.load_state_dict(kept)
    assert all(other.params[name] is array for name, array in arrays.items())
    assert_all_same(other.params, layer.params)
    layer.params["bias_hh_l1"] += 1
    assert not np.array_equal(kept["bias_hh_l1"], layer.params["bias_hh_l1"])
    assert not np.array_equal(other.params["bias_hh_l1"], layer.params["bias_hh_l1"])


def test_load_state_dict_of_its_own_arrays_crosswise() -> None:
    layer = build("gru", bidirectional=True)
    before = layer.state_dict()
    layer.load_state_dict(
        {
            name: layer.params[
                name.removesuffix("_reverse") if "reverse" in name else f"{name}_reverse"
            ]
            for name in layer.params
        }
    )
    for name, array in before.items():
        crossed = name.removesuffix("_reverse") if "reverse" in name else f"{name}_reverse"
        assert_same_bits(layer.params[crossed], array)


def test_load_state_dict_changes_nothing_when_it_fails() -> None:
    layer = build("lstm", num_layers=2)
    before, good = layer.state_dict(), build("lstm", num_layers=2, rng=9).state_dict()
    last = "bias_hh_l1"
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({k: v for k, v in good.items() if k != last}, ValueError, f"missing {last}$"),
        (good | {"weight_hh_l2": good[last]}, ValueError, "unexpected weight_hh_l2$"),
        (
            good | {last: good[last][1:]},
            ValueError,
            rf"^{last}: expected shape \(16,\), got \(15,\)",
        ),
        (good | {last: good[last][None]}, ValueError, rf"^{last}: .* got \(1, 16\)$"),
        (good | {last: good[last].astype("float32")}, TypeError, f"^{last}: .*float64.*float32$"),
        (good | {last: None}, TypeError, f"^{last}: expected float64, got object"),
        (good | {last: [[1], [2, 3]]}, TypeError, f"^{last}: expected an array, got list"),
    ]
    for mapping, error, match in bad:
        with pytest.raises(error, match=match):
            layer.load_state_dict(mapping)
        assert_all_same(layer.params, before)
    layer.params[last].flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        layer.load_state_dict(good)
    assert_all_same(layer.params, before)


@pytest.mark.parametrize("options", [{"layer_norm": True}, {"peephole": "diagonal"}])
def test_parameters_that_change_between_calls(options: dict[str, Any]) -> None:
    """In place or as another array: what a call before has made of them is not used again."""
    layer = build("lstm", num_layers=2, **options)
    x, state = inputs(layer)
    rng = np.random.default_rng(0)
    for name in layer.params:
        before, _, _ = layer.forward(x, state)
        value = rng.standard_normal(layer.params[name].shape).astype(layer.dtype)
        layer.params[name] = value.copy()
        other = build("lstm", num_layers=2, **options)
        other.load_state_dict(layer.state_dict())
        expected, _, _ = other.forward(x, state)
        replaced, _, _ = layer.forward(x, state)
        assert not np.array_equal(replaced, before), name
        assert_same_bits(replaced, expected)
        layer.params[name] *= 2
        assert not np.array_equal(layer.forward(x, state)[0], replaced), name
        layer.params[name] = value


def test_load_state_dict_of_another_byte_order() -> None:
    layer, other = build("rnn_tanh"), build("rnn_tanh", rng=1)
    swapped = {n: a.astype(a.dtype.newbyteorder()) for n, a in other.params.items()}
    layer.load_state_dict(swapped)
    assert_all_same(layer.params, other.params)


def test_sizes() -> None:
    for kind, gates in (("rnn_tanh", 1), ("gru", 3), ("lstm", 4)):
        layer = build(kind, num_layers=2, bidirectional=True)
        rows = gates * HIDDEN_SIZE
        assert {name: array.shape for name, array in layer.params.items()} == {
            f"{what}_l{level}{suffix}": {
                "weight_ih": (rows, 2 * HIDDEN_SIZE if level else INPUT_SIZE),
                "weight_hh": (rows, HIDDEN_SIZE),
            }.get(what, (rows,))
            for level in (0, 1)
            for suffix in ("", "_reverse")
            for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
