"""Training data: a pool of rendered surfaces on disk, defects composited on the fly.

A batch is a pure function of (seed, step, rank), so a resumed run sees what an unbroken one would have seen.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ..synthetic import KINDS, Surface, add_defect, sample_surface
from ..synthetic.surfaces import Rng
from .mixtures import sample_mixture
from .photographs import photographed

_RENDERED_AT_ONCE = 16  # products that a process takes at a time
_VIEWS = 3  # two flawless images and one with a broken pattern
_DEFECTIVE_SHARE = 0.85
_MIXTURE_SHARE = 0.4  # of the drawn products

#: Shares of a view that a crop spans at least; an object is shown nearly whole.
_SMALLEST_CROP = 0.47
_SMALLEST_OBJECT_CROP = 0.78
_LARGEST_SHIFT = 0.025  # of the support's crop, where it shows the same part of the product


@dataclass(frozen=True)
class Batch:
    """B pairs: an image, defective or not, and a flawless one of the same product.

    Attributes:
        queries, supports: (B, 3, S, S) uint8.
        coverage: (B, S/16, S/16) float32 in [0, 1], the defective share of each patch.
        kinds: (B,) int64 index into KINDS, -1 for a flawless query.
        names: a word for each product.
    """

    queries: torch.Tensor
    supports: torch.Tensor
    coverage: torch.Tensor
    kinds: torch.Tensor
    names: list[str]


def _product(seed: int, index: int, photographs: Sequence[Path]) -> Surface:
    """Every second one of a photograph, where there are any."""
    rng = np.random.default_rng([seed, index])
    if photographs and index % 2:
        return photographed(photographs[index // 2 % len(photographs)], rng)
    if rng.random() < _MIXTURE_SHARE:
        return sample_mixture(rng)
    return sample_surface(rng)


def _render(job: tuple[str, int, int, Sequence[Path]]) -> int:
    folder, seed, index, photographs = job
    views = np.load(Path(folder) / "views.npy", mmap_mode="r+")
    masks = np.load(Path(folder) / "masks.npy", mmap_mode="r+")
    surface = _product(seed, index, photographs)
    size_hw = views.shape[2:4]
    images = [surface.render(2 * index, size_hw), surface.render(2 * index + 1, size_hw)]
    if surface.has_pattern:
        broken, mask = surface.render_broken(2 * index, index, size_hw)
        masks[index] = mask
    else:
        broken = images[0]
    for view, image in enumerate([*images, broken]):
        views[index, view] = np.clip(image * 255 + 0.5, 0, 255)
    return index


def build_pool(
    folder: Path, products: int, seed: int, workers: int, photographs: Sequence[Path] = (), *, side: int = 256
) -> None:
    """Render views of `products` surfaces, `side` pixels square, into `folder`; a finished pool is left as it is.

    A product takes 10 * side * side bytes, 0.6 MB at 256.
    """
    done = folder / "done.txt"
    told = hashlib.sha256("\n".join(map(str, photographs)).encode()).hexdigest()[:16]
    stamp = f"{products} {seed} {side} {told}"
    if done.exists() and done.read_text() == stamp:
        return
    done.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    shape = (products, _VIEWS, side, side, 3)
    np.lib.format.open_memmap(folder / "views.npy", "w+", np.uint8, shape)
    np.lib.format.open_memmap(folder / "masks.npy", "w+", bool, (products, side, side))
    jobs = [(str(folder), seed, index, photographs) for index in range(products)]
    with ExitStack() as stack:
        rendered: Iterable[int] = map(_render, jobs)
        processes = min(workers, math.ceil(products / _RENDERED_AT_ONCE))
        if processes > 1:  # one would only take time to start
            pool = multiprocessing.get_context("spawn").Pool(processes, cv2.setNumThreads, (1,))
            stack.enter_context(pool)
            rendered = pool.imap_unordered(_render, jobs, chunksize=_RENDERED_AT_ONCE)
        for _ in tqdm(rendered, "surfaces", products, disable=None):
            pass
    done.write_text(stamp)


class PairSampler:
    """Draws batches from a pool."""

    def __init__(self, folder: Path, products: int, seed: int, photographs: Sequence[Path] = ()):
        self._views = np.load(folder / "views.npy", mmap_mode="r")
        self._masks = np.load(folder / "masks.npy", mmap_mode="r")
        self._seed = seed
        self._view_side = self._views.shape[2]
        self._arguments = (folder, products, seed, photographs)
        with ThreadPoolExecutor(os.cpu_count()) as threads:  # photographs are read
            self._products = list(threads.map(lambda index: _product(seed, index, photographs), range(products)))
        self._breakable = [index for index in range(products) if self._masks[index].any()]

    def __reduce__(self) -> tuple:
        return PairSampler, self._arguments  # products are made of closures, which cannot be sent to a process

    def batch(self, step: int, rank: int, pairs: int, side: int) -> Batch:
        """The batch of that step on that rank: `pairs` pairs of `side` x `side` pixels."""
        rng = np.random.default_rng([self._seed, 1, step, rank])
        rounds = [rng.permutation(len(KINDS)) for _ in range(-(-pairs // len(KINDS)))]
        kinds = np.concatenate(rounds)[:pairs]  # balanced over any number of steps
        kinds = np.where(rng.random(pairs) < _DEFECTIVE_SHARE, kinds, -1)
        drawn = [self.pair(rng, int(kind), side) for kind in kinds]
        queries, supports, masks, indices, kept = zip(*drawn, strict=True)
        mask = torch.from_numpy(np.stack(masks)).float()
        to_tensor = lambda images: torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()  # noqa: E731
        return Batch(
            to_tensor(queries),
            to_tensor(supports),
            torch.nn.functional.avg_pool2d(mask[:, None], 16)[:, 0],
            torch.tensor(kept),
            [self._products[index].name for index in indices],
        )

    def pair(self, rng: Rng, kind: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
        """Query, support, mask of the query, kind and index of the product, for a kind of defect (-1: none)."""
        structural = kind >= 0 and KINDS[kind] == "broken pattern" and rng.random() < 0.85
        pick = self._breakable if structural else range(len(self._products))
        index = int(pick[rng.integers(len(pick))])
        surface = self._products[index]
        view_side = self._view_side
        share = _SMALLEST_OBJECT_CROP if surface.family == "object" else _SMALLEST_CROP
        window = int(rng.integers(round(share * view_side), view_side + 1))
        corner = rng.integers(0, view_side - window + 1, 2)
        view = int(rng.integers(2))
        mask = np.zeros((side, side), bool)
        if structural:
            view = 0  # the one that was broken: a support of the other shows another shot
            query = crop(self._views[index, 2], corner, window, side)
            resized = cv2.resize(_window(self._masks[index], corner, window).astype(np.float32), (side, side))
            mask = resized > 0.3
            if not mask.any():
                kind = -1
        else:
            query = crop(self._views[index, view], corner, window, side)
            if kind >= 0:
                other = None
                if rng.random() < 0.5:
                    foreign = self._views[rng.integers(len(self._products)), 0]
                    other = crop(foreign, np.zeros(2, int), view_side, side)
                paint = lambda image: add_defect(image, KINDS[kind], rng, other=other)  # noqa: E731
                painted = next(filter(None, (paint(query) for _ in range(4))), None)
                if painted is None:
                    kind = -1
                else:
                    query, mask = painted
                    if rng.random() < 0.2:  # a second one of the same kind
                        again = paint(query)
                        if again is not None:
                            query, mask = again[0], mask | again[1]
        support_window = int(min(window * np.exp(rng.normal(0, 0.04)), view_side))
        support_corner = rng.integers(0, view_side - support_window + 1, 2)
        if surface.family == "object" or rng.random() < 0.5:  # the same part of the product
            shift = round(_LARGEST_SHIFT * view_side)
            support_corner = np.clip(corner + rng.integers(-shift, shift + 1, 2), 0, view_side - support_window)
        support = crop(self._views[index, 1 - view], support_corner, support_window, side)

        flip, turns = rng.random() < 0.5, int(rng.integers(4))
        channels = rng.permutation(3)
        negative, gamma = rng.random() < 0.15, np.float32(np.exp(rng.normal(0, 0.25)))
        contrast, shift = np.float32(rng.uniform(0.5, 1.2)), np.float32(rng.normal(0, 0.08))

        def finish(image: np.ndarray) -> np.ndarray:
            image = image[..., channels]
            image = (1 - image if negative else image) ** (gamma * np.float32(np.exp(rng.normal(0, 0.05))))
            own_contrast, own_shift = np.float32(np.exp(rng.normal(0, 0.05))), np.float32(rng.normal(0, 0.02))
            image = ((image - 0.5) * (contrast * own_contrast) + 0.5 + shift + own_shift).clip(0, 1)
            shot = surface.photograph(image.astype(np.float32), int(rng.integers(1 << 31)))
            return _turn(shot, flip, turns)

        return finish(query), finish(support), _turn(mask, flip, turns), index, kind


def _window(image: np.ndarray, corner: np.ndarray, window: int) -> np.ndarray:
    row, column = corner
    return image[row : row + window, column : column + window]


def crop(image: np.ndarray, corner: np.ndarray, window: int, side: int) -> np.ndarray:
    """(side, side, 3) float32 in [0, 1]."""
    shrink = cv2.INTER_AREA if window > side else cv2.INTER_LINEAR
    return cv2.resize(_window(image, corner, window), (side, side), interpolation=shrink).astype(np.float32) / 255


def _turn(image: np.ndarray, flip: bool, turns: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if flip else image, turns))
