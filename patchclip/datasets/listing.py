"""What is in a folder of images: images, masks that lie among them, and what is neither."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .masks import find_masks_beside, looks_like_mask, match_masks, named_like_mask
from .types import IMAGE_SUFFIXES

#: Folders of operating systems, network drives and programs, in lower case; so are names that begin with . or @
_SYSTEM_FOLDERS = (
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "__pycache__",
    "~snapshot",
    "lost+found",
    "network trash folder",
    "recycled",
    "recycler",
    "system volume information",
    "temporary items",
    "thevolumesettingsfolder",
)
_SYSTEM_FILES = ("desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r", "thumbs.db")

#: Folders beside or below images, in lower case, with what is no photograph.
_UNUSED_FOLDERS = ("xyz", "depth", "thumbnails", "thumbnail", "thumbs", "thumb")

#: Folders among images, in lower case, with their masks.
MASK_FOLDERS = (
    "annotation",
    "annotations",
    "ground_truth",
    "groundtruth",
    "gt",
    "label",
    "labels",
    "mask",
    "masks",
    "seg",
    "segmentation",
)


@dataclass(frozen=True)
class Listing:
    """A folder and all below.

    Attributes:
        images: sorted.
        masks: image -> the masks that lie beside it or in a folder such as gt/ among the images.
        problems: what is left out, one sentence each.
    """

    images: list[Path]
    masks: dict[Path, tuple[Path, ...]]
    problems: list[str]


# --- folders ------------------------------------------------------------------------------------------------------


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, sorted, without those of the system; none where there is no folder."""
    if not path.is_dir():
        return []
    return sorted(child for child in path.iterdir() if not is_system_folder(child.name) and child.is_dir())


def find_folder(path: Path, *names: str) -> Path | None:
    """The folder in a folder with the first of these names that there is; in any letter case, the same case first."""
    children = subfolders(path)
    for name in names:
        for child in children:
            if child.name == name:
                return child
        for child in children:
            if child.name.lower() == name.lower():
                return child
    return None


def is_system_folder(name: str) -> bool:
    """Whether it is a folder of the system, the network drive or a program, or hidden."""
    return name.startswith((".", "@")) or name.lower() in _SYSTEM_FOLDERS


def is_system_file(name: str) -> bool:
    """Whether it is a file of the system, or hidden."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


# --- files --------------------------------------------------------------------------------------------------------


def images_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The images directly in a folder, sorted, without masks beside them; warns if it has other entries.

    Raises:
        ValueError: not a folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give a folder of images")
    images = []
    others = []
    for path in sorted(folder.iterdir()):
        is_folder = path.is_dir()
        if is_system_folder(path.name) if is_folder else is_system_file(path.name):
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_folder:
            images.append(path)
        else:
            others.append(path.name)
    if not images:
        raise ValueError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)})")
    if others:
        message = f"{folder}: {len(others)} entries are not images and are left out, such as {others[0]}"
        warnings.warn(message, stacklevel=2)
    masks = find_masks_beside(images)
    if masks:
        message = f"{folder}: {len(masks)} masks beside images are left out, such as {next(iter(masks)).name}"
        warnings.warn(message, stacklevel=2)
    return [image for image in images if image not in masks]


def direct_images(folder: Path) -> list[Path]:
    """The images and masks directly in a folder, sorted; none where there is no folder."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(path for path in files if not is_system_file(path.name) and path.is_file())


def list_files(folder: Path, *, known: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """The files with an image's suffix in a folder and below, sorted, and problems: what is left out.

    Args:
        known: names of other files, in lower case, that are no problem.
    """
    if not folder.is_dir():
        return [], []
    files, problems = _walk(folder)
    images = []
    others = []
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            images.append(file)
        elif file.name.lower() not in known:
            others.append(file.name)
    if others:
        problems.append(f"{folder}: {len(others)} files are not images and are left out, such as {others[0]}")
    return images, problems


def _walk(folder: Path) -> tuple[list[Path], list[str]]:
    """All files but the system's, sorted, and what cannot be followed or read."""
    files: list[Path] = []
    problems: list[str] = []

    def name_error(error: OSError) -> None:
        problems.append(f"{error.filename}: left out, it cannot be read ({error.strerror})")

    for parent, folders, names in os.walk(folder, onerror=name_error):
        folders[:] = [name for name in folders if not is_system_folder(name)]
        for name in folders:
            linked = Path(parent, name)
            if linked.is_symlink():
                problems.append(f"{linked}: a link to a folder, left out")
        for name in names:
            file = Path(parent, name)
            if is_system_file(name):
                continue
            if file.is_file():
                files.append(file)
            else:
                problems.append(f"{file}: left out, a link that leads nowhere or no ordinary file")
    return sorted(files), problems


# --- images and the masks among them ------------------------------------------------------------------------------


def list_images(folder: Path, *, known: Sequence[str] = ()) -> Listing:
    """The images in a folder and below, apart from the masks among them.

    Masks are files in folders such as gt/ or masks/, files that are named after an image beside them (`000_mask.png`,
    `000_GT.png`, `000_label.bmp`, `mask_000.png`), and of two files that differ in their suffix alone the one that
    looks like a mask. Where there is a folder rgb/ (MVTec 3D-AD), images are in it.

    Args:
        known: see `list_files`.
    """
    files, problems = list_files(folder, known=known)
    files, unused = _without_unused(files, folder)
    by_mask_folder: dict[Path, list[Path]] = {}
    candidates = []
    for file in files:
        mask_folder = _mask_folder_of(file, folder)
        if mask_folder is None:
            candidates.append(file)
        else:
            by_mask_folder.setdefault(mask_folder, []).append(file)

    image_of = find_masks_beside(candidates)
    twins, twin_problems = _find_twin_masks([file for file in candidates if file not in image_of])
    image_of |= twins
    orphans, orphan_problems = _find_orphans([file for file in candidates if file not in image_of], image_of, folder)
    images = [file for file in candidates if file not in image_of and file not in orphans]

    masks: dict[Path, list[Path]] = {}
    for mask, image in image_of.items():
        masks.setdefault(image, []).append(mask)
    match_problems = []
    for mask_folder, its_masks in by_mask_folder.items():
        near = [image for image in images if image.is_relative_to(mask_folder.parent)]
        matched, unmatched = match_masks(near, its_masks, mask_folder)
        match_problems += unmatched
        for image, found in matched.items():
            if found:
                masks.setdefault(image, []).extend(found)
    problems = [*problems, *unused, *twin_problems, *orphan_problems, *match_problems]
    return Listing(images, {image: tuple(found) for image, found in masks.items()}, problems)


def _without_unused(files: Sequence[Path], folder: Path) -> tuple[list[Path], list[str]]:
    """Without thumbnails and depth, and without what lies beside rgb/ but masks."""
    rgb = find_folder(folder, "rgb")
    kept = []
    unused = []
    for file in files:
        relative = file.relative_to(folder)
        parents = [name.lower() for name in relative.parts[:-1]]
        beside_rgb = rgb is not None and not file.is_relative_to(rgb) and _mask_folder_of(file, folder) is None
        if beside_rgb or any(name in _UNUSED_FOLDERS for name in parents):
            unused.append(relative.as_posix())
        else:
            kept.append(file)
    if not unused:
        return kept, []
    return kept, [f"{folder}: {len(unused)} files are no photographs and are left out, such as {unused[0]}"]


def _mask_folder_of(file: Path, folder: Path) -> Path | None:
    """The folder between these two that is named as a folder of masks."""
    current = folder
    for name in file.relative_to(folder).parts[:-1]:
        current = current / name
        if name.lower() in MASK_FOLDERS:
            return current
    return None


def _find_twin_masks(files: Sequence[Path]) -> tuple[dict[Path, Path], list[str]]:
    """mask -> image, of two files in a folder that differ in their suffix alone, by their pixels."""
    by_stem: dict[Path, list[Path]] = {}
    for file in files:
        by_stem.setdefault(file.with_suffix(""), []).append(file)
    image_of: dict[Path, Path] = {}
    problems = []
    for group in by_stem.values():
        if len(group) == 1:
            continue
        masks = [file for file in group if looks_like_mask(file)]
        images = [file for file in group if file not in masks]
        if len(images) == 1:
            image_of |= dict.fromkeys(masks, images[0])
        else:
            names = " and ".join(file.name for file in group)
            problems.append(f"{group[0].parent}: {names} have one name, all count as images")
    return image_of, problems


def _find_orphans(files: Sequence[Path], masks: dict[Path, Path], folder: Path) -> tuple[list[Path], list[str]]:
    """Files that are named like masks of images that are not there.

    They are masks where others in their folder are; elsewhere they are images, and named as a problem all the same.
    """
    folders_with_masks = {mask.parent for mask in masks}
    named = [file for file in files if named_like_mask(file)]
    orphans = [file for file in named if file.parent in folders_with_masks]
    images = [file.name for file in named if file.parent not in folders_with_masks]
    problems = []
    if orphans:
        problems.append(f"{folder}: {len(orphans)} masks have no image and are left out, such as {orphans[0].name}")
    if images:
        problems.append(f"{folder}: {len(images)} images are named like masks, such as {images[0]}")
    return orphans, problems
