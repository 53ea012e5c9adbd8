"""Every command block of docs/command.md and of the README's command lines, run as printed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip.cli.app import app

from .command_line import Command, write_video

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "command.md"


@pytest.fixture
def folders(tmp_path: Path, normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]) -> Path:
    """What the commands name: photos/, good/, more_good/, classes/ and clip.mp4."""
    images = {"photos": [*normals[3:6]], "good": normals[:3], "more_good": normals * 4}
    images |= {"classes/cap": normals[:2], "classes/bottle": normals[2:4]}
    for folder, content in images.items():
        (tmp_path / folder).mkdir(parents=True)
        for index, image in enumerate(content):
            Image.fromarray(image).save(tmp_path / folder / f"a{index}.png")
    Image.fromarray(defective[0]).save(tmp_path / "photos" / "hole.png")
    write_video(tmp_path / "clip.avi", [normals[index % 6] for index in range(21)])
    shutil.move(tmp_path / "clip.avi", tmp_path / "clip.mp4")  # OpenCV looks into the file
    return tmp_path


def command_lines(text: str) -> list[str]:
    """The lines with the command in blocks of a shell, and in those without a language."""
    found = []
    language = None  # outside of blocks
    for line in text.splitlines():
        if line.startswith("```"):
            language = line[3:] if language is None else None
        elif language in ("", "sh") and re.search(r"(^|\| )patchclip ", line):
            found.append(line)
    return found


def test_the_commands_of_the_page_run_as_printed(command: Command, folders: Path) -> None:
    lines = command_lines(DOCS.read_text())
    assert len(lines) > 20
    for line in lines:
        before_pipe, _, line_of_command = line.rpartition(" | ")
        stdin = None
        if before_pipe:
            stdin = subprocess.run(["bash", "-c", before_pipe], cwd=folders, capture_output=True, check=True).stdout
        done = command(*shlex.split(line_of_command)[1:], stdin=stdin)
        assert done.exit_code == 0, (line, done.output)


def test_the_commands_of_the_readme_run_as_printed(command: Command, folders: Path) -> None:
    lines = command_lines((ROOT / "README.md").read_text())
    assert lines
    for line in lines:
        done = command(*shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output)


def test_the_page_has_every_option() -> None:
    text = DOCS.read_text()
    context = app.make_context("patchclip", ["--help"], resilient_parsing=True)
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert f"## {name}" in text or f"{name}, " in text or f", {name}" in text
        for option in command.params:
            for flag in option.opts:
                assert flag.removeprefix("--output") in text, (name, flag)
