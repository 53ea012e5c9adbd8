"""A threshold from normal images that `Detector.fit` has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace

from .features import FeatureExtractor
from .images.load import fingerprint
from .images.names import NamedImages
from .normal_scores import COPY, IMAGE, NormalScore
from .result import Result
from .scoring.memory import Fitted
from .threshold import Threshold, threshold_of


def calibrate(
    extractor: FeatureExtractor,
    fitted: Fitted | None,
    images: NamedImages,
    results: Iterable[Result],
    max_false_positive_rate: float | None,
) -> Threshold:
    """See `Detector.calibrate`.

    Args:
        images: normal images.
        results: of them; they are read as the results are made.
        max_false_positive_rate: None is the detector's own.

    Raises:
        ValueError: fewer than two images, or a rate outside (0, 1).
    """
    rate = max_false_positive_rate
    if rate is None:
        rate = extractor.config.max_false_positive_rate
    if not 0 < rate < 1:
        raise ValueError(f"expected a false-positive rate between 0 and 1, got {rate}")
    fitted_images = set(fitted.fingerprints) if fitted is not None else set()
    new_images = set()
    unnamed = []
    for result in results:
        image_fingerprint = fingerprint(result.image)
        kind = COPY
        if image_fingerprint not in fitted_images:
            new_images.add(image_fingerprint)
            kind = IMAGE
        unnamed.append(NormalScore("", result.class_name, result.score, kind))
    normal_scores = [replace(normal, name=name) for name, normal in zip(images.names, unnamed, strict=True)]
    copies = len(normal_scores) - len(new_images)
    if copies:
        warnings.warn(
            f"calibrate: {copies} of {len(normal_scores)} images are copies of each other or of those that fit has "
            "seen, and the threshold may be too low: take new images",
            stacklevel=3,
        )
    threshold = threshold_of(normal_scores, rate, "calibrate", usual_spread=usual_score_spread(extractor, fitted))
    return replace(threshold, guaranteed=threshold.guaranteed and not copies)


def usual_score_spread(extractor: FeatureExtractor, fitted: Fitted | None) -> float | None:
    """The usual deviation of the log odds of normal images' scores after a fit, where the model brings it."""
    if fitted is None or not extractor.recipe.WEIGHS_CUES:
        return None
    return extractor.backbone.model.defaults.score_spread
