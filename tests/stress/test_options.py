"""Shapes, types and options drawn at random: a result in range, or an error of the documented kinds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from patchclip import Detector, ImageError, PatchclipError

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("ignore")]

SETTINGS = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

ARRAYS = hnp.arrays(
    dtype=st.sampled_from([np.uint8, np.uint16, np.int16, np.int32, np.float16, np.float32, np.float64, np.bool_]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=40),
)

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "scales": st.lists(st.integers(-1, 6), max_size=3),
        "layers": st.lists(st.integers(-1, 5), max_size=3),
        "temperature": st.floats(allow_nan=True, allow_infinity=True),
        "smoothing": st.floats(allow_nan=True, allow_infinity=True),
        "coreset": st.floats(-1, 2),
        "image_size": st.integers(-10, 200),
        "tile": st.one_of(st.none(), st.integers(-10, 200)),
        "rotations": st.integers(0, 9),
        "cues": st.lists(st.sampled_from(["text", "tokens", "texture", "other"]), max_size=4),
        "recipe": st.sampled_from(["dense", "winclip", "other"]),
        "dense_attention": st.sampled_from(["qk", "qq", "kk", "vv", "other", None]),
        "max_false_positive_rate": st.floats(-1, 2),
    },
)


@SETTINGS
@given(array=ARRAYS)
def test_arrays(array: np.ndarray, local_model: str) -> None:
    detector = ZERO_SHOT.setdefault(local_model, Detector(local_model, precision="fp32"))
    try:
        result = detector.predict(array)
    except ImageError:
        return
    assert result.heatmap.shape == array.shape[:2]
    assert np.isfinite(result.heatmap).all()
    assert 0 <= result.score <= 1


@SETTINGS
@given(options=OPTIONS)
def test_options(options: dict, local_model: str, normals: list[np.ndarray]) -> None:
    try:
        detector = Detector(local_model, precision="fp32", **options)
    except (ValueError, PatchclipError):
        return
    score = detector.predict(normals[3]).score
    assert 0 <= score <= 1
    try:
        detector.fit(normals[:2], progress=False)
    except ValueError:
        return
    result = detector.predict(normals[3])
    assert math.isfinite(result.score)
    assert np.isfinite(result.heatmap).all()


ZERO_SHOT: dict[str, Detector] = {}
