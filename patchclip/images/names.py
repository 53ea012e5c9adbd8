"""Images by their names: the path, or the index among those that were given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from operator import length_hint

from .load import ImageLike, require_several


def image_name(image: ImageLike, index: int) -> str:
    """The path of a file or of a PIL image that has one; for others "image 3" where the index is 3."""
    if isinstance(image, (str, os.PathLike)):
        return str(os.fspath(image))
    path = getattr(image, "filename", None)
    return os.fsdecode(path) if path else f"image {index}"


class NamedImages:
    """Images as they come, for one pass.

    Attributes:
        names: of those that were read so far.

    Raises:
        ValueError: one image in place of several.
    """

    def __init__(self, images: Iterable[ImageLike]):
        require_several(images)
        self._images = images
        self.names: list[str] = []

    def __iter__(self) -> Iterator[ImageLike]:
        for index, image in enumerate(self._images):
            self.names.append(image_name(image, index))
            yield image

    def __length_hint__(self) -> int:
        return length_hint(self._images)
