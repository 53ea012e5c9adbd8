"""Names of files in consoles and tables that cannot hold them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from patchclip.printable import csv_cell, csv_encoding, is_name, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.png", "plain.png"),
        ("Prüfung 缺陷.png", "Prüfung 缺陷.png"),
        (os.fsdecode(b"pr\xfcfung.png"), r"pr\xfcfung.png"),
        ("\ud83d.png", r"\ud83d.png"),  # half of a pair, as JSON may hold it
        ("two\nlines\x1b[2J.png", r"two\nlines\x1b[2J.png"),
        ("two\u2028lines\u2029.png", r"two\u2028lines\u2029.png"),
        ("\u202egnp.exe", r"\u202egnp.exe"),  # would be seen as exe.png
        ("तस\u200dवीर 👩\u200d🔬.png", "तस\u200dवीर 👩\u200d🔬.png"),  # joined letters
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).encode("utf-8").decode("utf-8") == shown


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("a.png", "a.png"),
        ("=1+1.png", "'=1+1.png"),
        ("+49.png", "'+49.png"),
        ("-2.png", "'-2.png"),
        ("@SUM(A1).png", "'@SUM(A1).png"),
        ("\uff1dcmd.png", "'\uff1dcmd.png"),
        ("\t=1", r"\t=1"),
        ("a=b.png", "a=b.png"),
        (-0.25, "-0.25"),  # a number is no formula
        (0, "0"),
        (os.fsdecode(b"=\xfc"), r"'=\xfc"),
    ],
)
def test_cells_are_never_formulas(value: object, cell: str) -> None:
    assert csv_cell(value) == cell


def test_names_are_printable_and_not_empty() -> None:
    for name in ("crack", "Riss in 缺陷", "=1+1", " two words"):
        assert is_name(name)
    for name in ("", "  ", "two\nlines", "two\u2028lines", "\x1b[2K", "\ud800", 3, None, ["crack"]):
        assert not is_name(name)


def test_a_byte_order_mark_where_a_letter_needs_it() -> None:
    assert csv_encoding(["a.png", "crack"]) == "utf-8"
    assert csv_encoding(["a.png", "ö.png"]) == "utf-8-sig"
    assert csv_encoding([]) == "utf-8"


@pytest.mark.parametrize(
    ("encoding", "shown"), [("cp1252", "ü\\u7f3a\\udcff".encode()), ("utf-8", "ü缺\\udcff".encode())]
)
def test_any_name_on_any_console(encoding: str, shown: bytes) -> None:
    shown = shown.replace("ü".encode(), "ü".encode(encoding))
    code = (
        "from patchclip.printable import allow_any_name_on_consoles\n"
        "allow_any_name_on_consoles()\n"
        "print('\\xfc\\u7f3a\\udcff')\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert done.stdout.strip() == shown
