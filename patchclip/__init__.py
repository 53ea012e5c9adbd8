"""patchclip: which image is faulty, where, and what the fault is, from the patch tokens of a CLIP.

from patchclip import Detector
result = Detector().predict("img.jpg")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .detector import Detector
    from .encoders.prompts import DEFAULT_DEFECTS
    from .errors import (
        FileFormatError,
        ImageError,
        MissingDependencyError,
        ModelNotFoundError,
        PatchclipError,
        WeightsUnavailableError,
    )
    from .ranked import RankedImage, Ranking, SuggestedCut
    from .result import Region, Result

__all__ = [
    "DEFAULT_DEFECTS",
    "Detector",
    "FileFormatError",
    "ImageError",
    "MissingDependencyError",
    "ModelNotFoundError",
    "PatchclipError",
    "RankedImage",
    "Ranking",
    "Region",
    "Result",
    "SuggestedCut",
    "WeightsUnavailableError",
    "__version__",
]

#: Public name -> the module that has it; imported when the name is first used, so that `import patchclip` is quick.
_MODULES = {
    "DEFAULT_DEFECTS": "encoders.prompts",
    "Detector": "detector",
    "FileFormatError": "errors",
    "ImageError": "errors",
    "MissingDependencyError": "errors",
    "ModelNotFoundError": "errors",
    "PatchclipError": "errors",
    "RankedImage": "ranked",
    "Ranking": "ranked",
    "Region": "result",
    "Result": "result",
    "SuggestedCut": "ranked",
    "WeightsUnavailableError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
