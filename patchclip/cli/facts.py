"""What a run.json and a doctor say of the machine and the detector."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING, Any

from .._version import __version__

if TYPE_CHECKING:
    from ..detector import Detector
    from ..runtime import OnnxDetector

_PACKAGES = ("torch", "open_clip_torch", "timm", "opencv-python-headless", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Of patchclip, Python and the packages that decide about results."""
    found = {"patchclip": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # OpenCV has several packages
            found[name] = "not installed"
    return found


def run_facts(detector: Detector | OnnxDetector) -> dict[str, Any]:
    """Versions, device, and where the threshold is from."""
    from ..runtime import OnnxDetector

    found = versions()
    if isinstance(detector, OnnxDetector):
        import onnxruntime  # whose distribution has other names for other providers

        found["onnxruntime"] = onnxruntime.__version__
        device = detector.providers[0]
    else:
        device = str(detector.backbone.device)
    return {
        "versions": found,
        "device": device,
        "precision": detector.options["precision"],
        "model": detector.options["model"],
        "object_name": detector.options["object_name"],
        "threshold": detector.threshold,
        "threshold_source": detector.threshold_source,
        "threshold_guaranteed": detector.threshold_guaranteed,
    }
