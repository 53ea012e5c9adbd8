"""Normal images -> memory banks, and the same images again as if the memory had never seen them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from .bank import Memory, Rows, build_banks
from .features import Extractor, Features
from .image import ImageLike, augmented, calibration_views, fingerprint, load_image, own_copy, refuse_single
from .pipeline import hidden
from .threshold import images_needed

#: Leave-one-out looks at about so many normal images at most, or at as many as the false-positive rate takes, spread
#: evenly, and at one of each class at least.
_LEFT_OUT_AT_MOST = 64


class Normal(NamedTuple):
    """A normal image to weigh cues and set the threshold by.

    Attributes:
        features: of the image; size_hw: of the image; number: of its class.
        rows: its rows of that class's banks, which must not count; none for a variation of the only image of a class,
            which is compared with that image.
    """

    features: Features
    size_hw: tuple[int, int]
    number: int
    rows: Rows


def as_groups(images: Sequence[ImageLike] | Mapping[str, Sequence[ImageLike]]) -> dict[str | None, list[ImageLike]]:
    """class -> images; the class is None without a mapping.

    Raises:
        ValueError: no images, a class without any, a single image in place of a list, a class without a name, or two of
            the same.
    """
    if not isinstance(images, Mapping):
        return {None: _as_list(images, "")}
    if not images:
        raise ValueError("expected at least one class with a normal image, got none")
    for name in images:
        if not isinstance(name, (str, int, np.integer)):
            raise ValueError(f"expected names of classes to be strings, got {name!r}")
    if len({str(name) for name in images}) < len(images):
        raise ValueError(f"expected classes of different names, got {list(images)}: a number and its digits are one")
    return {str(name): _as_list(group, f" for class {name!r}") for name, group in images.items()}


def _as_list(images: Iterable[ImageLike], whose: str) -> list[ImageLike]:
    refuse_single(images, whose)
    if not (group := list(images if isinstance(images, Sequence) else map(own_copy, images))):
        raise ValueError(f"expected at least one normal image{whose}, got none")
    return group


def gather(
    extractor: Extractor, groups: Mapping[str | None, Sequence[ImageLike]], *, progress: bool
) -> tuple[Memory, list[Normal], dict[str, tuple[int, int]]]:
    """The banks of every class, the normal images to judge them by, and fingerprint -> (H, W) of all images.

    Raises:
        ImageError: an image cannot be used.
    """
    options = extractor.options
    total = sum(len(group) for group in groups.values())
    wanted = min(total, max(_LEFT_OUT_AT_MOST, images_needed(options["max_false_positive_rate"])))
    banks, normals = [], []
    seen: dict[str, tuple[int, int]] = {}
    with tqdm(total=total, desc="fit", unit="img", disable=hidden(progress), leave=False) as bar:
        for number, group in enumerate(groups.values()):
            count = -(-wanted * len(group) // total)  # a class's share, rounded up
            left_out = set(np.linspace(0, len(group) - 1, count).round().astype(int))
            vectors, kept = [], []
            for place, image in enumerate(group):
                upright = load_image(image)
                seen[fingerprint(upright)] = (upright.shape[0], upright.shape[1])
                copies = augmented(upright, options["rotations"], options["flips"])
                features = extractor.features(copies, for_bank=True)
                vectors.append(_merge_copies(features))
                if len(group) == 1:
                    made = calibration_views(upright)
                    new = [view for view in made if not any(np.array_equal(view, copy) for copy in copies)]
                    views = extractor.features(new or made, for_bank=True)  # a blank image has no other
                    normals += [Normal(view, upright.shape[:2], number, {}) for view in views]
                elif place in left_out:
                    alone = features[0].map(torch.clone)  # not a view into those of all copies
                    kept.append((place, alone, upright.shape[:2]))
                bar.update()
            class_banks, rows = build_banks(
                vectors, coreset=options["coreset"], progress=progress, neighbours=options["neighbours"]
            )
            banks.append(class_banks)
            normals += [Normal(features, size_hw, number, rows[place]) for place, features, size_hw in kept]
    return Memory(tuple(groups), tuple(banks)), normals, seen


def _merge_copies(copies: Sequence[Features]) -> dict[str, torch.Tensor]:
    """The bank vectors of an image and its turned copies: bank name -> (N, D)."""
    return {name: torch.cat([copy.vectors[name].flatten(0, 2) for copy in copies]) for name in copies[0].vectors}
