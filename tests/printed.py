"""What a program prints, compared with what a page or a docstring shows."""

from __future__ import annotations

import re

import pytest


def assert_alike(shown: str, found: str) -> None:
    """The same text, with numbers that are near."""
    number = re.compile(r"\d+(?:\.\d+)?")
    assert number.sub("#", found) == number.sub("#", shown)
    for one, other in zip(number.findall(shown), number.findall(found), strict=True):
        assert float(other) == pytest.approx(float(one), rel=0.1, abs=0.01 if "." in one else 6)
