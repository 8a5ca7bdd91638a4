"""Parameters from and to other libraries: there and back bit by bit, orders, and errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers_ops import Array
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_same_bits

import pyrnn
from pyrnn import reference, weights

CELLS = {"rnn": "h", "gru": "rzn", "lstm": "ifgo"}
LAYERS = {"rnn": pyrnn.RNN, "gru": pyrnn.GRU, "lstm": pyrnn.LSTM}


def params_of(
    gates: int, shape: tuple[int, int], *, bias: str = "both", layer: int = 0, **more: Any
) -> dict[str, Array]:
    """Random parameters, zeros of both signs among them; ``bias`` "ih" has bias_hh of 0."""
    rng = np.random.default_rng((gates, *shape, layer))
    input_size, size = shape
    params: dict[str, Array] = {}
    for suffix in (f"_l{layer}", f"_l{layer}_reverse")[: 1 + more.get("bidirectional", False)]:
        shapes = {
            "weight_ih": (gates * size, input_size),
            "weight_hh": (gates * size, size),
            "bias_ih": (gates * size,),
            "bias_hh": (gates * size,),
            "weight_peephole": (gates - 1, size),
        }
        if bias == "none":
            del shapes["bias_ih"], shapes["bias_hh"]
        if not more.get("peephole"):
            del shapes["weight_peephole"]
        for name, of_one in shapes.items():
            array = rng.normal(size=of_one).astype(more.get("dtype", "float32"))
            array[rng.random(of_one) < 0.1] = 0.0
            array[rng.random(of_one) < 0.1] = -0.0
            if name == "bias_hh" and bias == "ih":
                array[...] = 0.0
            params[name + suffix] = array
    return params


def assert_same(got: Any, want: Any) -> None:
    assert list(got) == list(want)
    for name, array in want.items():
        assert_same_bits(got[name], array, name)
        assert got[name].flags.c_contiguous
        assert got[name].flags.owndata or got[name].base.flags.owndata


shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))
cells = st.sampled_from(sorted(CELLS))
places = st.fixed_dictionaries({"layer": st.integers(0, 2)})
dtypes = st.sampled_from(["float32", "float64"])


@given(cells, shapes, st.sampled_from(["ih", "none"]), places, dtypes)
def test_keras_there_and_back(cell: str, shape: Any, bias: str, place: Any, dtype: str) -> None:
    params = params_of(len(CELLS[cell]), shape, bias=bias, dtype=dtype, **place)
    for reset_after in (True, False):
        there = weights.to_keras(params, cell, reset_after=reset_after, **place)
        back = weights.from_keras(there, cell, **place)
        assert_same(back, params)
        again = weights.to_keras(back, cell, reset_after=reset_after, **place)
        for ours, theirs in zip(again, there, strict=True):
            assert_same_bits(ours, theirs)


@given(cells, shapes, st.sampled_from(["both", "none"]), places, st.booleans(), st.booleans())
def test_onnx_there_and_back(
    cell: str, shape: Any, bias: str, place: Any, bidirectional: bool, peephole: bool
) -> None:
    options = {"bidirectional": bidirectional, "peephole": peephole and cell == "lstm"}
    params = params_of(len(CELLS[cell]), shape, bias=bias, **place, **options)
    assert_same(weights.from_onnx(weights.to_onnx(params, cell, **place), cell, **place), params)
    if cell == "lstm":
        params = params_of(3, shape, bias=bias, **place, **options)
        there = weights.to_onnx(params, cell, coupled=True, **place)
        back = weights.from_onnx(there, cell, input_forget=True, **place)
        assert_same(back, params)


@given(cells, shapes, st.sampled_from(["both", "none"]), st.integers(1, 3), st.booleans())
def test_cudnn_there_and_back(
    cell: str, shape: Any, bias: str, num_layers: int, bidirectional: bool
) -> None:
    layer = LAYERS[cell](
        *shape, num_layers, bias=bias == "both", bidirectional=bidirectional, rng=0
    )
    flat = weights.to_cudnn(layer.params)
    back = weights.from_cudnn(flat, cell, *shape, num_layers, bidirectional, bias == "both")
    assert_same(back, layer.state_dict())


@given(st.sampled_from(["gru", "lstm"]), shapes, st.sampled_from(["ih", "none"]), places)
def test_haste_there_and_back(cell: str, shape: Any, bias: str, place: Any) -> None:
    params = params_of(len(CELLS[cell]), shape, bias=bias, **place)
    assert_same(weights.from_haste(weights.to_haste(params, cell, **place), cell, **place), params)


@given(shapes, places, st.booleans(), st.sampled_from([1, 2]))
def test_block_lstm_there_and_back(shape: Any, place: Any, peephole: bool, version: int) -> None:
    params = params_of(4, shape, bias="ih", peephole=peephole, **place)
    if version == 1:
        params[f"bias_hh_l{place['layer']}"][shape[1] : 2 * shape[1]] = 1.0
    there = weights.to_block_lstm(params, version=version, **place)
    assert_same(weights.from_block_lstm(there, version=version, **place), params)


@given(cells, shapes, places, st.booleans())
def test_flax_there_and_back(cell: str, shape: Any, place: Any, fused: bool) -> None:
    params = params_of(len(CELLS[cell]), shape, bias="ih", **place)
    there = weights.to_flax(params, cell, fused=fused, **place)
    back = weights.from_flax(there, cell, **place)
    if cell == "lstm":  # its bias is on the other side
        names = [f"bias_{side}_l{place['layer']}" for side in ("ih", "hh")]
        assert not back[names[0]].any()
        back |= dict(zip(names, [back[name] for name in reversed(names)], strict=True))
    assert_same(back, params)
    again = weights.to_flax(back, cell, fused=fused, **place)
    for name, entry in there.items():
        assert list(again[name]) == list(entry)
        for key, array in entry.items():
            assert_same_bits(again[name][key], array, name)


def test_one_bias_is_the_sum_of_two() -> None:
    params = params_of(4, (2, 3))
    total = params["bias_ih_l0"] + params["bias_hh_l0"]
    i, f, g, o = np.split(total, 4)
    *_, bias = weights.to_keras(params, "lstm")
    np.testing.assert_array_equal(bias, total)
    np.testing.assert_array_equal(
        weights.to_haste(params, "lstm")["bias"], np.concatenate([i, g, f, o])
    )
    flax = weights.to_flax(params, "lstm")
    np.testing.assert_array_equal(flax["hg"]["bias"], g)
    block = weights.to_block_lstm(params, version=1)
    np.testing.assert_allclose(block["b"], np.concatenate([i, g, f - 1, o]), rtol=1e-6)
    gru = params_of(3, (2, 3))
    b_ih, b_hh = (np.split(gru[name], 3) for name in ("bias_ih_l0", "bias_hh_l0"))
    linen = weights.to_flax(gru, "gru")
    np.testing.assert_array_equal(linen["ir"]["bias"], b_ih[0] + b_hh[0])
    np.testing.assert_array_equal(linen["in"]["bias"], b_ih[2])
    np.testing.assert_array_equal(linen["hn"]["bias"], b_hh[2])
    with pytest.raises(ValueError, match=r"^bias_hh: expected 0 for gate n"):
        weights.to_flax(gru, "gru", fused=True)


def numbered(*shape: int) -> Array:
    return np.arange(float(np.prod(shape))).reshape(shape)


def test_orders() -> None:
    """Gate by gate: H of 1 and I of 1, so that the numbers of the rows are theirs."""
    lstm = weights.from_onnx({"W": numbered(1, 4, 1), "R": numbered(1, 4, 1)}, "lstm")
    assert lstm["weight_ih_l0"].ravel().tolist() == [0, 2, 3, 1]
    gru = weights.from_onnx(
        {"W": numbered(1, 3, 1), "R": numbered(1, 3, 1), "B": numbered(1, 6)}, "gru"
    )
    assert gru["weight_hh_l0"].ravel().tolist() == [1, 0, 2]
    assert gru["bias_hh_l0"].tolist() == [4, 3, 5]
    peepholes = {"W": numbered(1, 4, 1), "R": numbered(1, 4, 1), "P": numbered(1, 3) + 1}
    both = weights.from_onnx(peepholes, "lstm")["weight_peephole_l0"].ravel().tolist()
    assert both == [1, 3, 2]
    coupled = weights.from_onnx(peepholes, "lstm", input_forget=True)
    assert coupled["weight_hh_l0"].ravel().tolist() == [0, 3, 1]
    assert coupled["weight_peephole_l0"].ravel().tolist() == [-1, 2]
    keras = weights.from_keras([numbered(1, 3), numbered(1, 3), numbered(2, 3)], "gru")
    assert keras["weight_ih_l0"].ravel().tolist() == [1, 0, 2]
    assert keras["bias_hh_l0"].tolist() == [4, 3, 5]
    block = weights.from_block_lstm({"w": numbered(2, 4), "b": numbered(4)}, version=1)
    assert block["weight_ih_l0"].ravel().tolist() == [0, 2, 1, 3]
    assert block["weight_hh_l0"].ravel().tolist() == [4, 6, 5, 7]
    assert block["bias_hh_l0"].tolist() == [0, 1, 0, 0]
    second = weights.from_block_lstm({"w": numbered(2, 4), "b": numbered(4)}, version=2)
    assert second["weight_ih_l0"].ravel().tolist() == [0, 1, 2, 3]
    assert not second["bias_hh_l0"].any()
    haste = weights.from_haste(
        {"kernel": numbered(1, 4), "recurrent_kernel": numbered(1, 4)}, "lstm"
    )
    assert haste["weight_ih_l0"].ravel().tolist() == [0, 2, 1, 3]
    flat = weights.from_cudnn(numbered(2 * (4 + 4) + 2 * 8), "lstm", 1, 1, 1, True)
    assert flat["weight_ih_l0_reverse"].ravel().tolist() == [8, 9, 10, 11]
    assert flat["bias_ih_l0"].tolist() == [16, 17, 18, 19]


def filled(shape: tuple[int, ...], k: int) -> Array:
    """Eighths between -6/8 and 6/8, exact in every precision."""
    values = (np.arange(np.prod(shape)) * 5 + k * 3) % 13 - 6
    return (values / 8).reshape(shape)


def keras_weights(gates: int, *bias: int) -> list[Array]:
    return [filled(shape, k) for k, shape in enumerate([(2, gates * 3), (3, gates * 3), bias])]


def flax_entries(**shapes: tuple[int, ...]) -> dict[str, dict[str, Array]]:
    """Bias and kernel of each entry; one with a bias has its shape here."""
    entries: dict[str, dict[str, Array]] = {}
    k = 0
    for name in sorted(shapes):
        bias, kernel = shapes[name][:-2], shapes[name][-2:]
        entries[name] = {}
        for key, shape in (("bias", bias), ("kernel", kernel)):
            if shape:
                entries[name][key] = filled(shape, k)
                k += 1
    return entries


IN, HIDDEN, IN_BIAS, HIDDEN_BIAS = (2, 3), (3, 3), (3, 2, 3), (3, 3, 3)
LINEN_LSTM = {f"i{gate}": IN for gate in "ifgo"} | {f"h{gate}": HIDDEN_BIAS for gate in "ifgo"}
LINEN_GRU = {f"i{gate}": IN_BIAS for gate in "rzn"} | {
    "hr": HIDDEN, "hz": HIDDEN, "hn": HIDDEN_BIAS,
}  # fmt: skip
HARD = {"gate_activation": weights.KERAS_HARD_SIGMOID[3]}


@pytest.mark.parametrize(
    ("cell", "params", "options", "want"),
    [
        # y of the last of three steps, as Keras 3.15.1 and Flax 0.12.8 on JAX give them.
        (
            "rnn", weights.from_keras(keras_weights(1, 3), "rnn"), {},
            [-0.039223, 0.360967, -0.086247, 0.551029, 0.532799, -0.36295],
        ),
        (
            "lstm", weights.from_keras(keras_weights(4, 12), "lstm"), {},
            [0.307064, -0.127641, 0.031176, 0.478746, -0.126431, 0.084953],
        ),
        (
            "lstm", weights.from_keras(keras_weights(4, 12), "lstm"), HARD,
            [0.278747, -0.143531, 0.034208, 0.415826, -0.157725, 0.101057],
        ),
        (
            "gru", weights.from_keras(keras_weights(3, 2, 9), "gru"), {},
            [0.218868, -0.259144, -0.163598, 0.36542, -0.396299, -0.004215],
        ),
        (
            "gru", weights.from_keras(keras_weights(3, 9), "gru"), {"reset_after": False},
            [0.43098, -0.219229, 0.182962, 0.579486, -0.330345, 0.298197],
        ),
        (
            "lstm", weights.from_flax(flax_entries(**LINEN_LSTM), "lstm"), {},
            [0.075398, 0.188527, -0.160646, 0.169522, 0.190597, -0.278817],
        ),
        (
            "gru", weights.from_flax(flax_entries(**LINEN_GRU), "gru"), {},
            [0.275891, -0.224712, 0.202573, 0.269427, -0.281635, 0.105918],
        ),
        (
            "rnn", weights.from_flax(flax_entries(i=IN_BIAS, h=HIDDEN), "rnn"), {},
            [-0.376063, -0.338187, 0.160284, -0.215659, -0.452192, -0.190035],
        ),
        (
            "gru",
            weights.from_flax(flax_entries(dense_i=(9, 2, 9), dense_h=(3, 9)), "gru"), {},
            [-0.024308, 0.416871, -0.229584, -0.05147, 0.504785, -0.27429],
        ),
        (
            "lstm",
            weights.from_flax(flax_entries(dense_i=(2, 12), dense_h=(12, 3, 12)), "lstm"), {},
            [-0.071003, 0.212378, -0.222016, -0.092842, 0.319006, -0.207189],
        ),
    ],
)  # fmt: skip
def test_values_of_keras_and_flax(cell: str, params: Any, options: Any, want: list[float]) -> None:
    states = [np.zeros((2, 3))] * (2 if cell == "lstm" else 1)
    forward = getattr(reference, f"{cell}_forward")
    y, *_ = forward(filled((3, 2, 2), 1), *states, *params.values(), **options)
    np.testing.assert_allclose(y[-1].ravel(), want, atol=1e-6)


def test_nnx_calls_if_by_another_name() -> None:
    linen = flax_entries(**LINEN_LSTM)
    nnx = {"if_" if name == "if" else name: entry for name, entry in linen.items()}
    assert_same(weights.from_flax(nnx, "lstm"), weights.from_flax(linen, "lstm"))


def ones(**shapes: tuple[int, ...]) -> dict[str, Array]:
    return {name: np.ones(shape) for name, shape in shapes.items()}


KINDS = "cell: expected one of 'rnn', 'gru', 'lstm', got 'lstms'"


@pytest.mark.parametrize(
    ("convert", "arguments", "message"),
    [
        ("from_keras", ([], "lstms"), KINDS),
        ("from_haste", ({}, "rnn"), "cell: expected one of 'gru', 'lstm', got 'rnn'"),
        ("from_keras", ([1], "gru"), "arrays: expected kernel, recurrent_kernel and bias, got 1"),
        (
            "from_keras",
            ([np.ones((2, 9)), np.ones((3, 8))], "gru"),
            "recurrent_kernel: expected shape (H, 3·H) = (3, 9), got (3, 8)",
        ),
        (
            "from_keras",
            ([np.ones((2, 8)), np.ones((3, 9))], "gru"),
            "kernel: expected shape (I, 3·H), got (2, 8)",
        ),
        (
            "from_keras",
            ([np.ones((2, 9)), np.ones((3, 9)), np.ones(3)], "gru"),
            "bias: expected shape (3·H) = (9,), got (3,)",
        ),
        (
            "from_onnx",
            (ones(W=(1, 4, 1), R=(4, 1)), "lstm"),
            "R: expected shape (D, 4·H, H), got (4, 1)",
        ),
        (
            "from_onnx",
            (ones(W=(1, 4, 1), R=(1, 4, 1), B=(1, 4)), "lstm"),
            "B: expected shape (D, 8·H) = (1, 8), got (1, 4)",
        ),
        (
            "from_block_lstm",
            (ones(w=(2, 12), b=(12,)),),
            "w: expected shape (I+H, 4·H), got (2, 12)",
        ),
        (
            "from_block_lstm",
            (ones(w=(5, 12), b=(3,)),),
            "b: expected shape (4·H) = (12,), got (3,)",
        ),
        ("from_flax", ({"ir": {}}, "gru"), "arrays: missing iz, in"),
        (
            "from_cudnn",
            (np.ones(7), "rnn", 1, 1),
            "flat: expected shape (parameters) = (4,), got (7,)",
        ),
        ("to_keras", ({}, "rnn"), "params: missing weight_ih_l0, weight_hh_l0"),
        (
            "to_onnx",
            (ones(weight_ih_l0=(1, 1), weight_hh_l0=(1, 1), bias_ih_l0=(1,)), "rnn"),
            "params: missing bias_hh_l0",
        ),
        (
            "to_onnx",
            (ones(weight_ih_l0=(12, 2), weight_hh_l0=(11, 3)), "lstm"),
            "weight_hh_l0: expected shape (4·H, H) = (12, 3), got (11, 3)",
        ),
        (
            "to_cudnn",
            (ones(weight=(3,)),),
            "params: expected names like weight_ih_l0, got 'weight'",
        ),
    ],
)
def test_errors_name_the_array(convert: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        getattr(weights, convert)(*arguments)
