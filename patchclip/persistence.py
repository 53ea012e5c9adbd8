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
    tensor "examples"           (N, 4, D) float32 of unit length, `scoring.kinds.describe_regions` of each and of its
                                flipped views

Format_version 1 is as 2 without the sha256: a file of it that was damaged can load and give other results.

What a detector depends on is saved with it, and checked when it is loaded. A file is read once, and not needed later.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch

from .config import Config
from .detector_file import EXAMPLES, read_content
from .detector_file import write_file as write_file  # what is read here is written there
from .encoders.clip import Backbone
from .encoders.loading import LOCAL_FOLDER
from .errors import DAMAGE, FileFormatError, PatchclipError, WeightsUnavailableError
from .features import FeatureExtractor
from .inference import kind_bank_names
from .printable import is_name
from .recipes import RECIPES
from .recipes.features import Features
from .scoring.cues import fingerprints
from .scoring.kinds import Examples, vector_width
from .scoring.memory import Fitted, Memory
from .threshold import Threshold

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

    def state(self, extractor: FeatureExtractor) -> tuple[Fitted | None, Threshold, Examples | None]:
        """What was fitted, the threshold and what was taught; checked against the networks of that extractor."""
        fitted = self.fitted(extractor.config, extractor.backbone.device)
        threshold = self.threshold()
        self.check_networks(extractor.backbone, extractor.config)
        examples = self.examples()
        if fitted is not None:
            check_vectors(fitted, examples, extractor.example_features())
        elif examples is not None:
            raise ValueError("kinds of defects without what was fitted")
        return fitted, threshold, examples

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
        if "example_kinds" not in self.content and EXAMPLES not in self.tensors:
            return None
        return Examples.from_saved(self.content["example_kinds"], self.tensors[EXAMPLES].numpy())

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


def check_vectors(fitted: Fitted, examples: Examples | None, features: Features) -> None:
    """Raise ValueError where the banks and the examples are not such as features of an image are compared with.

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
    grids = [features.dense, *(features.vectors[name] for name in kind_bank_names(features.vectors))]
    width = vector_width(grid.shape[-1] for grid in grids)
    if examples is not None and examples.vectors.shape[-1] != width:
        raise ValueError(f"examples have {examples.vectors.shape[-1]} values in place of {width}")


@contextmanager
def damage_reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """What goes wrong with the contents of a file is a FileFormatError that names it."""
    try:
        yield
    except PatchclipError:
        raise
    except DAMAGE as error:
        raise FileFormatError(f"{path} has damaged or foreign contents ({error!r}): save the detector again") from error


def read_file(path: str | os.PathLike[str]) -> SavedDetector:
    """What `save` wrote; the file is read once, and may change or go away afterwards.

    Raises:
        OSError: no such file, or one that cannot be read.
        FileFormatError: not a detector file, damaged, or of a newer version.
    """
    content, tensors = read_content(path)
    return SavedDetector(path, content, tensors)


def _have_unit_length(vectors: torch.Tensor) -> bool:
    """Whether the longest has; a patch without any feature has the length 0."""
    return abs(float(vectors.norm(dim=-1).max()) - 1) < _LENGTH_TOLERANCE


def _are_classes(classes: Any) -> bool:
    """One group without a name, or different names."""
    if classes == [None]:
        return True
    are_names = isinstance(classes, list) and all(map(is_name, classes))
    return are_names and 0 < len(set(classes)) == len(classes)


def _checked_size(image_hw: Any) -> tuple[int, int] | None:
    if image_hw is None:
        return None
    height, width = image_hw
    if not all(type(side) is int and side > 0 for side in (height, width)):
        raise ValueError(f"an image size of {image_hw}")
    return height, width
