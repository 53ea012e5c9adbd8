"""The two baselines of the course: the global embedding of each image, judged alone.

As published, a high zero-shot score means normal; here it is negated, threshold and all, so that high means anomalous
everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import internals
from accuracy.methods.base import Prediction, References, Settings
from accuracy.methods.detector import make_bare_detector
from patchclip import Detector, ImageError

#: Zero-shot: nearness to normal less nearness to anomalies from which an image is normal.
_NORMAL_FROM = 0.2

#: Few-shot: the probability above which an image is anomalous.
_ANOMALOUS_ABOVE = 0.5

_EPOCHS = 40
_LEARNING_RATE = 0.05
_TRAINING_BATCH = 16


class _CourseMethod(ABC):
    """What both share: one embedding for each image."""

    detector: Detector | None = None

    def __init__(self, settings: Settings):
        self.settings = settings
        self.notes: dict[str, object] = {}
        self._network = make_bare_detector(settings)

    @abstractmethod
    def fit(self, references: References, *, seed: int) -> None: ...

    @abstractmethod
    def _judge(self, embedding: torch.Tensor) -> Prediction:
        """(E,) of unit length."""

    def predict(self, paths: Sequence[Path], *, batch_size: int) -> Iterator[Prediction | ImageError]:
        for start in range(0, len(paths), batch_size):
            loaded = [_try_load(path) for path in paths[start : start + batch_size]]
            images = [image for image in loaded if not isinstance(image, ImageError)]
            embeddings = iter(self._embed(images))
            for image in loaded:
                if isinstance(image, ImageError):
                    yield image
                else:
                    yield self._judge(next(embeddings))

    def _embed(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """(H, W, 3) uint8 each -> (B, E); (0,) of none."""
        size = self.settings.batch_size
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        parts = [internals.embed_whole(self._network, batch) for batch in batches]
        return torch.cat(parts) if parts else torch.empty(0)

    def _embed_references(
        self, references: References, seed: int
    ) -> tuple[dict[str | None, torch.Tensor], torch.Tensor]:
        """class -> (n, E) of its normal images, and (m, E) of the anomalies made from all of them."""
        rng = np.random.default_rng(seed)
        normals: dict[str | None, torch.Tensor] = {}
        anomalies: list[np.ndarray] = []
        for name, paths in references.items():
            images = [internals.load_image(path) for path in paths]
            normals[name] = self._embed(images)
            for image in images:
                anomalies += synthetic_anomalies(image, rng)
        return normals, self._embed(anomalies)


def _try_load(path: Path) -> np.ndarray | ImageError:
    try:
        return internals.load_image(path)
    except ImageError as error:
        return error


class CourseZeroShot(_CourseMethod):
    """Nearness to the nearest class's mean normal embedding, less the mean nearness to synthetic anomalies."""

    def fit(self, references: References, *, seed: int) -> None:
        normals, self._anomalies = self._embed_references(references, seed)
        means = torch.stack([embeddings.mean(0) for embeddings in normals.values()])
        self._means = F.normalize(means, dim=-1)  # (classes, E)
        self.notes = {"threshold_source": "fixed", "synthetic_anomalies": len(self._anomalies)}

    def _judge(self, embedding: torch.Tensor) -> Prediction:
        normal = float((self._means @ embedding).max())
        anomalous = float((self._anomalies @ embedding).mean())
        return Prediction(anomalous - normal, -_NORMAL_FROM, similarity=(normal, anomalous))


class CourseFewShot(_CourseMethod):
    """A linear head on the frozen embedding, trained against synthetic anomalies; its best epoch is kept on disk."""

    def fit(self, references: References, *, seed: int) -> None:
        normals, anomalies = self._embed_references(references, seed)
        normal = torch.cat(list(normals.values()))
        features = torch.cat([normal, anomalies]).cpu()
        labels = torch.cat([torch.zeros(len(normal)), torch.ones(len(anomalies))])
        checkpoint = self.settings.work / f"course-fewshot-{seed}.safetensors"
        epochs = train_head(features, labels, checkpoint, seed=seed)
        state = load_file(checkpoint)
        self._weight = state["weight"].to(anomalies.device)  # (1, E)
        self._bias = state["bias"].to(anomalies.device)
        self.notes = {"threshold_source": "fixed", "synthetic_anomalies": len(anomalies), "training": epochs}

    def _judge(self, embedding: torch.Tensor) -> Prediction:
        logit = F.linear(embedding, self._weight, self._bias)
        return Prediction(float(torch.sigmoid(logit)), _ANOMALOUS_ABOVE)


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
        radius = max(1, int(short * rng.uniform(0.01, 0.04)))
        cv2.circle(dots, centre, radius, colour, -1, cv2.LINE_AA)
    for _ in range(rng.integers(1, 4)):
        start = rng.uniform((0, 0), (width, height))
        end = start + short * rng.uniform(-0.4, 0.4, 2)
        colour = rng.integers(0, 256, 3).tolist()
        thickness = max(1, int(short * rng.uniform(0.005, 0.02)))
        cv2.line(cuts, _to_pixel(start), _to_pixel(end), colour, thickness, cv2.LINE_AA)
    noise = np.clip(image + rng.normal(0, 35, image.shape), 0, 255).astype(np.uint8)
    blur = cv2.GaussianBlur(image, (0, 0), short * 0.02)
    return [dots, cuts, noise, blur]


def _to_pixel(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


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

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = F.linear(inputs, weight, bias)[:, 0]
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=balance), logits

    history: list[dict[str, float]] = []
    lowest = float("inf")
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(features), generator=generator).split(_TRAINING_BATCH):
            loss, _ = loss_of(features[batch], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            loss, logits = loss_of(features, labels)
        accuracy = ((logits > 0) == (labels > 0.5)).float().mean()
        if float(loss) < lowest:
            lowest = float(loss)
            save_file({"weight": weight.detach().clone(), "bias": bias.detach().clone()}, checkpoint)
        history.append({"epoch": epoch, "loss": float(loss), "accuracy": float(accuracy)})
    return history
