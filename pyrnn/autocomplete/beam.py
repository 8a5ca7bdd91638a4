"""Beam search: the most likely completions of a prefix, the beam being the batch.

A completion ends with its last word, at a line's end, or at a length limit. None is then the
beginning of another, so they exclude one another and their probabilities add up to at most 1:

    P(completion) = product of p(symbol | all before it) * P(it ends here | all before)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .corpus import Vocabulary

_Bools = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]
_Ids = npt.NDArray[np.int64]

StateT = TypeVar("StateT")


class Completion(NamedTuple):
    """One continuation of a prefix, and the probability that the text goes on just so."""

    symbols: tuple[int, ...]
    probability: float


@dataclass(frozen=True)
class Stepper(Generic[StateT]):
    """A language model as the search sees it.

    Attributes
    ----------
    step : callable
        ``step(symbols (B), state) -> log probabilities (B, V), state``.
    select : callable
        ``select(state, rows (C)) -> state`` of these rows; a row may occur several times.
    """

    step: Callable[[_Ids, StateT], tuple[npt.NDArray[Any], StateT]]
    select: Callable[[StateT, _Ids], StateT]


@dataclass(frozen=True)
class Endings:
    """Where a completion ends.

    Attributes
    ----------
    in_word : ndarray of bool
        (V) symbols that words are made of.
    line_end : ndarray of bool
        (V) symbols that end a completion wherever they come; they are no part of it.
    words : int
        A completion ends where so many words have ended, the word that the prefix breaks off in
        counted. What comes next is one of the other symbols, no matter which.
    max_length : int
        It ends after so many symbols in any case.
    """

    in_word: _Bools
    line_end: _Bools
    words: int = 2
    max_length: int = 40

    @classmethod
    def of(cls, vocabulary: Vocabulary, words: int = 2, max_length: int = 40) -> Endings:
        """Words are of letters, digits and underscores; only a newline ends a line.

        Examples
        --------
        >>> Endings.of(Vocabulary.of("to be")).in_word.tolist()
        [False, False, True, True, True, True]
        """
        # The unknown symbol, id 0, is in no word.
        characters = ("", *vocabulary.characters)
        return cls(
            np.array([c.isalnum() or c == "_" for c in characters]),
            np.array([c == "\n" for c in characters]),
            words,
            max_length,
        )


class _Beam(NamedTuple):
    """Unfinished completions, the likeliest first: B of them, all of one length."""

    symbols: _Ids  # (B, length)
    score: _Floats  # (B) log probability
    in_word: _Bools  # (B) whether the last symbol is in a word
    words: _Ids  # (B) how many words have ended


def search(
    model: Stepper[StateT],
    prefix: npt.NDArray[Any],
    log_probs: npt.NDArray[Any],
    state: StateT,
    endings: Endings,
    *,
    count: int = 5,
    width: int = 64,
    banned: tuple[int, ...] = (Vocabulary.UNKNOWN,),
) -> list[Completion]:
    """The most likely completions, the likeliest first.

    Parameters
    ----------
    model : Stepper
        Called with at most ``width`` rows.
    prefix : ndarray of integers
        (N) what was typed.
    log_probs : ndarray
        (V) log probabilities of the symbol after the prefix.
    state : object
        The model's state after the prefix, of one row.
    endings : Endings
        Where a completion ends.
    count : int
        How many to return; fewer where there are fewer.
    width : int
        How many unfinished ones are followed. A wider beam misses less; with as many as there
        are, the result is exact.
    banned : tuple of int
        Symbols that no completion may hold.

    Returns
    -------
    list of Completion
        At least one symbol long each, all different.
    """
    forbidden = np.zeros(len(endings.in_word), bool)
    forbidden[list(banned)] = True
    beam = _Beam(
        np.zeros((1, 0), np.int64),
        np.zeros(1),
        np.array([bool(len(prefix)) and bool(endings.in_word[prefix[-1]])]),
        np.zeros(1, np.int64),
    )
    rows = np.asarray(log_probs, np.float64)[None]
    finished: list[Completion] = []
    while True:
        ends = _ends(beam, endings)
        if beam.symbols.shape[1]:
            finished += _finish(beam, rows, ends, beam.symbols.shape[1] == endings.max_length)
            finished = sorted(finished, key=lambda c: -c.probability)[:count]
        if beam.symbols.shape[1] == endings.max_length:
            return finished
        scores = np.where(ends | forbidden, -np.inf, beam.score[:, None] + rows)
        # A longer completion is never likelier than its beginning.
        floor = np.log(finished[-1].probability) if len(finished) == count else -np.inf
        order = np.argsort(-scores, axis=None, kind="stable")[:width]
        order = order[scores.ravel()[order] > floor]
        if not len(order):
            return finished
        parents, symbols = np.divmod(order, scores.shape[1])
        beam = _extend(beam, parents, symbols, scores.ravel()[order], endings)
        log_rows, state = model.step(symbols, model.select(state, parents))
        rows = np.asarray(log_rows, np.float64)


def _ends(beam: _Beam, endings: Endings) -> _Bools:
    """(B, V) whether the completion ends where the symbol comes next."""
    last_word = beam.in_word & (beam.words + 1 >= endings.words)
    return endings.line_end | (last_word[:, None] & ~endings.in_word)


def _finish(beam: _Beam, rows: _Floats, ends: _Bools, at_limit: bool) -> list[Completion]:
    ending = np.ones(len(rows)) if at_limit else np.where(ends, np.exp(rows), 0.0).sum(axis=1)
    probabilities = np.exp(beam.score) * ending
    return [
        Completion(tuple(symbols), probability)
        for symbols, probability in zip(beam.symbols.tolist(), probabilities.tolist(), strict=True)
        if probability > 0.0
    ]


def _extend(beam: _Beam, parents: _Ids, symbols: _Ids, score: _Floats, endings: Endings) -> _Beam:
    in_word = endings.in_word[symbols]
    return _Beam(
        np.concatenate([beam.symbols[parents], symbols[:, None]], axis=1),
        score,
        in_word,
        beam.words[parents] + (beam.in_word[parents] & ~in_word),
    )
