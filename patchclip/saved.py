"""A detector to a file and back: what it depends on goes with it, and is checked when it comes back."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import store
from .backbone import usable_device
from .bank import Memory
from .descriptors import identity
from .errors import FileFormatError, PatchclipError, WeightsUnavailableError
from .options import CUES
from .threshold import Threshold

if TYPE_CHECKING:
    from .detector import Detector


def save_detector(detector: Detector, path: str | os.PathLike[str]) -> None:
    """See `Detector.save`."""
    memory, threshold = detector.memory_, detector._threshold
    saved = {
        "options": detector.options,
        "weights_sha256": detector.backbone.weights_sha256,
        "generation": detector.backbone.model.about.get("generation"),
        "input": detector.backbone.input,
        "descriptors": identity(detector.options["cues"]),
        "classes": list(memory.classes) if memory else None,
        "cue_weights": detector.weights_,
        "class_levels": detector.levels_,
        "fingerprints": detector._fingerprints,
        "image_hw": detector._image_hw,
        "threshold": [threshold.value, threshold.source, threshold.guaranteed],
    }
    store.save(path, memory.tensors() if memory else {}, saved)


def load_detector(
    kind: type[Detector], path: str | os.PathLike[str], *, device: str, pretrained: str | os.PathLike[str] | None
) -> Detector:
    """See `Detector.load`."""
    tensors, saved = store.load(path)
    usable_device(device)  # before what counts as damage of the file
    try:
        options = dict(saved["options"])
        if pretrained is not None and options["model"].startswith("local-dir:"):
            options["model"] = f"local-dir:{os.fspath(pretrained)}"
        elif pretrained is not None:
            options["pretrained"] = pretrained
        detector = kind(options.pop("model"), **options, device=device)
        expected, classes = saved["weights_sha256"], saved["classes"]
        detector.weights_, detector.levels_ = dict(saved["cue_weights"]), tuple(saved["class_levels"])
        detector._threshold = Threshold(*saved["threshold"])
        detector._fingerprints = list(saved.get("fingerprints", ()))
        if saved.get("image_hw") is not None:
            height, width = map(int, saved["image_hw"])
            detector._image_hw = (height, width)
        _check_fitted(detector, classes)
        if classes is not None:
            place, neighbours = detector.backbone.device, detector.options["neighbours"]
            detector.memory_ = Memory.from_tensors(tensors, classes, place, neighbours=neighbours)
    except PatchclipError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} has damaged or foreign contents ({error!r}): save the detector again") from error
    _check_network(path, detector, saved, expected)
    if classes is not None and saved.get("descriptors", {}) != identity(detector.options["cues"]):
        raise WeightsUnavailableError(
            f"{path} was fitted by another version of patchclip, whose banks of {', '.join(CUES[2:])} hold other "
            "vectors: fit again"
        )
    return detector


def _check_fitted(detector: Detector, classes: list[str | None] | None) -> None:
    """Raise ValueError where weights, levels and threshold are not as `fit` leaves them."""
    weighed = len(classes or ()) if detector.options["recipe"] == "dense" else 0  # classes that `fit` weighed
    levels, weights = detector.levels_, detector.weights_
    if len(levels) != (weighed if weighed > 1 else 0) or not all(0 < level < math.inf for level in levels):
        raise ValueError(f"levels {levels} for the classes {classes}")
    if set(weights) != (set(detector.options["cues"]) if weighed else set()):
        raise ValueError(f"weights of the cues {list(weights)}")
    if not all(0 <= weight <= 1 for weight in weights.values()):
        raise ValueError(f"weights of the cues {weights}")
    if not 0 <= detector.threshold <= 1:
        raise ValueError(f"a threshold of {detector.threshold}")


def _check_network(path: str | os.PathLike[str], detector: Detector, saved: Mapping[str, Any], expected: str) -> None:
    """Raise WeightsUnavailableError where the backbone is not the one that the banks were made by."""
    backbone, options = detector.backbone, detector.options
    if saved.get("input", backbone.input) != backbone.input:
        raise WeightsUnavailableError(
            f"{path} was fitted with pixels and activation {saved['input']}, as its tag has them, but "
            f"{options['pretrained']} alone has {backbone.input}: leave out pretrained=, or fit again"
        )
    if backbone.weights_sha256 != expected:
        own = options["pretrained"] is None and not options["model"].startswith("local-dir:")
        remedy = "fit again" if own else "pass pretrained= with those it was fitted with, or fit again"
        raise WeightsUnavailableError(
            f"{path} was fitted with other weights of {options['model']!r} (generation {saved.get('generation')}, "
            f"here {backbone.model.about.get('generation')}): {remedy}"
        )
