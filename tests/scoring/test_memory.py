"""The banks of several classes: by batch as image by image, leaving one out, to tensors and back."""

from __future__ import annotations

import pytest
import torch

from patchclip.scoring.bank import FaissBank, PatchBank
from patchclip.scoring.memory import Fitted, LeftOut, Memory, build_banks

CPU = torch.device("cpu")

#: Width of the vectors of each bank, and the grid that images have for it: one is finer.
WIDTHS = {"tokens": 6, "texture": 4, "imagenet": 8}
GRIDS = {"tokens": (3, 4), "texture": (3, 4), "imagenet": (5, 7)}


def random_vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def memory() -> Memory:
    """Three classes, whose banks hold other numbers of vectors."""
    class_banks = []
    for index, count in enumerate((40, 25, 31)):
        banks = {}
        for name, width in WIDTHS.items():
            banks[name] = PatchBank(random_vectors(count, width, seed=index) + 0.5 * index)
        class_banks.append(banks)
    return Memory(("a", "b", "c"), tuple(class_banks))


@pytest.fixture(scope="module")
def vectors() -> dict[str, torch.Tensor]:
    """Of six images, two near each class."""
    offsets = 0.5 * torch.tensor([2.0, 0, 1, 1, 0, 2]).view(6, 1, 1, 1)
    batch = {}
    for seed, (name, width) in enumerate(WIDTHS.items(), 10):
        batch[name] = random_vectors(6, *GRIDS[name], width, seed=seed) + offsets
    return batch


def by_brute_force(memory: Memory, vectors: dict[str, torch.Tensor], image: int) -> tuple[dict[str, torch.Tensor], int]:
    """Squared distances of an image to the class that its tokens are nearest to, and the index of that class."""

    def distances(name: str, class_index: int) -> torch.Tensor:
        queries = vectors[name][image].flatten(0, 1).double()
        stored = memory.banks[class_index][name].vectors.double()
        return torch.cdist(queries, stored).square().min(1).values.view(GRIDS[name])

    means = [float(distances("tokens", class_index).mean()) for class_index in range(3)]
    nearest = means.index(min(means))
    return {name: distances(name, nearest) for name in vectors}, nearest


def test_a_batch_is_compared_as_each_of_its_images_is(memory: Memory, vectors: dict[str, torch.Tensor]) -> None:
    squared, class_index = memory.squared_distances(vectors)
    assert class_index.dtype == torch.int64
    assert set(class_index.tolist()) == {0, 1, 2}
    assert {name: tuple(values.shape) for name, values in squared.items()} == {
        name: (6, *grid_hw) for name, grid_hw in GRIDS.items()
    }
    for image in range(6):
        expected, nearest = by_brute_force(memory, vectors, image)
        single, single_class = memory.squared_distances(
            {name: grid[image : image + 1] for name, grid in vectors.items()}
        )
        assert int(class_index[image]) == single_class.item() == nearest
        for name, values in squared.items():
            torch.testing.assert_close(values[image].double(), expected[name], atol=1e-5, rtol=0)
            torch.testing.assert_close(single[name][0], values[image], atol=1e-5, rtol=0)


def test_every_class_gives_what_branching_gives(memory: Memory, vectors: dict[str, torch.Tensor]) -> None:
    class_banks = []
    for banks in memory.banks:
        class_banks.append({name: PatchBank(bank.vectors, in_one_block=True) for name, bank in banks.items()})
    traceable = Memory(memory.classes, tuple(class_banks), every_class=True)
    squared, class_index = memory.squared_distances(vectors)
    found, found_index = traceable.squared_distances(vectors)
    assert torch.equal(found_index, class_index)
    assert list(found) == list(squared)
    for name, values in squared.items():
        torch.testing.assert_close(found[name], values, atol=1e-5, rtol=0)


def test_the_first_of_the_vectors_decides_whatever_the_order_of_the_banks(
    memory: Memory, vectors: dict[str, torch.Tensor]
) -> None:
    """In a file the banks are in another order."""
    turned = Memory(memory.classes, tuple(dict(reversed(banks.items())) for banks in memory.banks))
    squared, class_index = memory.squared_distances(vectors)
    found, found_index = turned.squared_distances(vectors)
    assert torch.equal(found_index, class_index)
    for name, values in squared.items():
        assert torch.equal(found[name], values)


def test_a_class_is_the_one_whose_patches_are_nearest() -> None:
    banks = tuple({"tokens": PatchBank(torch.full((4, 2), float(k)))} for k in range(3))
    squared, class_index = Memory(("a", "b", "c"), banks).squared_distances({"tokens": torch.full((1, 2, 3, 2), 1.1)})
    assert class_index.tolist() == [1]
    assert squared["tokens"].shape == (1, 2, 3)
    assert torch.allclose(squared["tokens"], torch.tensor(0.02), atol=1e-5)


def test_an_image_is_left_out_of_its_own_class(memory: Memory, vectors: dict[str, torch.Tensor]) -> None:
    rows = {"tokens": slice(0, 20), "texture": slice(5, 9), "imagenet": slice(30, 31)}
    single = {name: grid[:1] for name, grid in vectors.items()}
    squared, class_index = memory.squared_distances(single, left_out=LeftOut(2, rows))
    assert class_index.tolist() == [2]
    for name, skipped in rows.items():
        stored = memory.banks[2][name].vectors
        others = torch.cat([stored[: skipped.start], stored[skipped.stop :]])
        alone = Memory((None,), ({name: PatchBank(others)},))
        expected, _ = alone.squared_distances({name: single[name]})
        torch.testing.assert_close(squared[name], expected[name], atol=1e-5, rtol=0)
    whole, _ = memory.squared_distances(single, left_out=LeftOut(2, {}))  # of an image that is not in the banks
    for name, bank in memory.banks[2].items():
        expected = bank.nearest(single[name].flatten(0, 2)).view(1, *GRIDS[name])
        torch.testing.assert_close(whole[name], expected, atol=1e-5, rtol=0)


def test_tensors_and_back(memory: Memory, vectors: dict[str, torch.Tensor]) -> None:
    tensors = memory.tensors()
    assert list(tensors)[:3] == ["bank.0.tokens", "bank.0.texture", "bank.0.imagenet"]
    assert len(memory) == 3 * (40 + 25 + 31) == sum(len(tensor) for tensor in tensors.values())
    again = Memory.from_tensors(tensors, memory.classes, CPU)
    assert again.classes == memory.classes
    for name, values in memory.squared_distances(vectors)[0].items():
        assert torch.equal(again.squared_distances(vectors)[0][name], values)
    indexed = Memory.from_tensors(tensors, memory.classes, CPU, neighbours="faiss")
    assert isinstance(indexed.banks[0]["tokens"], FaissBank)


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"bank.0.tokens": torch.zeros(2, 3)},  # and none of the second class
        {"bank.0.tokens": torch.zeros(2, 3), "bank.1.texture": torch.zeros(2, 3)},
        {"bank.0.tokens": torch.zeros(2, 3), "bank.first.tokens": torch.zeros(2, 3)},
        {"bank.0.tokens": torch.zeros(2, 3), "vectors": torch.zeros(2, 3)},
        {"bank.0.tokens": torch.zeros(2, 3), "list.1.tokens": torch.zeros(2, 3)},
        {"bank.0.tokens": torch.zeros(2), "bank.1.tokens": torch.zeros(2)},
        {"bank.0.tokens": torch.zeros(2, 3).double(), "bank.1.tokens": torch.zeros(2, 3).double()},
        {"bank.0.tokens": torch.full((2, 3), torch.nan), "bank.1.tokens": torch.zeros(2, 3)},
    ],
)
def test_other_tensors_are_no_memory(foreign: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"is no bank|a bank is missing|invalid literal|not enough values"):
        Memory.from_tensors(foreign, ("a", "b"), CPU)


def test_a_tensor_of_one_class_too_many_is_no_memory() -> None:
    with pytest.raises(IndexError):
        Memory.from_tensors({"bank.0.tokens": torch.zeros(2, 3), "bank.7.tokens": torch.zeros(2, 3)}, ("a",), CPU)


def test_rows_of_each_image_in_its_banks() -> None:
    images = [
        {"tokens": random_vectors(count, 5, seed=count) + 100 * index} for index, count in enumerate((30, 20, 40))
    ]
    banks, rows = build_banks(images, coreset=1, progress=False)
    assert len(banks["tokens"]) == 90
    assert [image_rows["tokens"] for image_rows in rows] == [slice(0, 30), slice(30, 50), slice(50, 90)]
    banks, rows = build_banks(images, coreset=0.2, progress=False)
    kept = banks["tokens"].vectors
    assert len(kept) == 18
    assert rows[-1]["tokens"].stop == 18
    for index, image_rows in enumerate(rows):
        part = kept[image_rows["tokens"]]
        assert len(part) > 0
        assert ((part.mean(1) > 100 * index - 50) & (part.mean(1) < 100 * index + 50)).all()


def test_a_coreset_keeps_the_nearest_count_to_its_share() -> None:
    image = {"tokens": random_vectors(9, 5)}
    for share, count in ((0.3, 3), (0.25, 2), (1.0, 9)):  # 2.7, 2.25 and 9 vectors
        banks, _ = build_banks([image], coreset=share, progress=False)
        assert len(banks["tokens"]) == count


def test_a_coreset_of_one_image_alone_is_refused() -> None:
    far, near = random_vectors(30, 5), torch.zeros(30, 5)
    with pytest.raises(ValueError, match=r"coreset=0\.01 keeps 1 of the vectors of 2 images.*raise coreset"):
        build_banks([{"tokens": far}, {"tokens": near}], coreset=0.01, progress=False)
    banks, rows = build_banks([{"tokens": far}], coreset=0.01, progress=False)  # there is no other to compare it with
    assert len(banks["tokens"]) == 1
    assert rows == [{"tokens": slice(0, 1)}]


def test_names_of_classes(memory: Memory) -> None:
    assert Fitted(memory).class_names == ("a", "b", "c")
    assert Fitted(Memory((None,), memory.banks[:1])).class_names == ()
