"""A detector to one safetensors file and back: tensors, and everything else as JSON in the metadata. No pickle.

Layout, format_version 1:
    metadata["patchclip"]   JSON: {"format": "detector", "format_version": 1, "detector": {options; hash, generation
                            and preprocessing ("input") of the backbone; fingerprints of the cues ("descriptors");
                            classes and their levels; cue weights; threshold; fingerprints and size of the images}}
    tensors                 bank.<class index>.<bank name>, (N, D) float32

What a detector depends on is saved with it, and checked when it is loaded.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .config import Config
from .encoders.clip import Backbone
from .errors import FileFormatError, PatchclipError, WeightsUnavailableError
from .files import atomic_write
from .recipes import RECIPES
from .scoring.cues import fingerprints
from .scoring.memory import Fitted, Memory
from .threshold import Threshold

FORMAT_VERSION = 1

LOCAL_FOLDER = "local-dir:"


def save(
    path: str | os.PathLike[str], backbone: Backbone, config: Config, fitted: Fitted | None, threshold: Threshold
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
    }
    write_file(path, fitted.memory.tensors() if fitted else {}, content)


@dataclass(frozen=True, eq=False)
class SavedDetector:
    """What a file holds; its methods raise FileFormatError where that is damaged.

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
        """As it was saved.

        Raises:
            ValueError: outside its range.
        """
        threshold = Threshold(*self.content["threshold"])
        if not 0 <= threshold.value <= 1:
            raise ValueError(f"a threshold of {threshold.value}")
        return threshold

    def fitted(self, config: Config, device: torch.device) -> Fitted | None:
        """What was fitted; None for a detector without.

        Raises:
            ValueError: not as `fit` leaves it.
        """
        classes = self.content["classes"]
        weights = dict(self.content["cue_weights"])
        levels = tuple(self.content["class_levels"])
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
        image_hw = self.content.get("image_hw")
        if image_hw is not None:
            height, width = map(int, image_hw)
            image_hw = (height, width)
        image_fingerprints = tuple(self.content.get("fingerprints", ()))
        if classes is None:
            return None
        memory = Memory.from_tensors(self.tensors, classes, device, neighbours=config.neighbours)
        return Fitted(memory, weights, levels, image_fingerprints, image_hw)

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


@contextmanager
def damage_reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """What goes wrong with the contents of a file is a FileFormatError that names it."""
    try:
        yield
    except PatchclipError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} has damaged or foreign contents ({error!r}): save the detector again") from error


def write_file(path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], content: Mapping[str, Any]) -> None:
    """Write tensors and the content of a detector."""
    from safetensors.torch import save as to_bytes

    whole = {"format": "detector", "format_version": FORMAT_VERSION, "detector": content}
    # one entry, since safetensors does not keep the order of several; an option may be a numpy scalar
    metadata = {"patchclip": json.dumps(whole, default=lambda value: value.item())}
    data = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_file(path: str | os.PathLike[str]) -> SavedDetector:
    """What `save` wrote.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: not a detector file, truncated, or of a newer version.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no detector file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            whole = json.loads((file.metadata() or {}).get("patchclip", "{}"))
            _check_format(path, whole)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(
            f"{path} is no detector file or is truncated ({error}): write it again with Detector.save"
        ) from error
    return SavedDetector(path, whole["detector"], tensors)


def _check_format(path: str | os.PathLike[str], whole: Any) -> None:
    if not isinstance(whole, dict) or whole.get("format") != "detector":
        raise FileFormatError(f"{path} is a safetensors file but no detector: expected one written by Detector.save")
    version = whole.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise FileFormatError(
            f"{path} has format version {version!r}, this patchclip reads up to {FORMAT_VERSION}: update patchclip"
        )
    if "detector" not in whole:
        raise FileFormatError(f"{path} has no detector in it: save it again with Detector.save")
