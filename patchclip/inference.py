"""Features, and what was fitted -> maps of the cues -> heatmap -> score -> regions -> `Result`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from .config import keeps_model_threshold
from .errors import PatchclipError
from .features import FeatureExtractor
from .images.plan import Prepared
from .recipes.features import Features
from .result import Region, Result
from .scoring.cues import TEXT, bank_cues
from .scoring.heatmap import separate_heatmaps
from .scoring.kinds import DefectKinds
from .scoring.maps import fuse
from .scoring.memory import Fitted, LeftOut
from .scoring.regions import named_regions
from .threshold import UNCALIBRATED_VALUE, Threshold


def zero_shot_threshold(extractor: FeatureExtractor) -> Threshold:
    """The model's own, where heatmaps are made as it was measured, else one half."""
    model_value = extractor.backbone.model.defaults.threshold
    if model_value is not None and keeps_model_threshold(extractor.config, extractor.backbone):
        return Threshold(model_value, "model")
    return Threshold(UNCALIBRATED_VALUE, "uncalibrated")


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """What the network finds in one image, before any threshold: `judge` makes a `Result` of it.

    Attributes:
        score: in [0, 1], higher = more anomalous.
        heatmap: (H, W) float32 in [0, 1].
        class_name: see `Result`.
        image: (H, W, 3) uint8, the upright image.
        dense: (gh, gw, E), by which regions are named from the text.
        vectors: (rows, columns, D) each, by which kinds of defects are told.
    """

    score: float
    heatmap: torch.Tensor
    class_name: str | None
    image: np.ndarray
    dense: torch.Tensor
    vectors: Sequence[torch.Tensor]

    def dense_grid(self) -> np.ndarray:
        """(gh, gw, E) float32, by which regions are named from the text."""
        return self.dense.float().cpu().numpy()

    def kind_grids(self) -> list[np.ndarray]:
        """(rows, columns, D) float32 each, by which kinds of defects are told: the dense tokens first."""
        return [self.dense_grid(), *(grid.float().cpu().numpy() for grid in self.vectors)]

    def shrunk(self, max_side: int) -> Measured:
        """A copy on the CPU with image and heatmap of at most so many pixels a side, to keep many of them.

        The score stays as it is, and so does the maximum of the heatmap.
        """
        height, width = self.image.shape[:2]
        scale = min(1.0, max_side / max(height, width))
        image, heatmap = self.image, self.heatmap.cpu().numpy()
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            smaller = cv2.resize(heatmap, size, interpolation=cv2.INTER_AREA)
            # averages lower a peak by some thousandths, and an image that is anomalous must have a region
            heatmap = smaller * (heatmap.max() / max(smaller.max(), 1e-9))
        return replace(
            self,
            image=image,
            heatmap=torch.from_numpy(heatmap),
            dense=self.dense.cpu().clone(),  # a view into the features of a whole batch
            vectors=[grid.cpu().clone() for grid in self.vectors],
        )


def measure(extractor: FeatureExtractor, fitted: Fitted | None, prepared: Sequence[Prepared]) -> list[Measured]:
    """All that needs the network, of prepared images in their order; it does not depend on the other images.

    Args:
        fitted: what `Detector.fit` left; None for zero-shot.
    """
    recipe = extractor.recipe
    found: dict[int, Measured] = {}
    batches = extractor.extract(prepared, with_text=uses_text(extractor, fitted), with_banks=fitted is not None)
    for indices, features in batches:
        maps, class_index = cue_maps(extractor, features, fitted)
        combined = combine(maps, fitted, class_index)  # (B, gh, gw)
        sizes_hw = [prepared[index].image_hw for index in indices]
        heatmaps = separate_heatmaps(combined, sizes_hw, recipe.smoothing(extractor.config))
        scores = recipe.scores(heatmaps, maps, features)
        check_finite(scores, extractor)
        for position, index in enumerate(indices):
            class_name = None
            if fitted is not None and class_index is not None:
                class_name = fitted.memory.classes[int(class_index[position])]
            found[index] = Measured(
                score=scores[position],
                heatmap=heatmaps[position],
                class_name=class_name,
                image=prepared[index].image,
                dense=features.dense[position],
                vectors=[features.vectors[name][position] for name in kind_bank_names(features.vectors)],
            )
    return [found[index] for index in range(len(prepared))]


def judge(extractor: FeatureExtractor, measured: Measured, threshold: Threshold, kinds: DefectKinds | None) -> Result:
    """Verdict, regions and their names.

    Args:
        kinds: what `Detector.teach` left; None for names by the text.
    """
    heatmap = measured.heatmap
    is_anomalous = measured.score > threshold.value
    background, region_level = extractor.recipe.region_levels(heatmap, threshold.value, is_anomalous=is_anomalous)
    regions: tuple[Region, ...] = ()
    if is_anomalous:
        grids = [measured.dense_grid()] if kinds is None else measured.kind_grids()
        regions = named_regions(heatmap.cpu().numpy(), region_level, grids, kinds or extractor.defect_names)
    return Result(
        score=measured.score,
        threshold=threshold.value,
        threshold_source=threshold.source,
        regions=regions,
        class_name=measured.class_name,
        image=measured.image,
        _heatmap=heatmap,
        _background=background,
        _region_level=region_level,
    )


def kind_bank_names(bank_names: Iterable[str]) -> tuple[str, ...]:
    """Of these banks, those whose vectors tell kinds of defects that are taught, beside the dense tokens."""
    return tuple(cue.name for cue in bank_cues(bank_names) if cue.tells_kinds)


def check_finite(scores: Sequence[float], extractor: FeatureExtractor) -> None:
    """Raise PatchclipError where a score is no number: NaN would pass for normal."""
    if not all(math.isfinite(score) for score in scores):
        raise PatchclipError(
            f"the network {extractor.config.model!r} or the banks give scores that are NaN or infinite in precision "
            f'"{extractor.config.precision}": check the checkpoint, or use precision="fp32"'
        )


def uses_text(extractor: FeatureExtractor, fitted: Fitted | None) -> bool:
    """Whether the text map is a part of the heatmap: always before a fit."""
    return fitted is None or TEXT in extractor.config.cues


def cue_maps(
    extractor: FeatureExtractor, features: Features, fitted: Fitted | None, *, left_out: LeftOut | None = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
    """The maps of the cues in use.

    Args:
        left_out: for leave-one-out, of a batch of one image; None for new images.

    Returns:
        cue -> (B, gh, gw) in [0, 1], and the (B,) indices of the nearest classes, None before a fit.
    """
    maps = {}
    if features.text is not None:
        maps[TEXT] = features.text
    if fitted is None:
        return maps, None
    squared, class_index = fitted.memory.squared_distances(features.vectors, left_out=left_out)
    return maps | extractor.recipe.bank_maps(squared, features.grid_hw), class_index


def combine(maps: Mapping[str, torch.Tensor], fitted: Fitted | None, class_index: torch.Tensor | None) -> torch.Tensor:
    """The maps of the cues as one, (B, gh, gw), relative to the level of each image's class where there are several."""
    weights = fitted.cue_weights if fitted is not None else {}
    level = None
    if fitted is not None and fitted.class_levels and class_index is not None:
        level = torch.tensor(fitted.class_levels, dtype=torch.float32, device=class_index.device)[class_index]
    return fuse(maps, weights, level=level)
