"""The folder of --defect-examples: a folder of images for each kind of defect, and masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    from ..datasets.listing import MASK_FOLDERS, list_images, subfolders  # numpy, which help does not wait for

    root = Path(folder)
    if not root.is_dir():
        raise click.UsageError(f"{_OPTION}: {folder} is no folder: name one with a folder of images for each kind")
    _refuse_data_set(root)
    mask_folders = [child for child in subfolders(root) if child.name.lower() in MASK_FOLDERS]
    kinds = [child for child in subfolders(root) if child not in mask_folders]
    if not kinds:
        raise click.UsageError(f"{_OPTION}: {folder} has no folders in it, one for each kind of defect")
    skipped = _outside_kinds(root)
    problems: list[str] = []
    images_by_kind: dict[Path, list[Path]] = {}
    masks_of: dict[Path, list[Path]] = {}
    for kind in kinds:
        inputs = find_inputs([str(kind)], images_only=True, option=_OPTION)
        images_by_kind[kind] = [Path(image) for image in inputs.images]
        for image, masks in list_images(kind).masks.items():
            masks_of[image] = list(masks)
        skipped += inputs.skipped
        problems += inputs.problems
    for mask_folder in mask_folders:
        for image, found in _match_masks(mask_folder, images_by_kind).items():
            masks_of.setdefault(image, []).extend(found)
    used = {str(mask) for masks in masks_of.values() for mask in masks}
    tell_skipped(console, [entry for entry in skipped if entry.rpartition(": ")[0] not in used], problems)
    count = sum(map(len, images_by_kind.values()))
    counts = [_plural(count, "image"), _plural(len(kinds), "kind"), _plural(len(used), "mask")]
    console.say("examples of defects: {} of {}, {}".format(*counts))
    return {printable(kind.name): _with_masks(images, masks_of) for kind, images in images_by_kind.items()}


def images_of(examples: Examples) -> Iterator[str]:
    """The paths of the images of all kinds."""
    for example in chain.from_iterable(examples.values()):
        yield example if isinstance(example, str) else example[0]


def refuse_examples_among(normals: Iterable[str], examples: Examples) -> None:
    """Raise click.UsageError where an example of a defect is among the normal images, which would make it normal."""
    known = {Path(normal).resolve() for normal in normals}
    for image in images_of(examples):
        if Path(image).resolve() in known:
            raise click.UsageError(
                f"{_OPTION}: {printable(image)} is among the normal images too: give the folder of normal images alone"
            )


def _refuse_data_set(root: Path) -> None:
    """Raise click.UsageError for a folder with more than kinds of defects in it."""
    from ..datasets.listing import find_folder, subfolders
    from ..datasets.types import label_of

    test = find_folder(root, "test", "test_public")
    if test is not None and subfolders(test):
        raise click.UsageError(
            f"{_OPTION}: {printable(str(root))} is a whole data set: give the kinds of defects of its {test.name}/ "
            "alone, without normal images"
        )
    for child in subfolders(root):
        if label_of(child.name) == 0 and not child.name.isdigit():  # a number may be that of a kind
            raise click.UsageError(
                f"{_OPTION}: {printable(str(child))} has normal images by its name: give a folder with the kinds of "
                "defects alone"
            )


def _outside_kinds(root: Path) -> list[str]:
    """What is in the folder and belongs to no kind, each with the reason."""
    from ..datasets.listing import direct_images, is_system_folder

    skipped = [f"{image}: in no folder of a kind" for image in direct_images(root)]
    for child in sorted(root.iterdir()):
        if child.is_dir() and is_system_folder(child.name):
            skipped.append(f"{child}: hidden, or of the system")
    return skipped


def _match_masks(mask_folder: Path, images_by_kind: Mapping[Path, list[Path]]) -> dict[Path, tuple[Path, ...]]:
    """Image -> its masks, from a folder of masks beside the kinds: in a folder of each kind's name, or all in one.

    Raises:
        click.UsageError: masks that belong to no image, or to several.
    """
    from ..datasets.listing import find_folder, list_files
    from ..datasets.masks import match_masks

    by_kind: list[tuple[list[Path], Path]] = []
    for kind, images in images_by_kind.items():
        folder = find_folder(mask_folder, kind.name)
        if folder is not None:
            by_kind.append((images, folder))
    if not by_kind:
        by_kind.append((list(chain.from_iterable(images_by_kind.values())), mask_folder))
    matched: dict[Path, tuple[Path, ...]] = {}
    taken: set[Path] = set()
    problems = []
    for images, folder in by_kind:
        masks, _ = list_files(folder)
        found, more = match_masks(images, masks, folder)
        matched |= found
        taken.update(masks)
        problems += more
    others = [mask for mask in list_files(mask_folder)[0] if mask not in taken]
    if others:
        problems.append(f"{others[0]} is in no folder of a kind")
    if problems:
        raise click.UsageError(
            f"{_OPTION}: {printable(problems[0])}: put each mask beside its image as NAME_mask.png; if "
            f"{mask_folder.name} is a kind, rename it"
        )
    return matched


def _with_masks(images: list[Path], masks_of: dict[Path, list[Path]]) -> list[str | tuple[str, list[str]]]:
    group: list[str | tuple[str, list[str]]] = []
    for image in images:
        masks = [str(mask) for mask in masks_of.get(image, [])]
        group.append((str(image), masks) if masks else str(image))
    return group


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
