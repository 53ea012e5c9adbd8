"""Every block of commands and of Python in the README and in docs/, run as printed, and what it prints.

A block of `text` is the output of the block above it. A block after `<!-- not run: REASON -->` is not run.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from batch.ray_processes import RAY
from cli.command_line import write_video
from click.testing import CliRunner
from PIL import Image
from printed import assert_alike

from patchclip.cli.app import app
from patchclip.synthetic import Surface

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Pages whose blocks were run where and when they say, as a record.
RECORDS = ["training.md"]


class Block(NamedTuple):
    """Between fences: its language, its lines, the line of its first fence, and why it is not run."""

    language: str
    text: str
    line: int
    not_run: str | None


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page, from its top."""
    blocks = []
    content: list[str] | None = None  # None outside of blocks
    language, first, not_run = "", 0, None
    for index, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```") and content is None:
            language, content, first = line[3:], [], index
        elif line.startswith("```"):
            blocks.append(Block(language, "\n".join(content or []) + "\n", first, not_run))
            content, not_run = None, None
        elif content is not None:
            content.append(line)
        else:
            marked = re.fullmatch(r"<!-- not run: (.+) -->", line)
            if marked:
                not_run = marked[1]
    return blocks


@pytest.fixture(scope="module")
def more_normals(surface: Surface) -> list[np.ndarray]:
    """As many as a rate of 5 % takes, none of which is in `normals`."""
    return [surface.photograph(surface.render(seed, (96, 128)), seed) for seed in range(6, 25)]


@pytest.fixture
def folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    normals: list[np.ndarray],
    more_normals: list[np.ndarray],
    defective: tuple[np.ndarray, np.ndarray],
) -> Path:
    """The current folder, with what the pages name: photos/, good/, more_good/, classes/, clip.mp4 and others."""
    images = {"photos": normals[3:6], "good": normals[:3], "more_good": more_normals}
    images |= {"classes/cap": normals[:2], "classes/bottle": normals[2:4]}
    for name, content in images.items():
        (tmp_path / name).mkdir(parents=True)
        for index, image in enumerate(content):
            Image.fromarray(image).save(tmp_path / name / f"a{index}.png")
    for kind, image in (("hole", defective[0]), ("spot", defective[0][::-1].copy())):
        (tmp_path / "defects" / kind).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "defects" / kind / "0.png")
    Image.fromarray(defective[0]).save(tmp_path / "photos" / "hole.png")
    Image.fromarray(defective[0]).save(tmp_path / "photo.jpg")
    write_video(tmp_path / "clip.avi", [normals[index % 6] for index in range(21)])
    shutil.move(tmp_path / "clip.avi", tmp_path / "clip.mp4")  # OpenCV looks into the file
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def exported() -> dict[tuple[str, bytes], bytes]:
    """Line of the command and file of the detector -> exported file."""
    return {}


def run_command(line: str) -> str:
    """What a line of a shell prints; patchclip runs in this process, whose libraries are loaded already."""
    before_pipe, _, line_of_command = line.rpartition(" | ")
    stdin = None
    if before_pipe:
        stdin = subprocess.run(["bash", "-c", before_pipe], capture_output=True, check=True).stdout
    name, *arguments = shlex.split(line_of_command, comments=True)
    with pytest.MonkeyPatch.context() as patch:
        if name == "python":
            patch.setattr(sys, "argv", arguments)
            return run_printing(lambda: runpy.run_path(arguments[0], run_name="__main__"))
        assert name == "patchclip", line
        patch.setattr(sys, "argv", [name, *arguments])
        done = CliRunner().invoke(app, arguments, input=stdin)
    assert done.exit_code == 0, (line, done.output)
    return done.output


def export_once(line: str, exported: dict[tuple[str, bytes], bytes]) -> None:
    """An export takes half of a minute: of the same detector it is done once, for all pages."""
    detector, target = Path(shlex.split(line)[2]), Path(shlex.split(line)[4])
    key = (line, detector.read_bytes())
    if key not in exported:
        run_command(line)
        exported[key] = target.read_bytes()
    target.write_bytes(exported[key])


def run_printing(run: Any) -> str:
    """Its standard output, without warnings."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    return printed.getvalue()


def pages_to_run() -> list[Any]:
    """Those whose blocks are run; one of them starts Ray."""
    pages = []
    for page in PAGES:
        if page.name not in RECORDS:
            pages.append(pytest.param(page, id=page.stem, marks=RAY if page.name == "scaling.md" else []))
    return pages


@pytest.mark.parametrize("page", pages_to_run())
def test_blocks_run_as_printed(page: Path, folder: Path, exported: dict[tuple[str, bytes], bytes]) -> None:
    variables: dict[str, Any] = {}  # blocks of Python go on where the one above ended
    printed: str | None = None  # by the block above
    for block in read_blocks(page):
        if block.not_run is not None:
            printed = None
        elif block.language == "sh":
            printed = ""
            for line in block.text.splitlines():
                if line.startswith("patchclip export "):
                    export_once(line, exported)
                else:
                    printed += run_command(line)
        elif block.language == "python":
            code = compile(block.text, f"{page.name}:{block.line}", "exec")
            printed = run_printing(lambda code=code: exec(code, variables))
        elif block.language == "text" and printed is not None:
            assert_alike(block.text.rstrip("\n"), printed.rstrip("\n"))
            printed = None
        else:
            assert block.language in ("json", "diagram"), block


def test_few_blocks_are_not_run() -> None:
    blocks = [block for page in PAGES for block in read_blocks(page) if block.language in ("sh", "python")]
    not_run = [block for block in blocks if block.not_run is not None]
    assert len(blocks) > 20
    assert 0 < len(not_run) <= 7


def test_the_page_of_the_command_has_every_option() -> None:
    text = (ROOT / "docs" / "command.md").read_text()
    context = app.make_context("patchclip", ["--help"], resilient_parsing=True)
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        assert f"## {name}" in text or f"{name}, " in text or f", {name}" in text
        for option in command.params:
            for flag in option.opts:
                assert flag.removeprefix("--output") in text, (name, flag)


def test_links_lead_to_files() -> None:
    """The site's build checks headings too; this is without it."""
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("patchclip/**/*.md"),
    ]
    links = 0
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
                links += 1
    assert links > 50


def test_every_page_is_on_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert f": {page.relative_to(ROOT).as_posix()}\n" in navigation
