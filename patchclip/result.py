"""What a prediction returns: one `Result` with its `Region`s."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL import Image


#: What names of defects come from.
BY_EXAMPLES, BY_TEXT = "examples", "text"


@dataclass(frozen=True)
class Region:
    """A connected piece of the heatmap that lies above the threshold and is prominent: at least a quarter of the way
    from the heatmap's median to its maximum.

    Attributes:
        box_xyxy: left, top, right, bottom in pixels of the upright image; right and bottom are exclusive.
        area_px: pixels of the piece.
        score: highest value of the heatmap inside, in [0, 1].
        defect: its kind, of those that were taught (`Detector.teach`) or else of `Detector(defects=...)`; None where
            no name is clearly the likeliest, or it is like none of the kinds that were taught.
        confidence: probability of that name, in [0, 1]; None without a name. Of a taught kind among all of them and an
            unknown one, calibrated on synthetic defects; by text among all names.
        defect_source: "examples" or "text"; None without a name.
    """

    box_xyxy: tuple[int, int, int, int]
    area_px: int
    score: float
    defect: str | None
    confidence: float | None
    defect_source: str | None = None


def describe_defect(defect: str | None, confidence: float | None) -> str:
    """For people: a name and how sure it is, as "crack (71 %)"; "anomaly" without a name."""
    if defect is None or confidence is None:
        return "anomaly"
    return f"{defect} ({100 * confidence:.0f} %)"


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """The verdict on one image.

    Attributes:
        score: in [0, 1], higher = more anomalous. Recipe "dense": the heatmap's maximum.
        threshold: scores above it are anomalous; threshold_source: see `Detector`.
        regions: prominent pieces above the threshold, strongest first; empty for a normal image. The score of recipe
            "winclip" has another scale than its heatmap: there, pieces above half of the way from the heatmap's median
            to its maximum.
        class_name: the class whose normal images are nearest, when fitted with classes; else None.
        image: (H, W, 3) uint8, the upright image.
    """

    score: float
    threshold: float
    threshold_source: str
    regions: tuple[Region, ...]
    class_name: str | None
    image: np.ndarray = field(repr=False)
    _heatmap: torch.Tensor | np.ndarray = field(repr=False)
    _background: float = field(repr=False)  # value of the heatmap that pictures leave clear
    _region_level: float = field(repr=False)  # value of the heatmap above which regions are

    @cached_property
    def heatmap(self) -> np.ndarray:
        """(H, W) float32 in [0, 1], pixels of the upright image; never stretched per image.

        It stays on the detector's device until it is asked for.
        """
        if isinstance(self._heatmap, np.ndarray):
            return self._heatmap
        return self._heatmap.cpu().numpy()

    @property
    def is_anomalous(self) -> bool:
        """Whether the score lies above the threshold."""
        return self.score > self.threshold

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: pixels above the level of regions, in small pieces too; none in a normal image."""
        return (self.heatmap > self._region_level) & self.is_anomalous

    @property
    def defect(self) -> str | None:
        """Name of the strongest region that has one; None for a normal image and where no name is clearly likeliest."""
        return None if self._named is None else self._named.defect

    @property
    def confidence(self) -> float | None:
        """Probability of `defect`, see `Region`; None without a name."""
        return None if self._named is None else self._named.confidence

    @property
    def defect_source(self) -> str | None:
        """What `defect` comes from, "examples" or "text"; None without a name."""
        return None if self._named is None else self._named.defect_source

    @property
    def colour_anchors(self) -> tuple[float, float]:
        """Values of the heatmap that pictures leave clear, and that have the colour in the middle of the scale."""
        return self._background, self._region_level

    @property
    def _named(self) -> Region | None:
        """The strongest region that has a name."""
        return next((region for region in self.regions if region.defect is not None), None)

    def overlay(self, *, max_side: int = 1024) -> Image.Image:
        """The image with the heatmap over it and a labelled box around each region.

        Colours are on a fixed scale anchored to the threshold (`viz.colour_level`): what is well below it stays as it
        is. With recipe "winclip" they are relative to each image: none at the median, half at where regions begin, and
        none at all where the image is normal.

        Args:
            max_side: the picture is shrunk so that its longer side has at most so many pixels.
        """
        from . import viz

        labels = []
        for region in self.regions:
            name = describe_defect(region.defect, region.confidence)
            labels.append((region.box_xyxy, f"{name} | {region.score:.2f}"))
        clear, half = self.colour_anchors
        heatmap = np.maximum(self.heatmap - clear, 0)
        return viz.overlay(self.image, heatmap, half - clear, labels, max_side=max_side)

    def to_dict(self) -> dict[str, Any]:
        """All but the heatmap, ready for json.dumps."""
        return {
            "score": self.score,
            "threshold": self.threshold,
            "threshold_source": self.threshold_source,
            "is_anomalous": self.is_anomalous,
            "defect": self.defect,
            "confidence": self.confidence,
            "defect_source": self.defect_source,
            "class_name": self.class_name,
            "size_hw": list(self._heatmap.shape),
            "regions": [asdict(region) | {"box_xyxy": list(region.box_xyxy)} for region in self.regions],
        }
