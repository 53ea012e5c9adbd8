"""The benchmark's synthetic image set: seeded, made on the fly, of surfaces and defects that training never sees."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from patchclip.datasets import Category, read_dataset
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface

KINDS = ("dot", "cut", "scratch", "stain", "hole")

#: Apart from every seed of training and validation.
_SEED = 20_240_901


def make_synthetic(
    folder: Path, *, references: int = 8, normal: int = 12, of_each_kind: int = 4, side: int = 256
) -> list[Category]:
    """Write the set in the layout of MVTec-AD and read it: one product of each held-out family.

    Args:
        folder: becomes the data set; its name is the data set's.
        references, normal, of_each_kind: images of a product to fit on, flawless ones to test, and defective ones.
        side: of the square images, in pixels.
    """
    size_hw = (side, side)
    for product, family in enumerate(HELD_OUT):
        rng = np.random.default_rng([_SEED, product])
        surface = sample_surface(rng, [family])
        for index in range(references + normal):
            part = "train" if index < references else "test"
            image = surface.photograph(surface.render(index, size_hw), index)
            _write(folder / family / part / "good" / f"{index:03d}.png", image)
        for index in range(of_each_kind * len(KINDS)):
            kind = KINDS[index % len(KINDS)]
            image, mask, _ = sample_defective(surface, 1000 + index, rng, kind=kind, size_hw=size_hw, held_out=True)
            _write(folder / family / "test" / kind / f"{index:03d}.png", image)
            _write(folder / family / "ground_truth" / kind / f"{index:03d}_mask.png", mask.astype(np.uint8) * 255)
    return read_dataset(folder)


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    os.utime(path, (0, 0))  # the same file has the same date: `--resume` goes by it
