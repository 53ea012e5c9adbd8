"""Rows of `speed.py` about the memory bank."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from benchmarks.speed_bench import Bench, Row, at_most, extra_memory, spread
from patchclip.bank import FaissBank, PatchBank


def bank(bench: Bench) -> Iterator[Row]:
    count = 100_000 if bench.quick else 1_000_000
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(count, 384, generator=generator), dim=1)
    queries = F.normalize(torch.randn(225, 384, generator=generator), dim=1)
    stored = PatchBank(vectors)

    def product(block: int) -> torch.Tensor:
        best = torch.full((len(queries),), float("-inf"))
        for start in range(0, count, block):
            best = torch.maximum(best, (queries @ vectors[start : start + block].T).amax(1))
        return best

    blocks = {str(block): lambda block=block: product(block) for block in (2048, 8192, 32768)}
    best = min(bench.alternate(blocks, 1).items(), key=lambda item: float(item[1][0]))[0]
    times = bench.alternate({"own": lambda: stored.nearest(queries), "bare": blocks[best]}, bench.repetitions)
    row = at_most(
        f"bank, 225 queries against {count:,} x 384 fp32, to the bare blocked product with a running minimum",
        times["own"],
        times["bare"],
        limit=1.25,
    )
    wrong = float((stored.nearest(queries) - (2 - 2 * product(int(best)))).abs().max())
    yield Row(row.what, row.value, row.target, row.hit, f"{row.detail}; largest difference {wrong:.1e}")
    extra = extra_memory(lambda: stored.nearest(queries))
    yield Row(
        "bank, extra memory of that", f"{extra:.0f} MB", "<= 64 MB", extra <= 64, "highest resident size, less before"
    )


def served_by_faiss(bench: Bench) -> Iterator[Row]:
    """On vectors that lie in clusters, as tokens do; without any structure there is no index faster than all of it."""
    count = 100_000 if bench.quick else 1_000_000
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2_000, 384, generator=generator)

    def draw(number: int) -> torch.Tensor:
        vectors = torch.randn(number, 384, generator=generator).mul_(0.5)
        return F.normalize(vectors.add_(centres[torch.randint(len(centres), (number,), generator=generator)]), dim=1)

    vectors, queries = draw(count), draw(2_000)
    exact, approximate = PatchBank(vectors), FaissBank(vectors)
    same = (approximate.nearest(queries) - exact.nearest(queries)).abs() < 1e-5
    agreement = float(same.float().mean())
    few = queries[:225]
    times = bench.alternate(
        {"own": lambda: approximate.nearest(few), "base": lambda: exact.nearest(few)}, bench.repetitions
    )
    ratio, detail = spread(times["own"], times["base"])
    yield Row(
        f"bank by faiss, the same nearest of {count:,} x 384, clustered",
        f"{agreement:.2%}",
        ">= 99.9 %",
        agreement >= 0.999,
        f"{len(queries):,} queries; {ratio:.2f} x the time of the exact one, {detail}",
    )


def coreset(bench: Bench) -> Iterator[Row]:
    count = 10_000 if bench.quick else 100_000
    vectors = torch.randn(count, 384, generator=torch.Generator().manual_seed(0))
    stored, seconds = PatchBank(vectors), []

    def choose() -> None:
        start = bench.clock()
        stored.coreset(count // 100, progress=False)
        seconds.append(bench.clock() - start)

    megabytes = vectors.numel() * 4 / 2**20
    extra = extra_memory(choose)
    choose()
    what = f"coreset, {count:,} x 384 to 1 %"
    yield Row(
        what, f"{min(seconds):.1f} s", "< 60 s", min(seconds) < 60, f"two runs, {seconds[0]:.1f} and {seconds[1]:.1f} s"
    )
    times = (megabytes + extra) / megabytes
    yield Row(
        f"{what}, memory", f"{times:.2f} x", "< 3 x", times < 3, f"vectors {megabytes:.0f} MB, {extra:.0f} MB more"
    )
    small = torch.randn(3000, 384, generator=torch.Generator().manual_seed(1))
    own = _radius(small, PatchBank(small).coreset(150, progress=False))
    exact = _radius(small, _exact_greedy(small, 150))
    yield Row(
        "coreset, covering radius to the exact greedy's, 3,000 x 384 to 5 %",
        f"{own / exact:.3f} x",
        "<= 1.05 x",
        own <= 1.05 * exact,
        f"{own:.3f} to {exact:.3f}",
    )


def _exact_greedy(points: torch.Tensor, count: int) -> torch.Tensor:
    """Greedy k-centre on the distances themselves, from the same first point as `PatchBank.coreset`."""
    chosen = [int(torch.randint(len(points), (1,), generator=torch.Generator().manual_seed(0)))]
    nearest = torch.full((len(points),), float("inf"))
    while len(chosen) < count:
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def _radius(points: torch.Tensor, chosen: torch.Tensor) -> float:
    return float(torch.cdist(points, points[chosen]).amin(1).max())
