"""Metrics against scikit-learn, against slow loops written from the definitions, and by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from patchclip import metrics
from patchclip.metrics import PixelCounts, coarsen, merge, pixel_areas, pixel_metrics, tally

NAMES = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro")


def slow_f1_max(labels: np.ndarray, scores: np.ndarray) -> float:
    """One threshold after the other."""
    best = 0.0
    for threshold in set(scores.tolist()):
        flagged = scores >= threshold
        true = (flagged & labels).sum()
        best = max(best, 2 * true / (flagged.sum() + labels.sum()))
    return best


def slow_aupro(masks: list[np.ndarray], heatmaps: list[np.ndarray], limit: float) -> float:
    """One threshold, one region after the other; the curve is cut by interpolation."""
    regions = []
    for mask, heatmap in zip(masks, heatmaps, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [heatmap[labelled == number] for number in range(1, count + 1)]
    normal = np.concatenate([heatmap[~mask] for mask, heatmap in zip(masks, heatmaps, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in sorted({value for heatmap in heatmaps for value in heatmap.ravel().tolist()}, reverse=True):
        overlap = np.mean([(region >= threshold).mean() for region in regions])
        points.append(((normal >= threshold).mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
        if x1 == limit:
            break
    return area / limit


def random_case(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A few small images with blobs of defects, and scores in few steps, so that many tie."""
    rng = np.random.default_rng(seed)
    masks, heatmaps = [], []
    for _ in range(rng.integers(1, 5)):
        size = tuple(rng.integers(6, 17, 2))
        mask = ndimage.binary_dilation(rng.random(size) < 0.03) & (rng.random(size) < 0.9)
        heatmap = np.round(rng.random(size) + 0.4 * mask * rng.random(), rng.integers(1, 4)).astype(np.float32)
        masks.append(mask)
        heatmaps.append(heatmap)
    masks[0][1, 1], masks[0][4, 4] = True, False  # both classes are there
    return masks, heatmaps


@pytest.mark.parametrize("seed", range(100))
def test_random_cases_with_ties(seed: int) -> None:
    masks, heatmaps = random_case(seed)
    labels = np.concatenate([mask.ravel() for mask in masks])
    scores = np.concatenate([heatmap.ravel() for heatmap in heatmaps])
    auroc, ap = roc_auc_score(labels, scores), average_precision_score(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))

    assert metrics.auroc(labels, scores) == pytest.approx(auroc, abs=1e-12)
    assert metrics.average_precision(labels, scores) == pytest.approx(ap, abs=1e-12)
    best, threshold = metrics.f1_max(labels, scores)
    assert best == pytest.approx(f1, abs=1e-9) == pytest.approx(slow_f1_max(labels, scores), abs=1e-12)
    flagged = scores >= threshold
    assert 2 * (flagged & labels).sum() / (flagged.sum() + labels.sum()) == pytest.approx(best, abs=1e-12)

    limit = (0.3, 0.05, 1.0)[seed % 3]
    aupro = slow_aupro(masks, heatmaps, limit)
    assert metrics.aupro(masks, heatmaps, limit=limit) == pytest.approx(aupro, abs=1e-9)
    for exact in (True, False):  # so few values: bins keep them apart
        counted = [tally(heatmap, mask, exact=exact) for mask, heatmap in zip(masks, heatmaps, strict=True)]
        found = pixel_metrics(counted, limit=limit)
        expected = dict(zip(NAMES, (auroc, ap, f1, aupro), strict=True))
        assert {name: found[name] for name in NAMES} == pytest.approx(expected, abs=1e-9)


def test_aupro_by_hand() -> None:
    """Two regions, of two pixels and of one, and 13 normal pixels.

    Going down, (FPR, overlap): 0.9 (0, 1/4), 0.8 (1/13, 1/4), 0.7 (1/13, 3/4), 0.6 (2/13, 3/4), 0.5 (2/13, 1).
    Up to 0.3 that is 1/4 + 3/4 over 1/13 each, and 1 over the other 0.3 - 2/13.
    """
    heatmap, mask = np.full((4, 4), 0.1, np.float32), np.zeros((4, 4), bool)
    mask[0, 0] = mask[1, 1] = mask[3, 3] = True  # the first two touch by their corners: one region
    heatmap[0, 0], heatmap[1, 1], heatmap[3, 3] = 0.9, 0.5, 0.7
    heatmap[0, 3], heatmap[3, 0] = 0.8, 0.6
    expected = (0.25 / 13 + 0.75 / 13 + (0.3 - 2 / 13)) / 0.3
    assert expected == pytest.approx(0.7435897)
    assert metrics.aupro([mask], [heatmap]) == pytest.approx(expected, abs=1e-12)
    assert tally(heatmap, mask).regions == 2


def test_f1_max_by_hand() -> None:
    """Above 0.4 there are 2 of 2 defects and 1 normal one: F1 = 2 * 2 / (3 + 2)."""
    assert metrics.f1_max(np.array([1, 0, 1, 0, 0]), np.array([0.9, 0.6, 0.4, 0.3, 0.1])) == pytest.approx((0.8, 0.4))


def test_constant_scores() -> None:
    """Worth nothing: the curves are their diagonals, and F1 is that of flagging everything."""
    mask = np.zeros((5, 4), bool)
    mask[:2, :2] = True  # 4 of 20
    found = pixel_metrics([tally(np.full((5, 4), 0.7, np.float32), mask)])
    assert found["pixel_auroc"] == 0.5
    assert found["pixel_ap"] == pytest.approx(0.2)
    assert found["pixel_f1_max"] == pytest.approx(2 * 4 / (20 + 4))
    assert found["aupro"] == pytest.approx(0.15)  # half of 0.3 squared, by 0.3
    assert found["binning_error"] == pytest.approx(0.5)
    assert metrics.auroc(mask, np.ones(20)) == 0.5
    assert metrics.f1_max(mask, np.ones(20)) == pytest.approx((1 / 3, 1.0))


def test_one_class_is_nan() -> None:
    heatmap = np.random.default_rng(0).random((4, 4), np.float32)
    nothing, everything = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    without = pixel_metrics([tally(heatmap, nothing)])
    assert all(np.isnan(without[name]) for name in NAMES)
    alone = pixel_metrics([tally(heatmap, everything)])
    assert np.isnan(alone["pixel_auroc"])
    assert np.isnan(alone["aupro"])
    assert (alone["pixel_ap"], alone["pixel_f1_max"]) == (1.0, 1.0)
    assert np.isnan(metrics.aupro([nothing], [heatmap]))
    assert np.isnan(metrics.auroc(np.ones(3), np.arange(3)))
    assert np.isnan(metrics.auroc(np.zeros(3), np.arange(3)))
    assert np.isnan(metrics.average_precision(np.zeros(3), np.arange(3)))
    assert metrics.average_precision(np.ones(3), np.arange(3)) == 1
    assert np.isnan(metrics.f1_max(np.zeros(3), np.arange(3))).all()


def test_normal_images_count_as_background() -> None:
    """A defective image found perfectly, beside a normal one that scores higher all over."""
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    heatmap = mask.astype(np.float32) * 0.5
    alone = pixel_metrics([tally(heatmap, mask)])
    beside = [tally(heatmap, mask), tally(np.full((4, 4), 0.9, np.float32), np.zeros((4, 4), bool))]
    assert alone["aupro"] == alone["pixel_auroc"] == 1
    # 16 of 24 normal pixels come first: nothing is found before FPR 2/3
    assert pixel_metrics(beside)["aupro"] == 0
    assert pixel_metrics(beside)["pixel_auroc"] == pytest.approx(8 / 24)


@pytest.mark.parametrize("shape", ["narrow", "wide", "saturated"])
def test_bins_cost_less_than_a_thousandth(shape: str) -> None:
    """Large images whose every pixel has a value of its own."""
    rng = np.random.default_rng(1)
    masks, heatmaps = [], []
    for number in range(3):
        mask = np.zeros((420, 500), bool)
        mask[50:90, 60:140] = mask[300:303, 400:480] = number < 2
        signal = rng.normal(size=mask.shape) + 1.2 * mask
        smooth = 1 / (1 + np.exp(-signal))
        values = {"narrow": 0.5 + 1e-3 * smooth, "wide": 10 ** (3 * signal - 6), "saturated": 1 - 0.01 * (1 - smooth)}
        heatmaps.append(values[shape].astype(np.float32))
        masks.append(mask)
    exact = pixel_metrics([tally(h, m, exact=True) for h, m in zip(heatmaps, masks, strict=True)])
    counted = [tally(h, m) for h, m in zip(heatmaps, masks, strict=True)]
    binned = pixel_metrics(counted)
    assert all(max(len(one.normal_bins), len(one.defect_bins)) <= 32768 for one in counted)
    for name in NAMES:
        assert binned[name] == pytest.approx(exact[name], abs=1e-3), name
    assert abs(binned["pixel_auroc"] - exact["pixel_auroc"]) <= binned["binning_error"] + 1e-12
    assert exact["pixel_auroc"] == pytest.approx(
        roc_auc_score(np.stack(masks).ravel(), np.stack(heatmaps).ravel()), abs=1e-9
    )


def test_bins_that_cost_more_say_so() -> None:
    """One image spreads over forty powers of two, the others lie in a thousandth of one."""
    rng = np.random.default_rng(1)
    masks = [rng.random((300, 300)) < 0.02 for _ in range(3)]
    smooth = [1 / (1 + np.exp(-rng.normal(size=mask.shape) - mask)) for mask in masks]
    heatmaps = [0.5 + 1e-4 * smooth[0], 0.5 + 1e-4 * smooth[1], 10 ** (40 * smooth[2] - 30)]
    heatmaps = [heatmap.astype(np.float32) for heatmap in heatmaps]
    exact = pixel_metrics([tally(h, m, exact=True) for h, m in zip(heatmaps, masks, strict=True)])
    binned = pixel_metrics([tally(h, m) for h, m in zip(heatmaps, masks, strict=True)])
    assert binned["binning_error"] > 1e-3
    assert abs(binned["pixel_auroc"] - exact["pixel_auroc"]) <= binned["binning_error"]


def test_coarse_bins_for_resampling() -> None:
    rng = np.random.default_rng(2)
    masks = [ndimage.binary_dilation(rng.random((60, 70)) < 0.002, iterations=2) for _ in range(6)]
    heatmaps = [(rng.random(mask.shape) + 0.5 * mask).astype(np.float32) for mask in masks]
    counted = [tally(h, m) for h, m in zip(heatmaps, masks, strict=True)]
    coarse = coarsen(counted)
    assert coarse.normal.shape == coarse.defect.shape == coarse.overlap.shape == (6, 1024)
    assert coarse.normal.sum(1).tolist() == [(~mask).sum() for mask in masks]
    assert coarse.defect.sum(1).tolist() == [mask.sum() for mask in masks]
    np.testing.assert_allclose(coarse.overlap.sum(1), coarse.regions)
    together = PixelCounts(*(part.sum(0, keepdims=True) for part in (coarse.normal, coarse.defect, coarse.overlap)),
                           coarse.regions.sum(keepdims=True))  # fmt: skip
    found, exact = pixel_areas(together), pixel_metrics(counted)
    for name in NAMES:
        assert found[name][0] == pytest.approx(exact[name], abs=3e-3), name


def test_tallies_of_different_width_add_up() -> None:
    fine = tally(np.array([[0.1, 0.2]], np.float32), np.array([[False, True]]), exact=True)
    wide = tally(np.array([[0.1, 0.3]], np.float32), np.array([[False, False]]))
    counts = merge([fine, wide])
    assert counts.normal.sum() == 3
    assert counts.normal[0].tolist() == [1, 0, 2]  # 0.3, 0.2, 0.1
    assert counts.defect[0].tolist() == [0, 1, 0]


def test_scikit_learn_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for metric in (metrics.auroc, metrics.average_precision):
        assert metric(np.array([0, 1]), np.array([0, 1])) == 1


def test_what_is_refused() -> None:
    good, mask = np.full((2, 3), 0.5, np.float32), np.zeros((2, 3), bool)
    with pytest.raises(ValueError, match=r"one shape \(H, W\), got \(2, 3\) and \(3, 2\)"):
        tally(good, mask.T)
    for bad in (np.nan, np.inf, -0.1):
        with pytest.raises(ValueError, match="finite heatmap values of 0 or more"):
            tally(np.full((2, 3), bad, np.float32), mask)
    with pytest.raises(ValueError, match="at least one image"):
        pixel_metrics([])
    with pytest.raises(ValueError, match=r"in \(0, 1\], got 0"):
        pixel_metrics([tally(good, mask)], limit=0)
    with pytest.raises(ValueError, match="2 labels and 3 scores"):
        metrics.f1_max(np.array([0, 1]), np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        metrics.auroc(np.array([0, 1]), np.array([np.nan, 1]))
