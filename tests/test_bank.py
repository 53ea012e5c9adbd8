"""Nearest neighbours and coresets against plain loops."""

from __future__ import annotations

import pytest
import torch

from patchclip import bank
from patchclip.bank import FaissBank, Memory, PatchBank, build_banks


def vectors(count: int, width: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block_bytes", [1, 1 << 25])
def test_nearest_is_the_brute_force_minimum(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "_BLOCK_BYTES", block_bytes)
    stored, queries = vectors(700), vectors(40, seed=1)
    expected = torch.cdist(queries.double(), stored.double()).square().min(1).values
    found = PatchBank(stored).nearest(queries)
    assert found.shape == (40,)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    without = torch.cat([stored[:100], stored[300:]]).double()
    expected = torch.cdist(queries.double(), without).square().min(1).values
    assert torch.allclose(PatchBank(stored).nearest(queries, skip=slice(100, 300)).double(), expected, atol=1e-5)


def test_a_stored_vector_is_at_distance_zero() -> None:
    stored = vectors(50)
    assert float(PatchBank(stored).nearest(stored).max()) == 0


def test_nothing_left_to_compare_with() -> None:
    with pytest.raises(ValueError, match="no vectors"):
        PatchBank(vectors(3)).nearest(vectors(1), skip=slice(0, 3))


def test_coreset_is_the_greedy_one() -> None:
    points = vectors(60, 3)
    found = PatchBank(points).coreset(9, seed=2, progress=False)
    start = int(torch.randint(60, (1,), generator=torch.Generator().manual_seed(2)))
    chosen = [start]
    while len(chosen) < 9:  # the point farthest from those chosen
        nearest = [min(float((point - points[c]).square().sum()) for c in chosen) for point in points]
        chosen.append(max(range(60), key=lambda i: nearest[i]))
    assert found.tolist() == sorted(chosen)


def test_coreset_of_long_vectors_covers_nearly_as_well() -> None:
    points = vectors(400, 300)

    def radius(subset: torch.Tensor) -> float:
        return float(torch.cdist(points, points[subset]).min(1).values.max())

    found = PatchBank(points).coreset(40, progress=False)
    assert len(found.unique()) == 40
    assert radius(found) <= 1.05 * radius(torch.arange(40))
    assert PatchBank(points).coreset(400, progress=False).tolist() == list(range(400))


def test_rows_of_each_image_survive_the_coreset() -> None:
    images = [{"tokens": vectors(30, seed=k) + 100 * k} for k in range(3)]
    banks, rows = build_banks(images, coreset=0.2, progress=False)
    kept = banks["tokens"].vectors
    assert len(kept) == 18
    assert [own["tokens"].stop for own in rows][-1] == 18
    for number, own in enumerate(rows):
        part = kept[own["tokens"]]
        assert len(part) > 0
        assert ((part.mean(1) > 100 * number - 50) & (part.mean(1) < 100 * number + 50)).all()


def test_a_class_is_the_one_whose_patches_are_nearest() -> None:
    banks = tuple({"tokens": PatchBank(torch.full((4, 2), float(k)))} for k in range(3))
    memory = Memory(("a", "b", "c"), banks)
    distances, number = memory.squared_distances({"tokens": torch.full((1, 2, 3, 2), 1.1)})
    assert number == 1
    assert distances["tokens"].shape == (2, 3)
    assert torch.allclose(distances["tokens"], torch.tensor(0.02), atol=1e-5)


def test_faiss_finds_the_same_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(50, 24, generator=generator)
    vectors = centres[torch.randint(50, (20_000,), generator=generator)]
    vectors = vectors + 0.3 * torch.randn(20_000, 24, generator=generator)
    queries = vectors[::40] + 0.2 * torch.randn(500, 24, generator=generator)
    exact, approximate = PatchBank(vectors), FaissBank(vectors)
    assert approximate._index.nprobe < approximate._index.nlist  # it does not look at everything
    same = torch.isclose(approximate.nearest(queries), exact.nearest(queries), atol=1e-5).float().mean()
    assert same >= 0.998
    assert float(approximate.nearest(vectors[:100]).max()) == 0
    own = slice(0, 100)
    assert torch.equal(approximate.nearest(vectors[own], skip=own), exact.nearest(vectors[own], skip=own))
    assert float(FaissBank(vectors[:1]).nearest(vectors[:1])) == 0


def test_faiss_among_many_equal_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4000, 8, generator=generator)
    vectors[:3600] = vectors[0]
    queries = vectors[0] + 0.3 * torch.randn(200, 8, generator=generator)
    stored = FaissBank(vectors)
    stored._index.nprobe = 1
    assert bool((stored._index.search(queries.numpy(), 1)[1] < 0).any())  # lists that are empty
    assert float((stored.nearest(queries) - PatchBank(vectors).nearest(queries)).abs().max()) < 1
