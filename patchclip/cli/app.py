"""The commands by their names, each loaded when it is asked for, so that help appears at once."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from .._version import __version__

#: Command -> what it does, in the order of the help. The module has its name but for `_MODULES`, and the command is its
#: COMMAND.
COMMANDS = {
    "demo": "See it work on images that come with the package.",
    "predict": "Find anomalies in images and videos.",
    "batch": "The same for very many images, by Ray on many machines.",
    "fit": "Learn from normal images, into a detector file.",
    "calibrate": "Set the threshold by further normal images.",
    "rank": "Order unlabelled images, the oddest first.",
    "export": "Write a detector as an ONNX file, and verify it.",
    "app": "Open a page in the browser, for those who do not write code.",
    "info": "Show what is in a detector file or an exported file.",
    "models": "List the models, their sizes and what they are good for.",
    "benchmark": "Measure accuracy and speed on data with labels.",
    "doctor": "Check the installation.",
}

_MODULES = {"app": "web_page"}

_EPILOG = """\
Exit codes: 0 done, 1 anomalies found (--fail-on-anomaly only), 2 wrong usage or nothing usable, 3 some inputs
failed and the rest is done, 130 interrupted.
"""


class App(click.Group):
    """The group of commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported; None where there is none."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{_MODULES.get(name, name)}", __package__).COMMAND
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with near misses suggested."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"commands are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {name!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run a command, and exit with its code; errors of usage are one line and exit with 2."""
        extra.pop("standalone_mode", None)
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = 2
        except click.ClickException as error:
            code = _report_usage(error)
        except click.Abort:
            code = 130
        sys.exit(code if isinstance(code, int) else 0)


def _report_usage(error: click.ClickException) -> int:
    message = " ".join(error.format_message().split())
    message = re.sub(r"\. \(?Did you mean (?:one of: )?(.*?)\?\)?$", r": did you mean \1?", message)
    if message[1:2].islower():  # not of "INPUTS: ..."
        message = message[0].lower() + message[1:]
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    click.echo(f"error: {message.rstrip('.')}{hint}", err=True)
    return 2


def _print_completion(ctx: click.Context, option: click.Parameter, shell: str | None) -> None:
    if shell is None or ctx.resilient_parsing:
        return
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"no completion for {shell!r}", ctx)
    click.echo(completion(ctx.command, {}, "patchclip", "_PATCHCLIP_COMPLETE").source())
    ctx.exit()


app = App(
    "patchclip",
    help="Find anomalies in images: from the text alone, from a few normal images, or by ranking unlabelled ones.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        click.Option(
            ["--completion"],
            type=click.Choice(["bash", "zsh", "fish"]),
            expose_value=False,
            is_eager=True,
            callback=_print_completion,
            help="Print the completion script of a shell, to be sourced.",
        )
    ],
)
click.version_option(__version__, message="patchclip %(version)s")(app)
