"""Training by truncated backpropagation through time, and what a step of it costs.

The text is cut into B stretches that are read side by side, T characters at a time; the state at
the end of one chunk is where the next begins.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..backends import backend
from ..optimisers import Adam
from ..tape import Array
from ..training import clip_grad_norm, softmax_cross_entropy
from ..truncated import tbptt
from .corpus import Ids
from .errors import InputError
from .model import CharModel

# The learning rate rises to its peak over so many steps, while Adam's averages are still poor; at
# most a tenth of all steps.
_WARM_UP = 50
# A short text is cut into fewer stretches, so that an epoch is many steps nevertheless.
_LEAST_CHUNKS = 40
_REPEATS = 3


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes
    ----------
    epochs : int
        Times through the text.
    batch_size : int
        B, fewer where a stretch would be shorter than 40 chunks.
    steps : int
        T: errors are propagated back over so many characters.
    learning_rate : float
        Adam's, at its peak; from there it falls to 0 along half a cosine.
    max_norm : float
        Gradients are scaled down to this norm, all together.
    dropout : float
        Share of the last layer's outputs that is dropped.
    seed : int
        Of the dropout.
    """

    epochs: int = 8
    batch_size: int = 16
    steps: int = 50
    learning_rate: float = 0.009
    max_norm: float = 1.0
    dropout: float = 0.25
    seed: int = 0


class Epoch(NamedTuple):
    """What one time through the text came to."""

    number: int
    held_out_bits: float
    characters_per_second: float


def train(
    model: CharModel, ids: Ids, held_out: Ids, settings: Settings, progress: bool = True
) -> Iterator[Epoch]:
    """Train a model in place, and say after every epoch how far it is.

    Parameters
    ----------
    model : CharModel
        Changed while the iterator goes on.
    ids, held_out : ndarray of integers
        (N) and (M), at least 2 each.
    settings : Settings
        How.
    progress : bool
        Show a bar on standard error, if that is a terminal.

    Yields
    ------
    Epoch
        One for each epoch.

    Raises
    ------
    InputError
        The gradients ceased to be finite: the learning rate was too large.
    """
    from tqdm import tqdm

    inputs, targets = streams(ids, settings)
    step = TrainingStep(model, targets, settings)
    chunks = math.ceil(len(inputs) / settings.steps)
    adam = Adam(step.params, settings.learning_rate)
    # One bar for all epochs: Python drops a Ctrl-C that comes while an object is destroyed.
    with tqdm(
        total=inputs.size,
        unit=" characters",
        unit_scale=True,
        leave=False,
        disable=None if progress else True,
    ) as bar:
        for epoch in range(settings.epochs):
            start = time.perf_counter()
            bar.set_description(f"epoch {epoch + 1}/{settings.epochs}", refresh=False)
            bar.reset()
            for chunk in tbptt(model.layer, inputs, step.loss, k1=settings.steps):
                adam.lr = learning_rate(adam.steps, chunks * settings.epochs, settings)
                grads = step.grads(chunk.grads.params)
                try:
                    clip_grad_norm(grads, settings.max_norm, error_if_nonfinite=True)
                except FloatingPointError:
                    raise InputError(
                        f"training broke down in epoch {epoch + 1}: the gradients are not finite; "
                        f"try a learning rate below {settings.learning_rate:g}"
                    ) from None
                adam.step(grads)
                bar.update((chunk.steps.stop - chunk.steps.start) * inputs.shape[1])
            seconds = time.perf_counter() - start
            bar.clear()  # the caller prints
            yield Epoch(epoch + 1, model.bits_per_character(held_out), inputs.size / seconds)


def streams(ids: Ids, settings: Settings) -> tuple[Ids, Ids]:
    """The text (N) as B stretches side by side, and for each character the one after it.

    Returns
    -------
    inputs, targets : ndarray
        (T, B) each. At most B - 1 characters at the end are left out.

    Examples
    --------
    >>> inputs, targets = streams(np.arange(84), Settings(batch_size=2, steps=1))
    >>> inputs[:2].tolist(), targets[:2].tolist()
    ([[0, 41], [1, 42]], [[1, 42], [2, 43]])
    """
    pairs = len(ids) - 1
    batch = max(1, min(settings.batch_size, pairs // (_LEAST_CHUNKS * settings.steps)))
    length = pairs // batch
    inputs = ids[: batch * length].reshape(batch, length)
    targets = ids[1 : batch * length + 1].reshape(batch, length)
    return np.ascontiguousarray(inputs.T), np.ascontiguousarray(targets.T)


def step_seconds(model: CharModel, ids: Ids, settings: Settings) -> tuple[float, float]:
    """Seconds that one training step takes on the kernels and on the NumPy reference.

    The same chunk, forward and backward, with clipping and Adam; the parameters are not changed.
    Medians of a few steps.

    Returns
    -------
    kernels, reference : float
        Where the reference is in force for everything, both are its.
    """
    inputs, targets = streams(ids, settings)
    step = TrainingStep(model, targets, settings)
    # A rate of 0 does all the work and changes nothing.
    adam = Adam(step.params, 0.0)

    def median() -> float:
        times = []
        for _ in range(_REPEATS + 1):
            start = time.perf_counter()
            chunk = next(tbptt(model.layer, inputs, step.loss, k1=settings.steps))
            grads = step.grads(chunk.grads.params)
            clip_grad_norm(grads, settings.max_norm)
            adam.step(grads)
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    kernels = median()
    with backend("reference"):
        return kernels, median()


def learning_rate(step: int, total: int, settings: Settings) -> float:
    """Up to its peak over the first steps, then down to 0 along half a cosine."""
    rise = min(1.0, (step + 1) / min(_WARM_UP, max(1, total // 10)))
    return settings.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * step / total))


class TrainingStep:
    """The part of a training step above the layer: dropout, scores, loss; and all gradients."""

    def __init__(self, model: CharModel, targets: Ids, settings: Settings) -> None:
        self.head = model.head
        self.targets = targets
        self.dropout = settings.dropout
        # Not the seed itself, whose stream of numbers the parameters were drawn from.
        self.rng = np.random.default_rng([settings.seed, 1])
        self.params = _joined(model.layer.params, model.head.params)
        self._head_grads: dict[str, Any] = {}

    def loss(self, y: Array, steps: slice) -> tuple[float, Array]:
        """Cross entropy of the chunk in nats per character, and its gradient by y (T, B, H)."""
        mask = None
        if self.dropout > 0.0:
            mask = dropout_mask(self.rng, y.shape, self.dropout, y.dtype)
            y = y * mask
        scores, tape = self.head.forward(y)
        value, dscores = softmax_cross_entropy(scores, self.targets[steps])
        grads = self.head.backward(tape, dscores)
        self._head_grads = grads.params
        dy = grads.x
        return value, dy if mask is None else dy * mask

    def grads(self, layer_grads: dict[str, Array]) -> dict[str, Array]:
        """The gradients of the last loss by all parameters."""
        return _joined(layer_grads, self._head_grads)


def dropout_mask(
    rng: np.random.Generator, shape: tuple[int, ...], dropout: float, dtype: np.dtype[Any]
) -> Array:
    """0 with the probability ``dropout``, else what keeps the mean at 1."""
    kept = rng.random(shape, np.float32) >= dropout
    return np.multiply(kept, 1.0 / (1.0 - dropout), dtype=dtype)


def _joined(layer: dict[str, Array], head: dict[str, Array]) -> dict[str, Array]:
    return {
        **{f"layer.{name}": array for name, array in layer.items()},
        **{f"head.{name}": array for name, array in head.items()},
    }
