"""Baselines: the two of the course, and a network of the same shape that has learnt nothing.

The course's baselines look at the global embedding only. As published, a high zero-shot score means normal; here it
is negated, threshold and all, so that high means anomalous everywhere.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from patchclip import Detector, ImageError
from patchclip.backbone import Backbone
from patchclip.image import load_image, resize, to_pixels
from patchclip.models import ASSETS, TINY

from .methods import OwnMethod, Prediction, References, Settings, make_detector

#: Of the course's zero-shot baseline: normal from there on.
_NORMAL_FROM = 0.2

_EPOCHS = 40
_LEARNING_RATE = 0.05
_BATCH = 16


# --- anomalies made from normal images ----------------------------------------------------------------------------


def synthetic_anomalies(image: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The course's four: dots, cuts, noise and blur, each on a copy of a normal image.

    Args:
        image: (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    dots, cuts = image.copy(), image.copy()
    for _ in range(rng.integers(3, 10)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        colour = rng.integers(0, 256, 3).tolist()
        cv2.circle(dots, centre, max(1, int(short * rng.uniform(0.01, 0.04))), colour, -1, cv2.LINE_AA)
    for _ in range(rng.integers(1, 4)):
        start = rng.uniform((0, 0), (width, height))
        end = start + short * rng.uniform(-0.4, 0.4, 2)
        points = [tuple(int(value) for value in point) for point in (start, end)]
        colour = rng.integers(0, 256, 3).tolist()
        cv2.line(cuts, points[0], points[1], colour, max(1, int(short * rng.uniform(0.005, 0.02))), cv2.LINE_AA)
    noise = np.clip(image + rng.normal(0, 35, image.shape), 0, 255).astype(np.uint8)
    blur = cv2.GaussianBlur(image, (0, 0), short * 0.02)
    return [dots, cuts, noise, blur]


@dataclass
class _Embedder:
    """Unit image embeddings, the whole image squashed to the model's square, so that no part of it is cut off."""

    backbone: Backbone
    batch_size: int

    def __call__(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """(H, W, 3) uint8 each -> (B, E)."""
        side = self.backbone.image_size
        parts = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            squares = [resize(image, (side, side), self.backbone.model.interpolation) for image in batch]
            tokens = self.backbone.encode(to_pixels(squares, self.backbone.mean, self.backbone.std))
            parts.append(F.normalize(tokens.cls, dim=-1))
        return torch.cat(parts)

    def stream(self, paths: Sequence[Path], batch_size: int) -> Iterator[torch.Tensor | ImageError]:
        """(E,) of each image in turn, or why it cannot be read."""
        for start in range(0, len(paths), batch_size):
            loaded: list[np.ndarray | ImageError] = []
            for path in paths[start : start + batch_size]:
                try:
                    loaded.append(load_image(path))
                except ImageError as error:
                    loaded.append(error)
            images = [image for image in loaded if not isinstance(image, ImageError)]
            embeddings = iter(self(images) if images else ())
            for image in loaded:
                yield image if isinstance(image, ImageError) else next(embeddings)


def _make_embedder(settings: Settings) -> _Embedder:
    return _Embedder(make_detector(settings, cues=("text",)).backbone, settings.batch_size)


def _normals_and_anomalies(
    embed: _Embedder, references: References, seed: int
) -> tuple[dict[str | None, torch.Tensor], torch.Tensor]:
    """class -> (n, E) embeddings of its normal images, and (m, E) of the anomalies made from all of them."""
    rng = np.random.default_rng(seed)
    normals, made = {}, []
    for name, paths in references.items():
        images = [load_image(path) for path in paths]
        normals[name] = embed(images)
        made += [anomaly for image in images for anomaly in synthetic_anomalies(image, rng)]
    return normals, embed(made)


# --- the course ---------------------------------------------------------------------------------------------------


@dataclass
class _CourseMethod(ABC):
    """What the course's methods share: one embedding for each image, judged alone."""

    settings: Settings
    notes: dict[str, object] = field(default_factory=dict)
    detector: Detector | None = None

    def __post_init__(self) -> None:
        self.embed = _make_embedder(self.settings)

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        for embedding in self.embed.stream(paths, batch_size):
            yield embedding if isinstance(embedding, ImageError) else self._judge(embedding)

    @abstractmethod
    def _judge(self, embedding: torch.Tensor) -> Prediction:
        """(E,) of unit length."""


class CourseZeroShot(_CourseMethod):
    """Nearness to the nearest class's mean normal embedding, less the mean nearness to synthetic anomalies."""

    def fit(self, references: References, *, seed: int) -> None:
        normals, self._anomalies = _normals_and_anomalies(self.embed, references, seed)
        self._means = F.normalize(torch.stack([group.mean(0) for group in normals.values()]), dim=-1)
        self.notes = {"threshold_source": "fixed", "synthetic_anomalies": len(self._anomalies)}

    def _judge(self, embedding: torch.Tensor) -> Prediction:
        normal = float((self._means @ embedding).max())
        anomalous = float((self._anomalies @ embedding).mean())
        return Prediction(anomalous - normal, -_NORMAL_FROM, similarity=(normal, anomalous))


class CourseFewShot(_CourseMethod):
    """A linear head on the frozen embedding, trained against synthetic anomalies; its best epoch is kept on disk."""

    def fit(self, references: References, *, seed: int) -> None:
        normals, anomalies = _normals_and_anomalies(self.embed, references, seed)
        normal = torch.cat(list(normals.values()))
        features = torch.cat([normal, anomalies]).cpu()
        labels = torch.cat([torch.zeros(len(normal)), torch.ones(len(anomalies))])
        checkpoint = self.settings.work / f"course-fewshot-{seed}.safetensors"
        epochs = train_head(features, labels, checkpoint, seed=seed)
        state = load_file(checkpoint)
        self._weight, self._bias = (state[name].to(anomalies.device) for name in ("weight", "bias"))
        self.notes = {"threshold_source": "fixed", "synthetic_anomalies": len(anomalies), "training": epochs}

    def _judge(self, embedding: torch.Tensor) -> Prediction:
        return Prediction(float(torch.sigmoid(F.linear(embedding, self._weight, self._bias))), 0.5)


def train_head(
    features: torch.Tensor, labels: torch.Tensor, checkpoint: Path, *, seed: int, epochs: int = _EPOCHS
) -> list[dict[str, float]]:
    """Binary cross-entropy, both classes of equal weight; the epoch of the lowest loss is written to `checkpoint`.

    Args:
        features: (n, E); labels: (n,) float, 1 anomalous.

    Returns:
        For each epoch: epoch (from 1), loss, accuracy, both over all n after it.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(1, features.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=_LEARNING_RATE)
    balance = (1 - labels).sum() / labels.sum()
    history: list[dict[str, float]] = []
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(features), generator=generator).split(_BATCH):
            logits = F.linear(features[batch], weight, bias)[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, labels[batch], pos_weight=balance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            logits = F.linear(features, weight, bias)[:, 0]
            loss_now = float(F.binary_cross_entropy_with_logits(logits, labels, pos_weight=balance))
            accuracy = float(((logits > 0) == (labels > 0.5)).float().mean())
        if not history or loss_now < min(entry["loss"] for entry in history):
            save_file({"weight": weight.detach().clone(), "bias": bias.detach().clone()}, checkpoint)
        history.append({"epoch": epoch, "loss": loss_now, "accuracy": accuracy})
    return history


# --- the same network, untrained ----------------------------------------------------------------------------------


@dataclass
class RandomVit:
    """The memory bank on a network of the model's shape with random weights: what training is worth."""

    settings: Settings
    kinds: Sequence[str]
    notes: dict[str, object] = field(default_factory=dict)
    detector: Detector | None = None

    def fit(self, references: References, *, seed: int) -> None:
        folder = self.settings.work / f"random-vit-{seed}"
        write_random_model(self.settings, folder, seed=seed)
        untrained = replace(self.settings, model=f"local-dir:{folder}", pretrained=None)
        self._method = OwnMethod(untrained, self.kinds, ("tokens",))
        self._method.fit(references, seed=seed)
        self.notes, self.detector = self._method.notes, self._method.detector

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        return self._method.predict(paths, batch_size=batch_size)


def write_random_model(settings: Settings, folder: Path, *, seed: int) -> None:
    """The configuration of the settings' model, with weights as its constructor draws them.

    Raises:
        ValueError: the model is on a hub, where its configuration is not at hand.
    """
    if settings.model.startswith("hf-hub:"):
        raise ValueError(f"random-vit cannot copy the shape of {settings.model!r}: leave it out of --methods")
    if settings.model == TINY or settings.model.startswith("local-dir:"):
        source = ASSETS / "tiny" if settings.model == TINY else Path(settings.model.removeprefix("local-dir:"))
        config = json.loads((source / "open_clip_config.json").read_text())
        config.get("patchclip", {}).pop("threshold", None)
        vocabulary = source / "bpe_simple_vocab.txt.gz"
    else:
        backbone = make_detector(settings, cues=("text",)).backbone
        preprocess = {"mean": backbone.model.mean, "std": backbone.model.std, "interpolation": "bicubic"}
        config = {"model_cfg": open_clip.get_model_config(settings.model), "preprocess_cfg": preprocess}
        config["model_cfg"].setdefault("text_cfg", {}).setdefault("context_length", 77)
        vocabulary = folder / "none"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip: nn.Module = open_clip.CLIP(**config["model_cfg"])
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {name: value.contiguous() for name, value in clip.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    if vocabulary.is_file():
        (folder / vocabulary.name).write_bytes(vocabulary.read_bytes())
