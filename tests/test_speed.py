"""What the fast paths compute, never how long they take."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import open_clip
import pytest
import torch
from conftest import random_clip
from scipy import ndimage, stats

from patchclip import Detector
from patchclip.backbone import run_tower
from patchclip.bank import PatchBank
from patchclip.heatmap import find_blobs
from patchclip.pipeline import ordered_map
from patchclip.threshold import from_normal_scores


@pytest.mark.parametrize("dense_attention", ["qk", "qq", "vv"])
def test_the_tower_gives_open_clips_own_embedding_and_tokens(dense_attention: str) -> None:
    clip = random_clip(1)
    visual = clip.visual
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    positions = visual.positional_embedding[1:].view(4, 4, -1)
    with torch.no_grad():
        tokens = run_tower(visual, pixels, positions, layers=(1, 2, 3), dense_attention=dense_attention)
        own = visual.forward_intermediates(pixels, indices=3, normalize_intermediates=False, output_fmt="NLC")
        assert torch.allclose(tokens.cls, clip.encode_image(pixels), atol=1e-5)
        expected = own["image_intermediates"]
        expected[-1] = visual.ln_post(expected[-1])  # the last one passes ln_post
    for found, wanted in zip(tokens.layers, expected, strict=True):
        assert found.shape == (3, 4, 4, 32)
        assert torch.allclose(found.flatten(1, 2), wanted, atol=1e-4)


def test_a_block_of_another_kind_runs_as_it_is() -> None:
    config = {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "block_type": "custom"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.CLIP(
            embed_dim=24,
            vision_cfg=config,
            text_cfg={"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
        ).eval()
    assert type(clip.visual.transformer.resblocks[0]) is not open_clip.transformer.ResidualAttentionBlock
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    positions = clip.visual.positional_embedding[1:].view(4, 4, -1)
    with torch.no_grad():
        tokens = run_tower(clip.visual, pixels, positions, layers=(), dense_attention="qk")
        assert torch.allclose(tokens.cls, clip.encode_image(pixels), atol=1e-5)


@pytest.mark.parametrize("share", [0.8, 0.95])  # what stands out is the narrower bound, then the threshold
def test_peaks_and_cells_of_regions_against_scipy(share: float) -> None:
    heatmap = ndimage.gaussian_filter(np.random.default_rng(0).random((120, 160)), 4).astype(np.float32)
    threshold = float(np.quantile(heatmap, share))
    background = np.median(heatmap[10::20, 10::20])
    stands_out = background + (heatmap.max() - background) / 4
    assert (threshold < stands_out) == (share == 0.8)
    labels, count = ndimage.label(heatmap > max(threshold, stands_out), np.ones((3, 3)))
    assert count > 5
    found = find_blobs(heatmap, threshold, (6, 8))
    expected = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        inside = labels == number
        row, column = ndimage.maximum_position(heatmap, labels, number)
        cells = np.zeros((6, 8), bool)
        for i in range(6):
            for j in range(8):
                cells[i, j] = inside[10 + 20 * i, 10 + 20 * j]  # a token's middle
        cells[row // 20, column // 20] = True
        box = (columns.start, rows.start, columns.stop, rows.stop)
        expected.append((float(heatmap[row, column]), box, int(inside.sum()), cells))
    expected.sort(key=lambda blob: -blob[0])
    assert [(blob.score, blob.box_xyxy, blob.area_px) for blob in found] == [blob[:3] for blob in expected]
    assert all(np.array_equal(blob.cells, cells) for blob, (*_, cells) in zip(found, expected, strict=True))


def test_nearest_when_later_blocks_hold_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchclip.bank._BLOCK_BYTES", 1)  # blocks of 256
    queries = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    far = torch.randn(1000, 5, generator=torch.Generator().manual_seed(1)) + 10
    order = torch.randperm(1020, generator=torch.Generator().manual_seed(2))
    stored = PatchBank(torch.cat([far, queries + 0.01])[order])
    assert torch.allclose(stored.nearest(queries), torch.full((20,), 5e-4), atol=1e-5)


def test_quantile_of_an_extrapolated_threshold_is_students() -> None:
    odds = np.array([-2.2, -1.7, -2.1, -2.0])  # none so far out that it is brought in
    expected = odds.mean() + stats.t.ppf(0.99, 3) * odds.std(ddof=1) * np.sqrt(1.25)
    found = from_normal_scores(1 / (1 + np.exp(-odds)), 0.01, "fit").value
    assert found == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-9)


def test_images_are_resized_where_they_are_decoded(
    local_model: str, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    import patchclip.features as features

    threads, resize = set(), features.resize

    def note(*arguments: object, **options: object) -> np.ndarray:
        threads.add(threading.current_thread().name)
        return resize(*arguments, **options)

    monkeypatch.setattr(features, "resize", note)
    assert len(list(Detector(local_model).predict_batch(normals, batch_size=2, progress=False))) == len(normals)
    assert threads
    assert all(name.startswith("patchclip") for name in threads)


def test_no_more_waits_than_is_allowed() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = ordered_map(lambda number: 2 * number, items(), ahead=5)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(drawn) <= 3 + 5
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patchclip")]


def test_text_is_embedded_once(local_model: str, normals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector(local_model)
    detector.threshold = 0.0  # so that regions are named
    detector.predict(normals[0])
    monkeypatch.setattr(detector.backbone, "encode_text", lambda prompts: pytest.fail("embedded again"))
    detector.predict(normals[1])
    list(detector.predict_batch(normals, progress=False))
