"""Coloured text: what stands in the page is the text and nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import pyrnn


class Page(HTMLParser):
    """The text within <pre>, the ground of each character, and every other tag."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.grounds, self.tags = "", [], []
        self.inside, self.ground = False, ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag == "pre":
            self.inside = True
        elif tag == "span":
            self.ground = dict(attrs)["style"].removeprefix("background:")

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self.inside = False
        self.ground = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text += data
            self.grounds += [self.ground] * len(data)


def test_markup_is_escaped() -> None:
    text = "<script>alert('&amp;')</script> \"</pre>\" <b>&lt;"
    values = np.linspace(-1, 1, len(text))
    for title in ("t", "</title><script>"):
        page = Page(pyrnn.coloured_text(text, values, title=title))
        assert page.text == text
        assert "script" not in page.tags
        assert page.tags.count("pre") == 1


def test_control_characters_become_pictures() -> None:
    text = "\x00\t\x1b\x7f\x85\ud800\ufffe\U0001f600é\r"
    page = pyrnn.coloured_text(text, np.zeros(len(text)))
    page.encode("utf-8")
    assert Page(page).text == "␀␉␛␡\ufffd\ufffd\ufffd\U0001f600é␍"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", page)


def test_a_line_end_is_shown_and_ends_the_line() -> None:
    page = Page(pyrnn.coloured_text("a\nb", [0.0, 1.0, 0.0]))
    assert page.text == "a⏎\nb"
    assert page.grounds[1] == page.grounds[2] == "#e69f00"


def test_colours_say_sign_and_size() -> None:
    values = [2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, np.nan, np.inf, -np.inf]
    page = Page(pyrnn.coloured_text("0123456789", values, limit=1.0))
    full, half, low, below = page.grounds[1], page.grounds[2], page.grounds[4], page.grounds[5]
    assert page.grounds == [full, full, half, "", low, below, below, "#bbbbbb", full, below]
    assert (full, below) == ("#e69f00", "#56b4e9")
    assert (half, low) == ("#f2cf80", "#aadaf4")
    wider = Page(pyrnn.coloured_text("0123456789", values, limit=2.0))
    assert wider.grounds[:2] == [full, half]


def test_the_page_needs_no_other_file() -> None:
    page = pyrnn.coloured_text("a", [1.0])
    assert page.startswith("<!DOCTYPE html>")
    assert '<meta charset="utf-8">' in page
    assert not re.search(r"https?:|src=|href=|url\(|@import", page)
    assert Page(pyrnn.coloured_text("", [])).text == ""


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_numbers_of_any_kind(dtype: str) -> None:
    page = Page(pyrnn.coloured_text("ab", np.array([1, 0], dtype)))
    assert page.grounds == ["#e69f00", ""]


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"values: expected shape \(N\) = \(3,\).*got \(2,\)"):
        pyrnn.coloured_text("abc", [1.0, 2.0])
    with pytest.raises(ValueError, match=r"got \(3, 1\)"):
        pyrnn.coloured_text("abc", np.zeros((3, 1)))
    with pytest.raises(TypeError, match="values: expected numbers"):
        pyrnn.coloured_text("abc", ["a", "b", "c"])
    for limit in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="limit: expected"):
            pyrnn.coloured_text("abc", np.zeros(3), limit=limit)
