"""The language model: tokens -> RNN, GRU or LSTM -> Linear -> softmax over the next character.

p(x_{t+1} | x_1 .. x_t) = softmax(W_hy h_t + b_y)
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import load_modules, save_modules
from ..layers import GRU, LSTM, RNN
from ..linear import Linear
from ..training import softmax_cross_entropy
from .corpus import Ids, Vocabulary, line_starts
from .errors import InputError

CELLS: dict[str, type[RNN] | type[GRU] | type[LSTM]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}

# Enough steps at once that the scores of a chunk are one matrix product, few enough for the cache.
_CHUNK = 500


class CharModel:
    """A recurrent network over characters.

    Parameters
    ----------
    vocabulary : Vocabulary
        V symbols.
    layer : RNN, GRU or LSTM
        From V tokens to H.
    head : Linear
        From H to V scores.
    leads : sequence of str
        Texts of one length, of what stands ahead of a line: a prefix is completed as if it
        followed one of them.

    Examples
    --------
    >>> model = CharModel.create("to be or not to be", "gru", hidden_size=8, seed=0)
    >>> model.description()
    'GRU, 1 layer of 8, 504 parameters'
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        layer: RNN | GRU | LSTM,
        head: Linear,
        leads: Sequence[str] = ("",),
    ) -> None:
        self.vocabulary = vocabulary
        self.layer = layer
        self.head = head
        self.leads = tuple(leads)

    @classmethod
    def create(
        cls,
        text: str,
        cell: str = "lstm",
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> CharModel:
        """A new model for a training text; it begins with the frequencies of its characters.

        Parameters
        ----------
        text : str
            Its characters are the vocabulary.
        cell : {"rnn", "gru", "lstm"}
            What the layer is made of.
        hidden_size, num_layers : int
            H and L.
        dropout : float
            Share of each layer's outputs to the next that is dropped in training.
        seed : int
            The same arguments make the same model.

        Raises
        ------
        ValueError, TypeError
            As for the layers.
        """
        vocabulary = Vocabulary.of(text)
        rng = np.random.default_rng(seed)
        # An LSTM that forgets at first learns to remember late.
        options: dict[str, Any] = {"forget_bias": 1.0} if cell == "lstm" else {}
        if num_layers > 1:
            options["dropout"] = dropout
        layer = CELLS[cell](len(vocabulary), hidden_size, num_layers, rng=rng, **options)
        # A token picks one column. Drawn in ±1/sqrt(H) like sums over many inputs, the tokens
        # would hardly differ at first; in ±1 they do.
        columns = layer.params["weight_ih_l0"]
        columns[...] = rng.uniform(-1.0, 1.0, columns.shape)
        head = Linear(hidden_size, len(vocabulary), rng=rng)
        # Scores that start at the frequencies spare the recurrent weights from learning them.
        counts = np.bincount(vocabulary.encode(text), minlength=len(vocabulary)) + 0.5
        head.params["bias"][...] = np.log(counts / counts.sum())
        return cls(vocabulary, layer, head, line_starts(text))

    def check_prefix(self, prefix: str) -> Ids:
        """The prefix as ids.

        Raises
        ------
        InputError
            It is empty, or holds a character that the training text does not.
        """
        if not prefix:
            raise InputError("prefix: expected at least one character, got none")
        return self.vocabulary.encode_known(prefix)

    def bits_per_character(self, ids: Ids) -> float:
        """Mean of ``-log2 p`` over the characters of a text but its first.

        Parameters
        ----------
        ids : ndarray of integers
            (N), at least 2. The state is carried through from the first to the last.
        """
        state: Any = None
        nats = 0.0
        for start in range(0, len(ids) - 1, _CHUNK):
            chunk = ids[start : start + _CHUNK + 1]
            y, state = self.layer(chunk[:-1, None], state)
            loss, _ = softmax_cross_entropy(self.head(y[:, 0]), chunk[1:])
            nats += loss * (len(chunk) - 1)
        return nats / (len(ids) - 1) / math.log(2.0)

    def save(self, path: str | Path) -> None:
        """Write the model to a safetensors file, which appears only when it is complete.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        metadata = {
            "characters": "".join(self.vocabulary.characters),
            "leads": json.dumps(self.leads),
        }
        try:
            save_modules(path, {"layer": self.layer, "head": self.head}, metadata)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from None

    @classmethod
    def load(cls, path: str | Path) -> CharModel:
        """Read a model that :meth:`save` wrote.

        Raises
        ------
        InputError
            The file cannot be read, or is none of these.
        """
        try:
            modules, metadata = load_modules(path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from None
        except ValueError as error:
            raise InputError(str(error)) from None
        layer, head = modules.get("layer"), modules.get("head")
        characters = metadata.get("characters", "")
        vocabulary = Vocabulary(tuple(characters))
        size = len(vocabulary)
        leads = _leads(metadata.get("leads", ""))
        if not (
            isinstance(layer, RNN | GRU | LSTM)
            and isinstance(head, Linear)
            and vocabulary == Vocabulary.of(characters)
            and leads
            and not layer.bidirectional
            and not layer.batch_first
            and layer.dtype == head.dtype
            and (layer.input_size, head.in_features, head.out_features)
            == (size, layer.hidden_size, size)
        ):
            raise InputError(
                f"{path}: a pyrnn file, but not a model of pyrnn autocomplete: expected a "
                "recurrent layer, a head and a vocabulary that fit one another"
            )
        return cls(vocabulary, layer, head, leads)

    def description(self) -> str:
        """Cell, sizes and number of parameters, for people."""
        layer = self.layer
        count = sum(p.size for part in (layer, self.head) for p in part.params.values())
        plural = "" if layer.num_layers == 1 else "s"
        return (
            f"{type(layer).__name__}, {layer.num_layers} layer{plural} of {layer.hidden_size}, "
            f"{count:,} parameters"
        )


def _leads(text: str) -> list[str]:
    """Leads as they stand in a file; none where they are not what was written there."""
    try:
        leads = json.loads(text)
    except json.JSONDecodeError:
        return []
    if not isinstance(leads, list) or not all(isinstance(lead, str) for lead in leads):
        return []
    fit = len({len(lead) for lead in leads}) == 1
    return leads if fit else []
