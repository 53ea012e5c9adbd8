"""What a user is told when a command ends early: one line that names the fault, and the exit code.

Codes: 0 done, 1 anomalies found (--fail-on-anomaly), 2 wrong usage or nothing usable, 3 some inputs failed,
130 interrupted; 141 where the reader of standard output went away, as a shell reports it.
"""

from __future__ import annotations

import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable

import click

from ..errors import PatchclipError
from .console import Console
from .remedies import in_options

DONE, ANOMALIES, UNUSABLE, SOME_FAILED, INTERRUPTED, READER_GONE = 0, 1, 2, 3, 130, 141


def run_reported(run: Callable[[Console, Namespace], int], console: Console, args: Namespace) -> int:
    """The exit code of `run`, or of the error that it ended with, which is printed."""
    try:
        with console.warnings_as_notes():
            return run(console, args)
    except click.ClickException:
        raise
    except KeyboardInterrupt:
        console.error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its exit
        return READER_GONE
    except Exception as error:
        if console.debug:
            traceback.print_exc()
        console.error(describe_error(error))
        return UNUSABLE


def describe_error(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and not isinstance(error, PatchclipError) and error.strerror:
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror}"
    text = in_options(" ".join(str(error).split()))
    if isinstance(error, (PatchclipError, ValueError, OSError)):
        return text
    return f"unexpected {type(error).__name__}: {text} (--debug shows where)"
