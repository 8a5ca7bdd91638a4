"""Text coloured by what one unit does at each character."""

from __future__ import annotations

import html
from itertools import groupby

import numpy as np
import numpy.typing as npt

from .checks import Array, checked_number, shape_text

__all__ = ["coloured_text"]

# Okabe and Ito's sky blue and orange: black text is easily read on both.
LEFT_OF_ZERO, RIGHT_OF_ZERO = "#56B4E9", "#E69F00"
NOT_A_NUMBER = "#BBBBBB"
# Steps from white to the full colour. Neighbours of one shade share an element.
_STEPS = 20

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ background: white; color: black; font: 15px/1.5 monospace; margin: 2em; }}
pre {{ font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }}
b {{ font-weight: normal; padding: 0 0.5em; }}
</style>
</head>
<body>
<p>{title} <b style="background:{left}">−{limit:g}</b><b>0</b><b style="background:{right}">\
{limit:g}</b></p>
<pre>{body}</pre>
</body>
</html>
"""


def coloured_text(
    text: str, values: npt.ArrayLike, *, limit: float = 1.0, title: str = "activation"
) -> str:
    """A web page that shows text, each character on a ground coloured by a value.

    Parameters
    ----------
    text : str
        N characters, of any kind: they are escaped, and a control character is shown as its
        picture.
    values : array
        (N), one for each character: orange above 0, blue below, white at 0, grey for NaN.
    limit : float
        The magnitude that gets the full colour: 1 fits h and tanh(c).
    title : str
        Stands above the text.

    Returns
    -------
    str
        HTML that needs no other file, to be written as UTF-8.

    Raises
    ------
    ValueError
        Another number of values, or a ``limit`` that is not positive and finite.
    TypeError
        Values that are no numbers.

    Notes
    -----
    Karpathy, Johnson & Fei-Fei, "Visualizing and understanding recurrent networks",
    arXiv:1506.02078. ``pyrnn colour`` writes such a page for a model of ``pyrnn autocomplete``.

    Examples
    --------
    >>> import pyrnn
    >>> page = pyrnn.coloured_text("a<b", [1.0, 0.0, -1.0])
    >>> page[page.index("<pre>") : page.index("</pre>")]
    '<pre><span style="background:#e69f00">a</span>&lt;<span style="background:#56b4e9">b</span>'
    """
    colours = shades(checked_values(text, values, limit))
    parts = []
    for colour, run in groupby(zip(text, colours, strict=True), key=lambda pair: pair[1]):
        # A line end is shown, too: a unit may well be about it.
        characters = "".join(shown(c) + "\n" * (c == "\n") for c, _ in run)
        escaped = html.escape(characters)
        if colour != "#ffffff":
            escaped = f'<span style="background:{colour}">{escaped}</span>'
        parts.append(escaped)
    return _PAGE.format(
        title=html.escape("".join(map(shown, title))),
        left=LEFT_OF_ZERO,
        right=RIGHT_OF_ZERO,
        limit=limit,
        body="".join(parts),
    )


def checked_values(text: str, values: npt.ArrayLike, limit: float) -> Array:
    """As shares of the limit, float64 in [-1, 1] or NaN."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"values: expected numbers, got {array.dtype.name}")
    if array.shape != (len(text),):
        raise ValueError(
            f"values: expected shape (N) = ({len(text)},), one for each character, got "
            f"{shape_text(array.shape)}"
        )
    limit = checked_number("limit", limit, 0.0)
    if limit == 0.0 or np.isinf(limit):
        raise ValueError(f"limit: expected a positive finite number, got {limit!r}")
    return np.clip(array.astype(np.float64) / limit, -1.0, 1.0)


def shades(shares: Array) -> list[str]:
    """``"#rrggbb"`` of each share in [-1, 1]."""
    found = []
    for share in shares:
        if np.isnan(share):
            found.append(NOT_A_NUMBER.lower())
            continue
        full = RIGHT_OF_ZERO if share > 0 else LEFT_OF_ZERO
        depth = round(abs(float(share)) * _STEPS) / _STEPS
        channels = [int(full[i : i + 2], 16) for i in (1, 3, 5)]
        found.append("#" + "".join(f"{round(255 + depth * (c - 255)):02x}" for c in channels))
    return found


def shown(character: str) -> str:
    """What stands for it: itself, the picture of a control character, or U+FFFD."""
    point = ord(character)
    if character == "\n":
        return "⏎"
    if point < 0x20:
        return chr(0x2400 + point)
    if point == 0x7F:
        return "␡"
    if 0x80 <= point < 0xA0 or 0xD800 <= point < 0xE000 or point & 0xFFFE == 0xFFFE:
        return "\ufffd"
    return character
