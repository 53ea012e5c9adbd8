"""`Detector.rank`: the test images as one batch, compared with each other, without any normal image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from accuracy.methods.base import Prediction, References, Settings
from accuracy.methods.detector import make_detector
from patchclip import ImageError, RankedImage


class RankMethod:
    """Scores depend on which images are ranked together, so an image of the last batch is not ranked again."""

    detector = None  # no single image is predicted

    def __init__(self, settings: Settings, kinds: Sequence[str]):
        self.notes: dict[str, object] = {}
        self._detector = make_detector(settings, kinds=kinds)
        self._ranked: dict[Path, RankedImage] = {}

    def fit(self, references: References, *, seed: int) -> None:
        """Nothing is fitted; forgets the last batch."""
        self._ranked = {}

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        if not self._ranked.keys() >= set(paths):
            try:
                ranking = self._detector.rank(paths, progress=False)
            except ValueError as error:  # fewer than two readable images
                yield from [ImageError(f"{path}: {error}") for path in paths]
                return
            self._ranked = dict(zip(paths, ranking.items, strict=True))
            self.notes["cue_weights"] = dict(ranking.cue_weights)
        for path in paths:
            item = self._ranked[path]
            yield item.error or Prediction(item.score, None, item.heatmap, overlay=item.overlay)
