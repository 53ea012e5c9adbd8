"""The `patchclip` command; `python -m patchclip` is the same."""

from __future__ import annotations


def main() -> None:
    """Run the command with the arguments of the process, and exit with its code."""
    from .app import app

    app.main(prog_name="patchclip")
