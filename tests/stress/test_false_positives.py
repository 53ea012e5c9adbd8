"""How often new normal images exceed the threshold, over many draws of normal images."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from patchclip import Detector
from patchclip.synthetic import HELD_OUT, sample_surface

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("ignore")]

RESAMPLINGS = 200
SHOTS = (1, 4, 16, 64)
NEW = 20
POOL = 120
RATE = 0.05


@pytest.fixture(scope="module")
def pools() -> list[list[np.ndarray]]:
    """120 normal images (64, 64, 3) of each of eight products."""
    made = []
    for index in range(8):
        surface = sample_surface(np.random.default_rng([7, index]), [HELD_OUT[index % len(HELD_OUT)]])
        made.append([surface.photograph(surface.render(seed, (64, 64)), seed) for seed in range(POOL)])
    return made


def share_above(detector: Detector, images: list[np.ndarray]) -> float:
    return float(np.mean([result.is_anomalous for result in detector.predict_batch(images, progress=False)]))


def test_false_positive_rate(local: Detector, pools: list[list[np.ndarray]]) -> None:
    rng = np.random.default_rng(0)
    fitted_rates: dict[int, list[float]] = {shots: [] for shots in SHOTS}
    calibrated_rates: dict[int, list[float]] = {shots: [] for shots in SHOTS[1:]}
    for resampling in range(RESAMPLINGS):
        pool = pools[resampling % len(pools)]
        drawn = [pool[index] for index in rng.permutation(POOL)]
        new, others = drawn[:NEW], drawn[NEW:]
        for shots in SHOTS:
            detector = copy.copy(local).fit(others[:shots], progress=False)
            fitted_rates[shots].append(share_above(detector, new))
        detector = copy.copy(local).fit(others[64:68], progress=False)
        for shots in SHOTS[1:]:
            detector.calibrate(others[:shots], progress=False)
            calibrated_rates[shots].append(share_above(detector, new))
            assert detector.threshold_guaranteed == (shots >= 19 and all(n.counts for n in detector.normal_scores_))
    for name, rates in (("fit", fitted_rates), ("calibrate", calibrated_rates)):
        means = {shots: float(np.mean(found)) for shots, found in rates.items()}
        cells = ", ".join(f"{shots} images {mean:.1%}" for shots, mean in means.items())
        print(f"\nnormal images above the threshold of {name}, {RESAMPLINGS} draws: {cells}")
        # three standard errors above the rate: the draws of one product share its images
        errors = 3 * np.std(rates[64]) / np.sqrt(RESAMPLINGS)
        assert means[64] < RATE + errors
