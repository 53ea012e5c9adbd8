"""Recipe "winclip" against a slow loop written from the paper's formulas."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from conftest import FEW, random_clip, write_local_dir
from PIL import Image
from torch.nn import functional as F

from patchclip import Detector, ModelNotFoundError, Result
from patchclip.recipes import RECIPES, winclip

PROMPTS = (["a fine tile", "a photo of a perfect tile."], ["a broken tile", "a tile with a crack", "damage"])


@FEW
def test_what_is_flagged_has_a_region_and_colours(local_model: str, normals: list[np.ndarray]) -> None:
    """Score and heatmap have different scales, and the threshold is on that of the score."""
    image = normals[3].copy()
    image[20:50, 30:70] = 0
    for detector in (Detector(local_model, recipe="winclip"), Detector(local_model, recipe="winclip").fit(normals[:2])):
        detector.threshold = 0.0
        result = detector.predict(image)
        level = (np.median(result.heatmap) + result.heatmap.max()) / 2
        assert max(region.score for region in result.regions) == result.heatmap.max()
        assert sum(region.area_px for region in result.regions) == (result.heatmap > level).sum()
        coloured = np.abs(np.asarray(replace(result, regions=()).overlay(max_side=128)).astype(int) - image).max(2)
        assert coloured[np.unravel_index(result.heatmap.argmax(), (96, 128))] > 20
        assert coloured[result.heatmap <= np.median(result.heatmap)].max() <= 1
        detector.threshold = 1.0
        plain = detector.predict(image)
        assert plain.regions == ()
        assert np.abs(np.asarray(plain.overlay(max_side=128)).astype(int) - image).max() <= 1


def test_a_model_that_reads_no_cls_is_refused(tmp_path: Path) -> None:
    write_local_dir(random_clip(3), tmp_path)
    file = tmp_path / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["vision_cfg"]["pool_type"] = "avg"
    file.write_text(json.dumps(config))
    Detector(f"local-dir:{tmp_path}")
    with pytest.raises(ModelNotFoundError, match=r"needs a model with \[CLS\]"):
        Detector(f"local-dir:{tmp_path}", recipe="winclip")


class SlowWinCLIP:
    """One image, one window, one patch at a time."""

    def __init__(self, clip: open_clip.CLIP, side_px: int):
        self.clip, self.side_px = clip, side_px
        tokenizer = open_clip.SimpleTokenizer()
        texts = [torch.stack([clip.encode_text(tokenizer([s]))[0] for s in group]).mean(0) for group in PROMPTS]
        self.texts = [text / text.norm() for text in texts]

    def probability(self, embedding: torch.Tensor) -> float:
        logits = torch.stack([(embedding / embedding.norm()) @ text for text in self.texts]) / 0.07
        return float(torch.softmax(logits, 0)[1])

    def parts(self, image: np.ndarray) -> tuple[torch.Tensor, dict[tuple[int, int, int], torch.Tensor], torch.Tensor]:
        """Image embedding, window embeddings by (side, row, column), patch tokens (gh, gw, D)."""
        visual = self.clip.visual
        resized = Image.fromarray(image).resize((self.side_px, self.side_px), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
        pixels = ((pixels - mean) / std)[None]
        gh, gw = visual.grid_size
        tokens = visual.conv1(pixels)[0].permute(1, 2, 0)  # (gh, gw, D)
        start = visual.class_embedding + visual.positional_embedding[0]
        embedded = {}
        for row in range(gh):
            for column in range(gw):
                position = visual.positional_embedding[1 + row * gw + column]
                embedded[row, column] = tokens[row, column] + position

        def run(cells: list[tuple[int, int]]) -> torch.Tensor:
            x = visual.ln_pre(torch.stack([start] + [embedded[cell] for cell in cells])[None])
            for block in visual.transformer.resblocks:
                x = block(x)
            return visual.ln_post(x)[0]

        windows = {}
        for side in (2, 3):
            for row in range(gh - side + 1):
                for column in range(gw - side + 1):
                    cells = [(row + i, column + j) for i in range(side) for j in range(side)]
                    windows[side, row, column] = run(cells)[0] @ visual.proj
        whole = run(sorted(embedded))
        return self.clip.encode_image(pixels)[0], windows, whole[1:].view(gh, gw, -1)

    def spread(self, values: dict[tuple[int, int, int], float], side: int) -> torch.Tensor:
        """Harmonic aggregation, token by token."""
        gh, gw = self.clip.visual.grid_size
        out = torch.zeros(gh, gw)
        for row in range(gh):
            for column in range(gw):
                inverse = [
                    1 / value
                    for (s, i, j), value in values.items()
                    if s == side and i <= row < i + side and j <= column < j + side
                ]
                out[row, column] = len(inverse) / sum(inverse)
        return out

    @staticmethod
    def association(query: torch.Tensor, references: list[torch.Tensor]) -> float:
        return min(float((1 - F.cosine_similarity(query, reference, dim=0)) / 2) for reference in references)

    @torch.no_grad()
    def zero_shot(self, image: np.ndarray) -> tuple[torch.Tensor, float]:
        """Z on the grid of tokens, and p_image."""
        embedding, windows, _ = self.parts(image)
        p_image = self.probability(embedding)
        scores = {key: self.probability(value) for key, value in windows.items()}
        return 3 / (1 / p_image + 1 / self.spread(scores, 2) + 1 / self.spread(scores, 3)), p_image

    @torch.no_grad()
    def few_shot(self, image: np.ndarray, references: list[np.ndarray]) -> torch.Tensor:
        """F on the grid of tokens."""
        _, windows, patches = self.parts(image)
        gh, gw = self.clip.visual.grid_size
        seen = [self.parts(reference) for reference in references]
        tokens = [token for _, _, grid in seen for token in grid.reshape(-1, grid.shape[-1])]
        by_patch = torch.tensor([[self.association(patches[i, j], tokens) for j in range(gw)] for i in range(gh)])
        by_window = {}
        for key, value in windows.items():
            alike = [window for _, others, _ in seen for (side, *_), window in others.items() if side == key[0]]
            by_window[key] = self.association(value, alike)
        return (by_patch + self.spread(by_window, 2) + self.spread(by_window, 3)) / 3


def spoiled(defective: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    image = defective[0].copy()
    image[20:70, 30:90] = 0  # a random network needs more than a small hole
    return image


def assert_equal(result: Result, token_map: torch.Tensor, score: float) -> None:
    heatmap = F.interpolate(token_map[None, None], (96, 128), mode="bilinear")[0, 0]
    assert result.heatmap.shape == heatmap.shape
    assert float(heatmap.std()) > 1e-3  # the map has something to say
    np.testing.assert_allclose(result.heatmap, heatmap.numpy(), atol=1e-4, rtol=0)
    assert result.score == pytest.approx(score, abs=1e-4)


@FEW
@pytest.mark.parametrize("side_px", [64, 80])
def test_equals_the_slow_loop(
    side_px: int, tmp_path: Path, normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]
) -> None:
    """Before a fit, with two references, and with each of its cues alone."""
    clip = random_clip(side_px, image_size=side_px)
    model = f"local-dir:{write_local_dir(clip, tmp_path / 'clip')}"
    options = {"recipe": "winclip", "prompts": PROMPTS, "precision": "fp32"}
    image, slow = spoiled(defective), SlowWinCLIP(clip, side_px)
    zero_shot, p_image = slow.zero_shot(image)
    few_shot = slow.few_shot(image, normals[:2])
    detector = Detector(model, **options)
    assert_equal(detector.predict(image), zero_shot, p_image)
    detector.fit(normals[:2])
    assert_equal(detector.predict(image), (zero_shot + few_shot) / 2, (p_image + float(few_shot.max())) / 2)
    if side_px == 64:
        banks_alone = Detector(model, **options, cues=("tokens",)).fit(normals[:2])
        assert_equal(banks_alone.predict(image), few_shot, float(few_shot.max()))
        text_alone = Detector(model, **options, cues=("text",))
        assert_equal(text_alone.predict(image), zero_shot, p_image)


def test_its_sizes_are_squares_and_it_smooths_nothing(local_model: str) -> None:
    detector = Detector(local_model, recipe="winclip", image_size=80, smoothing=3.0)
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    prepared = detector.prepare(image)
    expected = Image.fromarray(image).resize((80, 80), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(prepared.pixels, np.asarray(expected))
    assert prepared.tiles_hw == (1, 1)
    smoothless = Detector(local_model, recipe="winclip", image_size=80, smoothing=0.0)
    np.testing.assert_array_equal(detector.predict(image).heatmap, smoothless.predict(image).heatmap)
    assert RECIPES["winclip"] is winclip
