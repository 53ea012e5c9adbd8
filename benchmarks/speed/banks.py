"""Rows about the memory bank."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch.nn import functional as F

from internals import FaissBank, PatchBank
from speed.bench import Bench, Row, at_most, extra_memory_mb, fastest, spread, with_detail


def bank(bench: Bench) -> Iterator[Row]:
    count = 100_000 if bench.quick else 1_000_000
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(count, 384, generator=generator), dim=1)
    queries = F.normalize(torch.randn(225, 384, generator=generator), dim=1)
    stored = PatchBank(vectors)
    products = {str(block): partial(_highest_products, queries, vectors, block) for block in (2048, 8192, 32768)}
    best = fastest(bench.alternate(products, 1))
    times = bench.alternate({"bank": lambda: stored.nearest(queries), "bare": products[best]})
    row = at_most(
        f"bank, 225 queries against {count:,} x 384 fp32, to the bare blocked product with a running minimum",
        times["bank"],
        times["bare"],
        limit=1.25,
    )
    expected = 2 - 2 * products[best]()  # squared distances of unit vectors
    wrong = float((stored.nearest(queries) - expected).abs().max())
    yield with_detail(row, f"; largest difference {wrong:.1e}")
    extra = extra_memory_mb(lambda: stored.nearest(queries))
    detail = "highest resident size, less before"
    yield Row("bank, extra memory of that", f"{extra:.0f} MB", "<= 64 MB", extra <= 64, detail)


def _highest_products(queries: torch.Tensor, vectors: torch.Tensor, block: int) -> torch.Tensor:
    """(Q, D), (N, D) -> (Q,), the highest product of each query with a vector."""
    best = torch.full((len(queries),), float("-inf"))
    for part in vectors.split(block):
        best = torch.maximum(best, (queries @ part.T).amax(1))
    return best


def served_by_faiss(bench: Bench) -> Iterator[Row]:
    """On vectors that lie in clusters, as tokens do; without any structure there is no index faster than all of it."""
    count = 100_000 if bench.quick else 1_000_000
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2_000, 384, generator=generator)
    vectors = _draw_clustered(count, centres, generator)
    queries = _draw_clustered(2_000, centres, generator)
    exact, approximate = PatchBank(vectors), FaissBank(vectors)
    same = (approximate.nearest(queries) - exact.nearest(queries)).abs() < 1e-5
    agreement = float(same.float().mean())
    few = queries[:225]
    times = bench.alternate({"faiss": lambda: approximate.nearest(few), "exact": lambda: exact.nearest(few)})
    ratio, detail = spread(times["faiss"], times["exact"])
    yield Row(
        f"bank by faiss, the same nearest of {count:,} x 384, clustered",
        f"{agreement:.2%}",
        ">= 99.9 %",
        agreement >= 0.999,
        f"{len(queries):,} queries; {ratio:.2f} x the time of the exact one, {detail}",
    )


def _draw_clustered(count: int, centres: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(count, D) unit vectors around the centres, (C, D)."""
    vectors = torch.randn(count, centres.shape[1], generator=generator).mul_(0.5)
    clusters = torch.randint(len(centres), (count,), generator=generator)
    return F.normalize(vectors.add_(centres[clusters]), dim=1)


def coreset(bench: Bench) -> Iterator[Row]:
    count = 10_000 if bench.quick else 100_000
    vectors = torch.randn(count, 384, generator=torch.Generator().manual_seed(0))
    stored = PatchBank(vectors)
    seconds = []

    def choose() -> None:
        start = bench.clock()
        stored.coreset(count // 100, progress=False)
        seconds.append(bench.clock() - start)

    extra = extra_memory_mb(choose)
    choose()
    best_s = min(seconds)
    what = f"coreset, {count:,} x 384 to 1 %"
    detail = f"two runs, {seconds[0]:.1f} and {seconds[1]:.1f} s"
    yield Row(what, f"{best_s:.1f} s", "< 60 s", best_s < 60, detail)

    vectors_mb = vectors.numel() * 4 / 2**20
    ratio = (vectors_mb + extra) / vectors_mb
    detail = f"vectors {vectors_mb:.0f} MB, {extra:.0f} MB more"
    yield Row(f"{what}, memory", f"{ratio:.2f} x", "< 3 x", ratio < 3, detail)

    small = torch.randn(3000, 384, generator=torch.Generator().manual_seed(1))
    radius = _covering_radius(small, PatchBank(small).coreset(150, progress=False))
    exact = _covering_radius(small, _exact_greedy(small, 150))
    yield Row(
        "coreset, covering radius to the exact greedy's, 3,000 x 384 to 5 %",
        f"{radius / exact:.3f} x",
        "<= 1.05 x",
        radius <= 1.05 * exact,
        f"{radius:.3f} to {exact:.3f}",
    )


def _exact_greedy(points: torch.Tensor, count: int) -> torch.Tensor:
    """Greedy k-centre on the distances themselves, from the same first point as `PatchBank.coreset`."""
    chosen = [int(torch.randint(len(points), (1,), generator=torch.Generator().manual_seed(0)))]
    nearest = torch.full((len(points),), float("inf"))
    while len(chosen) < count:
        to_last = (points - points[chosen[-1]]).square().sum(1)
        nearest = torch.minimum(nearest, to_last)
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def _covering_radius(points: torch.Tensor, chosen: torch.Tensor) -> float:
    """The farthest that a point is from the nearest chosen one."""
    return float(torch.cdist(points, points[chosen]).amin(1).max())
