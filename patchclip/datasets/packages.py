"""Data sets that are installed as Python packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import MissingDependencyError
from .folders import hold_out
from .listing import list_images
from .types import Category, Sample


def read_elpv(folder: Path | None = None) -> list[Category]:
    """2,624 solar cells of the package elpv-dataset: probability 0 against 1, the cells between left out.

    Args:
        folder: with labels.csv and images/; None is the installed package.

    Returns:
        The categories "mono" and "poly"; every second normal cell is tested.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    folder = folder or _package_folder("elpv_dataset", "elpv-dataset") / "data"
    cells: dict[tuple[str, float], list[Path]] = defaultdict(list)  # (type, probability of a defect) -> images
    for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines():
        name, probability, cell_type = line.split()
        cells[cell_type, float(probability)].append(folder / name)
    between = sum(len(paths) for (_, probability), paths in cells.items() if probability not in (0, 1))
    problems = [f"elpv: {between} cells with a probability between 0 and 1 are left out"]
    cell_types = sorted({cell_type for cell_type, probability in cells if probability in (0, 1)})
    return [_category("elpv", name, folder, cells[name, 0], cells[name, 1], problems) for name in cell_types]


def read_textile(folder: Path | None = None) -> list[Category]:
    """2,000 simulated textile images of the package conformal-clip-data.

    Args:
        folder: with nominal/, local/ and global/; None is the installed package.

    Returns:
        The categories "local" and "global", by the kind of defect, against the same normal images; every second one
        of those is tested.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    if folder is None:
        folder = _package_folder("conformal_clip_data", "conformal-clip-data") / "data" / "textile_images" / "simulated"
    normal = list_images(folder / "nominal")
    categories = []
    for name in ("local", "global"):
        anomalous = list_images(folder / name)
        problems = normal.problems + anomalous.problems
        categories.append(_category("textile", name, folder, normal.images, anomalous.images, problems))
    return categories


def _category(
    dataset: str,
    name: str,
    folder: Path,
    normal: Sequence[Path],
    anomalous: Sequence[Path],
    problems: Sequence[str],
) -> Category:
    """Every second normal image is tested, the others are references."""
    references, held_out = hold_out(normal, 2)
    test = [Sample(path, 0) for path in held_out] + [Sample(path, 1) for path in anomalous]
    return Category(dataset, name, dataset, folder, {None: references}, tuple(test), tuple(problems))


def _package_folder(module: str, package: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(f'the package {package} is not installed: pip install "patchclip[bench]"')
    return Path(spec.submodule_search_locations[0])
