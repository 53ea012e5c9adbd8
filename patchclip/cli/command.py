"""A command: its help in groups, its examples, and what happens around it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence

import click

from .console import Console
from .reporting import run_reported

Run = Callable[[Console, Namespace], int]

EXIT_CODES = "0 done, 2 wrong usage or nothing usable, 130 interrupted"

_COMMON = "-q quiet, -v name what is skipped, --debug traceback, -h this help"


class Command(click.Command):
    """A command whose `run` gets the console and the arguments, and returns the exit code.

    Args:
        purpose: a sentence or two.
        arguments: positional ones.
        options: heading -> options.
        examples: commands that run as they are.
        exit_codes: in a line.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        purpose: str,
        arguments: Sequence[click.Argument] = (),
        options: Mapping[str, Sequence[click.Option]],
        examples: Sequence[str],
        exit_codes: str = EXIT_CODES,
    ):
        params: list[click.Parameter] = [*arguments]
        for group in options.values():
            params += group
        params += [
            click.Option(["-q", "--quiet"], is_flag=True, help="No notes, no progress, no summary."),
            click.Option(["-v", "--verbose"], is_flag=True, help="Name what is skipped, and all notes."),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        super().__init__(name, params=params, help=purpose, context_settings=settings)
        self._run = run
        self._groups = options
        self._examples = examples
        self._exit_codes = exit_codes

    def invoke(self, ctx: click.Context) -> int:
        """Run it; errors are reported in a line, see `reporting`."""
        values = dict(ctx.params)
        console = Console(quiet=values.pop("quiet"), verbose=values.pop("verbose"), debug=values.pop("debug"))
        return run_reported(self._run, console, Namespace(**values))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Purpose, options in groups, examples and exit codes."""
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(self.help or "")
        for heading, options in self._groups.items():
            with formatter.section(heading):
                formatter.write_dl([_help_record(option, ctx) for option in options], col_max=26)
        formatter.write_paragraph()
        formatter.write(f"Common: {_COMMON}\n")
        with formatter.section("Examples"):
            for example in self._examples:
                formatter.write(f"  {example}\n")
        formatter.write_paragraph()
        formatter.write_text(f"Exit codes: {self._exit_codes}")


def _help_record(option: click.Option, ctx: click.Context) -> tuple[str, str]:
    """Without the range, which an error names."""
    names, text = option.get_help_record(ctx) or ("", "")
    return names, text.split("  [x", 1)[0]
