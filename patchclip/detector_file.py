"""The container of a saved detector: a safetensors file with a format version and a checksum. No pickle.

The layout is described in `persistence`, which knows what the contents mean.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .errors import DAMAGE, FileFormatError, PatchclipError
from .files import atomic_write

#: Of a file without taught kinds, which earlier versions of patchclip read, and of one with some.
_PLAIN_VERSION, FORMAT_VERSION = 2, 3

#: The tensor of the examples of kinds.
EXAMPLES = "examples"

#: The JSON of a detector; ours has a few kilobytes, and 100 bytes for each image that it was fitted with.
_MAX_HEADER_BYTES = 64 * 1024 * 1024


def write_file(path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], content: Mapping[str, Any]) -> None:
    """Write tensors and the content of a detector."""
    from safetensors.torch import save as to_bytes

    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # JSON and back: an option may be a numpy scalar, and a tuple becomes a list
    plain = json.loads(json.dumps(content, default=lambda value: value.item()))
    whole = {
        "format": "detector",
        "format_version": FORMAT_VERSION if EXAMPLES in tensors else _PLAIN_VERSION,
        "sha256": _hash(plain, on_cpu),
        "detector": plain,
    }
    # one entry, since safetensors does not keep the order of several
    data = to_bytes(on_cpu, {"patchclip": json.dumps(whole)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_content(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The content and the tensors that `write_file` wrote.

    Raises:
        OSError: no such file, or one that cannot be read.
        FileFormatError: not a detector file, damaged, or of a newer version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    data = _read(path)
    try:
        header = _read_header(data)
        whole = json.loads(header.get("__metadata__", {}).get("patchclip", "{}"))
        _check_format(path, whole)
        tensors = from_bytes(data)
        if whole["format_version"] > 1 and whole["sha256"] != _hash(whole["detector"], tensors):
            raise FileFormatError(
                f"{path} is damaged: its checksum does not fit, take a copy or save the detector again"
            )
    except PatchclipError:
        raise
    except (SafetensorError, *DAMAGE) as error:
        raise FileFormatError(
            f"{path} is no detector file or is truncated ({error}): write it again with Detector.save"
        ) from error
    return whole["detector"], tensors


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"no detector file at {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder: name the detector's file") from None
    except PermissionError:
        raise PermissionError(f"{path} cannot be read: permission denied") from None


def _read_header(data: bytes) -> dict[str, Any]:
    """The JSON that a safetensors file begins with."""
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(len(data), _MAX_HEADER_BYTES):
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    return json.loads(data[8 : 8 + length])


def _check_format(path: str | os.PathLike[str], whole: Any) -> None:
    if not isinstance(whole, dict) or whole.get("format") != "detector":
        raise FileFormatError(f"{path} is a safetensors file but no detector: expected one written by Detector.save")
    version = whole.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:  # True is an int too
        raise FileFormatError(
            f"{path} has format version {version!r}, this patchclip reads 1 to {FORMAT_VERSION}: update patchclip"
        )
    if not isinstance(whole.get("detector"), dict):
        raise FileFormatError(f"{path} has no detector in it: save it again with Detector.save")


def _hash(content: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Of all that a file says."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
