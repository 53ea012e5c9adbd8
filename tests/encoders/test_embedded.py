"""The embedded models: each loads offline and knows its own threshold."""

from __future__ import annotations

import numpy as np
import pytest

from patchclip import Detector
from patchclip.encoders.loading import EMBEDDED


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_model_predicts(name: str, normals: list[np.ndarray]) -> None:
    detector = Detector(name, precision="fp32")
    assert detector.threshold_source == "model"
    assert detector.backbone.model.defaults.generation in ("tiny-6", "tiny-7")
    result = detector.predict(normals[0])
    assert 0 < result.score < 1
    assert result.heatmap.shape == normals[0].shape[:2]


def test_generations_have_weights_of_their_own() -> None:
    hashes = {Detector(name).backbone.model.weights_sha256 for name in EMBEDDED}
    assert len(hashes) == len(EMBEDDED)
