"""Small image files, and shorthands for what was read from them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from patchclip.datasets import Category, Sample, read_dataset


def write_images(root: Path, *names: str, size: tuple[int, int] = (8, 6)) -> None:
    """Grey images, width x height."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 128).save(path)


def relative_paths(category: Category, label: int) -> list[str]:
    """Of the test images with a label, below the category's root."""
    return [s.path.relative_to(category.root).as_posix() for s in category.test if s.label == label]


def read_one(path: Path) -> Category:
    """The only category at a path."""
    (category,) = read_dataset(path)
    return category


def mask_of(path: Path) -> Sample:
    """An anomalous image with this mask."""
    return Sample(path.with_name("image.png"), 1, None, (path,))
