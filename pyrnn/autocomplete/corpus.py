"""Text for the language model: reading it, its vocabulary, and the part that is held out.

The held-out part is one stretch at the end of the text, so no sequence of it is seen in training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import InputError

Ids = npt.NDArray[np.int64]

#: Shortest text accepted: below it neither part says anything.
MIN_CHARS = 200
#: Most characters of a vocabulary. V**5 must stay below 2**63 for an n-gram model of order 5.
MAX_VOCABULARY = 6000
_HELD_OUT = 0.1
_PARAGRAPH_END = re.compile(r"\n(?:[ \t]*\n)+")


def language_reference() -> str:
    """The language reference that comes with CPython, as one text.

    Its topics repeat one another (``with`` stands in ``compound`` once more), so a paragraph that
    occurred before is left out: nothing is then held out that was also trained on.

    Returns
    -------
    str
        The topics in alphabetical order, about 370,000 characters.

    Raises
    ------
    InputError
        Where this Python comes without ``pydoc_data``.

    Examples
    --------
    >>> "lambda" in language_reference()
    True
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError(
            f"this Python has no language reference (pydoc_data: {error}); name a text with --text"
        ) from None
    return join_topics(topics)


def join_topics(topics: Mapping[str, str]) -> str:
    """The topics in alphabetical order, each paragraph where it first occurs only.

    Examples
    --------
    >>> join_topics({"b": "two\\n\\none", "a": "one"})
    'one\\n\\ntwo\\n'
    """
    seen: set[str] = set()
    kept: list[str] = []
    for name in sorted(topics):
        for paragraph in _PARAGRAPH_END.split(topics[name].strip("\n")):
            # A topic is indented anew where another one includes it.
            bare = " ".join(paragraph.split())
            if bare and bare not in seen:
                seen.add(bare)
                kept.append(paragraph)
    return "\n\n".join(kept) + "\n"


def read_texts(paths: Iterable[str | Path]) -> str:
    """The files' text, decoded as UTF-8, joined in the order given.

    Parameters
    ----------
    paths : iterable of path
        Line ends of every kind become ``"\\n"``; a byte order mark is dropped.

    Raises
    ------
    InputError
        A file that is missing, unreadable, empty or not UTF-8.
    """
    texts: list[str] = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: expected UTF-8 text, got byte 0x{error.object[error.start]:02x} "
                f"at offset {error.start}"
            ) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: {reason}") from None
        if not text.strip():
            raise InputError(f"{path}: the file is empty")
        texts.append(text if text.endswith("\n") else text + "\n")
    return "".join(texts)


def split(text: str) -> tuple[str, str]:
    """Cut the text into a training part and a held-out part, about its last tenth.

    The cut is the line end nearest to nine tenths; where lines are longer than that tenth, it
    falls inside a line.

    Parameters
    ----------
    text : str
        At least :data:`MIN_CHARS` characters.

    Returns
    -------
    training, held_out : str
        Together the whole text.

    Raises
    ------
    InputError
        If the text is shorter.

    Examples
    --------
    >>> training, held_out = split("word " * 39 + "here\\n" + "some more words")
    >>> held_out
    'some more words'
    """
    if len(text) < MIN_CHARS:
        raise InputError(f"text: expected at least {MIN_CHARS} characters, got {len(text)}")
    wish = round(len(text) * (1.0 - _HELD_OUT))
    reach = (len(text) - wish) // 2
    before = text.rfind("\n", wish - reach, wish)
    after = text.find("\n", wish, wish + reach)
    ends = [end + 1 for end in (before, after) if end >= 0]
    cut = min(ends, key=lambda end: abs(end - wish), default=wish)
    return text[:cut], text[cut:]


def line_starts(text: str, count: int = 8, length: int = 50) -> list[str]:
    """Pieces of a text that stand ahead of a line, spread evenly over it.

    Parameters
    ----------
    text : str
        Where no line ends early enough, a word's end does for a line's.
    count : int
        How many at most; the same one is not taken twice.
    length : int
        Of each.

    Returns
    -------
    list of str
        One empty piece where there is no other.

    Examples
    --------
    >>> line_starts("one\\ntwo\\nthree", count=4, length=3)
    ['ne\\n', 'wo\\n']
    """
    for end in ("\n", " "):
        cuts = [
            text.rfind(end, 0, len(text) * number // count) + 1 for number in range(1, count + 1)
        ]
        pieces = [text[cut - length : cut] for cut in cuts if cut >= length]
        if pieces:
            return list(dict.fromkeys(pieces))
    return [""]


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a training text, and one symbol, id 0, for every other.

    Attributes
    ----------
    characters : tuple of str
        In the order of their ids, which start at 1.

    Examples
    --------
    >>> vocabulary = Vocabulary.of("banana")
    >>> vocabulary.encode("bat").tolist()
    [2, 1, 0]
    >>> len(vocabulary)
    4
    """

    characters: tuple[str, ...]

    UNKNOWN = 0

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """The characters of a text, in code point order: all, or the commonest 6,000."""
        counts = Counter(text)
        # Of equally common ones, the lower code point: the order of the text does not matter.
        common = sorted(counts, key=lambda c: (-counts[c], c))[:MAX_VOCABULARY]
        return cls(tuple(sorted(common)))

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Ids:
        """Ids (len(text)) of the characters, 0 for one that is not in the vocabulary."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        known = np.array([ord(c) for c in self.characters], np.uint32)
        places = np.searchsorted(known, points)
        hits = known[np.minimum(places, len(known) - 1)] == points
        return np.where(hits, places + 1, self.UNKNOWN).astype(np.int64)

    def encode_known(self, text: str) -> Ids:
        """As :meth:`encode`, for text typed by a person.

        Raises
        ------
        InputError
            Naming the first character that is not in the vocabulary.
        """
        ids = self.encode(text)
        unknown = np.flatnonzero(ids == self.UNKNOWN)
        if unknown.size:
            character = text[unknown[0]]
            raise InputError(
                f"prefix {text!r}: the character {character!r} (U+{ord(character):04X}) is not in "
                "the vocabulary of the training text"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; the unknown symbol becomes U+FFFD."""
        return "".join(self.characters[i - 1] if i > 0 else "\ufffd" for i in ids)
