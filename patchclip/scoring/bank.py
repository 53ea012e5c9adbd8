"""A memory bank of patch vectors: nearest neighbours, exact or by faiss, and the greedy coreset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..errors import MissingDependencyError
from ..progress import progress_bar

#: faiss wants at least 39 vectors for each list, to find its centre.
_VECTORS_PER_LIST = 40

#: Similarities of a block take at most so many bytes: on a CPU they are read again while they are in its cache.
_CPU_BLOCK_BYTES = 2 * 1024 * 1024
_GPU_BLOCK_BYTES = 512 * 1024 * 1024

#: Longer vectors are projected to so many dimensions for the coreset.
_CORESET_WIDTH = 128


class PatchBank:
    """Vectors of normal patches.

    Args:
        vectors: (N, D) float32, on the device that answers.
        in_one_block: hold all similarities at once, 4 * M * N bytes, branch on no value, and do not look for the index
            of the nearest vector, so that distances are exact to about 1e-6 of the squared lengths: for tracing.
    """

    def __init__(self, vectors: torch.Tensor, *, in_one_block: bool = False):
        self.vectors = vectors.contiguous()
        self._half_norms = 0.5 * vectors.square().sum(1)  # (N,)
        self._in_one_block = in_one_block

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, queries: torch.Tensor, *, skip: slice | None = None) -> torch.Tensor:
        """Squared Euclidean distance of each query to its nearest vector; exactly 0 for a vector of the bank, unless
        another is so near that rounded products cannot tell them apart.

        Args:
            queries: (..., D) float32.
            skip: rows of the bank that do not count (a query's own image, when leaving one out).

        Returns:
            (...) float32.

        Raises:
            ValueError: no vector is left to compare with.
        """
        shape = queries.shape[:-1]
        queries = queries.flatten(0, -2)  # (M, D)
        if self._in_one_block:
            closeness = torch.addmm(-self._half_norms, queries, self.vectors.T)
            return (queries.square().sum(1) - 2 * closeness.amax(1)).clamp(min=0).view(shape)
        index = best = None
        for rows in self._blocks(queries, skip):
            # the largest q.b - |b|^2 / 2 has the smallest |q - b|^2
            closeness = torch.addmm(-self._half_norms[rows], queries, self.vectors[rows].T)  # (M, block)
            if index is None or best is None:
                best, index = closeness.max(1)
                index = index + rows.start
                continue
            block_best = closeness.amax(1)
            improved = (block_best > best).nonzero()[:, 0]  # few after the first blocks; only they need an index
            if len(improved):
                best[improved], nearest = closeness[improved].max(1)  # a third of the time of argmax
                index[improved] = nearest + rows.start
        if index is None:
            raise ValueError("the bank has no vectors to compare with")
        return (queries - self.vectors[index]).square().sum(1).view(shape)

    def _blocks(self, queries: torch.Tensor, skip: slice | None) -> Iterator[slice]:
        """Rows of the bank without those to skip, in blocks."""
        count = len(self.vectors)
        block_bytes = _CPU_BLOCK_BYTES if queries.device.type == "cpu" else _GPU_BLOCK_BYTES
        size = max(256, block_bytes // 4 // max(1, len(queries)))
        parts = [(0, count)] if skip is None else [(0, skip.start), (skip.stop, count)]
        for first, end in parts:
            for start in range(first, end, size):
                yield slice(start, min(start + size, end))

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
        if width > _CORESET_WIDTH:
            projection = torch.randn(width, _CORESET_WIDTH, generator=generator, dtype=points.dtype)
            points = points @ (projection / _CORESET_WIDTH**0.5).to(points.device)
        squares = points.square().sum(1)
        current = int(torch.randint(total, (1,), generator=generator))
        chosen = [current]
        to_chosen = torch.full((total,), float("inf"), dtype=points.dtype, device=points.device)
        with progress_bar("coreset", total=count - 1, show=progress, unit="it") as bar:
            for _ in range(count - 1):
                distance = torch.addmv(squares, points, points[current], alpha=-2) + squares[current]
                to_chosen = torch.minimum(to_chosen, distance)
                to_chosen[current] = float("-inf")
                current = int(to_chosen.argmax())  # the farthest from all that are chosen
                chosen.append(current)
                bar.update()
        return torch.tensor(sorted(chosen))


def thin_out(vectors: torch.Tensor, share: float) -> torch.Tensor:
    """The greedy coreset of that share of the vectors of one image, (N, D) -> (M, D), rounded, and one at least.

    Of each image by itself, so that the time grows with the number of images alone, and leave-one-out finds what a bank
    without that image would have found.
    """
    if share == 1 or len(vectors) == 0:
        return vectors
    count = max(1, round(share * len(vectors)))
    return vectors[PatchBank(vectors).coreset(count, progress=False).to(vectors.device)]


class FaissBank(PatchBank):
    """A `PatchBank` with an inverted file of faiss beside it, for banks of a million vectors.

    As many of its lists are searched as it takes for 99.9 % of 2,000 stored vectors to find their nearest other one.
    """

    def __init__(self, vectors: torch.Tensor):
        super().__init__(vectors)
        faiss = import_faiss()
        stored = self.vectors.cpu().numpy()
        count, width = stored.shape
        lists = max(1, min(int(4 * count**0.5), count // _VECTORS_PER_LIST))
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
        shape = queries.shape[:-1]
        queries = queries.flatten(0, -2)  # (M, D)
        _, neighbours = self._index.search(queries.cpu().numpy(), 1)
        found = torch.from_numpy(neighbours[:, 0]).to(queries.device)  # (M,)
        squared = (queries - self.vectors[found]).square().sum(1)
        missed = found < 0  # all the lists that were searched are empty, as among many equal vectors
        if missed.any():
            squared[missed] = super().nearest(queries[missed])
        return squared.view(shape)


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
