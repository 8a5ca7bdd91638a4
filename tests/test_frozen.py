"""Frozen layers: the same bits as the layer, immutable, pickled, from many threads."""

from __future__ import annotations

import copy
import pickle
import re
import threading
from typing import Any

import numpy as np
import pytest
from helpers_layers import HIDDEN_SIZE, KINDS, assert_all_same, build, inputs, states_of
from helpers_script import check_script
from tolerances import assert_close, assert_same_bits

import pyrnn

DTYPES = ("float32", "float64")


def random_layer(kind: str, input_size: int, hidden_size: int, dtype: str, **options: Any) -> Any:
    """With biases that differ: the sum of both is packed."""
    cls, fixed = KINDS[kind]
    return cls(input_size, hidden_size, dtype=dtype, rng=hidden_size, **fixed, **options)


@pytest.mark.usefixtures("threads_whatever_the_load")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("input_size", "hidden_size", "options"),
    [
        (3, 1, {}),
        (1, 7, {"bias": False}),
        (17, 16, {"num_layers": 3}),
        (5, 33, {"bidirectional": True}),
        (65, 40, {"bidirectional": True, "num_layers": 2, "batch_first": True}),
        (31, 129, {"num_layers": 2, "batch_first": True, "bias": False}),
    ],
    ids=str,
)
def test_gives_the_bits_of_the_layer(
    kind: str, dtype: str, input_size: int, hidden_size: int, options: dict[str, Any]
) -> None:
    layer = random_layer(kind, input_size, hidden_size, dtype, **options)
    frozen = layer.freeze(dtype)
    for threads in (1, 2, 3):
        pyrnn.set_num_threads(threads)
        for seq_len, batch_size in ((1, 1), (2, 3), (9, 1), (12, 5), (3, 20)):
            for tokens in (False, True):
                x, state = inputs(layer, seq_len, batch_size, tokens=tokens)
                lengths = np.random.default_rng(seq_len).integers(0, seq_len + 1, batch_size)
                for given, ends in ((None, None), (state, None), (state, lengths)):
                    assert_all_same(frozen(x, given, ends), layer(x, given, ends))
        for tokens in (False, True):
            x, state = inputs(layer, 4, unbatched=True, tokens=tokens)
            assert_all_same(frozen(x, state), layer(x, state))
            assert_all_same(frozen(x, lengths=3), layer(x, lengths=3))


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16", "int8"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 3}], ids=str)
def test_a_short_call_of_plain_arrays_is_as_any_other(
    kind: str, options: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = random_layer(kind, 5, 19, "float64" if precision == "float64" else "float32", **options)
    frozen = layer.freeze(precision)
    for tokens in (False, True):
        x, state = inputs(layer, 4, 3, tokens=tokens)
        general = [frozen(np.asfortranarray(x), given) for given in (None, state)]
        with monkeypatch.context() as patch:
            patch.setattr(type(frozen), "_checked_input", None)
            short = [frozen(x, given) for given in (None, state)]
        assert_all_same(short, general)
    wrong = np.array([[0, 1], [5, 0]])
    for given in (wrong, np.asfortranarray(wrong)):
        with pytest.raises(IndexError, match=r"x: expected tokens in 0..I-1 = 0..4, got 5"):
            frozen(given)


@pytest.mark.parametrize("kind", KINDS)
def test_few_tokens_of_a_large_vocabulary(kind: str) -> None:
    """The layer reads single columns of W_ih; a frozen one has only the packed form."""
    layer = random_layer(kind, 500, 19, "float32")
    x = np.array([[0, 499], [3, 3], [498, 77]])
    assert_all_same(layer.freeze()(x), layer(x))
    assert_all_same(layer.freeze()(x[:1]), layer(x[:1]))


@pytest.mark.parametrize("kind", KINDS)
def test_empty_calls(kind: str) -> None:
    layer = build(kind, dtype="float32")
    frozen = layer.freeze()
    for seq_len, batch_size in ((0, 2), (3, 0), (0, 0)):
        x, state = inputs(layer, seq_len, batch_size)
        assert_all_same(frozen(x, state), layer(x, state))


def test_odd_but_valid_inputs() -> None:
    layer = build("lstm", dtype="float32")
    frozen = layer.freeze()
    x, (h, c) = inputs(layer, 6, 4)
    want = frozen(x, (h, c))
    swapped = x.astype(x.dtype.newbyteorder())
    strided = np.repeat(x, 2, axis=2)[..., ::2]
    shifted = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    for odd in (swapped, strided, shifted, np.asfortranarray(x)):
        odd.flags.writeable = False
        assert_all_same(frozen(odd, (np.asfortranarray(h), c)), want)


@pytest.mark.parametrize("kind", KINDS)
def test_later_parameters_do_not_reach_it(kind: str) -> None:
    layer = build(kind, num_layers=2)
    frozen = layer.freeze("float64")
    x, state = inputs(layer)
    want = frozen(x, state)
    for name in layer.params:
        layer.params[name][...] = np.nan
    layer.params.clear()
    assert_all_same(frozen(x, state), want)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"bidirectional": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_pickled_and_copied(kind: str, dtype: str, options: dict[str, Any]) -> None:
    layer = build(kind, dtype=dtype, num_layers=2, **options)
    frozen = layer.freeze(dtype)
    x, state = inputs(layer)
    want = frozen(x, state)
    for twin in (pickle.loads(pickle.dumps(frozen)), copy.copy(frozen), copy.deepcopy(frozen)):
        assert_all_same(twin(x, state), want)
        assert (repr(twin), twin.nbytes) == (repr(frozen), frozen.nbytes)


def test_a_pickle_holds_no_packed_memory() -> None:
    """Parameters, which every processor and version can pack in its own way."""
    frozen = build("gru").freeze("float64")
    state = frozen.__getstate__()
    assert "_packed" not in state
    for w_ih, w_hh, b_ih, b_hh in state["parts"]:
        shapes = [a.shape for a in (w_ih, w_hh, b_ih, b_hh)]
        rows = 3 * HIDDEN_SIZE
        assert shapes == [(rows, 3), (rows, HIDDEN_SIZE), (rows,), (rows,)]


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_precision_is_the_dtype_of_the_results(kind: str, dtype: str, precision: str) -> None:
    """Weights are rounded, or widened, once."""
    layer = build(kind, dtype=dtype, num_layers=2)
    twin = build(kind, dtype=precision, num_layers=2)
    for name, array in layer.params.items():
        twin.params[name][...] = array
    frozen = layer.freeze(precision)
    assert (frozen.dtype, frozen.precision) == (np.dtype(precision), precision)
    x, state = inputs(twin)
    assert_all_same(frozen(x, state), twin(x, state))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_on_the_reference(kind: str, dtype: str) -> None:
    layer = build(kind, dtype=dtype, num_layers=2, bidirectional=True)
    frozen = layer.freeze(dtype)
    x, state = inputs(layer, 7, 3)
    lengths = [7, 0, 4]
    with pyrnn.backend("reference"):
        y, last = frozen(x, state, lengths)
        want, want_last = layer(x, state, lengths)
    assert_close(y, want, dtype)
    for got, expected in zip(states_of(last), states_of(want_last), strict=True):
        assert_close(got, expected, dtype)


def packed_bytes(layer: Any, gates: int, columns: int, itemsize: int) -> int:
    """The formula of the documentation: H in whole lines, a layer in whole pairs of lines."""
    line = 64 // itemsize
    size = layer.hidden_size
    padded = -(-size // line) * line
    total = 0
    for k in range(layer.num_layers):
        width = layer.input_size if k == 0 else size
        values = padded * (columns + gates * (width + size))
        total += -(-values * itemsize // 128) * 128
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "gates", "columns"),
    [("rnn_tanh", 1, 1), ("gru", 3, 4), ("gru_reset_before", 3, 3), ("lstm", 4, 4)],
)
def test_bytes(kind: str, gates: int, columns: int, dtype: str) -> None:
    for hidden_size in (1, 16, 40):
        layer = random_layer(kind, 5, hidden_size, dtype, num_layers=2)
        itemsize = np.dtype(dtype).itemsize
        assert layer.freeze(dtype).nbytes == packed_bytes(layer, gates, columns, itemsize)


def test_from_many_threads() -> None:
    layer = random_layer("lstm", 24, 96, "float32", num_layers=2)
    frozen = layer.freeze()
    x, state = inputs(layer, 20, 4)
    want = layer(x, state)
    failures: list[BaseException] = []

    def call() -> None:
        try:
            for _ in range(20):
                assert_all_same(frozen(x, state), want)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_state_is_not_changed() -> None:
    frozen = build("lstm").freeze("float64")
    x, state = inputs(build("lstm"))
    before = copy.deepcopy((x, state))
    frozen(x, state)
    assert_all_same((x, state), before)


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_backend")
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments(kind: str) -> None:
    layer = build(kind, dtype="float32")
    frozen = layer.freeze()
    x, state = inputs(layer)
    short = tuple(s[..., :2] for s in states_of(state))
    name = "state[0]" if kind.startswith("lstm") else "state"
    for error, message, arguments in (
        (ValueError, "x: expected shape (T, B, I) or (T, I) with I = 3, got (5, 2, 2)",
         (x[..., :2],)),
        (ValueError, "x: ", (x[0, 0],)),
        (TypeError, "x: expected float32 or integer tokens, got float64", (x.astype("float64"),)),
        (TypeError, "x: ", (x.astype(complex),)),
        (IndexError, "x: expected tokens in 0..I-1 = 0..2, got 3", ([[0, 3]],)),
        (IndexError, "x: ", ([[0, -1]],)),
        (ValueError, f"{name}: expected shape (L·S, B, H) = (1, 2, 4), got (1, 2, 2)",
         (x, short if kind.startswith("lstm") else short[0])),
        (TypeError, f"{name}: expected float32, got float64",
         (x, tuple(s.astype("float64") for s in states_of(state)) if kind.startswith("lstm")
          else state.astype("float64"))),
        (ValueError, "lengths: expected values in 0..T = 0..5, got 6", (x, state, [6, 1])),
        (ValueError, "lengths: expected shape (B,) = (2,), got (3,)", (x, state, [1, 1, 1])),
        (TypeError, "lengths: expected integers, got float64", (x, state, [1.0, 2.0])),
    ):  # fmt: skip
        with pytest.raises(error, match="^" + re.escape(message)):
            frozen(*arguments)


def test_wrong_layers() -> None:
    layer = build("lstm")
    for wrong in ("float16", "", None, 32):
        with pytest.raises(ValueError, match=r"^precision: expected one of float32, "):
            layer.freeze(wrong)
    layer.params["weight_hh_l0"] = np.zeros((16, 3))
    message = "weight_hh_l0: expected shape (G·H, H) = (16, 4), got (16, 3)"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        layer.freeze()
    layer.params["weight_hh_l0"] = np.zeros((16, 4), int)
    with pytest.raises(TypeError, match=r"^weight_hh_l0: expected float64, got int64"):
        layer.freeze()


def test_values_that_are_not_finite() -> None:
    layer = build("gru", dtype="float32", num_layers=2)
    layer.params["weight_ih_l0"][0, 0] = np.inf
    frozen = layer.freeze()
    x, state = inputs(layer)
    x[2, 1, 1] = np.nan
    assert_same_bits(frozen(x, state)[0], layer(x, state)[0])


def test_ctrl_c_ends_a_long_call() -> None:
    check_script("""
        import signal, time, numpy as np, pyrnn
        frozen = pyrnn.LSTM(64, 256, rng=0).freeze()
        x = np.zeros((400_000, 1, 64), "float32")
        frozen(x[:10])
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        start = time.monotonic()
        try:
            frozen(x)
            raise SystemExit("the call was not interrupted")
        except KeyboardInterrupt:
            assert time.monotonic() - start < 1.2
        y, _ = frozen(x[:10])
        assert np.isfinite(y).all()
        """)
