"""One layer in one direction, a step at a time: every state, and every gradient between two steps.

A call of one step takes the gradient of the state behind it and gives that of the state ahead of
it, so a sequence of such calls holds in hand what a whole backward pass never shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import dispatch
from .layout import checked_lengths
from .reference.rules import Rule, unsettle
from .stack import Recurrent
from .tape import Array, LayerInputs, Tape

States = tuple[Array, Array | None]  # h [B, P] and c [B, H] or None


class Forward(NamedTuple):
    """A step that ran."""

    t: int
    alive: Array  # [B], bool: the rows that have this step
    tape: Tape  # of this step alone
    states: States  # after it


class Backward(NamedTuple):
    """A step that gradients went through; rows as in :meth:`Part.backward`."""

    t: int
    alive: Array  # [B], bool
    dh: Array  # of h_t, whole: through y_t and through all steps behind t
    dc: Array | None  # of c_t, whole: through h_t as well
    made: dispatch.Gradients


class Part:
    """Part k of a layer, which is layer ``k // S`` in direction ``k % S``. Nothing is dropped."""

    def __init__(self, layer: Recurrent[Any], k: int, first: list[Array]) -> None:
        self.cell, self.variant = layer._kernel, layer._variant(k, None)
        self.reverse = k % layer._directions == 1
        self.first: States = first[0], first[1] if len(first) == 2 else None
        self.weights = layer._layer(k, first)[2:]
        self.steps: list[Forward] = []

    def forward(self, x: Array, alive: Array) -> Iterator[Forward]:
        """Each step in the order in which they run; x is [T, B, I] or tokens [T, B]."""
        self.steps = []
        times = range(len(x))
        states = self.first
        for t in reversed(times) if self.reverse else times:
            made, tape = self._step(x[t : t + 1], states, alive[t], 1)
            states = made.h_n, made.c_n
            self.steps.append(Forward(t, alive[t], tape, states))
            yield self.steps[-1]

    def output(self) -> Array:
        """y [T, B, P] of the steps that ran, 0 in the padding."""
        y = np.zeros((len(self.steps), *self.first[0].shape), self.first[0].dtype)
        for step in self.steps:
            y[step.t, step.alive] = step.states[0][step.alive]
        return y

    def backward(self, dy: Array | None, dlast: list[Any], jacobian: bool) -> Iterator[Backward]:
        """Each step from the last to the first.

        Rows 0..B-1 of the gradients are those of the loss, from dy [T, B, P] and dlast of the final
        states. With ``jacobian``, P + H further groups of B rows (P without c) start at the final
        state with a unit vector each: those of h, then those of c.
        """
        size_h = self.first[0].shape[1]
        sizes = [size_h] if self.first[1] is None else [size_h, self.first[1].shape[1]]
        d = [_of_final(s, sizes, dlast[s], self.first[0], jacobian) for s in range(len(sizes))]
        dh, dc = d[0], d[1] if len(d) == 2 else None
        copies = 1 + (sum(sizes) if jacobian else 0)
        batch = len(self.first[0])
        for index in reversed(range(len(self.steps))):
            step = self.steps[index]
            if dy is not None:
                dh[:batch][step.alive] += dy[step.t, step.alive]
            tape = step.tape
            if jacobian:
                before = self.steps[index - 1].states if index else self.first
                tape = self._step(step.tape.x, before, step.alive, copies)[1]
            made = dispatch.backward(tape, None, dh, dc)
            yield Backward(step.t, step.alive, dh, _whole_dc(tape, dh, dc), made)
            dh, dc = made.dh0, made.dc0

    def _step(
        self, x: Array, states: States, alive: Array, copies: int
    ) -> tuple[dispatch.Results, Tape]:
        """x is [1, B, I] or tokens [1, B]; ``copies`` of the batch run beside each other."""
        h, c = (None if state is None else np.tile(state, (copies, 1)) for state in states)
        x = np.tile(x, (1, copies) + (1,) * (x.ndim - 2))
        inputs = LayerInputs(h, c, *self.weights)  # type: ignore[arg-type]
        lengths = np.tile(alive, copies).astype(np.int64)
        made = dispatch.forward(self.cell, self.variant, x, inputs, lengths, False, True)
        assert isinstance(made.tape, Tape)
        return made, made.tape


def _whole_dc(tape: Tape, dh: Array, dc: Array | None) -> Array | None:
    """dL/dc_t from what step t+1 sent back: h_t = o * tanh(c_t) adds to it.

    Zoneout on c blends c_t after h_t was made of what goes into the blend: there it adds nothing.
    """
    if tape.c is None or dc is None:
        return dc
    rule = Rule(tape.cell, tape.variant)
    if rule.variant.zoneout_c > 0:
        return dc
    size = tape.c.shape[2]
    o, c = rule.open_gate(tape.gates[0, :, -size:]), tape.c[0]
    with np.errstate(all="ignore"):
        fresh = unsettle(rule.variant.zoneout_h, dh)[0]
        fresh = rule.through_projection(o.value * rule.output(c), fresh)
        da_o = fresh * rule.output(c) * o.slope
        through_h = rule.through_output(c, fresh * o.value) + rule.through_peephole(-1, da_o, c)
        return np.asarray(dc + through_h)


def _of_final(s: int, sizes: list[int], dlast: Array | None, first: Array, jacobian: bool) -> Array:
    """The gradient of the final h (s 0) or c (s 1), all groups of rows together."""
    batch, dtype = len(first), first.dtype
    of_loss = np.zeros((batch, sizes[s]), dtype) if dlast is None else np.array(dlast, dtype)
    if not jacobian:
        return of_loss
    units = np.zeros((sum(sizes), batch, sizes[s]), dtype)
    start = sum(sizes[:s])
    units[start : start + sizes[s]] = np.eye(sizes[s], dtype=dtype)[:, None]
    return np.concatenate([of_loss, units.reshape(-1, sizes[s])])


@dataclass(slots=True)
class Walk:
    """A layer's arguments, checked, and its parts: the lowest layer first, forward half first."""

    layer: Recurrent[Any]
    x: Array  # [T, B, I] or tokens [T, B]
    layout: str
    alive: Array  # [T, B], bool
    parts: list[Part]

    @classmethod
    def of(
        cls,
        layer: Recurrent[Any],
        x: npt.ArrayLike,
        state: Any,
        lengths: npt.ArrayLike | None,
    ) -> Walk:
        """Raises what calling the layer raises."""
        if not isinstance(layer, Recurrent):
            raise TypeError(f"layer: expected an RNN, GRU, MGU or LSTM, got {type(layer).__name__}")
        layer(x, state, lengths)
        time_major, layout = layer._checked_input(np.asarray(x))
        seq_len, batch = time_major.shape[:2]
        alive = np.ones((seq_len, batch), bool)
        if lengths is not None:
            alive = np.arange(seq_len)[:, None] < np.asarray(checked_lengths(lengths, layout))
        if state is None:
            first = [layer._zeros(batch) for _ in range(layer._parts)]
        else:
            given = layer._split("state", state, batch, layout)
            first = [[of_all[k] for of_all in given] for k in range(layer._parts)]
        parts = [Part(layer, k, first[k]) for k in range(layer._parts)]
        return cls(layer, time_major, layout, alive, parts)

    def forward(self) -> Iterator[tuple[int, Forward]]:
        """(k, step) of every part, the lowest layer first."""
        count, x = self.layer._directions, self.x
        for start in range(0, len(self.parts), count):
            group = range(start, start + count)
            for k in group:
                for step in self.parts[k].forward(x, self.alive):
                    yield k, step
            x = np.concatenate([self.parts[k].output() for k in group], axis=2)

    def backward(
        self, dy: Array | None, dlast: list[list[Any]], jacobian: bool
    ) -> Iterator[tuple[int, Backward]]:
        """(k, step) of every part, the highest layer first, after :meth:`forward`.

        dy is [T, B, S*P]; dlast are the gradients of the final states of each part.
        """
        count, size, batch = self.layer._directions, self.layer._columns, self.x.shape[1]
        for start in reversed(range(0, len(self.parts), count)):
            below: Array | None = None
            for s in range(count):
                half = None if dy is None else dy[..., s * size : (s + 1) * size]
                for step in self.parts[start + s].backward(half, dlast[start + s], jacobian):
                    yield start + s, step
                    dx = step.made.dx
                    if dx is not None:
                        if below is None:
                            below = np.zeros((*self.alive.shape, dx.shape[2]), dx.dtype)
                        below[step.t] += dx[0, :batch]
            dy = below
