"""Where text goes: data to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..printable import allow_any_name_on_consoles, printable
from .remedies import in_options

if TYPE_CHECKING:
    from tqdm import tqdm

#: Of one kind of warning so many are shown.
_MOST_NOTES = 5

#: Columns of a table that goes to a file or another program.
_WIDTH_OF_A_PIPE = 160


class Console:
    """The two streams of a command.

    Args:
        quiet: errors alone are shown on standard error.
        verbose: what is skipped is named, and every note shown.
        debug: errors come with their traceback.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, debug: bool = False):
        self.quiet = quiet
        self.verbose = verbose
        self.debug = debug
        self._notes: Counter[tuple[str, int]] = Counter()
        allow_any_name_on_consoles()

    def data(self, text: str, **style: Any) -> None:
        """A line on standard output, flushed; styles as `click.style` has them, on a terminal alone."""
        _write(text, style, to_stderr=False)

    def say(self, text: str = "", **style: Any) -> None:
        """A line on standard error, unless quiet."""
        if not self.quiet:
            _write(text, style, to_stderr=True)

    def note(self, text: str) -> None:
        """What the user should know, on standard error, unless quiet."""
        self.say(f"note: {printable(text)}", fg="yellow")

    def error(self, text: str) -> None:
        """What went wrong, always."""
        _write(f"error: {printable(text)}", {"fg": "red"}, to_stderr=True)

    def progress(self, description: str, *, total: int | None, lines_on_stdout: bool = False) -> tqdm[Any]:
        """A bar on standard error where that is a terminal; none beside lines that run down the same terminal."""
        from ..progress import progress_bar

        beside_lines = lines_on_stdout and sys.stdout.isatty()
        return progress_bar(description, total=total, show=self.shows_progress and not beside_lines)

    @property
    def shows_progress(self) -> bool:
        """Whether bars are shown where standard error is a terminal."""
        return not self.quiet

    def table(self, rows: list[list[str]], *, header: list[str] | None = None) -> None:
        """Columns on standard output, as wide as the terminal."""
        from rich import box
        from rich.console import Console as RichConsole
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD if header else None, show_header=header is not None, pad_edge=False)
        for index, name in enumerate(header or rows[0]):
            table.add_column(name if header else "", overflow="fold", no_wrap=index == 0, style="bold" * (index == 0))
        for row in rows:
            table.add_row(*[Text(printable(cell)) for cell in row])
        width = None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE
        RichConsole(highlight=False, width=width).print(table)

    @contextmanager
    def warnings_as_notes(self) -> Iterator[None]:
        """Warnings of the library are notes; of one kind the first few, unless verbose."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = self._show_warning  # type: ignore[assignment]
            yield
        more = sum(max(0, count - _MOST_NOTES) for count in self._notes.values())
        if more and not self.verbose:
            self.note(f"{more} more notes of the same kinds: --verbose shows them")

    def _show_warning(
        self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
    ) -> None:
        kind = (filename, lineno)
        self._notes[kind] += 1
        if self.verbose or self._notes[kind] <= _MOST_NOTES:
            self.note(in_options(str(message)))


def _write(text: str, style: dict[str, Any], *, to_stderr: bool) -> None:
    """Above a bar, where there is one; colours on a terminal alone, and never with NO_COLOR."""
    stream = sys.stderr if to_stderr else sys.stdout
    if style and stream.isatty() and not os.environ.get("NO_COLOR"):
        text = click.style(text, **style)
    bars = sys.modules.get("tqdm")
    if bars is not None and sys.stderr.isatty():
        bars.tqdm.write(text, file=stream)
    else:
        stream.write(f"{text}\n")
    stream.flush()
