"""Memory banks of patch vectors: nearest neighbours (exact, or by faiss), greedy coreset, classes.

A class has one bank for each kind of vector. A test image's class is unknown: it is compared with every class, and
belongs to the one whose patches are nearest on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from .errors import MissingDependencyError
from .pipeline import hidden

#: Rows of one image: bank name -> slice, of its class's banks.
Rows = dict[str, slice]

#: faiss wants at least 39 vectors to place the centre of a list by.
_VECTORS_A_LIST = 40

#: A block of similarities takes at most so much memory: it is read again while it is still in the cache.
_BLOCK_BYTES = 2 * 1024 * 1024


class PatchBank:
    """Vectors of normal patches.

    Args:
        vectors: (N, D) float32, on the device that answers.
    """

    def __init__(self, vectors: torch.Tensor):
        self.vectors = vectors.contiguous()
        self._half_norms = 0.5 * vectors.square().sum(1)  # (N,)

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, queries: torch.Tensor, *, skip: slice | None = None) -> torch.Tensor:
        """Squared Euclidean distance of each query to its nearest vector; exactly 0 for a vector of the bank, unless
        another is so near that rounded products cannot tell them apart.

        Args:
            queries: (M, D) float32.
            skip: rows of the bank that do not count (a query's own image, when leaving one out).

        Returns:
            (M,) float32.

        Raises:
            ValueError: no vector is left to compare with.
        """
        count = len(self.vectors)
        parts = [(0, count)] if skip is None else [(0, skip.start), (skip.stop, count)]
        if not any(start < stop for start, stop in parts):
            raise ValueError("the bank has no vectors to compare with")
        best = torch.full((len(queries),), float("-inf"), dtype=queries.dtype, device=queries.device)
        index = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
        block = max(256, _BLOCK_BYTES // 4 // max(1, len(queries)))
        for start, stop in parts:
            for row in range(start, stop, block):
                rows = slice(row, min(row + block, stop))
                # largest q.b - |b|^2 / 2 is smallest |q - b|^2
                closeness = torch.addmm(-self._half_norms[rows], queries, self.vectors[rows].T)  # (M, block)
                value = closeness.amax(1)
                better = (value > best).nonzero()[:, 0]  # few after the first blocks, and only they need their place
                if len(better):
                    index[better] = closeness[better].argmax(1) + row
                    best[better] = value[better]
        return (queries - self.vectors[index]).square().sum(1)

    def coreset(self, count: int, *, seed: int = 0, progress: bool = True) -> torch.Tensor:
        """Indices of a greedy k-centre subset (PatchCore, arXiv 2106.08265, algorithm 1).

        Distances are taken on a random projection to 128 dimensions where the vectors are longer.

        Args:
            count: size of the subset; at least the number of vectors keeps all.
            progress: show a bar on a terminal or in a notebook.

        Returns:
            (count,) int64, ascending.
        """
        total, width = self.vectors.shape
        if count >= total:
            return torch.arange(total)
        generator = torch.Generator().manual_seed(seed)
        points = self.vectors
        if width > 128:
            projection = torch.randn(width, 128, generator=generator, dtype=points.dtype) / 128**0.5
            points = points @ projection.to(points.device)
        squares = points.square().sum(1)
        current = int(torch.randint(total, (1,), generator=generator))
        chosen = [current]
        farthest = torch.full((total,), float("inf"), dtype=points.dtype, device=points.device)
        for _ in tqdm(range(count - 1), "coreset", disable=hidden(progress), leave=False):
            distance = torch.addmv(squares, points, points[current], alpha=-2) + squares[current]
            farthest = torch.minimum(farthest, distance)
            farthest[current] = float("-inf")
            current = int(farthest.argmax())
            chosen.append(current)
        return torch.tensor(sorted(chosen))


class FaissBank(PatchBank):
    """A `PatchBank` with an inverted file of faiss beside it, for banks of a million vectors.

    As many of its lists are searched as it takes for 99.9 % of 2,000 stored vectors to find their nearest other one.
    """

    def __init__(self, vectors: torch.Tensor):
        super().__init__(vectors)
        faiss = import_faiss()
        stored = self.vectors.cpu().numpy()
        count, width = stored.shape
        lists = max(1, min(int(4 * count**0.5), count // _VECTORS_A_LIST))
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, lists)
        self._index.train(stored)
        self._index.add(stored)
        sample = stored[torch.randperm(count, generator=torch.Generator().manual_seed(0))[:2000].numpy()]
        if count > 1:  # the nearest of a stored vector is itself, the second is the one in question
            bound = faiss.knn(sample, stored, 2)[0][:, 1] * (1 + 1e-4) + 1e-6
            while self._index.nprobe < lists and (self._index.search(sample, 2)[0][:, 1] <= bound).mean() < 0.999:
                self._index.nprobe *= 2

    def nearest(self, queries: torch.Tensor, *, skip: slice | None = None) -> torch.Tensor:
        """As `PatchBank.nearest`; with `skip` exact."""
        if skip is not None:
            return super().nearest(queries, skip=skip)
        found = torch.from_numpy(self._index.search(queries.cpu().numpy(), 1)[1][:, 0]).to(queries.device)  # (M,)
        squared = (queries - self.vectors[found]).square().sum(1)
        lost = found < 0  # all the lists that were searched are empty, as among many equal vectors
        if lost.any():
            squared[lost] = super().nearest(queries[lost])
        return squared


def import_faiss() -> Any:
    """The module.

    Raises:
        MissingDependencyError: it is not installed, or damaged.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependencyError(
            f'neighbours="faiss" needs faiss ({error}): pip install "patchclip[faiss]"'
        ) from error
    return faiss


def make_bank(vectors: torch.Tensor, neighbours: str) -> PatchBank:
    """A bank that finds neighbours that way, "exact" or "faiss"."""
    return FaissBank(vectors) if neighbours == "faiss" else PatchBank(vectors)


@dataclass(frozen=True)
class Memory:
    """The banks of every class.

    Attributes:
        classes: names in the order of `banks`; (None,) when fitted without classes.
        banks: one dict for each class, bank name -> PatchBank.
    """

    classes: tuple[str | None, ...]
    banks: tuple[dict[str, PatchBank], ...]

    def squared_distances(
        self, vectors: Mapping[str, torch.Tensor], *, own: tuple[int, Rows] | None = None
    ) -> tuple[dict[str, torch.Tensor], int]:
        """Distance maps of one image to its nearest class, or to its own.

        Args:
            vectors: of a single image, bank name -> (1, rows, columns, D). The first bank decides on the class.
            own: for leave-one-out the class of the image, whose banks alone it is compared with, and its rows there,
                which do not count; None for a new image.

        Returns:
            bank name -> (rows, columns) squared Euclidean distances, and the number of that class.
        """

        def distances(number: int, name: str) -> torch.Tensor:
            skip = own[1].get(name) if own else None
            grid = vectors[name]
            return self.banks[number][name].nearest(grid.flatten(0, 2), skip=skip).view(grid.shape[1:3])

        deciding, *rest = vectors
        by_class = {number: distances(number, deciding) for number in ([own[0]] if own else range(len(self.banks)))}
        nearest = min(by_class, key=lambda number: float(by_class[number].mean()))
        return {deciding: by_class[nearest]} | {name: distances(nearest, name) for name in rest}, nearest

    def tensors(self) -> dict[str, torch.Tensor]:
        """For saving: "bank.<class number>.<bank name>" -> (N, D)."""
        return {
            f"bank.{number}.{name}": bank.vectors
            for number, banks in enumerate(self.banks)
            for name, bank in banks.items()
        }

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
            ValueError: tensors that are none of it.
        """
        banks: list[dict[str, PatchBank]] = [{} for _ in classes]
        for key, vectors in tensors.items():
            kind, number, name = key.split(".", 2)
            if kind != "bank" or vectors.ndim != 2 or vectors.dtype != torch.float32 or not vectors.isfinite().all():
                raise ValueError(f"{key} is no bank")
            banks[int(number)][name] = make_bank(vectors.to(device), neighbours)
        if not banks[0] or any(own.keys() != banks[0].keys() for own in banks):
            raise ValueError("a bank is missing")
        return cls(tuple(classes), tuple(banks))


def build_banks(
    images: Sequence[dict[str, torch.Tensor]], *, coreset: float, progress: bool, neighbours: str = "exact"
) -> tuple[dict[str, PatchBank], list[Rows]]:
    """The banks of one class.

    Args:
        images: for each image, bank name -> (N, D), N free.
        coreset: share of the vectors to keep, in (0, 1].
        neighbours: see `make_bank`.

    Returns:
        The banks, and which rows of them each image has.

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
            ends = torch.searchsorted(kept, ends)  # vectors kept of the images up to here
        stops = ends.tolist()
        starts = [0, *stops[:-1]]
        if len(images) > 1 and any(stop - start == len(vectors) for start, stop in zip(starts, stops, strict=True)):
            raise ValueError(
                f"coreset={coreset:g} keeps {len(vectors)} of the vectors of {len(images)} images, all of them of one "
                "image: raise coreset"
            )
        for own, start, end in zip(rows, starts, stops, strict=True):
            own[name] = slice(start, end)
        banks[name] = make_bank(vectors, neighbours)
    return banks, rows
