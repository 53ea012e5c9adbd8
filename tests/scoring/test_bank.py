"""Nearest neighbours and coresets against plain loops."""

from __future__ import annotations

import sys
from typing import Any

import faiss
import pytest
import torch

from patchclip import MissingDependencyError
from patchclip.scoring.bank import FaissBank, PatchBank, make_bank, thin_out


def random_vectors(count: int, width: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def squared_to_nearest(queries: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    """In float64."""
    return torch.cdist(queries.double(), stored.double()).square().min(1).values


@pytest.mark.parametrize("query_count", [40, 2048])  # one block, and three
def test_nearest_is_the_brute_force_minimum(query_count: int) -> None:
    stored, queries = random_vectors(700), random_vectors(query_count, seed=1)
    found = PatchBank(stored).nearest(queries)
    assert found.shape == (query_count,)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), squared_to_nearest(queries, stored), atol=1e-5)
    for rows in (slice(100, 300), slice(0, 200), slice(500, 700)):
        without = torch.cat([stored[: rows.start], stored[rows.stop :]])
        found = PatchBank(stored).nearest(queries, skip=rows)
        assert torch.allclose(found.double(), squared_to_nearest(queries, without), atol=1e-5)


def test_nearest_when_later_blocks_hold_the_nearest() -> None:
    queries = random_vectors(2048, 5)  # which leave blocks of 256 vectors
    far = random_vectors(1000, 5, seed=1) + 10
    order = torch.randperm(1020, generator=torch.Generator().manual_seed(2))
    stored = PatchBank(torch.cat([far, queries[:20] + 0.01])[order])
    assert torch.allclose(stored.nearest(queries)[:20], torch.full((20,), 5e-4), atol=1e-5)


def test_one_block_gives_what_blocks_give() -> None:
    stored, queries = random_vectors(1500, 12), random_vectors(2048, 12, seed=1)
    whole, blocks = PatchBank(stored, in_one_block=True), PatchBank(stored)
    assert torch.allclose(whole.nearest(queries), blocks.nearest(queries), atol=1e-5)
    assert len(whole) == len(blocks) == 1500
    assert float(whole.nearest(stored[::2]).max()) < 1e-6 * float(stored.square().sum(1).max())


def test_a_stored_vector_is_at_distance_zero() -> None:
    stored = random_vectors(1000)
    assert float(PatchBank(stored).nearest(stored[:50]).max()) == 0
    assert float(PatchBank(stored).nearest(stored.repeat(3, 1)).max()) == 0  # in several blocks


def test_nothing_left_to_compare_with() -> None:
    with pytest.raises(ValueError, match="no vectors"):
        PatchBank(random_vectors(3)).nearest(random_vectors(1), skip=slice(0, 3))


def test_coreset_is_the_greedy_one() -> None:
    points = random_vectors(60, 3)
    found = PatchBank(points).coreset(9, seed=2, progress=False)
    start = int(torch.randint(60, (1,), generator=torch.Generator().manual_seed(2)))
    chosen = [start]
    while len(chosen) < 9:  # the point farthest from those chosen
        nearest = [min(float((point - points[c]).square().sum()) for c in chosen) for point in points]
        chosen.append(max(range(60), key=lambda i: nearest[i]))
    assert found.tolist() == sorted(chosen)


def test_coreset_of_equal_vectors_takes_none_twice() -> None:
    equal = torch.tensor([[0.0, 1.0]] * 6 + [[1.0, 0.0]] * 4)
    found = PatchBank(equal).coreset(7, progress=False)
    assert len(found.unique()) == 7
    assert len(equal[found].unique(dim=0)) == 2


def test_an_image_is_thinned_out_by_its_coreset() -> None:
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(3))
    thinned = thin_out(vectors, 0.25)
    assert torch.equal(thinned, vectors[PatchBank(vectors).coreset(10)])
    assert thin_out(vectors, 1) is vectors
    assert len(thin_out(vectors[:3], 0.1)) == 1
    assert thin_out(vectors[:0], 0.1).shape == (0, 6)


def test_coreset_of_long_vectors_covers_nearly_as_well() -> None:
    points = random_vectors(400, 300)

    def radius(subset: torch.Tensor) -> float:
        return float(torch.cdist(points, points[subset]).min(1).values.max())

    found = PatchBank(points).coreset(40, progress=False)
    assert len(found.unique()) == 40
    assert radius(found) <= 1.05 * radius(torch.arange(40))
    assert PatchBank(points).coreset(400, progress=False).tolist() == list(range(400))


@pytest.fixture
def indices(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The indices of faiss that banks make, in that order."""
    made: list[Any] = []
    make_index = faiss.IndexIVFFlat

    def make_and_keep(*arguments: Any) -> Any:
        made.append(make_index(*arguments))
        return made[-1]

    monkeypatch.setattr(faiss, "IndexIVFFlat", make_and_keep)
    return made


def test_faiss_finds_the_same_neighbours(indices: list[Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(50, 24, generator=generator)
    stored = centres[torch.randint(50, (12_000,), generator=generator)]
    stored = stored + 0.3 * torch.randn(stored.shape, generator=generator)
    queries = stored[::24] + 0.2 * torch.randn(500, 24, generator=generator)
    exact, approximate = PatchBank(stored), FaissBank(stored)
    [index] = indices
    assert index.nprobe < index.nlist  # it does not look at everything
    same = torch.isclose(approximate.nearest(queries), exact.nearest(queries), atol=1e-5).float().mean()
    assert same >= 0.998
    assert float(approximate.nearest(stored[:100]).max()) == 0
    rows = slice(0, 100)
    assert torch.equal(approximate.nearest(stored[rows], skip=rows), exact.nearest(stored[rows], skip=rows))
    assert float(FaissBank(stored[:1]).nearest(stored[:1])) == 0


def test_faiss_among_many_equal_vectors(indices: list[Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    stored = torch.randn(4000, 8, generator=generator)
    stored[:3600] = stored[0]
    queries = stored[0] + 0.3 * torch.randn(200, 8, generator=generator)
    bank = FaissBank(stored)
    [index] = indices
    index.nprobe = 1
    assert bool((index.search(queries.numpy(), 1)[1] < 0).any())  # lists that are empty
    assert float((bank.nearest(queries) - PatchBank(stored).nearest(queries)).abs().max()) < 1


def test_a_bank_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = random_vectors(50)
    exact, approximate = make_bank(stored, "exact"), make_bank(stored, "faiss")
    assert not isinstance(exact, FaissBank)
    assert isinstance(approximate, FaissBank)
    assert torch.allclose(exact.nearest(stored + 0.1), approximate.nearest(stored + 0.1), atol=1e-5)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"patchclip\[faiss\]"):
        make_bank(stored, "faiss")
