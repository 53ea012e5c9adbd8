"""The memory banks of every class, and all that a fit leaves behind.

A class has one bank for each kind of vector. A test image's class is unknown: it is compared with every class, and
belongs to the one whose patches are nearest on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from .bank import PatchBank, make_bank

#: Rows of one image in its class's banks: bank name -> slice.
Rows = dict[str, slice]


@dataclass(frozen=True)
class LeftOut:
    """An image that is compared with the other images of its class alone.

    Attributes:
        class_index: of its class.
        rows: its own rows of that class's banks, which do not count; empty for an image that is not in the banks.
    """

    class_index: int
    rows: Rows


@dataclass(frozen=True, eq=False)
class Memory:
    """The banks of every class.

    Attributes:
        classes: names in the order of `banks`; (None,) when fitted without classes.
        banks: one dict for each class, bank name -> PatchBank.
        every_class: compare with every class in every bank and branch on no value: for tracing.
    """

    classes: tuple[str | None, ...]
    banks: tuple[dict[str, PatchBank], ...]
    every_class: bool = False

    def __len__(self) -> int:
        """Vectors in all banks."""
        return sum(len(bank) for banks in self.banks for bank in banks.values())

    def squared_distances(
        self, vectors: Mapping[str, torch.Tensor], *, left_out: LeftOut | None = None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Distance maps of images to their nearest class, or to their own.

        Args:
            vectors: bank name -> (B, rows, columns, D). The first bank decides on the class.
            left_out: for leave-one-out, of a batch of one; None for new images.

        Returns:
            bank name -> (B, rows, columns) squared Euclidean distances, and (B,) int64 indices of the classes.
        """
        if left_out is not None:
            return self._to_own_class(vectors, left_out)
        deciding, *others = vectors
        by_class = self._to_every_class(deciding, vectors[deciding])  # (B, classes, rows, columns)
        class_index = by_class.mean((2, 3)).argmin(1)  # (B,)
        squared = {deciding: _take_class(by_class, class_index)}
        for name in others:
            if self.every_class or len(self.banks) == 1:
                squared[name] = _take_class(self._to_every_class(name, vectors[name]), class_index)
            else:
                squared[name] = self._to_classes(name, vectors[name], class_index)
        return squared, class_index

    def _to_own_class(
        self, vectors: Mapping[str, torch.Tensor], left_out: LeftOut
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        banks = self.banks[left_out.class_index]
        squared = {name: banks[name].nearest(grid, skip=left_out.rows.get(name)) for name, grid in vectors.items()}
        device = next(iter(squared.values())).device
        return squared, torch.tensor([left_out.class_index], device=device)

    def _to_every_class(self, name: str, grid: torch.Tensor) -> torch.Tensor:
        """(B, rows, columns, D) -> (B, classes, rows, columns)."""
        return torch.stack([banks[name].nearest(grid) for banks in self.banks], 1)

    def _to_classes(self, name: str, grid: torch.Tensor, class_index: torch.Tensor) -> torch.Tensor:
        """(B, rows, columns, D) -> (B, rows, columns), each image compared with its class alone."""
        squared = grid.new_empty(grid.shape[:3])
        for index in class_index.unique().tolist():
            images = class_index == index
            squared[images] = self.banks[index][name].nearest(grid[images])
        return squared

    def tensors(self) -> dict[str, torch.Tensor]:
        """For saving: "bank.<class index>.<bank name>" -> (N, D)."""
        named = {}
        for class_index, banks in enumerate(self.banks):
            for name, bank in banks.items():
                named[f"bank.{class_index}.{name}"] = bank.vectors
        return named

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, torch.Tensor],
        classes: Sequence[str | None],
        device: torch.device,
        *,
        neighbours: str = "exact",
    ) -> Memory:
        """The inverse of `tensors`.

        Raises:
            ValueError, IndexError: other tensors.
        """
        banks: list[dict[str, PatchBank]] = [{} for _ in classes]
        for key, vectors in tensors.items():
            kind, class_index, name = key.split(".", 2)
            if kind != "bank" or vectors.ndim != 2 or vectors.dtype != torch.float32 or not vectors.isfinite().all():
                raise ValueError(f"{key} is no bank")
            banks[int(class_index)][name] = make_bank(vectors.to(device), neighbours)
        if not banks[0] or any(other.keys() != banks[0].keys() for other in banks):
            raise ValueError("a bank is missing")
        return cls(tuple(classes), tuple(banks))


@dataclass(frozen=True, eq=False)
class Fitted:
    """All that `Detector.fit` leaves behind, but for the threshold.

    Attributes:
        memory: the banks.
        cue_weights: cue -> weight in the heatmap, together 1; empty for equal weights.
        class_levels: with several classes, the level of each one's normal images, where its heatmaps are one half.
        fingerprints: of the images, `images.load.fingerprint`.
        image_hw: height and width of the images; None where they have several sizes.
    """

    memory: Memory
    cue_weights: Mapping[str, float] = field(default_factory=dict)
    class_levels: tuple[float, ...] = ()
    fingerprints: tuple[str, ...] = ()
    image_hw: tuple[int, int] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty when fitted without."""
        return tuple(name for name in self.memory.classes if name is not None)


def build_banks(
    images: Sequence[Mapping[str, torch.Tensor]], *, coreset: float, progress: bool, neighbours: str = "exact"
) -> tuple[dict[str, PatchBank], list[Rows]]:
    """The banks of one class.

    Args:
        images: for each image, bank name -> (N, D), any N.
        coreset: share of the vectors to keep, in (0, 1].
        neighbours: see `bank.make_bank`.

    Returns:
        The banks, and the rows that each image has in them.

    Raises:
        ValueError: the coreset of several images keeps vectors of one alone, which leaves nothing to compare it with.
    """
    banks: dict[str, PatchBank] = {}
    rows: list[Rows] = [{} for _ in images]
    for name in images[0]:
        vectors = torch.cat([image[name] for image in images])
        ends = torch.tensor([len(image[name]) for image in images]).cumsum(0)
        if coreset < 1:
            kept = PatchBank(vectors).coreset(max(1, round(coreset * len(vectors))), progress=progress)
            vectors = vectors[kept.to(vectors.device)]
            ends = torch.searchsorted(kept, ends)  # how many are kept of the images up to each
        stops = ends.tolist()
        starts = [0, *stops[:-1]]
        largest = max(stop - start for start, stop in zip(starts, stops, strict=True))
        if len(images) > 1 and largest == len(vectors):
            raise ValueError(
                f"coreset={coreset:g} keeps {len(vectors)} of the vectors of {len(images)} images, all of them of one "
                "image: raise coreset"
            )
        for image_rows, start, stop in zip(rows, starts, stops, strict=True):
            image_rows[name] = slice(start, stop)
        banks[name] = make_bank(vectors, neighbours)
    return banks, rows


def _take_class(by_class: torch.Tensor, class_index: torch.Tensor) -> torch.Tensor:
    """(B, classes, rows, columns) and (B,) -> (B, rows, columns)."""
    index = class_index.view(-1, 1, 1, 1).expand(-1, 1, by_class.shape[2], by_class.shape[3])
    return by_class.gather(1, index)[:, 0]
