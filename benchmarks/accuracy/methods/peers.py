"""anomalib's PatchCore and WinCLIP on the very same weights and images.

They set a threshold from labelled anomalies alone, so the columns of decisions stay empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import internals
from accuracy.methods.base import Prediction, References, Settings, flatten
from accuracy.methods.detector import make_detector
from anomalib_models import import_model, patchcore_imagenet_model, patchcore_model, winclip_model
from patchclip import Detector, ImageError

#: What anomalib's PatchCore keeps of its bank.
_CORESET = 0.1

#: Side in pixels of the square that anomalib's PatchCore sees of an image where no other network says its own.
_SIDE = 256

#: An image's path -> what the network sees of it, (1, 3, h, w) in [0, 1], and (H, W) of the upright image.
LoadRgb = Callable[[Path], tuple[torch.Tensor, tuple[int, int]]]


class AnomalibPatchcore:
    """anomalib's PatchcoreModel: 3 x 3 pooling, coreset of 10 %, re-weighted score, Gaussian of 4 pixels.

    Args:
        make: the model on its features, in training.
        load_rgb: what it sees of an image.
    """

    detector: Detector | None = None

    def __init__(self, make: Callable[[], Any], load_rgb: LoadRgb):
        self.notes: dict[str, object] = {}
        self._make = make
        self._load_rgb = load_rgb

    @classmethod
    def on_tokens(cls, settings: Settings) -> AnomalibPatchcore:
        """On the tokens of the settings' model, of the pixels that it sees."""
        import_model("patchcore")  # if it is missing, that is said before any work
        network = make_detector(replace(settings, tile=None), cues=("tokens",))
        return cls(partial(patchcore_model, network), partial(internals.load_rgb, network))

    @classmethod
    def on_imagenet(cls, settings: Settings) -> AnomalibPatchcore:
        """On the features of strides 8 and 16 of the embedded EfficientNet-Lite0, at 256 pixels, as it is shipped."""
        import_model("patchcore")
        device = internals.resolve_device(settings.device)
        load_rgb = partial(internals.load_square_rgb, side=_SIDE, device=device)
        return cls(partial(patchcore_imagenet_model, device), load_rgb)

    def fit(self, references: References, *, seed: int) -> None:
        model = self._make()
        with _seeded(seed):  # the coreset is chosen by chance
            for path in flatten(references):
                rgb, _ = self._load_rgb(path)
                model(rgb)
            model.subsample_embedding(_CORESET)
        self._model: Any = model.eval()
        self.notes = {"threshold_source": None, "coreset": _CORESET}

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        return _predict(self._model, self._load_rgb, paths, batch_size)


class AnomalibWinclip:
    """anomalib's WinClipModel."""

    detector: Detector | None = None

    def __init__(self, settings: Settings):
        self.notes: dict[str, object] = {"threshold_source": None}
        self._model = winclip_model(settings.model, settings.pretrained, settings.object_name)
        self._network = make_detector(settings, recipe="winclip")
        self._model.temperature = self._network.options["temperature"]
        self._model.to(internals.device_of(self._network))

    def fit(self, references: References, *, seed: int) -> None:
        self._model.k_shot, self._model.reference_images = 0, None
        paths = flatten(references)
        if paths:
            squares = [internals.load_rgb(self._network, path)[0] for path in paths]
            with torch.no_grad():
                self._model.setup(reference_images=internals.normalise(self._network, torch.cat(squares)))

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        load_rgb = partial(internals.load_rgb, self._network)
        return _predict(self._on_rgb, load_rgb, paths, batch_size)

    def _on_rgb(self, rgb: torch.Tensor) -> Any:
        return self._model(internals.normalise(self._network, rgb))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """anomalib draws from the global generators of torch and NumPy: seeded here, and left as they were."""
    numpy_state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)


def _predict(
    model: Callable[[torch.Tensor], Any], load_rgb: LoadRgb, paths: Sequence[Path], batch_size: int
) -> Iterator[Prediction | ImageError]:
    """Images of one size in a batch go through the model together, as (B, 3, h, w) in [0, 1]."""
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        outcomes: dict[int, Prediction | ImageError] = {}
        images: dict[int, torch.Tensor] = {}  # (1, 3, h, w) each
        image_hw: dict[int, tuple[int, int]] = {}
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, path in enumerate(batch):
            try:
                images[index], image_hw[index] = load_rgb(path)
            except ImageError as error:
                outcomes[index] = error
                continue
            groups.setdefault(tuple(images[index].shape), []).append(index)
        for indices in groups.values():
            with torch.inference_mode():
                found = model(torch.cat([images[index] for index in indices]))
            maps = found.anomaly_map.reshape(len(indices), 1, *found.anomaly_map.shape[-2:]).float()  # (B, 1, h, w)
            scores = found.pred_score.flatten().tolist()
            for index, score, one in zip(indices, scores, maps, strict=True):
                outcomes[index] = Prediction(score, None, _to_heatmap(one, image_hw[index]))
        for index in range(len(batch)):
            yield outcomes[index]


def _to_heatmap(anomaly_map: torch.Tensor, image_hw: tuple[int, int]) -> np.ndarray:
    """(1, h, w) -> (H, W), bilinear."""
    heatmap = F.interpolate(anomaly_map[None], image_hw, mode="bilinear")[0, 0]
    return heatmap.cpu().numpy().astype(np.float32)
