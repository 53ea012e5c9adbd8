"""Recipe "winclip" against a slow loop written from the paper's formulas, and hand-checked fixtures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from conftest import random_clip, write_local_dir
from PIL import Image
from torch.nn import functional as F

from patchclip import Detector, ModelNotFoundError
from patchclip.bank import PatchBank
from patchclip.scoring import distance_maps
from patchclip.windows import harmonic_aggregate, window_indices

PROMPTS = (["a fine tile", "a photo of a perfect tile."], ["a broken tile", "a tile with a crack", "damage"])


def test_harmonic_aggregation_of_four_windows() -> None:
    scores = torch.tensor([[[1, 0.75], [0.5, 0.25]]])
    expected = torch.tensor([[1, 0.8571, 0.75], [0.6667, 0.48, 0.375], [0.5, 0.3333, 0.25]])
    found = harmonic_aggregate(scores, (3, 3))
    assert found.shape == (1, 3, 3)
    assert torch.allclose(found[0], expected, atol=1e-4)


def test_association_of_two_vectors() -> None:
    unit = F.normalize(torch.tensor([[0.0, 1, 0], [1, 1, 0]]), dim=1)
    squared = PatchBank(unit).nearest(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    found = distance_maps({"patches": squared}, half_at={})["patches"]
    assert torch.allclose(found, torch.tensor([0.1464, 0.0]), atol=1e-4)


def test_window_indices_are_row_by_row() -> None:
    found = window_indices((2, 3), 2)
    assert found.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]
    assert window_indices((2, 2), 3).tolist() == [[0, 1, 2, 3]]  # a window larger than the grid is the grid


@pytest.mark.filterwarnings("ignore:.*extrapolation")
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
        placed = {
            (row, column): tokens[row, column] + visual.positional_embedding[1 + row * gw + column]
            for row in range(gh)
            for column in range(gw)
        }

        def run(cells: list[tuple[int, int]]) -> torch.Tensor:
            x = visual.ln_pre(torch.stack([start] + [placed[cell] for cell in cells])[None])
            for block in visual.transformer.resblocks:
                x = block(x)
            return visual.ln_post(x)[0]

        windows = {}
        for side in (2, 3):
            for row in range(gh - side + 1):
                for column in range(gw - side + 1):
                    cells = [(row + i, column + j) for i in range(side) for j in range(side)]
                    windows[side, row, column] = run(cells)[0] @ visual.proj
        whole = run(sorted(placed))
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
    def __call__(self, image: np.ndarray, references: list[np.ndarray]) -> tuple[torch.Tensor, float]:
        embedding, windows, patches = self.parts(image)
        gh, gw = self.clip.visual.grid_size
        p_image = self.probability(embedding)
        probabilities = {key: self.probability(value) for key, value in windows.items()}
        zero_shot = 3 / (1 / p_image + 1 / self.spread(probabilities, 2) + 1 / self.spread(probabilities, 3))
        token_map, score = zero_shot, p_image
        if references:
            seen = [self.parts(reference) for reference in references]
            flat = [token for _, _, grid in seen for token in grid.reshape(-1, grid.shape[-1])]
            by_patch = torch.tensor([[self.association(patches[i, j], flat) for j in range(gw)] for i in range(gh)])
            by_window = {
                key: self.association(value, [w for _, own, _ in seen for (s, *_), w in own.items() if s == key[0]])
                for key, value in windows.items()
            }
            few_shot = (by_patch + self.spread(by_window, 2) + self.spread(by_window, 3)) / 3
            token_map, score = (zero_shot + few_shot) / 2, (p_image + float(few_shot.max())) / 2
        size = image.shape[:2]
        return F.interpolate(token_map[None, None], size, mode="bilinear")[0, 0], score


@pytest.mark.parametrize("side_px", [64, 80])
@pytest.mark.parametrize("shots", [0, 2])
def test_equals_the_slow_loop(
    side_px: int, shots: int, tmp_path: Path, normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray]
) -> None:
    clip = random_clip(side_px, image_size=side_px)
    folder = write_local_dir(clip, tmp_path / "clip")
    detector = Detector(f"local-dir:{folder}", recipe="winclip", prompts=PROMPTS, precision="fp32")
    if shots:
        with pytest.warns(UserWarning, match="extrapolation"):
            detector.fit(normals[:shots])
    image = defective[0].copy()
    image[20:70, 30:90] = 0  # a random network needs more than a small hole
    result = detector.predict(image)
    heatmap, score = SlowWinCLIP(clip, side_px)(image, normals[:shots])
    assert result.heatmap.shape == heatmap.shape == (96, 128)
    assert float(heatmap.std()) > 1e-3  # the map has something to say
    np.testing.assert_allclose(result.heatmap, heatmap.numpy(), atol=1e-4, rtol=0)
    assert result.score == pytest.approx(score, abs=1e-4)
