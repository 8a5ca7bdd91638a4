"""What streams do with wrong arguments: they name them, and their state has not changed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers_layers import assert_all_same, build, inputs

from pyrnn import _stream


@pytest.mark.parametrize(
    ("batch_size", "x_t", "error", "message"),
    [
        (2, np.zeros((2, 4), "f4"), ValueError,
         "x_t: expected shape (B, I) = (2, 3), got (2, 4)"),
        (2, np.zeros(3, "f4"), ValueError, "x_t: expected shape (B, I) = (2, 3), got (3,)"),
        (1, np.zeros(4, "f4"), ValueError,
         "x_t: expected shape (B, I) or (I,) = (1, 3) or (3,), got (4,)"),
        (1, np.zeros((1, 1, 3), "f4"), ValueError, "x_t: expected shape "),
        (1, np.float32(0), ValueError, "x_t: expected shape "),
        (1, np.zeros((1, 3)), TypeError,
         "x_t: expected float32 or integer tokens, got float64"),
        (1, [0.0, 0.0, 0.0], TypeError, "x_t: expected float32 or integer tokens, got float64"),
        (1, np.zeros(3, complex), TypeError, "x_t: "),
        (1, np.zeros(1, bool), TypeError, "x_t: expected float32 or integer tokens, got bool"),
        (1, True, TypeError, "x_t: expected float32 or integer tokens, got bool"),
        (1, None, TypeError, "x_t: expected float32 or integer tokens, got object"),
        (1, "text", TypeError, "x_t: "),
        (1, 3, IndexError, "x_t: expected tokens in 0..I-1 = 0..2, got 3"),
        (1, -1, IndexError, "x_t: expected tokens in 0..I-1 = 0..2, got -1"),
        (1, 2**80, IndexError, "x_t: expected tokens in 0..I-1 = 0..2, got "),
        (2, np.array([0, 3]), IndexError, "x_t: expected tokens in 0..I-1 = 0..2, got 3"),
        (2, np.array([0, 2**63 + 1], np.uint64), IndexError, "x_t: expected tokens in 0..I-1 = "),
        (2, np.array([0, 1, 2]), ValueError,
         "x_t: expected tokens of shape (B,) = (2,), got (3,)"),
        (2, 1, ValueError, "x_t: expected tokens of shape (B,) = (2,), got ()"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm"])
def test_wrong_steps(
    kind: str, batch_size: int, x_t: Any, error: type[Exception], message: str
) -> None:
    layer = build(kind, dtype="float32", num_layers=2)
    stream = layer.freeze().stream(batch_size)
    _, state = inputs(layer, 1, batch_size)
    stream.reset(state)
    with pytest.raises(error, match="^" + re.escape(message)):
        stream.step(x_t)
    assert_all_same(stream.state, state)


def test_wrong_states() -> None:
    stream = build("lstm", dtype="float32").freeze().stream(2)
    right = np.zeros((1, 2, 4), "float32")
    for state, error, message in (
        (right, ValueError, "state: expected a tuple (h, c), got ndarray"),
        ((right,), ValueError, "state: expected a tuple (h, c), got tuple of 1"),
        ((right, right[..., :3]), ValueError,
         "state[1]: expected shape (L·S, B, H) = (1, 2, 4), got (1, 2, 3)"),
        ((right[0], right[0]), ValueError, "state[0]: expected shape (L·S, B, H) = (1, 2, 4), "),
        ((right, right.astype("f8")), TypeError, "state[1]: expected float32, got float64"),
    ):  # fmt: skip
        with pytest.raises(error, match="^" + re.escape(message)):
            stream.reset(state)


def test_wrong_streams() -> None:
    with pytest.raises(ValueError, match=r"^stream: expected a layer of one direction, got a bi"):
        build("gru", bidirectional=True).freeze().stream()
    frozen = build("gru").freeze()
    with pytest.raises(ValueError, match=r"^batch_size: expected at least 0, got -1"):
        frozen.stream(-1)
    with pytest.raises(TypeError, match=r"^batch_size: expected an integer, got float"):
        frozen.stream(1.0)
    for size in (2**31, 2**40, 2**61):
        with pytest.raises((ValueError, MemoryError)):
            frozen.stream(size)
    with pytest.raises(TypeError):
        _stream.Stream()
    with pytest.raises(TypeError):
        _stream.Stream.__new__(_stream.Stream)


def test_no_rows() -> None:
    stream = build("lstm", dtype="float32").freeze().stream(0)
    assert stream.step(np.zeros((0, 3), "float32")).shape == (0, 4)
    assert stream.step(np.zeros(0, int)).shape == (0, 4)
    assert [s.shape for s in stream.state] == [(1, 0, 4)] * 2


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([0.0] * 4, TypeError, "out: expected a NumPy array, got list"),
        (np.empty((1, 4)), TypeError, "out: expected float32, got float64"),
        (np.empty((1, 4), int), TypeError, "out: expected float32, got int64"),
        (np.empty((2, 4), "f4"), ValueError, "out: expected shape (B, H) = (1, 4), got (2, 4)"),
        (np.empty(4, "f4"), ValueError, "out: expected shape (B, H) = (1, 4), got (4)"),
        (np.empty((1, 1, 4), "f4"), ValueError, "out: expected shape (B, H) = (1, 4), got (1, "),
        (np.empty((1, 8), "f4")[:, ::2], ValueError, "out: expected a C-contiguous, aligned, "),
        (np.empty((1, 4), ">f4"), ValueError, "out: expected a C-contiguous, aligned, "),
        (np.frombuffer(bytes(16), "f4")[None], ValueError, "out: expected a C-contiguous, "),
        (np.zeros(17, "u1")[1:].view("f4")[None], ValueError, "out: expected a C-contiguous, "),
    ],
    ids=str,
)
def test_wrong_out(out: Any, error: type[Exception], message: str) -> None:
    layer = build("rnn_tanh", dtype="float32")
    stream = layer.freeze().stream()
    x, state = inputs(layer, 1, 1)
    stream.reset(state)
    message = message.replace("got (4)", "got (4,)")
    with pytest.raises(error, match="^" + re.escape(message)):
        stream.step(x[0], out=out)
    assert_all_same(stream.state, state)
    with pytest.raises((TypeError, ValueError), match=r"^out: "):
        stream.step(x[0, 0], out=np.empty((1, 4), "float32"))
