"""Features that were extracted elsewhere, in the place of the images: what `Detector.fit` and `rank` take too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from .errors import PatchclipError
from .features import FeatureExtractor
from .recipes.features import Features
from .scoring.cues import fingerprints

#: Options that features do not depend on, or that say where the same weights are.
_OTHER_OPTIONS = (
    "model",
    "pretrained",
    "defects",
    "coreset",
    "neighbours",
    "rotations",
    "flips",
    "smoothing",
    "max_false_positive_rate",
    "max_pixels",
    "precision",
)

_TEXT_MAP, _P_IMAGE, _VECTORS = "text_map", "p_image", "vectors."


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """The features of one image.

    Attributes:
        filename: of the image.
        image_hw: its height and width.
        fingerprint: `images.load.fingerprint` of it.
        networks: `networks_of` what extracted them.
        grid_hw: rows and columns of patches.
        read_arrays: name -> (..., D) float16, read anew each time.
    """

    filename: str
    image_hw: tuple[int, int]
    fingerprint: str
    networks: str
    grid_hw: tuple[int, int]
    read_arrays: Callable[[], Mapping[str, np.ndarray]] = field(repr=False)

    def load(self, extractor: FeatureExtractor) -> Features:
        """As a batch of one in float32, on the device of that extractor; without the tokens that regions are named by.

        Raises:
            ValueError: they were extracted by other networks or with other options.
        """
        if self.networks != networks_of(extractor):
            raise ValueError(
                f"the features of {self.filename} were extracted with another model, other weights or other options "
                "than this detector's: extract them again with it"
            )
        device = extractor.backbone.device
        tensors = {}
        for name, array in self.read_arrays().items():
            tensors[name] = torch.from_numpy(array.astype(np.float32)).to(device)[None]
        vectors = {name.removeprefix(_VECTORS): grid for name, grid in tensors.items() if name.startswith(_VECTORS)}
        unnamed = torch.empty(1, *self.grid_hw, 0, device=device)
        return Features(dense=unnamed, text=tensors.get(_TEXT_MAP), p_image=tensors.get(_P_IMAGE), vectors=vectors)


def features_to_arrays(features: Features) -> dict[str, np.ndarray]:
    """The inverse of `StoredFeatures.load`, of a batch of one: name -> (..., D) float16.

    Raises:
        PatchclipError: a value that float16 does not hold.
    """
    tensors = {f"{_VECTORS}{name}": grid for name, grid in features.vectors.items()}
    if features.text is not None:
        tensors[_TEXT_MAP] = features.text
    if features.p_image is not None:
        tensors[_P_IMAGE] = features.p_image
    arrays = {}
    for name, tensor in tensors.items():
        array = tensor[0].half().cpu().numpy()
        if not np.isfinite(array).all():
            raise PatchclipError(f"{name} has values beyond float16: these features cannot be stored")
        arrays[name] = array
    return arrays


def networks_of(extractor: FeatureExtractor) -> str:
    """The same for the same features: 16 hexadecimal digits of the weights, and of the options that matter."""
    config = extractor.config
    options = {name: value for name, value in config.to_dict().items() if name not in _OTHER_OPTIONS}
    backbone = extractor.backbone
    facts = [options, backbone.model.weights_sha256, backbone.preprocessing, fingerprints(config.cues)]
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
