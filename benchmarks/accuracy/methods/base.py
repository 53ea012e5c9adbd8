"""What every method is given and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from patchclip import Detector, ImageError

#: class -> paths of its normal images; the class is None where there is only one.
References = Mapping[str | None, Sequence[Path]]


@dataclass(frozen=True)
class Settings:
    """What all methods of a run share.

    Attributes:
        work: a folder for weights that a method writes.
        model, pretrained, device, precision, image_size, tile, object_name, max_false_positive_rate: of `Detector`.
        batch_size: images that go through a network at once.
        examples: numbers of examples of each kind of defect, after which names are measured.
    """

    work: Path
    model: str = "tiny-7"
    pretrained: str | None = None
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    image_size: int | None = None
    tile: int | None = None
    object_name: str = "surface"
    max_false_positive_rate: float = 0.05
    batch_size: int = 16
    examples: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """Of one image; higher = more anomalous.

    Attributes:
        score, threshold: anomalous above the threshold; None where the method sets none without labelled anomalies.
        heatmap: (H, W) float32, 0 or more, of the upright image; None where the method has none.
        defect: name of the defect, None for none.
        overlay: draws the image with its heatmap and regions; None where the method has no regions.
        similarity: to normal and to anomalous images, of methods that have them.
    """

    score: float
    threshold: float | None
    heatmap: np.ndarray | None = None
    defect: str | None = None
    overlay: Callable[..., Image.Image] | None = None
    similarity: tuple[float, float] | None = None


class Method(Protocol):
    """A method for one category; `fit` may be called again and then forgets.

    Attributes:
        notes: what `fit` adds to the row of metrics.json (epochs of training, where a threshold comes from).
    """

    notes: dict[str, object]

    @property
    def detector(self) -> Detector | None:
        """The patchclip detector that predicts; None for a method of another kind."""

    def fit(self, references: References, *, seed: int) -> None:
        """Learn from normal images; none for zero-shot."""

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        """A prediction of each image, in the order of the paths, or why the image cannot be read."""


def flatten(references: References) -> list[Path]:
    """The paths of all classes."""
    return [path for paths in references.values() for path in paths]
