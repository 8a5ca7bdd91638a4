"""The yardstick: an n-gram model over characters, interpolated modified Kneser-Ney.

    p_k(w | u) = (c(u w) - D(c(u w))) / c(u) + gamma(u) p_{k-1}(w | u without its first symbol)

for a context u of k-1 symbols; p_0 = 1 / V. c counts occurrences at the highest order, distinct
left neighbours below it; D is D_1, D_2, D_3 for a count of 1, 2, 3 and more; gamma(u) is what D
took from u, over c(u). Chen & Goodman, Computer Speech & Language 13 (1999), section 4.1.6.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_Ids = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class _Order(NamedTuple):
    """What one order k knows. Keys are sorted, so that a look-up is a binary search."""

    grams: _Ids  # (N) every u w seen
    shares: _Floats  # (N) (c(u w) - D) / c(u)
    contexts: _Ids  # (M) every u seen
    gammas: _Floats  # (M)


class NgramModel:
    """An n-gram model of a sequence of symbols.

    Parameters
    ----------
    ids : ndarray of integers
        (N) training sequence, each in 0..vocabulary_size-1.
    vocabulary_size : int
        V; a symbol that never occurs keeps its share of the uniform distribution p_0.
    order : int
        n: the symbol predicted and the n-1 before it. V**n must stay below 2**63.

    Raises
    ------
    ValueError
        An order below 1, an id out of range, or V**n too large.

    Examples
    --------
    >>> import numpy as np
    >>> model = NgramModel(np.array([0, 1, 0, 1, 0, 2]), 4, order=2)
    >>> p = model.distribution(np.array([0]))
    >>> int(p.argmax()), round(float(p.sum()), 12)
    (1, 1.0)
    """

    def __init__(self, ids: npt.NDArray[Any], vocabulary_size: int, order: int = 5) -> None:
        if order < 1:
            raise ValueError(f"order: expected at least 1, got {order}")
        if vocabulary_size**order >= 2**63:
            raise ValueError(
                f"vocabulary_size, order: expected V**n < 2**63, got {vocabulary_size}**{order}"
            )
        if len(ids) and (ids.min() < 0 or ids.max() >= vocabulary_size):
            raise ValueError(
                f"ids: expected 0..{vocabulary_size - 1}, got {ids.min()}..{ids.max()}"
            )
        self.vocabulary_size = vocabulary_size
        self.order = order
        keys, counts = np.unique(_windows(ids, order, vocabulary_size), return_counts=True)
        orders = [_estimate(keys, counts, vocabulary_size)]
        for k in range(order - 1, 0, -1):
            keys, counts = np.unique(keys % vocabulary_size**k, return_counts=True)
            orders.append(_estimate(keys, counts, vocabulary_size))
        self._orders = orders[::-1]

    def probabilities(self, ids: npt.NDArray[Any]) -> _Floats:
        """Probability of each symbol of a sequence, given those before it.

        Parameters
        ----------
        ids : ndarray of integers
            (N), each in 0..vocabulary_size-1.

        Returns
        -------
        ndarray
            float64 (N); the first n-1 have the shorter context that there is.
        """
        p = np.full(len(ids), 1.0 / self.vocabulary_size)
        for k, counts in enumerate(self._orders[: len(ids)], 1):
            grams = _windows(ids, k, self.vocabulary_size)
            contexts = grams // self.vocabulary_size
            p[k - 1 :] = _interpolate(counts, grams, contexts, p[k - 1 :])
        return p

    def distribution(self, context: npt.NDArray[Any]) -> _Floats:
        """Probability of every symbol after a context.

        Parameters
        ----------
        context : ndarray of integers
            (N); its last n-1 symbols count.

        Returns
        -------
        ndarray
            float64 (V); its sum is 1.
        """
        symbols = np.arange(self.vocabulary_size, dtype=np.int64)
        p = np.full(self.vocabulary_size, 1.0 / self.vocabulary_size)
        for k, counts in enumerate(self._orders[: len(context) + 1], 1):
            u = _windows(context[len(context) - k + 1 :], k - 1, self.vocabulary_size)
            p = _interpolate(counts, u * self.vocabulary_size + symbols, u, p)
        return p


def _windows(ids: npt.NDArray[Any], k: int, vocabulary_size: int) -> _Ids:
    """Every run of k symbols as one number in base V, (max(N - k + 1, 0)); one 0 for k = 0 = N."""
    keys = np.zeros(max(len(ids) - k + 1, 0), np.int64)
    for i in range(k):
        keys = keys * vocabulary_size + ids[i : i + len(keys)]
    return keys


def _estimate(grams: _Ids, counts: _Ids, vocabulary_size: int) -> _Order:
    """The shares and gammas of one order, from its sorted k-grams and their counts."""
    taken = _discounts(counts)[np.minimum(counts, 3)]
    contexts, starts, inverse = np.unique(
        grams // vocabulary_size, return_index=True, return_inverse=True
    )
    if not len(grams):
        return _Order(grams, taken, contexts, taken)
    totals = np.add.reduceat(counts, starts)
    gammas = np.add.reduceat(taken, starts) / totals
    return _Order(grams, (counts - taken) / totals[inverse], contexts, gammas)


def _discounts(counts: _Ids) -> _Floats:
    """(4) D_0 = 0 and D_1, D_2, D_3 = i - (i+1) Y n_{i+1} / n_i, with Y = n_1 / (n_1 + 2 n_2).

    n_i is how many k-grams have the count i. Where they are too few for an estimate strictly
    between 0 and i, all three are i / 2, so that something is always left for the lower order.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    i = np.arange(1.0, 4.0)
    if n[1:4].all():
        y = n[1] / (n[1] + 2.0 * n[2])
        d = i - (i + 1.0) * y * n[2:5] / n[1:4]
        if ((d > 0.0) & (d < i)).all():
            return np.concatenate(([0.0], d))
    return np.concatenate(([0.0], i / 2.0))


def _interpolate(counts: _Order, grams: _Ids, contexts: _Ids, lower: _Floats) -> _Floats:
    """p_k from p_{k-1}; a context that was never seen leaves p_{k-1} as it is."""
    share = _look_up(counts.grams, counts.shares, grams, 0.0)
    return share + _look_up(counts.contexts, counts.gammas, contexts, 1.0) * lower


def _look_up(keys: _Ids, values: _Floats, wanted: _Ids, default: float) -> _Floats:
    """The value of each wanted key, ``default`` for one that is not there."""
    if not len(keys):
        return np.full(wanted.shape, default)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], default)


def bits_per_symbol(model: NgramModel, ids: npt.NDArray[Any]) -> float:
    """Mean of ``-log2 p`` over the symbols of a sequence (N) but its first, which opens it."""
    return float(-np.log2(model.probabilities(ids)[1:]).mean())
