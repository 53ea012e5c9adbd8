"""Maps, fusion, heatmaps, regions, prompts and thresholds, by hand-derived numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from patchclip import DEFAULT_DEFECTS, prompts, scoring
from patchclip.heatmap import find_blobs, separate_heatmaps, to_heatmaps
from patchclip.threshold import from_normal_scores
from patchclip.viz import colour_level
from patchclip.windows import harmonic_aggregate, harmonic_mean, window_means


def test_anomaly_probability_is_a_softmax_of_cosines() -> None:
    states = torch.tensor([[2.0, 0], [0, 5.0]])
    found = scoring.anomaly_probability(torch.tensor([[3.0, 4.0], [1.0, 1.0]]), states, 0.1)
    expected = math.exp(0.8 / 0.1) / (math.exp(0.6 / 0.1) + math.exp(0.8 / 0.1))
    assert found.tolist() == pytest.approx([expected, 0.5], abs=1e-6)


def test_window_means_and_a_window_larger_than_the_grid() -> None:
    tokens = torch.arange(6, dtype=torch.float32).view(1, 2, 3, 1)
    assert window_means(tokens, 2)[0, ..., 0].tolist() == [[2, 3]]
    assert window_means(tokens, 3)[0, ..., 0].tolist() == [[2.5]]
    assert window_means(tokens, 1) is tokens


def test_harmonic_aggregate_of_a_rectangle_against_a_loop() -> None:
    scores = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0)) + 0.01
    found = harmonic_aggregate(scores, (5, 6))  # windows of 3 x 2
    assert found.shape == (2, 5, 6)
    for b in range(2):
        for i in range(5):
            for j in range(6):
                covering = [scores[b, r, c] for r in range(3) for c in range(5) if r <= i < r + 3 and c <= j < c + 2]
                expected = len(covering) / sum(1 / s for s in covering)
                assert float(found[b, i, j]) == pytest.approx(float(expected), abs=1e-6)


def test_text_map_with_the_whole_image_as_a_scale() -> None:
    states, dense = torch.eye(2), torch.tensor([[[[1.0, 0], [0, 1.0]]]])
    cls = torch.tensor([[1.0, 1.0]])
    alone = scoring.text_map(cls, dense, states, scales=(1,), temperature=1.0)
    low, high = 1 / (1 + math.e), math.e / (1 + math.e)
    assert alone[0].tolist() == [pytest.approx([low, high])]
    both = scoring.text_map(cls, dense, states, scales=(0, 1), temperature=1.0)
    assert both[0].tolist() == [pytest.approx([2 / (1 / 0.5 + 1 / low), 2 / (1 / 0.5 + 1 / high)])]
    whole = scoring.text_map(cls, dense, states, scales=(0,), temperature=1.0)
    assert whole.tolist() == [[[0.5, 0.5]]]


def test_harmonic_mean_broadcasts() -> None:
    found = harmonic_mean([torch.tensor([[[0.5]]]), torch.tensor([[[1.0, 0.25]]])])
    assert found[0, 0].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_distances_lie_in_the_unit_range() -> None:
    unit, any_length = torch.tensor([0.0, 4.0]), torch.tensor([0.0, 3.0, 1e9])
    found = scoring.distance_maps({"tokens": unit, "imagenet": unit, "texture": any_length}, half_at={"texture": 3.0})
    assert found["tokens"].tolist() == found["imagenet"].tolist() == [0, 1]
    assert found["texture"].tolist() == pytest.approx([0, 0.5, 1])


def test_a_finer_map_gives_each_patch_its_highest_value() -> None:
    def found(squared: torch.Tensor, grid_hw: tuple[int, int]) -> torch.Tensor:
        return 4 * scoring.distance_maps({"imagenet": squared}, half_at={}, grid_hw=grid_hw)["imagenet"]

    fine = torch.arange(18.0).view(1, 3, 6)  # one and a half to a patch
    assert found(fine, (2, 4)).tolist() == [[[7, 8, 10, 11], [13, 14, 16, 17]]]
    assert torch.equal(found(fine[0], (3, 6)), fine[0])
    assert found(torch.rand(5, 7), (3, 5)).shape == (3, 5)  # any other ratio too


def test_fusion_weights_by_hand() -> None:
    weights = scoring.fusion_weights({"text": 0.1, "tokens": 0.05, "texture": 0.2, "imagenet": 0.1})
    assert weights == pytest.approx({"text": 10 / 95, "tokens": 2 * 20 / 95, "texture": 5 / 95, "imagenet": 40 / 95})
    assert scoring.fusion_weights({"text": 0.3}) == {"text": 1}
    still = scoring.fusion_weights({"text": 0.0, "tokens": 0.02})  # a text near 0 hardly moves
    assert still == pytest.approx({"text": 25 / 125, "tokens": 100 / 125})
    fused = scoring.fuse({"text": torch.tensor([1.0]), "tokens": torch.tensor([0.5])}, {"text": 0.25, "tokens": 0.75})
    assert float(fused) == pytest.approx(0.625)


@pytest.mark.parametrize("size_hw", [(50, 70), (1, 40_000), (3, 2), (300, 1)])
def test_separate_heatmaps_are_the_same(size_hw: tuple[int, int]) -> None:
    maps = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    for smoothing in (0.0, 0.4):
        separate = separate_heatmaps(maps, size_hw, smoothing)
        torch.testing.assert_close(torch.stack(separate), to_heatmaps(maps, size_hw, smoothing), atol=1e-5, rtol=0)


def test_class_levels_by_hand() -> None:
    levels = scoring.class_levels([0.1, 0.3, 0.8, 0.8], [0, 0, 1, 1])  # means 0.2 and 0.8, together 0.4
    assert levels == pytest.approx((math.sqrt(0.2 * 0.4), math.sqrt(0.8 * 0.4)))
    for value, relative in ((0.5, 0.5), (0.0, 0.0)):
        assert float(scoring.fuse({"text": torch.tensor(value)}, {"text": 1.0}, level=0.5)) == relative


def test_names_are_probabilities() -> None:
    found = scoring.name_probabilities(torch.tensor([2.0, 0.0]), torch.tensor([[5.0, 0.0], [0.0, 1.0]]), 0.5)
    assert found.tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])


def test_heatmap_without_smoothing_is_bilinear() -> None:
    found = to_heatmaps(torch.tensor([[[0.0, 1.0]]]), (2, 4), 0.0)
    assert found.shape == (1, 2, 4)
    assert found[0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_smoothing_keeps_a_constant_and_lowers_a_peak() -> None:
    flat = to_heatmaps(torch.full((1, 4, 4), 0.3), (50, 70), 0.7)
    assert torch.allclose(flat, torch.tensor(0.3), atol=1e-6)
    peak = torch.zeros(1, 7, 7)
    peak[0, 3, 3] = 1
    sharp, smooth = (to_heatmaps(peak, (112, 112), sigma)[0] for sigma in (0.0, 0.5))
    assert sharp.max() > smooth.max() > 0.2
    assert divmod(int(smooth.argmax()), 112)[0] in range(48, 64)
    assert torch.allclose(smooth, smooth.flip(0), atol=1e-5)


def test_blobs_by_hand() -> None:
    heatmap = np.zeros((8, 12), np.float32)
    heatmap[1:3, 2:5] = 0.6
    heatmap[2, 4] = 0.7
    heatmap[6, 10] = 0.9
    blobs = find_blobs(heatmap, 0.5, (4, 6))  # tokens of 2 x 2 pixels, middles at odd pixels
    assert [(b.box_xyxy, b.area_px, round(b.score, 3)) for b in blobs] == [
        ((10, 6, 11, 7), 1, 0.9),
        ((2, 1, 5, 3), 6, 0.7),
    ]
    assert np.argwhere(blobs[0].cells).tolist() == [[3, 5]]  # its middle lies outside, its peak inside
    assert np.argwhere(blobs[1].cells).tolist() == [[0, 1], [1, 2]]
    assert find_blobs(heatmap, 0.9, (4, 6)) == []  # above means above


def test_blobs_stand_out_from_their_own_image() -> None:
    heatmap = np.full((8, 12), 0.5, np.float32)  # all of it above the threshold, as where a defect moves every token
    heatmap[6, 10] = 0.9
    heatmap[1, 1], heatmap[1, 5] = 0.59, 0.61  # below and above 0.5 + (0.9 - 0.5) / 4
    boxes = [blob.box_xyxy for blob in find_blobs(heatmap, 0.4, (4, 6))]
    assert boxes == [(10, 6, 11, 7), (5, 1, 6, 2)]
    flat = np.full((8, 12), 0.5, np.float32)  # nothing stands out: the image as a whole is anomalous
    assert [blob.box_xyxy for blob in find_blobs(flat, 0.4, (4, 6))] == [(0, 0, 12, 8)]


def test_prompts_are_states_times_templates() -> None:
    assert len(prompts.compose(prompts.NORMAL_STATES, prompts.TEMPLATES, "tile")) == 7 * 22
    assert prompts.compose(["{} with flaw"], ["a photo of the {}."], "tile") == ["a photo of the tile with flaw."]
    assert "a photo of a tile with a slit." in prompts.defect_prompts(DEFAULT_DEFECTS["cut"], "tile")
    assert "a photo of a tile with {x}." in prompts.defect_prompts(["{x}"], "tile")


def test_defect_wordings() -> None:
    found = prompts.defect_wordings(["dot", "ink blot", "an odd mark"])
    assert found == {"dot": DEFAULT_DEFECTS["dot"], "ink blot": ("an ink blot",), "an odd mark": ("an odd mark",)}
    assert prompts.defect_wordings({"dot": ["a black spot"]}) == {"dot": ("a black spot",)}
    assert prompts.defect_wordings({"dot": "a black spot"}) == {"dot": ("a black spot",)}
    for wrong in ("dot", [""], {"dot": []}, {"dot": [" "]}):
        with pytest.raises(ValueError, match="defect"):
            prompts.defect_wordings(wrong)


def test_conformal_threshold_by_rank() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, 100) / 100)  # n = 99
    found = from_normal_scores(scores, 0.05, "calibrate")
    assert (found.value, found.guaranteed) == (0.95, True)  # rank ceil(100 * 0.95) = 95
    assert from_normal_scores(scores, 0.01, "calibrate").value == 0.99
    assert not from_normal_scores(scores, 0.05, "fit").guaranteed


def test_conformal_threshold_holds_on_new_scores() -> None:
    rng = np.random.default_rng(1)
    exceeded = [rng.gamma(2) > from_normal_scores(rng.gamma(2, size=39), 0.1, "calibrate").value for _ in range(4000)]
    assert abs(np.mean(exceeded) - 0.1) < 0.02


def test_few_scores_extrapolate_on_log_odds() -> None:
    odds = np.array([-2.3, -2.0, -1.7, -2.0])  # none beyond 1.5 deviations: mean -2, deviation 0.2449 / 0.7785^0.5
    scores = 1 / (1 + np.exp(-odds))
    found = from_normal_scores(scores, 0.05, "calibrate")
    # t of 3 degrees of freedom at 0.95 is 2.3534
    assert math.log(found.value / (1 - found.value)) == pytest.approx(-2 + 2.3534 * 0.27762 * math.sqrt(1.25), abs=1e-3)
    assert not found.guaranteed
    assert from_normal_scores(np.array([0.3, 0.3]), 0.05, "fit").value == pytest.approx(0.3)
    # with a usual spread of 0.5, worth four scores: deviation sqrt((4 * 0.25 + 0.18) / 7), t of 7 is 1.8946
    found = from_normal_scores(scores, 0.05, "fit", usual_spread=0.5)
    expected = -2 + 1.8946 * math.sqrt(1.18 / 7) * math.sqrt(1.25)
    assert math.log(found.value / (1 - found.value)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("spread", [None, 0.3])
def test_the_limit_of_few_scores_is_exceeded_as_often_as_it_says(spread: float | None) -> None:
    rng = np.random.default_rng(2)

    def exceeded(count: int, rate: float) -> float:
        scores = 1 / (1 + np.exp(2 - 0.3 * rng.standard_normal((1500, count + 1))))
        limits = [from_normal_scores(row[:-1], rate, "calibrate", usual_spread=spread).value for row in scores]
        return float(np.mean(scores[:, -1] > limits))

    assert exceeded(6, 0.1) == pytest.approx(0.1, abs=0.03)
    assert exceeded(18, 0.05) == pytest.approx(0.05, abs=0.025)
    assert exceeded(50, 0.01) < 0.025


def test_variations_of_few_images_count_as_those() -> None:
    scores = np.random.default_rng(0).uniform(0.1, 0.2, 24)
    one, four = (from_normal_scores(scores, 0.05, "fit", images=n, usual_spread=0.2).value for n in (1, 4))
    assert one > four > from_normal_scores(scores, 0.05, "fit", usual_spread=0.2).value


def test_one_odd_image_does_not_hide_the_defects() -> None:
    usual = np.array([0.13, 0.14, 0.15, 0.12, 0.13, 0.16, 0.14])
    alone, beside = (from_normal_scores(np.append(usual, odd), 0.05, "fit").value for odd in (0.15, 0.6))
    assert usual.max() < alone < beside < 0.3
    assert from_normal_scores(np.append(usual, 0.99), 0.05, "fit").value == pytest.approx(beside)


@pytest.mark.parametrize(("count", "rate", "reason"), [(1, 0.05, "at least 2"), (5, 0.0, "rate"), (5, 1.0, "rate")])
def test_impossible_thresholds(count: int, rate: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_normal_scores(np.zeros(count), rate, "fit")


def test_colours_are_anchored_to_the_threshold() -> None:
    assert colour_level(np.array([0.0, 0.2, 0.4]), 0.2).tolist() == pytest.approx([0, 0.5, 0.8])
