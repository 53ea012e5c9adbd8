"""Maps, their fusion, levels of classes and names, by hand-derived numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from patchclip.encoders.texture import HALF_AT
from patchclip.scoring import maps
from patchclip.scoring.bank import PatchBank


def test_anomaly_probability_is_a_softmax_of_cosines() -> None:
    states = torch.tensor([[2.0, 0], [0, 5.0]])
    found = maps.anomaly_probability(torch.tensor([[3.0, 4.0], [1.0, 1.0]]), states, 0.1)
    expected = math.exp(0.8 / 0.1) / (math.exp(0.6 / 0.1) + math.exp(0.8 / 0.1))
    assert found.tolist() == pytest.approx([expected, 0.5], abs=1e-6)


def test_text_map_with_the_whole_image_as_a_scale() -> None:
    states, dense = torch.eye(2), torch.tensor([[[[1.0, 0], [0, 1.0]]]])
    cls = torch.tensor([[1.0, 1.0]])
    alone = maps.text_map(cls, dense, states, scales=(1,), temperature=1.0)
    low, high = 1 / (1 + math.e), math.e / (1 + math.e)
    assert alone[0].tolist() == [pytest.approx([low, high])]
    both = maps.text_map(cls, dense, states, scales=(0, 1), temperature=1.0)
    assert both[0].tolist() == [pytest.approx([2 / (1 / 0.5 + 1 / low), 2 / (1 / 0.5 + 1 / high)])]
    whole = maps.text_map(cls, dense, states, scales=(0,), temperature=1.0)
    assert whole.tolist() == [[[0.5, 0.5]]]


def test_text_map_of_windows_and_of_several_images() -> None:
    generator = torch.Generator().manual_seed(0)
    cls, dense = torch.randn(3, 5, generator=generator), torch.randn(3, 4, 6, 5, generator=generator)
    states = torch.randn(2, 5, generator=generator)
    found = maps.text_map(cls, dense, states, scales=(0, 2, 3), temperature=0.5)
    assert found.shape == (3, 4, 6)

    def probability(vector: torch.Tensor) -> float:
        cosines = [float(F.cosine_similarity(vector, state, dim=0)) for state in states]
        return 1 / (1 + math.exp((cosines[0] - cosines[1]) / 0.5))

    tokens = F.normalize(dense, dim=-1)
    for image, row, column in ((0, 0, 0), (1, 2, 3), (2, 3, 5)):
        inverses = [1 / probability(cls[image])]
        for side in (2, 3):
            scores = []
            for top in range(max(0, row - side + 1), min(row, 4 - side) + 1):
                for left in range(max(0, column - side + 1), min(column, 6 - side) + 1):
                    scores.append(probability(tokens[image, top : top + side, left : left + side].mean((0, 1))))
            inverses.append(sum(1 / score for score in scores) / len(scores))
        assert float(found[image, row, column]) == pytest.approx(3 / sum(inverses), abs=1e-5)


def test_association_of_two_vectors() -> None:
    unit = F.normalize(torch.tensor([[0.0, 1, 0], [1, 1, 0]]), dim=1)
    squared = PatchBank(unit).nearest(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    assert torch.allclose(maps.bank_map(squared, None), torch.tensor([0.1464, 0.0]), atol=1e-4)


def test_distances_lie_in_the_unit_range() -> None:
    unit, any_length = torch.tensor([[[0.0, 4.0]]]), torch.tensor([[[0.0, HALF_AT, 1e12]]])
    squared = {"texture": any_length, "imagenet": unit, "tokens": unit}
    found = maps.bank_maps({name: values for name, values in squared.items() if name != "texture"}, (1, 2))
    assert list(found) == ["tokens", "imagenet"]  # in the order of the table
    assert found["tokens"].tolist() == found["imagenet"].tolist() == [[[0, 1]]]
    assert maps.bank_maps({"texture": any_length}, (1, 3))["texture"].flatten().tolist() == pytest.approx([0, 0.5, 1])


def test_a_finer_map_gives_each_patch_its_highest_value() -> None:
    fine = torch.arange(18.0).view(1, 3, 6)  # one and a half to a patch
    assert maps.to_grid(fine, (2, 4)).tolist() == [[[7, 8, 10, 11], [13, 14, 16, 17]]]
    assert maps.to_grid(fine, (3, 6)) is fine
    assert maps.to_grid(torch.rand(2, 5, 7), (3, 5)).shape == (2, 3, 5)  # any other ratio too
    found = maps.bank_maps({"imagenet": fine}, (2, 4))["imagenet"]
    assert (4 * found).tolist() == [[[7, 8, 10, 11], [13, 14, 16, 17]]]


def test_fusion_weights_by_hand() -> None:
    weights = maps.fusion_weights({"text": 0.1, "tokens": 0.05, "texture": 0.2, "imagenet": 0.1})
    assert weights == pytest.approx({"text": 10 / 95, "tokens": 2 * 20 / 95, "texture": 5 / 95, "imagenet": 40 / 95})
    assert maps.fusion_weights({"text": 0.3}) == {"text": 1}
    halfway = maps.fusion_weights({"tokens": 0.01, "imagenet": 0.01}, {"tokens": 0.09, "imagenet": 0.01})
    assert halfway == pytest.approx({"tokens": (2 / 0.03) / (2 / 0.03 + 400), "imagenet": 400 / (2 / 0.03 + 400)})
    assert maps.fusion_weights({"tokens": 0.01, "imagenet": 0.01}, {"tokens": 0.09})["tokens"] == pytest.approx(1 / 3)
    still = maps.fusion_weights({"text": 0.0, "tokens": 0.02})  # a text near 0 hardly moves
    assert still == pytest.approx({"text": 25 / 125, "tokens": 100 / 125})
    assert maps.fusion_weights({"tokens": 0.0}) == {"tokens": 1}


def test_fusion_by_hand() -> None:
    given = {"text": torch.full((1, 1, 1), 1.0), "tokens": torch.full((1, 1, 1), 0.5)}
    assert float(maps.fuse(given, {"text": 0.25, "tokens": 0.75})) == pytest.approx(0.625)
    assert float(maps.fuse(given, {})) == pytest.approx(0.75)  # none are equal ones


def test_fusion_relative_to_the_level_of_each_images_class() -> None:
    values = torch.tensor([0.5, 0.0, 0.2]).view(3, 1, 1)
    found = maps.fuse({"text": values}, {"text": 1.0}, level=torch.tensor([0.5, 0.5, 0.6]))
    assert found.flatten().tolist() == pytest.approx([0.5, 0, 0.25])


def test_class_levels_by_hand() -> None:
    levels = maps.class_levels([0.1, 0.8, 0.3, 0.8], [0, 1, 0, 1])  # means 0.2 and 0.8, together 0.4
    assert levels == pytest.approx((math.sqrt(0.2 * 0.4), math.sqrt(0.8 * 0.4)))
    low = maps.class_levels([0.001, 0.004], [0, 1])  # together 0.002
    assert low == pytest.approx((math.sqrt(0.001 * 0.002), math.sqrt(0.004 * 0.002)))
    assert min(maps.class_levels([0.0, 0.5], [0, 1])) > 0  # a level is divided by
