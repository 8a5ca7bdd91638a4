"""Completing a prefix that begins a line, when nobody knows what stands ahead of it.

The model is asked in several contexts k at once, ends of lines of the training text, and they are
mixed as Bayes' rule has it: each counts as much as it made likely what has been read since.

    p(s | prefix) = sum_k w_k p(s | k, prefix),   w_k proportional to p(prefix | k)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .beam import Endings, Stepper, search
from .corpus import Ids
from .model import CharModel

_Floats = npt.NDArray[np.float64]


class _Mixture(NamedTuple):
    """B texts in K contexts each."""

    state: Any  # of the layer, B*K rows
    log_weights: _Floats  # (B, K), log w_k
    log_probs: _Floats  # (B, K, V), log p(s | k, text)


def complete(
    model: CharModel, prefix: str, *, count: int = 5, words: int = 2, width: int = 64
) -> list[tuple[str, float]]:
    """The most likely completions of a prefix at the beginning of a line.

    Parameters
    ----------
    model : CharModel
        Its ``leads`` are the contexts.
    prefix : str
        At least one character, all of the vocabulary.
    count : int
        How many at most.
    words : int
        With which word they end, see :class:`.beam.Endings`.
    width : int
        Of the beam.

    Returns
    -------
    list of (str, float)
        What follows the prefix, and the probability that the text goes on just so up to the end
        of it; the likeliest first.

    Raises
    ------
    InputError
        As :meth:`.model.CharModel.check_prefix`.

    Examples
    --------
    >>> model = CharModel.create("to be or not to be", hidden_size=8, seed=0)
    >>> [(text, p < 1.0) for text, p in complete(model, "to", count=1, words=1)]
    [('o', True)]
    """
    ids = model.check_prefix(prefix)
    log_probs, mixture = _start(model, ids)
    found = search(
        Stepper(lambda symbols, state: _step(model, symbols, state), _select),
        ids,
        log_probs,
        mixture,
        Endings.of(model.vocabulary, words),
        count=count,
        width=width,
    )
    return [(model.vocabulary.decode(c.symbols), c.probability) for c in found]


def _start(model: CharModel, prefix: Ids) -> tuple[_Floats, _Mixture]:
    """The mixture (B = 1) after the prefix, and its log probabilities (V)."""
    leads = np.stack([model.vocabulary.encode(lead) for lead in model.leads])
    contexts, length = leads.shape
    x = np.concatenate([leads.T, np.repeat(prefix[:, None], contexts, axis=1)])
    y, state = model.layer(x)
    # From the last symbol of the lead on, each predicts one of the prefix.
    first = max(length - 1, 0)
    rows = _log_softmax(model.head(y[first:]))
    read = np.take_along_axis(rows[:-1], x[first + 1 :, :, None], axis=2)
    mixture = _Mixture(state, _normalised(read.sum(axis=(0, 2))[None]), rows[-1][None])
    return _mixed(mixture)[0], mixture


def _step(model: CharModel, symbols: Ids, mixture: _Mixture) -> tuple[_Floats, _Mixture]:
    """One more symbol (B) for each text: log probabilities (B, V) after it, and the mixture."""
    batch, contexts = mixture.log_weights.shape
    read = mixture.log_probs[np.arange(batch), :, symbols]
    y, state = model.layer(np.repeat(symbols, contexts)[None], mixture.state)
    log_probs = _log_softmax(model.head(y[0])).reshape(batch, contexts, -1)
    mixture = _Mixture(state, _normalised(mixture.log_weights + read), log_probs)
    return _mixed(mixture), mixture


def _select(mixture: _Mixture, rows: Ids) -> _Mixture:
    contexts = mixture.log_weights.shape[1]
    of_state = (rows[:, None] * contexts + np.arange(contexts)).ravel()
    state = mixture.state
    if isinstance(state, tuple):
        state = tuple(part[:, of_state] for part in state)
    else:
        state = state[:, of_state]
    return _Mixture(state, mixture.log_weights[rows], mixture.log_probs[rows])


def _mixed(mixture: _Mixture) -> _Floats:
    return _log_sum(mixture.log_weights[:, :, None] + mixture.log_probs, axis=1)[:, 0]


def _normalised(log_weights: _Floats) -> _Floats:
    return log_weights - _log_sum(log_weights, axis=-1)


def _log_softmax(scores: npt.NDArray[Any]) -> _Floats:
    exact = scores.astype(np.float64)
    return exact - _log_sum(exact, axis=-1)


def _log_sum(values: _Floats, axis: int) -> _Floats:
    """log(sum(exp(values))) over an axis, which stays with length 1."""
    largest = values.max(axis=axis, keepdims=True)
    total = np.exp(values - largest).sum(axis=axis, keepdims=True)
    return np.asarray(largest + np.log(total))
