"""What a user names on the command line -> the images, videos and streams that it means."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import click

from ..files import listed_paths
from ..printable import printable

#: Files in folders with these suffixes are videos; a file that is named is one too.
VIDEO_SUFFIXES = (".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv")

#: In the folder of an earlier run, whose pictures are no inputs; `run_folder` writes it.
RUN_FILE = "run.json"

STDIN = "-"

_LOGIN = re.compile(r"://[^/@]*@")

IMAGE, VIDEO, STREAM = "image", "video", "stream"


@dataclass(frozen=True)
class Source:
    """An image, a video file, or a camera or address.

    Attributes:
        path: as it was given or found; the number of a camera, or an address.
        kind: "image", "video" or "stream".
        relative: below the folder that all inputs share, with forward slashes: where its pictures go.
    """

    path: str
    kind: str
    relative: str = ""

    @property
    def name(self) -> str:
        """For rows and messages: printable, and without the login of an address."""
        return printable(without_login(self.path))


@dataclass
class Inputs:
    """What was found.

    Attributes:
        sources: without repetition, in the order given, those of a folder sorted.
        skipped: files and folders that are no inputs, with the reason.
        problems: what else was noticed, one sentence each.
    """

    sources: list[Source] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[str]:
        """Paths of the images alone."""
        return [source.path for source in self.sources if source.kind == IMAGE]

    @property
    def has_streams(self) -> bool:
        """Whether a camera or an address is among them, which have no end."""
        return any(source.kind == STREAM for source in self.sources)


def find_inputs(given: Sequence[str], *, images_only: bool = False, option: str = "INPUTS") -> Inputs:
    """Files, folders (with all below), globs, "-" for a list on standard input, videos, cameras and addresses.

    Args:
        images_only: videos and streams are refused where they are named, and skipped in folders.
        option: for messages.

    Raises:
        click.UsageError: a path that does not exist, a glob without a match, nothing to be used, or a video where
            images are wanted.
    """
    inputs = Inputs()
    for argument in given:
        if argument == STDIN:
            _add_list(inputs, option)
            continue
        for path in _expand(argument, option):
            _add(inputs, path, option)
    if images_only:
        _refuse_videos(inputs, given, option)
    inputs.sources = _with_relative_paths(_without_repetition(inputs.sources))
    if not inputs.sources:
        skipped = f"; {len(inputs.skipped)} entries are no images, --verbose names them" if inputs.skipped else ""
        raise click.UsageError(f"{option}: no image in {' '.join(map(printable, given))}{skipped}")
    return inputs


def _expand(argument: str, option: str) -> Iterable[str]:
    is_pattern = any(character in argument for character in "*?[") and "://" not in argument
    if not is_pattern or os.path.lexists(argument):
        return [argument]
    found = sorted(glob.glob(os.path.expanduser(argument), recursive=True))
    if not found:
        raise click.UsageError(f"{option}: no file matches {argument!r}")
    return found


def _add_list(inputs: Inputs, option: str) -> None:
    """Paths on standard input; one that is not there has its row as an unreadable image, and ends no run."""
    for path in listed_paths(sys.stdin.buffer.read()):
        if "://" in path or os.path.exists(path):
            _add(inputs, path, option)
        else:
            inputs.sources.append(Source(path, IMAGE))


def _add(inputs: Inputs, path: str, option: str) -> None:
    if "://" in path or (path.isdecimal() and not os.path.exists(path)):
        inputs.sources.append(Source(path, STREAM))
    elif os.path.isdir(path):
        _add_folder(inputs, Path(path))
    elif os.path.exists(path):
        kind = VIDEO if path.lower().endswith(VIDEO_SUFFIXES) else IMAGE
        inputs.sources.append(Source(path, kind))
    else:
        raise click.UsageError(f"{option}: {printable(path)} does not exist{_near(path)}")


def _near(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return ""
    near = get_close_matches(os.path.basename(path), os.listdir(folder), n=1)
    return f": did you mean {printable(os.path.join(os.path.dirname(path), near[0]))}?" if near else ""


# --- folders ----------------------------------------------------------------------------------------------------------


def _add_folder(inputs: Inputs, folder: Path) -> None:
    from ..datasets.listing import list_images  # numpy and Pillow, which help does not wait for
    from ..datasets.types import IMAGE_SUFFIXES

    others, run_folders = _walk(folder, inputs.skipped)
    listing = list_images(folder)
    images = {path for path in listing.images if not run_folders.intersection(path.parents)}
    for path in sorted(images.union(others)):
        if path in images:
            inputs.sources.append(Source(str(path), IMAGE))
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            inputs.sources.append(Source(str(path), VIDEO))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            inputs.skipped.append(f"{path}: a mask or a thumbnail, by its name or its folder's")
        else:
            inputs.skipped.append(f"{path}: no image")
    inputs.problems += listing.problems


def _walk(folder: Path, skipped: list[str]) -> tuple[list[Path], set[Path]]:
    """All files that are not hidden, and the folders of earlier runs, which are left out."""
    from ..datasets.listing import is_system_file, is_system_folder

    files = []
    run_folders = set()
    for parent, folders, names in os.walk(folder):
        if is_run_folder(Path(parent)):
            skipped.append(f"{parent}: results of an earlier run")
            run_folders.add(Path(parent))
            folders.clear()
            continue
        skipped += [f"{Path(parent, name)}: hidden, or of the system" for name in folders if is_system_folder(name)]
        folders[:] = [name for name in folders if not is_system_folder(name)]
        for name in names:
            if is_system_file(name):
                skipped.append(f"{Path(parent, name)}: hidden, or of the system")
            else:
                files.append(Path(parent, name))
    return files, run_folders


def is_run_folder(folder: Path) -> bool:
    """Whether a run of this program has written there."""
    try:
        with open(folder / RUN_FILE, encoding="utf-8") as file:
            return '"program": "patchclip"' in file.read(200)
    except (OSError, UnicodeDecodeError):
        return False


# --- all sources ------------------------------------------------------------------------------------------------------


def _refuse_videos(inputs: Inputs, given: Sequence[str], option: str) -> None:
    kept = []
    for source in inputs.sources:
        if source.kind == IMAGE:
            kept.append(source)
        elif source.path in given:
            raise click.UsageError(f"{option}: {source.name} is not an image, and only images can be used here")
        else:
            inputs.skipped.append(f"{source.path}: a video")
    inputs.sources = kept


def _without_repetition(sources: Sequence[Source]) -> list[Source]:
    by_path: dict[str, Source] = {}
    for source in sources:
        absolute = source.path if source.kind == STREAM else os.path.abspath(source.path)
        by_path.setdefault(absolute, source)
    return list(by_path.values())


def _with_relative_paths(sources: Sequence[Source]) -> list[Source]:
    """Each with its path below the folder that all files share."""
    folders = {os.path.dirname(os.path.abspath(source.path)) for source in sources if source.kind != STREAM}
    try:
        shared = os.path.commonpath(folders) if folders else ""
    except ValueError:  # on several drives of Windows
        shared = ""
    placed = []
    for source in sources:
        if source.kind == STREAM:
            relative = _stream_name(source.path)
        elif shared:
            relative = Path(os.path.abspath(source.path)).relative_to(shared).as_posix()
        else:
            relative = Path(os.path.abspath(source.path)).as_posix().replace(":", "")
        placed.append(Source(source.path, source.kind, relative))
    return placed


def without_login(address: str) -> str:
    """An address without the user and the password in it; other texts as they are."""
    return _LOGIN.sub("://", address)


def _stream_name(address: str) -> str:
    """A name for a folder: "camera_0", or the address without what file systems do not take, and no password."""
    if address.isdecimal():
        return f"camera_{address}"
    after_login = without_login(address).split("://", 1)[1]
    return "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in after_login)
