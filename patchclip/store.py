"""One safetensors file for a fitted detector: tensors, and everything else as JSON in its metadata. No pickle.

Layout, format_version 1:
    metadata["patchclip"]   JSON: {"format": "detector", "format_version": 1, "detector": {options; hash, generation
                            and input of the backbone; what its descriptors are; classes and their levels;
                            cue weights; threshold; fingerprints and size of the images}}
    tensors                 bank.<class number>.<bank name>, (N, D) float32
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .errors import FileFormatError

FORMAT_VERSION = 1


def save(path: str | os.PathLike[str], tensors: dict[str, torch.Tensor], detector: dict[str, Any]) -> None:
    """Write the file in one step: a kill at any moment leaves the old file or the new one.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    from safetensors.torch import save as to_bytes

    content = {"format": "detector", "format_version": FORMAT_VERSION, "detector": detector}
    # one entry, for safetensors does not keep the order of several; an option may be a numpy scalar
    metadata = {"patchclip": json.dumps(content, default=lambda value: value.item())}
    data = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    with written_whole(path) as partial:
        partial.write_bytes(data)


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to write what then takes the place of `path`, in one step: a kill at any moment leaves the old file or the
    new one.

    Raises:
        OSError: see `writable_place`.
    """
    place = writable_place(path)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder:
        partial = Path(folder) / place.name
        yield partial
        with open(partial, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(partial, place)


def writable_place(path: str | os.PathLike[str]) -> Path:
    """Where a file of that name is written, for `os.replace` would replace a link in place of what it links to.

    Raises:
        OSError: there is no folder for it or none to write to, or what is there is no ordinary file.
    """
    place = Path(path).resolve()
    if not place.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {place.parent} does not exist, make it first")
    if not os.access(place.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: the folder {place.parent} is read-only, name another")
    if place.exists() and not place.is_file():
        raise OSError(f"cannot write {path}: it is there and is no ordinary file, name another")
    return place


def load(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `save` was given.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: not a detector file, truncated, or of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no detector file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {}).get("patchclip", "{}"))
            _check(path, content)
            return {name: file.get_tensor(name) for name in file.keys()}, content["detector"]  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(
            f"{path} is no detector file or is truncated ({error}): write it again with Detector.save"
        ) from error


def _check(path: str | os.PathLike[str], content: Any) -> None:
    if not isinstance(content, dict) or content.get("format") != "detector":
        raise FileFormatError(f"{path} is a safetensors file but no detector: expected one written by Detector.save")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise FileFormatError(
            f"{path} has format version {version!r}, this patchclip reads up to {FORMAT_VERSION}: update patchclip"
        )
    if "detector" not in content:
        raise FileFormatError(f"{path} has no detector in it: save it again with Detector.save")
