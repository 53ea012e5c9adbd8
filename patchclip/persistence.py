"""A detector to one safetensors file and back: tensors, and everything else as JSON in the metadata. No pickle.

Layout, format_version 2:
    metadata["patchclip"]   JSON: {"format": "detector", "format_version": 2, "sha256": of the content and the tensors,
                            "detector": {options; hash, generation and preprocessing ("input") of the backbone;
                            fingerprints of the cues ("descriptors"); classes and their levels; cue weights; threshold;
                            scores of normal images, with their names or paths as given; fingerprints and size of the
                            images}}
    tensors                 bank.<class index>.<bank name>, (N, D) float32

Format_version 3 is the same with the kinds of defects that were taught, and only written where there are some:
    detector["example_kinds"]   the kind of each example, N strings
    tensor "examples"           (N, D) float32 of unit length, `scoring.kinds.describe_regions` of each

Format_version 1 is as 2 without the sha256: a file of it that was damaged can load and give other results.

What a detector depends on is saved with it, and checked when it is loaded. A file is read once, and not needed later.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .config import Config
from .encoders.clip import Backbone
from .encoders.loading import LOCAL_FOLDER
from .errors import FileFormatError, PatchclipError, WeightsUnavailableError
from .files import atomic_write
from .recipes import RECIPES
from .recipes.features import Features
from .scoring.cues import fingerprints
from .scoring.kinds import Examples
from .scoring.memory import Fitted, Memory
from .threshold import Threshold

#: Of a file without taught kinds, which earlier versions of patchclip read, and of one with some.
_PLAIN_VERSION, FORMAT_VERSION = 2, 3

#: The tensor of the examples of kinds.
EXAMPLES = "examples"

#: The JSON of a detector; ours has a few kilobytes, and 100 bytes for each image that it was fitted with.
_MAX_HEADER_BYTES = 64 * 1024 * 1024

#: Of vectors of unit length, in float32 after products in bfloat16.
_LENGTH_TOLERANCE = 0.01


def save(
    path: str | os.PathLike[str],
    backbone: Backbone,
    config: Config,
    fitted: Fitted | None,
    threshold: Threshold,
    examples: Examples | None,
) -> None:
    """Write the file in one step: a kill at any moment leaves the old file or the new one.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    content = {
        "options": config.to_dict(),
        "weights_sha256": backbone.model.weights_sha256,
        "generation": backbone.model.defaults.generation,
        "input": backbone.preprocessing,
        "descriptors": fingerprints(config.cues),
        "classes": list(fitted.memory.classes) if fitted else None,
        "cue_weights": dict(fitted.cue_weights) if fitted else {},
        "class_levels": fitted.class_levels if fitted else (),
        "fingerprints": fitted.fingerprints if fitted else (),
        "image_hw": fitted.image_hw if fitted else None,
        "threshold": [threshold.value, threshold.source, threshold.guaranteed],
        "normal_scores": [astuple(normal) for normal in threshold.normal_scores],
    }
    tensors = fitted.memory.tensors() if fitted else {}
    if examples is not None:
        content["example_kinds"] = examples.kinds
        tensors[EXAMPLES] = torch.from_numpy(examples.vectors)
    write_file(path, tensors, content)


@dataclass(frozen=True, eq=False)
class SavedDetector:
    """What a file holds. Its methods raise ValueError, KeyError and their like where that is not as `save` leaves it:
    use them inside `damage_reported`.

    Attributes:
        path: of the file.
        content: what `save` wrote.
        tensors: of the banks.
    """

    path: str | os.PathLike[str]
    content: Mapping[str, Any]
    tensors: dict[str, torch.Tensor]

    def options(self, pretrained: str | os.PathLike[str] | None) -> dict[str, Any]:
        """For the constructor of `Detector`.

        Args:
            pretrained: where the backbone's checkpoint, or the folder of a "local-dir:", is now, if it has moved.
        """
        options = dict(self.content["options"])
        if pretrained is None:
            return options
        if options["model"].startswith(LOCAL_FOLDER):
            return options | {"model": f"{LOCAL_FOLDER}{os.fspath(pretrained)}"}
        return options | {"pretrained": pretrained}

    def threshold(self) -> Threshold:
        """As it was saved."""
        value, source, guaranteed = self.content["threshold"]
        return Threshold.from_saved(value, source, guaranteed, self.content.get("normal_scores", ()))

    def fitted(self, config: Config, device: torch.device) -> Fitted | None:
        """What was fitted; None for a detector without."""
        classes = self.content["classes"]
        weights = dict(self.content["cue_weights"])
        levels = tuple(self.content["class_levels"])
        if classes is not None and not _are_classes(classes):
            raise ValueError(f"classes {classes}")
        weighed_classes = 0  # that `fit` has weighed
        if classes is not None and RECIPES[config.recipe].WEIGHS_CUES:
            weighed_classes = len(classes)
        if len(levels) != (weighed_classes if weighed_classes > 1 else 0):
            raise ValueError(f"levels {levels} for the classes {classes}")
        if not all(0 < level < math.inf for level in levels):
            raise ValueError(f"levels {levels}")
        if set(weights) != (set(config.cues) if weighed_classes else set()):
            raise ValueError(f"weights of the cues {list(weights)}")
        if not all(0 <= weight <= 1 for weight in weights.values()):
            raise ValueError(f"weights of the cues {weights}")
        image_hw = _checked_size(self.content.get("image_hw"))
        image_fingerprints = tuple(self.content.get("fingerprints", ()))
        if not all(isinstance(fingerprint, str) for fingerprint in image_fingerprints):
            raise ValueError("fingerprints that are no strings")
        if classes is None:
            return None
        banks = {name: tensor for name, tensor in self.tensors.items() if name != EXAMPLES}
        memory = Memory.from_tensors(banks, classes, device, neighbours=config.neighbours)
        return Fitted(memory, weights, levels, image_fingerprints, image_hw)

    def examples(self) -> Examples | None:
        """Of the kinds that were taught; None without."""
        kinds = self.content.get("example_kinds")
        if kinds is None:
            if EXAMPLES in self.tensors:
                raise ValueError("examples without their kinds")
            return None
        vectors = self.tensors[EXAMPLES]
        if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, str) and kind for kind in kinds):
            raise ValueError(f"kinds of examples {kinds}")
        if self.content["classes"] is None or vectors.ndim != 2 or vectors.dtype != torch.float32:
            raise ValueError("examples of kinds that cannot be compared with")
        return Examples(tuple(kinds), vectors.numpy())

    def check_networks(self, backbone: Backbone, config: Config) -> None:
        """Raise WeightsUnavailableError where the banks were made by other networks."""
        preprocessing = self.content.get("input", backbone.preprocessing)
        if preprocessing != backbone.preprocessing:
            raise WeightsUnavailableError(
                f"{self.path} was fitted with pixels and activation {preprocessing}, as its tag has them, but "
                f"{config.pretrained} alone has {backbone.preprocessing}: leave out pretrained=, or fit again"
            )
        if backbone.model.weights_sha256 != self.content["weights_sha256"]:
            has_own_weights = config.pretrained is None and not config.model.startswith(LOCAL_FOLDER)
            remedy = "fit again"
            if not has_own_weights:
                remedy = "pass pretrained= with those it was fitted with, or fit again"
            raise WeightsUnavailableError(
                f"{self.path} was fitted with other weights of {config.model!r} (generation "
                f"{self.content.get('generation')}, here {backbone.model.defaults.generation}): {remedy}"
            )
        current = fingerprints(config.cues)
        if self.content["classes"] is not None and self.content.get("descriptors", {}) != current:
            raise WeightsUnavailableError(
                f"{self.path} was fitted by another version of patchclip, whose banks of {', '.join(current)} hold "
                "other vectors: fit again"
            )


def check_banks(fitted: Fitted, features: Features) -> None:
    """Raise ValueError where the banks are not such as features of an image are compared with.

    Args:
        features: of any image.
    """
    for banks in fitted.memory.banks:
        if banks.keys() != features.vectors.keys():
            raise ValueError(f"banks {sorted(banks)} where {sorted(features.vectors)} belong")
        for name, bank in banks.items():
            width = features.vectors[name].shape[-1]
            if len(bank) == 0 or bank.vectors.shape[1] != width:
                raise ValueError(f"the bank {name} has the shape {tuple(bank.vectors.shape)} in place of (N, {width})")
            if _have_unit_length(features.vectors[name]) and not _have_unit_length(bank.vectors):
                raise ValueError(f"the bank {name} has vectors of another length than 1")


def check_examples(examples: Examples | None, grids: Sequence[np.ndarray]) -> None:
    """Raise ValueError where regions cannot be compared with the examples.

    Args:
        grids: of any image, `inference.kind_grids`.
    """
    if examples is None:
        return
    shape = (len(examples.kinds), sum(grid.shape[-1] for grid in grids))
    if examples.vectors.shape != shape:
        raise ValueError(f"examples of the shape {examples.vectors.shape} in place of {shape}")
    lengths = np.linalg.norm(examples.vectors, axis=1)
    if not (abs(lengths - 1) < _LENGTH_TOLERANCE).all():  # NaN too
        raise ValueError("examples of another length than 1")


@contextmanager
def damage_reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """What goes wrong with the contents of a file is a FileFormatError that names it."""
    try:
        yield
    except PatchclipError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} has damaged or foreign contents ({error!r}): save the detector again") from error


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


def read_file(path: str | os.PathLike[str]) -> SavedDetector:
    """What `save` wrote; the file is read once, and may change or go away afterwards.

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
    except (SafetensorError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{path} is no detector file or is truncated ({error}): write it again with Detector.save"
        ) from error
    return SavedDetector(path, whole["detector"], tensors)


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


def _have_unit_length(vectors: torch.Tensor) -> bool:
    """Whether the longest has; a patch without any feature has the length 0."""
    return abs(float(vectors.norm(dim=-1).max()) - 1) < _LENGTH_TOLERANCE


def _are_classes(classes: Any) -> bool:
    """One group without a name, or different names."""
    if classes == [None]:
        return True
    are_names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    return are_names and 0 < len(set(classes)) == len(classes)


def _checked_size(image_hw: Any) -> tuple[int, int] | None:
    if image_hw is None:
        return None
    height, width = image_hw
    if not all(type(side) is int and side > 0 for side in (height, width)):
        raise ValueError(f"an image size of {image_hw}")
    return height, width
