"""Image sets in folders: what is in them, and the layouts that folders alone tell."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")

#: Names, in lower case, of folders and labels that mean normal, and that mean anomalous without a kind.
NORMAL_NAMES = ("good", "ok", "normal", "nominal", "0")
ANOMALOUS_NAMES = ("bad", "ko", "nok", "ng", "anomaly", "anomalous", "anomalies", "defect", "defects", "defective", "1")

#: Groups of defects that are no kind a text could name.
_NOT_KINDS = (*ANOMALOUS_NAMES, "combined", "logical_anomalies", "structural_anomalies")

_MASK_FOLDERS = ("masks", "mask", "ground_truth")


@dataclass(frozen=True)
class Sample:
    """A test image.

    Attributes:
        path: of the image; label: 1 anomalous, 0 normal.
        defect: the kind of defect, as its folder or column says; None for a normal image and where no kind is named.
        masks: files whose union is the defect; empty without ground truth.
    """

    path: Path
    label: int
    defect: str | None = None
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Category:
    """What is fitted and measured as one.

    Attributes:
        dataset, name, layout: where it comes from; root: the folder that all its images are in.
        references: class -> normal images to fit on; the class is None in all layouts but "course".
        test: labelled images, never among the references.
        problems: what does not add up, one sentence each.
    """

    dataset: str
    name: str
    layout: str
    root: Path
    references: Mapping[str | None, tuple[Path, ...]]
    test: tuple[Sample, ...]
    problems: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of defect, sorted; empty where fewer than two are told apart."""
        found = sorted({sample.defect for sample in self.test if sample.defect})
        return tuple(found) if len(found) > 1 else ()


# --- pieces -------------------------------------------------------------------------------------------------------


def folders(path: Path) -> list[Path]:
    """The folders in a folder, sorted; none where there is no such folder."""
    if not path.is_dir():
        return []
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def images(folder: Path, problems: list[str]) -> tuple[Path, ...]:
    """Images in a folder and below, sorted; files of other kinds are counted as a problem."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    others = [file.name for file in files if file.suffix.lower() not in IMAGE_SUFFIXES]
    if others:
        problems.append(f"{folder}: {len(others)} files are no images and are left out, as {others[0]}")
    return tuple(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)


def images_in(folder: Path) -> list[Path]:
    """The images that lie in a folder itself, sorted; warns of what else lies there.

    Raises:
        ValueError: no folder, or none in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: name a folder of images")
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise ValueError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)})")
    if others := [path.name for path in files if path.suffix.lower() not in IMAGE_SUFFIXES]:
        warnings.warn(f"{folder}: {len(others)} entries are no images and are left out, as {others[0]}", stacklevel=2)
    return found


def meaning(folder: Path) -> str | None:
    """ "good", "bad", or None for a folder, by its name."""
    name = folder.name.lower()
    return "good" if name in NORMAL_NAMES else "bad" if name in ANOMALOUS_NAMES else None


def kind_of(name: str) -> str | None:
    """The kind of defect that a folder or a column names, in plain words; None where it is no kind."""
    return None if not name or name.isdigit() or name.lower() in _NOT_KINDS else name.replace("_", " ").lower()


def every(paths: Sequence[Path], step: int) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Normal images that nobody has split -> references, and every step-th one for the test."""
    return tuple(path for k, path in enumerate(paths) if k % step != step - 1), tuple(paths[step - 1 :: step])


def _match_masks(folder: Path, paths: Sequence[Path], problems: list[str]) -> dict[Path, tuple[Path, ...]]:
    """The masks of images: `<stem>.*`, `<stem>_mask.*`, or all files in a folder `<stem>`."""
    found: dict[str, list[Path]] = {}
    masks = images(folder, problems) if folder.is_dir() else ()
    stems = Counter(path.stem for path in paths)
    for mask in masks:
        stem = mask.stem if mask.parent == folder else mask.relative_to(folder).parts[0]
        if stem not in stems:
            for ending in ("_mask", "_gt", "_label"):
                stem = stem.removesuffix(ending)
        found.setdefault(stem, []).append(mask)
    lonely = sorted(found.keys() - stems.keys())
    if lonely:
        problems.append(f"{folder}: {len(lonely)} masks have no image, as {found[lonely[0]][0].name}")
    shared = sorted(stem for stem in found if stems[stem] > 1)
    if shared:
        problems.append(f"{folder}: {len(shared)} masks are taken for several images of one name, as {shared[0]}")
    missing = [path for path in paths if path.stem not in found]
    if missing and masks:
        problems.append(f"{folder}: {len(missing)} anomalous images have no mask, as {missing[0].name}")
    return {path: tuple(found.get(path.stem, ())) for path in paths}


def _anomalous(folder: Path, masks: Path, kind: str | None, problems: list[str]) -> list[Sample]:
    paths = images(folder, problems)
    matched = _match_masks(masks, paths, problems)
    return [Sample(path, 1, kind, matched[path]) for path in paths]


# --- MVTec-AD and its copies --------------------------------------------------------------------------------------


def is_mvtec(path: Path) -> bool:
    """train/good (or ok) and test/ with folders in it; in a course layout a train/0 is one of its classes."""
    good = [folder for folder in folders(path / "train") if meaning(folder) == "good"]
    numbered = is_course(path) and all(folder.name.isdigit() for folder in good)
    return bool(good and folders(path / "test")) and not numbered


def read_mvtec(path: Path, dataset: str) -> Category:
    """One category: MVTec-AD, MPDD, BTAD, MVTec-LOCO."""
    problems: list[str] = []
    references: tuple[Path, ...] = ()
    for folder in folders(path / "train"):
        if meaning(folder) == "good":
            references += images(folder, problems)
        else:
            problems.append(f"{folder}: training images that are not normal are left out")
    test: list[Sample] = []
    for folder in folders(path / "test"):
        if meaning(folder) == "good":
            test += [Sample(image, 0) for image in images(folder, problems)]
        else:
            test += _anomalous(folder, path / "ground_truth" / folder.name, kind_of(folder.name), problems)
    tested = {folder.name for folder in folders(path / "test")}
    for folder in folders(path / "ground_truth"):
        if folder.name not in tested:
            problems.append(f"{folder}: masks without a folder test/{folder.name}")
    if (path / "validation").is_dir():
        problems.append(f"{path / 'validation'}: not used")
    return Category(dataset, path.name, "mvtec", path, {None: references}, tuple(test), tuple(problems))


# --- the course ---------------------------------------------------------------------------------------------------


def is_course(path: Path) -> bool:
    """train/ with a folder for each class, test/ with normal and anomaly alone."""
    tested = {folder.name.lower() for folder in folders(path / "test")}
    return tested == {"normal", "anomaly"} and bool(folders(path / "train"))


def read_course(path: Path) -> Category:
    """All classes as one category: a test image's class is unknown."""
    problems: list[str] = []
    references: dict[str | None, tuple[Path, ...]] = {}
    for folder in folders(path / "train"):
        found = images(folder, problems)
        if found:
            references[folder.name] = found
        else:
            problems.append(f"{folder}: a class without images")
    test = [
        Sample(image, int(folder.name.lower() == "anomaly"))
        for folder in folders(path / "test")
        for image in images(folder, problems)
    ]
    return Category(path.name, path.name, "course", path, references, tuple(test), tuple(problems))


# --- good and bad -------------------------------------------------------------------------------------------------


def is_good_bad(path: Path) -> bool:
    """Folders that mean good and bad by their names."""
    return {"good", "bad"} <= {meaning(folder) for folder in folders(path)}


def read_good_bad(path: Path) -> Category:
    """Every second good image is tested, the others are references."""
    problems: list[str] = []
    good: tuple[Path, ...] = ()
    test: list[Sample] = []
    masks = next((folder for folder in folders(path) if folder.name.lower() in _MASK_FOLDERS), path / "masks")
    for folder in folders(path):
        if meaning(folder) == "good":
            good += images(folder, problems)
        elif meaning(folder) == "bad":
            nested = masks / folder.name
            test += _anomalous(folder, nested if nested.is_dir() else masks, None, problems)
        elif folder != masks:
            problems.append(f"{folder}: neither good nor bad by its name, left out")
    references, held = every(good, 2)
    problems.append(f"{path}: every second good image is tested ({len(held)}), the others are references")
    test += [Sample(image, 0) for image in held]
    return Category(path.name, path.name, "folders", path, {None: references}, tuple(test), tuple(problems))


# --- VisA's folders -----------------------------------------------------------------------------------------------


def is_visa_folder(path: Path) -> bool:
    """Data/Images/Normal."""
    return (path / "Data" / "Images" / "Normal").is_dir()


def read_visa_folder(path: Path, dataset: str) -> Category:
    """One category of VisA without the csv of its split: every tenth normal image is tested, about as many as there."""
    problems: list[str] = []
    data = path / "Data"
    references, held = every(images(data / "Images" / "Normal", problems), 10)
    problems.append(f"{path}: no split_csv, so every tenth normal image is tested ({len(held)})")
    test = [Sample(image, 0) for image in held]
    test += _anomalous(data / "Images" / "Anomaly", data / "Masks" / "Anomaly", None, problems)
    return Category(dataset, path.name, "visa", path, {None: references}, tuple(test), tuple(problems))
