"""Exported detectors by onnxruntime: numpy, OpenCV, Pillow and onnxruntime are all that it needs, and never torch.

from patchclip.runtime import load
result = load("bottle.onnx").predict("photo.jpg")
"""

from __future__ import annotations

from .contents import Contents
from .detector import OnnxDetector, load

__all__ = ["Contents", "OnnxDetector", "load"]
