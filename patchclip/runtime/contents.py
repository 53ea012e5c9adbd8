"""What an exported file says of itself: the metadata entry "patchclip", JSON, written by the export and read here.

Format_version 2:
    format, format_version      "onnx", 2
    patchclip, versions         of patchclip; package -> version, of what wrote the file
    sha256, sha256_bytes        of the first so many bytes of the file, which are all but this entry
    input                       name "image"; layout; size_hw that the network sees; interpolation to it, "bicubic" or
                                "bilinear", antialiased; side and patch, by which `images.plan.plan_size` finds the size
                                for an image: one that has another size there is of other proportions
    heatmap_hw                  of the output "heatmap"
    threshold, threshold_source, threshold_guaranteed
    normal_scores               [name, class, score, kind, counts] of each, see `NormalScore`
    max_false_positive_rate     that the threshold was set for
    classes, class_levels       names in the order of "class_index"; what is normal in each (the graph holds it too)
    cue_weights                 cue -> weight (the graph holds them too)
    object_name, recipe, int8   of the detector; whether matrix products are in int8
    model, weights_sha256       name of the backbone, hash of its weights
    max_pixels                  that an image file may have
    defects                     names, temperature, and embeddings: base64 of (K, E) float32, little endian, by which
                                regions are named (`scoring.regions`); null without names
    kinds                       null, or in format_version 3 the kinds of defects that were taught (`scoring.kinds`):
                                names and counts of their examples; directions (K, D), offsets (K, 1) and prototypes
                                (K, D), base64 of float32, little endian; similarity_weight, score_weight, bound; banks,
                                whose outputs "vectors_<bank>" tell them beside "dense"

Files without taught kinds have format_version 2, which earlier versions of patchclip read. Format_version 1 had neither
the outputs "fine_map" and "dense" nor what regions and other sizes need.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from .._version import __version__
from ..errors import DAMAGE, FileFormatError
from ..images.plan import plan_size
from ..printable import is_name
from ..scoring.kinds import DefectKinds
from ..scoring.regions import DefectNames
from ..scoring.vectors import have_unit_length
from ..threshold import Threshold

#: Of a file without taught kinds, and of one with some.
_PLAIN_VERSION, FORMAT_VERSION = 2, 3

#: Key of the metadata entry.
METADATA_KEY = "patchclip"

INPUT = "image"

#: Outputs of every file, and of one that was fitted with classes.
HEATMAP, SCORE, CLASS_INDEX, FINE_MAP, DENSE = "heatmap", "score", "class_index", "fine_map", "dense"

#: Of the values that scores of kinds are made of, so that these are finite.
_MOST_OF_SCORES = 1e6

_LAYOUT = "(B, 3, h, w) float32 RGB in [0, 1]"
_INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True, eq=False, kw_only=True)
class Contents:
    """What a file holds beside its graph; the entries are described above.

    Attributes:
        side: in pixels of the square whose area images are resized to; patch: of a patch.
        kind_banks: whose vectors tell the kinds; none without kinds.
    """

    size_hw: tuple[int, int]
    interpolation: str
    side: int
    patch: int
    heatmap_hw: tuple[int, int]
    threshold: Threshold
    max_false_positive_rate: float
    classes: tuple[str, ...]
    class_levels: tuple[float, ...]
    cue_weights: Mapping[str, float]
    object_name: str
    recipe: str
    is_int8: bool
    model: str
    weights_sha256: str
    max_pixels: int
    defects: DefectNames | None
    versions: Mapping[str, str]
    kinds: DefectKinds | None = None
    kind_banks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, but for the checksum."""
        return {
            "format": "onnx",
            "format_version": _PLAIN_VERSION if self.kinds is None else FORMAT_VERSION,
            "patchclip": __version__,
            "versions": dict(self.versions),
            "input": {
                "name": INPUT,
                "layout": _LAYOUT,
                "size_hw": list(self.size_hw),
                "interpolation": self.interpolation,
                "side": self.side,
                "patch": self.patch,
            },
            "heatmap_hw": list(self.heatmap_hw),
            "threshold": self.threshold.value,
            "threshold_source": self.threshold.source,
            "threshold_guaranteed": self.threshold.guaranteed,
            "normal_scores": [list(astuple(normal)) for normal in self.threshold.normal_scores],
            "max_false_positive_rate": self.max_false_positive_rate,
            "classes": list(self.classes),
            "class_levels": list(self.class_levels),
            "cue_weights": dict(self.cue_weights),
            "object_name": self.object_name,
            "recipe": self.recipe,
            "int8": self.is_int8,
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "max_pixels": self.max_pixels,
            "defects": None if self.defects is None else _defects_to_dict(self.defects),
            "kinds": None if self.kinds is None else _kinds_to_dict(self.kinds, self.kind_banks),
        }

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Contents:
        """The inverse of `to_dict`.

        Raises:
            LookupError, TypeError, ValueError: other entries.
        """
        preprocessing = entries["input"]
        kinds, kind_banks = _kinds_from_dict(entries.get("kinds"))
        contents = cls(
            size_hw=_size(preprocessing["size_hw"]),
            interpolation=preprocessing["interpolation"],
            side=preprocessing["side"],
            patch=preprocessing["patch"],
            heatmap_hw=_size(entries["heatmap_hw"]),
            threshold=Threshold.from_saved(
                entries["threshold"],
                entries["threshold_source"],
                entries["threshold_guaranteed"],
                entries["normal_scores"],
            ),
            max_false_positive_rate=float(entries["max_false_positive_rate"]),
            classes=_names(entries["classes"], some=False),
            class_levels=tuple(entries["class_levels"]),
            cue_weights=dict(entries["cue_weights"]),
            object_name=entries["object_name"],
            recipe=entries["recipe"],
            is_int8=entries["int8"],
            model=entries["model"],
            weights_sha256=entries["weights_sha256"],
            max_pixels=entries["max_pixels"],
            defects=None if entries["defects"] is None else _defects_from_dict(entries["defects"]),
            versions=dict(entries["versions"]),
            kinds=kinds,
            kind_banks=kind_banks,
        )
        if contents.interpolation not in _INTERPOLATIONS:
            raise ValueError(f"an interpolation of {contents.interpolation!r}")
        if contents.plan(contents.heatmap_hw) != contents.size_hw:
            raise ValueError(f"a size of {contents.size_hw} for images of {contents.heatmap_hw}")
        return contents

    @property
    def vector_outputs(self) -> list[str]:
        """Outputs that kinds are told by beside "dense"."""
        return [vectors_output(name) for name in self.kind_banks]

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size_hw[0] // self.patch, self.size_hw[1] // self.patch

    def plan(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """The size at which the detector sees an image of that height and width."""
        return plan_size(image_hw, side=self.side, patch=self.patch, tile=None).size_hw


def read_entries(path: str | os.PathLike[str], text: str | None) -> dict[str, Any]:
    """The metadata entry as JSON has it.

    Args:
        path: of the file, for messages.
        text: of the entry; None where there is none.

    Raises:
        FileFormatError: not by patchclip, damaged, or of another version.
    """
    if text is None:
        raise FileFormatError(f"{path} was not exported by patchclip: expected a file by Detector.export")
    try:
        entries = json.loads(text)
        version = entries["format_version"]
    except DAMAGE as error:
        raise FileFormatError(f"{path} has damaged metadata ({error!r}): export the detector again") from error
    if type(version) is int and version == 1:
        raise FileFormatError(
            f"{path} was exported by an earlier patchclip, without regions: export the detector again"
        )
    if type(version) is not int or not _PLAIN_VERSION <= version <= FORMAT_VERSION:
        raise FileFormatError(
            f"{path} has format version {version!r}, this patchclip reads {_PLAIN_VERSION} and {FORMAT_VERSION}: "
            "update patchclip"
        )
    return entries


def vectors_output(bank_name: str) -> str:
    """The output with the vectors of a bank."""
    return f"vectors_{bank_name}"


def _defects_to_dict(defects: DefectNames) -> dict[str, Any]:
    return {
        "names": list(defects.names),
        "temperature": defects.temperature,
        "embeddings": _to_base64(defects.embeddings),
    }


def _defects_from_dict(entry: Mapping[str, Any]) -> DefectNames:
    names = _names(entry["names"])
    embeddings = _from_base64(entry["embeddings"], len(names))
    temperature = float(entry["temperature"])
    if not 0 < temperature < math.inf:
        raise ValueError(f"names of defects {names} at a temperature of {temperature}")
    return DefectNames(names, embeddings, temperature)


def _kinds_to_dict(kinds: DefectKinds, banks: tuple[str, ...]) -> dict[str, Any]:
    return {
        "names": list(kinds.names),
        "counts": list(kinds.counts),
        "directions": _to_base64(kinds.directions),
        "offsets": _to_base64(kinds.offsets),
        "prototypes": _to_base64(kinds.prototypes),
        "similarity_weight": kinds.similarity_weight,
        "score_weight": kinds.score_weight,
        "bound": kinds.bound,
        "banks": list(banks),
    }


def _kinds_from_dict(entry: Mapping[str, Any] | None) -> tuple[DefectKinds | None, tuple[str, ...]]:
    """The kinds, and the banks that tell them."""
    if entry is None:
        return None, ()
    names, counts = _names(entry["names"]), tuple(entry["counts"])
    directions, offsets, prototypes = (
        _from_base64(entry[name], len(names)) for name in ("directions", "offsets", "prototypes")
    )
    if directions.shape != prototypes.shape or offsets.shape != (len(names), 1):
        raise ValueError(f"kinds of the shapes {directions.shape}, {offsets.shape} and {prototypes.shape}")
    if max(abs(directions).max(), abs(offsets).max()) > _MOST_OF_SCORES:
        raise ValueError("scores of kinds that may be infinite")
    if not have_unit_length(prototypes):
        raise ValueError("prototypes of another length than 1")
    weights = tuple(entry[name] for name in ("similarity_weight", "score_weight", "bound"))
    are_numbers = all(type(weight) in (int, float) and math.isfinite(weight) for weight in weights)
    are_counts = len(counts) == len(names) and all(type(count) is int and count > 0 for count in counts)
    if not are_counts or not are_numbers or weights[0] <= 0:
        raise ValueError(f"kinds {names} of {counts} examples with the weights {weights}")
    kinds = DefectKinds(names, counts, directions, offsets[:, 0], prototypes, *map(float, weights))
    return kinds, tuple(entry["banks"])


def _names(names: Any, *, some: bool = True) -> tuple[str, ...]:
    """Different ones that can be printed, at least one where there must be some."""
    if not isinstance(names, list) or not all(map(is_name, names)) or len(set(names)) < len(names):
        raise ValueError(f"names {names}")
    if some and not names:
        raise ValueError("no names")
    return tuple(names)


def _to_base64(vectors: np.ndarray) -> str:
    raw = np.ascontiguousarray(vectors, "<f4").tobytes()
    return base64.b64encode(raw).decode("ascii")


def _from_base64(text: str, count: int) -> np.ndarray:
    """(count, D) float32."""
    raw = base64.b64decode(text, validate=True)
    vectors = np.frombuffer(raw, "<f4").reshape(count, -1).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("vectors that are NaN or infinite")
    return vectors


def _size(size_hw: Any) -> tuple[int, int]:
    height, width = size_hw
    if not all(type(side) is int and side > 0 for side in (height, width)):
        raise ValueError(f"a size of {size_hw}")
    return height, width
