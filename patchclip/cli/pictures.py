"""The pictures of a run: overlays, heatmaps and masks that mirror the tree of the inputs, and a contact sheet."""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..printable import printable
from ..viz import to_16_bit
from .frames import Item
from .rows import Row

if TYPE_CHECKING:
    from ..result import Result

#: What a system says of names that it does not take; a run goes on without that picture.
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)

_SHEET_COUNT = 12
_SHEET_COLUMNS = 4
_SHEET_SIDE = 256


class Pictures:
    """Writes the pictures of results, and keeps small ones of the most anomalous for a contact sheet.

    Args:
        folder: of the run.
        heatmaps, masks: whether those are written, of every image; overlays are of the anomalous ones.
    """

    def __init__(self, folder: Path, *, heatmaps: bool, masks: bool):
        self._folder = folder
        self._heatmaps = heatmaps
        self._masks = masks
        self._best: list[tuple[float, int, Image.Image, str]] = []
        self._count = 0

    def write(self, item: Item, result: Result, row: Row) -> None:
        """Write what is asked for and name it in the row; where a name is too long, its error says so.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        pictures = {}
        if result.is_anomalous:
            pictures["overlay"] = result.overlay()
        if self._heatmaps:
            pictures["heatmap"] = to_16_bit(result.heatmap)
        if self._masks:
            pictures["mask"] = Image.fromarray(result.mask.astype(np.uint8) * 255)
        for kind, picture in pictures.items():
            relative = f"{kind}s/{picture_path(item)}"
            try:
                save_picture(picture, self._folder / relative)
            except OSError as error:
                if error.errno not in _NAME_ERRORS:
                    raise
                row["error"] = printable(f"no {kind}: {error.strerror}")
            else:
                row[kind] = printable(relative)
        self._keep_for_sheet(item, result)

    def _keep_for_sheet(self, item: Item, result: Result) -> None:
        self._count += 1
        is_among_best = len(self._best) < _SHEET_COUNT or result.score > self._best[0][0]
        if not is_among_best:
            return
        entry = (result.score, -self._count, result.overlay(max_side=_SHEET_SIDE), _title(item, result.score))
        if len(self._best) < _SHEET_COUNT:
            heapq.heappush(self._best, entry)
        else:
            heapq.heapreplace(self._best, entry)

    def add_earlier(self, rows: Sequence[Row]) -> None:
        """The overlays of rows that a resumed run had already, for the sheet."""
        anomalous = [row for row in rows if row["overlay"]]
        for row in heapq.nlargest(_SHEET_COUNT, anomalous, key=lambda row: row["score"]):
            file = self._folder / row["overlay"]
            if not file.is_file():
                continue
            with Image.open(file) as picture:
                small = picture.convert("RGB")
            small.thumbnail((_SHEET_SIDE, _SHEET_SIDE))
            self._count += 1
            self._best.append((row["score"], -self._count, small, _row_title(row)))
        self._best = heapq.nlargest(_SHEET_COUNT, self._best)
        heapq.heapify(self._best)

    def save_sheet(self, path: Path) -> bool:
        """Write the contact sheet, the most anomalous first; whether there was any picture."""
        if not self._best:
            return False
        ordered = sorted(self._best, reverse=True)
        write_sheet([entry[2] for entry in ordered], [entry[3] for entry in ordered], path)
        return True


def write_sheet(pictures: Sequence[Image.Image], titles: Sequence[str], path: Path, *, side: int = _SHEET_SIDE) -> None:
    """Pictures in rows of four, with their titles."""
    from ..viz import contact_sheet

    columns = min(_SHEET_COLUMNS, len(pictures))
    save_picture(contact_sheet(pictures, titles, columns=columns, side=side), path)


def _title(item: Item, score: float) -> str:
    return _short_title(item.source.name, item.frame, score)


def _row_title(row: Row) -> str:
    return _short_title(row["image"], row["frame"], row["score"])


def _short_title(name: str, frame: int | None, score: float) -> str:
    short = os.path.basename(name)
    if frame is not None:
        short = f"{short} {frame}"
    if len(short) > 24:
        short = f"{short[:10]}..{short[-12:]}"
    return f"{score:.3f}  {short}"


def picture_path(item: Item) -> str:
    """Below overlays/ and its like: the input's path below the shared folder, a video's frames in a folder of its name.

    The suffix stays in the name: a.jpg and a.png may lie in one folder.
    """
    if item.frame is None:
        return f"{item.source.relative}.png"
    return f"{item.source.relative}/{item.frame:06d}.png"


def save_picture(picture: Image.Image, path: Path) -> None:
    """As PNG, in one step, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replaced(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=3)


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """As `files.atomic_write`, for thousands of files in a folder: no look at what else is there, no wait for the disk.

    A killed run leaves one such file, which the next one writes again.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
