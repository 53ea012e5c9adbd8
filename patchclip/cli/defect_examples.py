"""The folder of --defect-examples: a folder of images for each kind of defect, and masks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import click

from ..printable import printable
from .console import Console
from .detectors import tell_skipped
from .inputs import find_inputs

#: Kind -> its images, each with its masks where there are some.
Examples: TypeAlias = "dict[str, list[str | tuple[str, list[str]]]]"

_OPTION = "--defect-examples"


def list_examples(console: Console, folder: str) -> Examples:
    """What is in the folder; how much of it is used, and what is not, goes to the console.

    Raises:
        click.UsageError: no folder, or one without folders of images in it.
    """
    from ..datasets.listing import list_images, subfolders  # numpy and Pillow, which help does not wait for

    root = Path(folder)
    if not root.is_dir():
        raise click.UsageError(f"{_OPTION}: {folder} is no folder: name one with a folder of images for each kind")
    kinds = subfolders(root)
    if not kinds:
        raise click.UsageError(f"{_OPTION}: {folder} has no folders in it, one for each kind of defect")
    skipped: list[str] = []
    problems: list[str] = []
    images_of: dict[Path, list[Path]] = {}
    masks_of: dict[Path, list[Path]] = {}
    for kind in kinds:
        inputs = find_inputs([str(kind)], images_only=True, option=_OPTION)
        images_of[kind] = [Path(image) for image in inputs.images]
        for image, masks in list_images(kind).masks.items():
            masks_of[image] = list(masks)
        skipped += inputs.skipped
        problems += inputs.problems
    used = {str(mask) for masks in masks_of.values() for mask in masks}
    tell_skipped(console, [entry for entry in skipped if entry.rpartition(": ")[0] not in used], problems)
    count = sum(map(len, images_of.values()))
    console.say(f"examples of defects: {count} images of {len(kinds)} kinds, {len(used)} masks")
    return {printable(kind.name): _with_masks(images, masks_of) for kind, images in images_of.items()}


def refuse_examples_among(normals: Iterable[str], examples: Examples) -> None:
    """Raise click.UsageError where an example of a defect is among the normal images, which would make it normal."""
    known = {Path(normal).resolve() for normal in normals}
    for example in chain.from_iterable(examples.values()):
        image = example if isinstance(example, str) else example[0]
        if Path(image).resolve() in known:
            raise click.UsageError(
                f"{_OPTION}: {printable(image)} is among the normal images too: give the folder of normal images alone"
            )


def _with_masks(images: list[Path], masks_of: dict[Path, list[Path]]) -> list[str | tuple[str, list[str]]]:
    group: list[str | tuple[str, list[str]]] = []
    for image in images:
        masks = [str(mask) for mask in masks_of.get(image, [])]
        group.append((str(image), masks) if masks else str(image))
    return group
