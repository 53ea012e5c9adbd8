"""patchclip: which image is faulty, where, and what the fault is, from the patch tokens of a CLIP.

from patchclip import Detector
result = Detector().predict("img.jpg")
"""

from ._version import __version__
from .detector import Detector
from .errors import (
    FileFormatError,
    ImageError,
    MissingDependencyError,
    ModelNotFoundError,
    PatchclipError,
    WeightsUnavailableError,
)
from .prompts import DEFAULT_DEFECTS
from .result import Region, Result

__all__ = [
    "DEFAULT_DEFECTS",
    "Detector",
    "FileFormatError",
    "ImageError",
    "MissingDependencyError",
    "ModelNotFoundError",
    "PatchclipError",
    "Region",
    "Result",
    "WeightsUnavailableError",
    "__version__",
]
