"""What happens on the way through time: how large gradients are, and what stops being finite."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .gates import opened_gates
from .stack import Recurrent
from .stepwise import Backward, Forward, Walk
from .tape import Array

__all__ = ["GradientFlow", "NotFinite", "check_finite", "gradient_flow"]


@dataclass(frozen=True, slots=True, eq=False)
class GradientFlow:
    """Norms by layer and step, float64; row l*S + s is that of layer l in direction s.

    Steps are those of x. In the reverse direction gradients go from the first to the last.

    Attributes
    ----------
    dh : ndarray
        Of dL/dh_t, (L*S, T): Euclidean, over all rows and units together.
    dc : ndarray or None
        Of dL/dc_t, likewise; None but for the LSTM.
    h_jacobian : ndarray or None
        Of dh_T/dh_t, (L*S, T): the largest singular value, that of the worst row. T stands for a
        row's last step in that direction; the layer's own recurrence is all that lies between.
        None where it was not asked for.
    c_jacobian : ndarray or None
        Of dc_T/dc_t, likewise.
    """

    dh: Array
    dc: Array | None
    h_jacobian: Array | None
    c_jacobian: Array | None


class NotFinite(FloatingPointError):
    """What :func:`check_finite` found.

    Attributes
    ----------
    array : str
        The name of the array, with layer and direction.
    step : int or None
        The time step of x; None for a parameter or a state.
    index : tuple of int
        Within the array, at that step: (row of the batch, unit).
    value : float
        NaN or an infinity.
    """

    def __init__(self, array: str, step: int | None, index: tuple[int, ...], value: float) -> None:
        super().__init__(array, step, index, value)
        self.array, self.step, self.index, self.value = array, step, index, value

    def __str__(self) -> str:
        at = "" if self.step is None else f" at step {self.step}"
        return f"{self.array}: {self.value}{at}, index {self.index}"


def gradient_flow(
    layer: Recurrent[Any],
    x: npt.ArrayLike,
    dy: npt.ArrayLike | None = None,
    *,
    state: Any = None,
    lengths: npt.ArrayLike | None = None,
    dstate: Any = None,
    jacobian: bool = True,
) -> GradientFlow:
    """How large gradients are at each time step: whether they vanish, stay or explode.

    Parameters
    ----------
    layer : RNN, GRU, MGU or LSTM
        Stacked and bidirectional ones included. Nothing is dropped.
    x, state, lengths
        As for calling the layer.
    dy : array, optional
        Gradient of the loss L by y, in its shape.
    dstate : array, or tuple of two arrays, optional
        Gradient of L by the final state, in its shape. Where dy is None too, L is the sum of the
        last layer's final h.
    jacobian : bool
        False: only dL/dh_t and dL/dc_t, in far less time.

    Returns
    -------
    GradientFlow
        Norms by layer and time step.

    Raises
    ------
    ValueError, TypeError, IndexError
        As for calling the layer and its ``backward``.

    Notes
    -----
    dL/dh_t is the whole gradient of h_t: through y_t, and through all that comes after.

    The norm of a Jacobian is its largest singular value, the most by which any gradient can grow
    on the way. It bounds products factor by factor (Pascanu, Mikolov & Bengio, "On the difficulty
    of training recurrent neural networks", ICML 2013), and that of the identity is 1 for any
    number of units, where the Frobenius norm would be sqrt(H).

    The layer runs one step at a time; for the Jacobians on a copy of the batch for each unit of
    its states. It is meant for a few sequences, not for a data set.

    Examples
    --------
    An Elman network whose recurrent matrix halves what it is given forgets fast:

    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.RNN(1, 2, bias=False, rng=0)
    >>> layer.params["weight_hh_l0"][...] = 0.5 * np.eye(2)
    >>> pyrnn.gradient_flow(layer, np.zeros((4, 1, 1), "float32")).h_jacobian
    array([[0.125, 0.25 , 0.5  , 1.   ]])
    """
    walk = Walk.of(layer, x, state, lengths)
    dy, dlast = _loss(walk, dy, dstate)
    shape = len(walk.parts), len(walk.alive)
    has_c = len(layer._states) == 2
    dh, h_jacobian = np.zeros(shape), np.zeros(shape)
    dc, c_jacobian = np.zeros(shape), np.zeros(shape)
    batch, size_h = walk.x.shape[1], layer._columns
    for _ in walk.forward():
        pass
    for k, step in walk.backward(dy, dlast, jacobian):
        here = k, step.t
        dh[here] = _euclidean(step.dh[:batch][step.alive])
        if jacobian:
            of_h = step.dh[batch : (1 + size_h) * batch]
            h_jacobian[here] = _largest_singular_value(of_h, step.alive)
        if step.dc is not None:
            dc[here] = _euclidean(step.dc[:batch][step.alive])
            if jacobian:
                of_c = step.dc[(1 + size_h) * batch :]
                c_jacobian[here] = _largest_singular_value(of_c, step.alive)
    return GradientFlow(
        dh,
        dc if has_c else None,
        h_jacobian if jacobian else None,
        c_jacobian if jacobian and has_c else None,
    )


def check_finite(
    layer: Recurrent[Any],
    x: npt.ArrayLike,
    dy: npt.ArrayLike | None = None,
    *,
    state: Any = None,
    lengths: npt.ArrayLike | None = None,
    dstate: Any = None,
) -> None:
    """Name the first array, and the first step, at which a number is NaN or infinite.

    It looks at the parameters, x and the initial state; then forwards at the gates, c_t and h_t,
    layer after layer from the lowest, each from the step that ran first; then at the gradients in
    the order in which they come: dy and dstate, then layer after layer from the highest, each from
    the step that ran last, dh_t and dc_t, the parameters' and x's. Padding does not count.

    Parameters
    ----------
    layer, x, dy, state, lengths, dstate
        As for :func:`gradient_flow`; without dy and dstate, too.

    Raises
    ------
    NotFinite
        A FloatingPointError: what, where and at which step.
    ValueError, TypeError, IndexError
        As for calling the layer and its ``backward``.

    Notes
    -----
    The layer runs one step at a time. To see the gradients of a training step, give the dy that
    the loss had. Those of the parameters are summed up as the steps are gone through: the step
    named is the one at which the sum stopped being finite.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.GRU(1, 2, rng=0)
    >>> x = np.zeros((5, 1, 1), "float32")
    >>> pyrnn.check_finite(layer, x)
    >>> x[3] = np.inf
    >>> pyrnn.check_finite(layer, x)
    Traceback (most recent call last):
        ...
    pyrnn.diagnostics.NotFinite: x: inf at step 3, index (0, 0)
    """
    walk = Walk.of(layer, x, state, lengths)
    checked_dy, dlast = _loss(walk, dy, dstate)
    for name, array in layer.params.items():
        _refuse(name, None, array)
    if walk.x.ndim == 3:
        for t, alive in enumerate(walk.alive):
            _refuse("x", t, walk.x[t], alive)
    for k, part in enumerate(walk.parts):
        for name, first in zip(layer._states, part.first, strict=False):
            _refuse(f"initial {name} of {_place(walk, k)}", None, first)

    for k, forward in walk.forward():
        _check_forward(_place(walk, k), layer._states, forward)

    if checked_dy is not None:
        for t, alive in enumerate(walk.alive):
            _refuse("dy", t, checked_dy[t], alive)
    for k, last in enumerate(dlast):
        for name, d in zip(layer._states, last, strict=True):
            _refuse(f"gradient of the final {name} of {_place(walk, k)}", None, d)
    sums: dict[str, Array] = {}
    for k, backward in walk.backward(checked_dy, dlast, False):
        _check_backward(_place(walk, k), layer, k, backward, sums)


def _loss(walk: Walk, dy: Any, dstate: Any) -> tuple[Array | None, list[list[Any]]]:
    """dy [T, B, S*P] or None, and the gradients of the final states of each part."""
    layer, layout = walk.layer, walk.layout
    seq_len, batch = walk.alive.shape
    dlast: list[list[Any]] = [[None] * len(layer._states) for _ in walk.parts]
    if dstate is not None:
        given = layer._split("dstate", dstate, batch, layout)
        dlast = [[None if d is None else d[k] for d in given] for k in range(len(dlast))]
    elif dy is None:
        for last in dlast[-layer._directions :]:
            last[0] = np.ones((batch, layer._columns), layer.dtype)
    if dy is None:
        return None, dlast
    return layer._checked_dy(dy, seq_len, batch, layout), dlast


def _check_forward(place: str, states: Iterable[str], step: Forward) -> None:
    for gate, values, _ in opened_gates(step.tape):
        _refuse(f"gate {gate} of {place}", step.t, values[0], step.alive)
    # c_t comes first, and h_t out of it.
    for name, after in reversed(list(zip(states, step.states, strict=False))):
        _refuse(f"{name} of {place}", step.t, after, step.alive)


def _check_backward(
    place: str, layer: Recurrent[Any], k: int, step: Backward, sums: dict[str, Array]
) -> None:
    for name, d in zip(layer._states, (step.dh, step.dc), strict=False):
        _refuse(f"gradient of {name} of {place}", step.t, d, step.alive)
    made = step.made
    of_step = layer._named(k, made.dw_ih, made.dw_hh, made.db_ih, made.db_hh, made.of_variant)
    for name, d in of_step.items():
        with np.errstate(invalid="ignore", over="ignore"):
            sums[name] = sums[name] + d if name in sums else d
        _refuse(f"gradient of {name}", step.t, sums[name])
    if made.dx is not None:
        _refuse(f"gradient of the input of {place}", step.t, made.dx[0], step.alive)


def _place(walk: Walk, k: int) -> str:
    layer, direction = divmod(k, walk.layer._directions)
    return f"layer {layer}{' reverse' if direction else ''}"


def _refuse(name: str, step: int | None, array: Array | None, alive: Array | None = None) -> None:
    """``alive`` [B]: the rows that count, of an array [B, ...]."""
    if array is None:
        return
    wrong = ~np.isfinite(array)
    if alive is not None:
        wrong &= alive[:, None]
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise NotFinite(name, step, index, float(array[index]))


def _euclidean(d: Array) -> float:
    # The square of a float32 may be outside its range where the norm is not.
    return float(np.linalg.norm(d.astype(np.float64)))


def _largest_singular_value(d: Array, alive: Array) -> float:
    """Of one Jacobian a row, the largest; d is [N*B, N], unit vector by unit vector."""
    size, batch = d.shape[1], len(alive)
    jacobians = d.reshape(size, batch, size)[:, alive].swapaxes(0, 1)
    if not np.isfinite(jacobians).all():
        return float("nan") if np.isnan(jacobians).any() else float("inf")
    scale = float(np.abs(jacobians).max(initial=0.0))
    if scale == 0.0:
        return 0.0
    # The root of the largest eigenvalue of JᵀJ: as exact for the largest, and in far less time
    # than all singular values. Scaled, no square leaves the range.
    scaled = jacobians.astype(np.float64) / scale
    return scale * math.sqrt(np.linalg.eigvalsh(scaled.swapaxes(1, 2) @ scaled).max())
