"""`Detector.rank`: equal to a slow loop over all pairs, order, faults, more images than references, what items keep."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import make_extractor
from PIL import Image

import patchclip.ranking
from patchclip import Detector, ImageError, RankedImage, Ranking
from patchclip.scoring.heatmap import to_heatmaps
from patchclip.scoring.regions import find_regions, median_and_half_maximum


def slow_maps(detector: Detector, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of a detector with the cue "tokens" alone: the lowest 30 % of the distances to the other images."""
    extractor = make_extractor(detector)
    grids = []
    for image in images:
        [(_, features)] = extractor.extract([detector.prepare(image)], with_text=False, with_banks=True)
        grids.append(features.vectors["tokens"][0].double().numpy())
    maps = []
    for index, grid in enumerate(grids):
        others = grids[:index] + grids[index + 1 :]
        distances = np.zeros(grid.shape[:2])
        for row, column in np.ndindex(*grid.shape[:2]):
            nearest = [np.linalg.norm(other - grid[row, column], axis=-1).min() for other in others]
            kept = max(1, int(0.3 * len(nearest)))
            distances[row, column] = np.mean(sorted(nearest)[:kept])
        maps.append(distances**2 / 4)  # (1 - cosine) / 2
    return maps


def test_a_ranking_equals_a_slow_loop(local: Detector, images: list[np.ndarray]) -> None:
    several_sizes = [*images, images[0][:, :80], images[1][:60]]
    expected = slow_maps(local, several_sizes)
    found = local.rank(several_sizes, progress=False)
    assert found.scores.shape == (9,)
    assert found.cue_weights == {"tokens": 1.0}
    for item, slow, image in zip(found.items, expected, several_sizes, strict=True):
        heatmap = to_heatmaps(torch.from_numpy(slow)[None], image.shape[:2], 0.25)[0].numpy()
        assert item.heatmap.shape == image.shape[:2]
        np.testing.assert_allclose(item.heatmap, heatmap, rtol=0, atol=1e-5)
        assert item.score == pytest.approx(heatmap.max(), abs=1e-5)


def test_order_and_shares(ranking: Ranking, images: list[np.ndarray]) -> None:
    assert len(ranking) == 7
    assert ranking.scores.dtype == np.float64
    assert [item.index for item in ranking.items] == list(range(7))
    np.testing.assert_array_equal(ranking.scores, [item.score for item in ranking.items])
    ordered = ranking.most_anomalous(7)
    assert [item.rank for item in ordered] == [1, 2, 3, 4, 5, 6, 7]
    assert ordered[0].index == 2
    assert ordered[0].share_below == 6 / 7
    assert ordered[-1].share_below == 0
    assert np.all(np.diff([item.score for item in ordered]) <= 0)
    assert ranking.most_anomalous(2) == ordered[:2]
    assert len(ranking.most_anomalous(100)) == 7
    normal = ranking.most_normal(3)
    assert [id(image) for image in normal] == [id(images[item.index]) for item in ordered[:-4:-1]]
    assert ranking.errors == {}


def test_it_is_no_verdict(ranking: Ranking) -> None:
    for kind in (Ranking, RankedImage):
        assert not [name for name in dir(kind) if "is_anomalous" in name or "threshold" in name]
    assert not hasattr(ranking.items[0], "is_anomalous")


def test_the_table_goes_to_csv(ranking: Ranking) -> None:
    rows = ranking.table()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    read = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert [row["rank"] for row in read] == ["1", "2", "3", "4", "5", "6", "7"]
    assert read[0]["path"] == "image 2"
    assert float(read[0]["share_below"]) == 6 / 7
    item = ranking.items[2]
    assert (rows[0]["left"], rows[0]["top"], rows[0]["right"], rows[0]["bottom"]) == item.box_xyxy


def test_the_box_is_where_the_defect_is(
    tiny: Detector, images: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]
) -> None:
    item = tiny.rank(images, progress=False).most_anomalous(1)[0]
    assert item.index == 2
    assert item.box_xyxy is not None
    left, top, right, bottom = item.box_xyxy
    _, mask = defective
    assert mask[top:bottom, left:right].sum() > 0.5 * mask.sum()


def test_boxes_of_large_images_are_those_of_their_heatmaps(local: Detector, images: list[np.ndarray]) -> None:
    large = [cv2.resize(image, (800, 600)) for image in images]
    for item in local.rank(large, progress=False).items:
        _, level = median_and_half_maximum(item.heatmap)
        region = find_regions(item.heatmap, level, item.patch_map.shape)[0][0]
        np.testing.assert_allclose(item.box_xyxy, region.box_xyxy, rtol=0, atol=4)


def test_unreadable_images_end_nothing(
    local: Detector, ranking: Ranking, images: list[np.ndarray], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    found = local.rank([*images[:3], bad, *images[3:], b"neither"], progress=False)
    assert list(found.errors) == [3, 8]
    assert "bad.jpg" in str(found.errors[3])
    assert np.isnan(found.scores[[3, 8]]).all()
    np.testing.assert_allclose(np.delete(found.scores, [3, 8]), ranking.scores, atol=1e-6)
    item = found.items[3]
    assert (item.path, item.rank, item.box_xyxy, item.image_hw) == (str(bad), None, None, None)
    assert isinstance(item.error, ImageError)
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        item.overlay()
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        _ = item.heatmap
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        _ = item.patch_map
    assert found.most_anomalous(9)[0].index == 2
    assert len(found.most_anomalous(9)) == len(found.most_normal(9)) == 7
    last = found.table()[-1]
    assert last["error"] is not None
    assert last["rank"] is last["score"] is last["share_below"] is last["left"] is None


def test_images_are_read_again_for_pictures(local: Detector, images: list[np.ndarray], tmp_path: Path) -> None:
    paths = []
    for index, image in enumerate(images):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(image).save(paths[-1])
    found = local.rank(paths, progress=False)
    assert found.most_normal(1)[0] in paths
    item = found.items[2]
    assert item.path == str(paths[2])
    assert item.overlay().size == (256, 192)
    Image.fromarray(images[0][:50]).save(paths[2])
    with pytest.raises(ImageError, match="another size"):
        item.overlay()
    paths[2].unlink()
    assert item.heatmap.shape == (96, 128)
    with pytest.raises(ImageError, match=r"2\.png"):
        item.overlay()


def test_an_iterator_may_overwrite_its_images(local: Detector, ranking: Ranking, images: list[np.ndarray]) -> None:
    def overwriting() -> Iterator[np.ndarray]:
        buffer = np.empty_like(images[0])
        for image in images:
            buffer[...] = image
            yield buffer

    found = local.rank(overwriting(), progress=False)
    np.testing.assert_array_equal(found.scores, ranking.scores)
    np.testing.assert_array_equal(local.rank(np.stack(images), progress=False).scores, ranking.scores)


def test_more_images_than_references(
    local: Detector, ranking: Ranking, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of the images, more than are compared with: every image still has its score, the same each time."""
    monkeypatch.setattr(patchclip.ranking, "REFERENCE_COUNT", 8)
    many = images * 5
    found = local.rank(many, progress=False)
    assert np.isfinite(found.scores).all()
    np.testing.assert_array_equal(local.rank(many, progress=False).scores, found.scores)
    assert found.suggested_cut is None or found.suggested_cut.score > 0


def test_nothing_is_fitted_by_it_and_nothing_fitted_is_used(
    fitted: Detector, ranking: Ranking, images: list[np.ndarray]
) -> None:
    detector = copy.copy(fitted)
    before = detector.predict(images[2]).score
    np.testing.assert_array_equal(detector.rank(images, progress=False).scores, ranking.scores)
    assert detector.predict(images[2]).score == before
    assert detector.threshold_source == "fit"


def test_the_other_recipe_and_tiles(local_model: str, images: list[np.ndarray]) -> None:
    for options in ({"recipe": "winclip"}, {"tile": 60}, {"cues": ("tokens", "texture")}):
        found = Detector(local_model, **options).rank(images, progress=False)
        assert found.most_anomalous(1)[0].index == 2
        assert sum(found.cue_weights.values()) == pytest.approx(1)


def test_what_cannot_be_ranked(local: Detector, local_model: str, images: list[np.ndarray]) -> None:
    for wrong in ([], images[:1], [images[0], b"bad"]):
        with pytest.raises(ValueError, match="at least two readable images"):
            local.rank(wrong, progress=False)
    with pytest.raises(ValueError, match="got one"):
        local.rank(images[0], progress=False)
    with pytest.raises(ValueError, match="cues"):
        Detector(local_model, cues=("text",)).rank(images, progress=False)
