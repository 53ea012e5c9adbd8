"""The command as a whole: help at once, near misses, completion, and `python -m patchclip`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import patchclip
from patchclip.cli.app import COMMANDS

from .command_line import Command

HEAVY = ("torch", "numpy", "PIL", "cv2", "rich", "tqdm", "open_clip")


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS)])
def test_help_is_there_at_once(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom patchclip.cli import main\n"
        f"sys.argv = ['patchclip', *{arguments!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert done.code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    times_s = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = os.times()
        assert done.stdout.splitlines()[-1] == "[]"
        # of the processor: by the clock it takes longer where other processes have the cores
        times_s.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(times_s) < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_and_says_all(name: str, command: Command) -> None:
    lines = command(name, "--help").stdout.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
    assert lines[2]  # the purpose
    examples = lines[lines.index("Examples:") + 1 :]
    assert [line.startswith(f"  patchclip {name}") for line in examples[:3]] == [True] * 3
    assert lines[lines.index("Examples:") + 5].startswith("Exit codes: 0 ")


def test_help_of_all(command: Command) -> None:
    done = command("--help")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) < 40
    for name, purpose in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert purpose in done.stdout
    alone = command()
    assert alone.exit_code == 2
    assert "Commands:" in alone.stderr
    assert command("--version").stdout == f"patchclip {patchclip.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prdict", "x"], "no command 'prdict': did you mean predict? (see patchclip --help)"),
        (["zzz"], f"no command 'zzz': commands are {', '.join(COMMANDS)} (see patchclip --help)"),
        (["fit", "x", "--ovject", "y"], "no such option '--ovject': did you mean"),
        (["predict"], "missing argument 'INPUTS...' (see patchclip predict --help)"),
        (["predict", "x", "--every", "0"], "invalid value for '--every'"),
        (["predict", "nowhere"], "INPUTS: nowhere does not exist\n"),
    ],
)
def test_wrong_usage_is_one_line(command: Command, arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(command: Command, shell: str) -> None:
    assert "_PATCHCLIP_COMPLETE" in command("--completion", shell).stdout


def test_as_a_module_with_completion_of_commands() -> None:
    line = [sys.executable, "-m", "patchclip"]
    version = subprocess.run([*line, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"patchclip {patchclip.__version__}\n"
