"""Text for consoles, reports and tables, which cannot hold every file name."""

from __future__ import annotations

import io
import sys
import unicodedata
from collections.abc import Iterable

#: A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

#: Categories of what a console does not show as a letter: controls, surrogates, separators of lines and paragraphs.
_ESCAPED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")

#: Classes of what changes the direction of the letters around it, and so the order in which a name is seen.
_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")

#: Of the code points that stand for the bytes of a file name that are not UTF-8 (PEP 383).
_SURROGATE_OF_BYTE_0 = 0xDC00


def printable(text: str) -> str:
    r"""The text with bytes that are not UTF-8, lone surrogates, control characters, ends of lines and changes of
    direction as escapes such as `\xfc`.

    It can be encoded as UTF-8; text without such characters is returned as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    is_escaped = unicodedata.category(character) in _ESCAPED_CATEGORIES
    if not is_escaped and unicodedata.bidirectional(character) not in _TURNS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - _SURROGATE_OF_BYTE_0:02x}"
    return character.encode("unicode_escape").decode("ascii")


def is_name(value: object) -> bool:
    """Whether it is a text that can stand on one line of a console: `printable`, and not of spaces alone."""
    return isinstance(value, str) and bool(value.strip()) and value == printable(value)


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
