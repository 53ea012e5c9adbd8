"""Uploaded images: taken into a folder, within bounds, each with a thumbnail or what is wrong with it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import ImageError
from ..images.load import load_image
from ..printable import printable

#: Of one list (normal, unlabelled, inspected) in one session.
MAX_PHOTOS = 200

#: Of one file, in bytes. The server itself refuses what is twice as large, and says so less kindly.
MAX_BYTES = 30 * 1024 * 1024

#: Pixels of a file: 50 megapixels are more than cameras of phones and of lines give.
MAX_PIXELS = 50_000_000

#: Longer side of a thumbnail in pixels.
THUMBNAIL_SIDE = 144

#: Images that come with the package.
EXAMPLES = Path(__file__).parent.parent / "assets" / "demo"

#: The list of formats in an error, which says nothing to most people.
_FORMATS = re.compile(r" \((?:[A-Z0-9]+, )+[A-Z0-9]+\)")

_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


@dataclass(eq=False)
class Photo:
    """One uploaded image.

    Attributes:
        name: of the file as it was uploaded, printable; it is not escaped for HTML.
        path: where it is now.
        problem: why it cannot be used, in words; None where it can.
        thumbnail: (h, w, 3) uint8; None for an image that cannot be used.
        is_owned: whether the file is to be removed with the session.
    """

    name: str
    path: Path
    problem: str | None = None
    thumbnail: np.ndarray | None = None
    is_owned: bool = True

    def remove(self) -> None:
        """Its file, unless it is one of the package."""
        if self.is_owned:
            self.path.unlink(missing_ok=True)


class Intake:
    """Takes uploads into a folder, and leaves what was uploaded where it is: the server keeps one file for all who
    upload the same, and somebody else may not have taken it yet.

    Args:
        folder: that exists; files in it have names that say nothing of the uploaded ones.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._count = 0

    def take(self, uploads: Iterable[str | os.PathLike[str]], *, already: int) -> list[Photo]:
        """Copy uploads into the folder. What is beyond a bound becomes a photo with a problem, without a file.

        Args:
            already: photos in the list that these are added to.
        """
        photos = []
        usable = already
        for upload in uploads:
            photo = self._take_one(Path(upload), is_full=usable >= MAX_PHOTOS)
            usable += photo.problem is None
            photos.append(photo)
        return photos

    def _take_one(self, upload: Path, *, is_full: bool) -> Photo:
        name = printable(upload.name)
        size = upload.stat().st_size
        problem = None
        if is_full:
            problem = f"left out: {MAX_PHOTOS} images are the most at once. Remove some first."
        elif size > MAX_BYTES:
            megabytes, most = round(size / 2**20), round(MAX_BYTES / 2**20)
            problem = f"left out: the file has {megabytes} MB, {most} MB are the most. Save it smaller."
        if problem is not None:
            return Photo(name, upload, problem, is_owned=False)
        self._count += 1
        suffix = upload.suffix.lower()
        target = self.folder / f"{self._count:05d}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        shutil.copyfile(upload, target)
        photo = read_photo(target, name)
        if photo.problem is not None:
            target.unlink(missing_ok=True)
        return photo


def read_photo(path: Path, name: str, *, is_owned: bool = True) -> Photo:
    """With a thumbnail, or the problem in words."""
    try:
        image = load_image(path, max_pixels=MAX_PIXELS)
    except ImageError as error:
        return Photo(name, path, explain(error, path), is_owned=is_owned)
    return Photo(name, path, thumbnail=shrink(image, THUMBNAIL_SIDE), is_owned=is_owned)


def read_examples(pattern: str, *, known: set[Path]) -> list[Photo]:
    """Images of the package but those that are known."""
    paths = [path for path in sorted(EXAMPLES.glob(pattern)) if path not in known]
    return [read_photo(path, path.name, is_owned=False) for path in paths]


def shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """(H, W) or (H, W, 3) with a longer side of at most so many pixels, by averages."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def explain(error: Exception, path: Path) -> str:
    """An error of an image without its path, which the person has never seen."""
    text = " ".join(str(error).split())
    text = text.replace(str(path), "the file").replace(path.name, "the file")
    text = _FORMATS.sub("", text).removeprefix("the file ").removeprefix(": ")
    return f"cannot be used: {printable(text)}"


def count_usable(photos: Iterable[Photo]) -> int:
    """Those without a problem."""
    return sum(photo.problem is None for photo in photos)
