"""Everything patchclip raises on purpose.

    PatchclipError
    |- ImageError (ValueError)              an image that cannot be used
    |- ModelNotFoundError (ValueError)      no model of that name, or a tower that is not supported
    |- WeightsUnavailableError (OSError)    the model is known, its weights are not to be had here
    |- DatasetError (ValueError)            no image set in a known layout
    |- FileFormatError (ValueError)         not a detector file, or a truncated, foreign or newer one
    `- MissingDependencyError (ImportError) an optional package is not installed

Each message says what was given, what was expected and what to do.
"""

from __future__ import annotations


class PatchclipError(Exception):
    """Base of all errors that patchclip raises on purpose."""


class ImageError(PatchclipError, ValueError):
    """An image that cannot be used: unreadable, truncated, empty, too large, NaN, or of the wrong kind."""


class ModelNotFoundError(PatchclipError, ValueError):
    """No model of that name, or one whose image tower is not open_clip's own ViT."""


class WeightsUnavailableError(PatchclipError, OSError):
    """The model is known but its weights cannot be had: no network, no such tag, no such file, another hash."""


class DatasetError(PatchclipError, ValueError):
    """A folder or a file that is no image set in a known layout."""


class FileFormatError(PatchclipError, ValueError):
    """Not a detector file of patchclip, or a truncated or newer one."""


class MissingDependencyError(PatchclipError, ImportError):
    """An optional package is needed for this and is not installed."""


#: What reading the contents of a damaged file may raise, which becomes a `FileFormatError` that names the file.
DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
