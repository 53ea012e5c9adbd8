"""A block of a dataset, as Ray Data hands it over: the images in it, and what they are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from ..images.load import ImageLike
from ..printable import printable

#: Names of columns with images, which are what is in them too.
PATH, BYTES, IMAGE = IMAGE_COLUMNS = ("path", "bytes", "image")

#: The column that says why a row has no image.
ERROR = "error"

#: How a message names an image that came as bytes or as an array, see `images.load.describe`.
_UNNAMED = re.compile(r"^<\d+ bytes>|^<ndarray [^>]*>")


class Block:
    """The images of a block.

    Args:
        data: a pyarrow table, or column -> array.
        image_column: "path", "bytes" or "image".

    Attributes:
        data: as given.

    Raises:
        ValueError: there is no such column.
    """

    def __init__(self, data: Any, image_column: str):
        columns = list(data) if isinstance(data, dict) else data.column_names
        check_column(columns, image_column)
        self.data = data
        self._columns = columns
        self._image_column = image_column

    def names(self) -> list[str]:
        """The path of each row, printable; "" where it has none."""
        return [printable(os.fsdecode(path or "")) for path in self._values(PATH)]

    def reasons(self) -> list[str | None]:
        """Why a row has no image, as `sources.fetch_bytes` leaves it; None where it has one."""
        return list(self._values(ERROR))

    def images(self) -> Iterator[ImageLike]:
        """Of each row; of one without, bytes that are no image."""
        for value in self._values(self._image_column):
            if value is None:
                yield b""
            elif self._image_column == PATH:
                yield os.fsdecode(value)
            else:
                yield value

    def _values(self, column: str) -> Iterator[Any]:
        """One after another, so that bytes are not held twice; None without the column."""
        if column not in self._columns:
            yield from [None] * len(self.data[self._image_column])
            return
        for value in self.data[column]:
            yield value.as_py() if hasattr(value, "as_py") else value


def check_image_column(image_column: str) -> None:
    """Raise ValueError for a name that no column with images has."""
    if image_column not in IMAGE_COLUMNS:
        raise ValueError(f"expected image_column to be one of {IMAGE_COLUMNS}, got {image_column!r}")


def check_column(columns: list[str], image_column: str) -> None:
    """Raise ValueError where a dataset has no such column."""
    if image_column not in columns:
        raise ValueError(f"expected a column {image_column!r} of images, got {columns}: Dataset.rename_columns helps")


def name_in(message: str, name: str) -> str:
    """A message that names a file where the loader knew its bytes alone."""
    return _UNNAMED.sub(lambda _: name, message) if name else message
