"""Text for consoles, reports and tables, which cannot hold every file name."""

from __future__ import annotations

import io
import sys
import unicodedata
from collections.abc import Iterable

#: A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

#: Of the code points that stand for the bytes of a file name that are not UTF-8 (PEP 383).
_SURROGATE_OF_BYTE_0 = 0xDC00


def printable(text: str) -> str:
    r"""The text with bytes that are not UTF-8, lone surrogates and control characters as escapes such as `\xfc`.

    It can be encoded as UTF-8; text without such characters is returned as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    category = unicodedata.category(character)
    if category not in ("Cc", "Cs"):
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - _SURROGATE_OF_BYTE_0:02x}"
    return character.encode("unicode_escape").decode("ascii")


def csv_cell(value: object) -> str:
    """A value for a csv file that a spreadsheet may open: None is empty, a text is `printable` and never a formula.

    A text that begins with = + - or @ has an apostrophe before it.
    """
    if value is None:
        return ""
    text = printable(str(value))
    if isinstance(value, str) and text.startswith(_FORMULA_STARTS):
        return f"'{text}"
    return text


def csv_encoding(texts: Iterable[str]) -> str:
    """The encoding of a csv file with these texts: UTF-8, with a byte order mark where a letter is beyond ASCII.

    Excel takes a file without the mark for one in the code page of the machine.
    """
    return "utf-8" if all(text.isascii() for text in texts) else "utf-8-sig"


def allow_any_name_on_consoles() -> None:
    """Standard output and error show what they cannot encode as escapes, where they would raise UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
