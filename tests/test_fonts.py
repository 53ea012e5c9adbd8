"""Labels in any script: a font that has their letters, or codes and a warning."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image, ImageFont

from patchclip import viz
from patchclip.fonts import choose_font


def label(text: str) -> np.ndarray:
    """A picture with one label."""
    image = np.full((160, 240, 3), 90, np.uint8)
    return np.asarray(viz.overlay(image, np.zeros((160, 240), np.float32), 0.5, [((20, 60, 90, 120), text)]))


def test_ascii_keeps_the_font_of_pillow() -> None:
    font, text = choose_font("crack 0.83", 20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert font.getname() == ImageFont.load_default(20).getname()
    assert (text, font.size) == ("crack 0.83", 20)


@pytest.mark.parametrize(("one", "other"), [("ö", "ü"), ("é", "è"), ("ß", "ẞ"), ("ж", "ш"), ("Ω", "Σ"), ("ł", "ń")])
def test_letters_beyond_ascii_are_drawn(one: str, other: str) -> None:
    """By DejaVu Sans, which comes with matplotlib and most systems."""
    assert choose_font(one, 20)[1] == one
    assert (label(one) != label(other)).any()


def test_letters_that_no_font_has_are_codes() -> None:
    text = "a\U000f1234b \U000f1235"
    with pytest.warns(UserWarning, match=r"no font that was found has .*f1234.*f1235.*: labels show codes instead"):
        font, drawn = choose_font(text, 20)
    assert drawn == r"a\U000f1234b \U000f1235"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        assert choose_font(text, 30)[1] == drawn
    assert font.getlength(drawn) > 0


def test_unknown_letters_are_told_apart_in_pictures() -> None:
    with pytest.warns(UserWarning, match="labels show codes instead"):
        first = label("\U000f4321 0.50")
    with pytest.warns(UserWarning, match="labels show codes instead"):
        second = label("\U000f4322 0.50")
    assert (first != second).any()


def test_chinese_is_drawn_or_told() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (label("划") != label("痕")).any()


def test_titles_of_a_contact_sheet() -> None:
    pictures = [Image.new("RGB", (40, 30), "red")]
    one, other = (np.asarray(viz.contact_sheet(pictures, [title], columns=1, side=60)) for title in ("ö", "ü"))
    assert (one != other).any()
