"""Pictures for the report: the best, the median and the worst images of a measurement."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

import internals
from accuracy.categories import relative_path
from accuracy.measures import Record
from accuracy.methods.base import Method, Prediction
from accuracy.plan import Task
from patchclip import ImageError, metrics, viz
from patchclip.datasets import read_mask

_SIDE = 256  # of a picture, in pixels
_OUTLINE_COLOUR = (255, 0, 200)


def choose(records: Sequence[Record]) -> list[tuple[int, str, float]]:
    """The best, the median and the worst of the anomalous images, then of the normal ones.

    How good an image is, is the part of the other class that it is ranked on the right side of (ties count half):
    its share of the AUROC. Among equals a clearer score is better.

    Returns:
        (index, "best" | "median" | "worst", part in [0, 1]); fewer where there are fewer images.
    """
    labels = np.array([record.label for record in records])
    scores = np.array([record.score for record in records])
    chosen: list[tuple[int, str, float]] = []
    for label in (1, 0):
        clearness = scores if label == 1 else -scores
        members = np.flatnonzero(labels == label)
        if len(members) == 0:
            continue
        right = _ranked_right(clearness[members], clearness[labels != label])
        best_first = np.lexsort((clearness[members], np.nan_to_num(right)))[::-1]
        ranks = {0: "best", len(members) // 2: "median", len(members) - 1: "worst"}
        for rank, which in ranks.items():
            index = best_first[rank]
            chosen.append((int(members[index]), which, float(right[index])))
    return chosen


def _ranked_right(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) part of the others that each score is above; NaN without others."""
    if len(others) == 0:
        return np.full(len(scores), np.nan)
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, "left")
    not_above = np.searchsorted(ordered, scores, "right")
    return (below + not_above) / 2 / len(others)


def make_gallery(task: Task, method: Method, records: Sequence[Record]) -> list[dict[str, Any]]:
    """The chosen images with their heatmaps on the fixed scale, as JPEG in base64."""
    samples = {relative_path(task.category, sample.path): sample for sample in task.category.test}
    labels = np.array([record.label for record in records])
    _, best_cut = metrics.f1_max(labels, np.array([record.score for record in records]))
    pictures = []
    for index, which, right in choose(records):
        record = records[index]
        sample = samples[record.path]
        (prediction,) = method.predict([sample.path], batch_size=1)
        if isinstance(prediction, ImageError):
            continue
        image = internals.load_image(sample.path)
        mask, _ = read_mask(sample, (image.shape[0], image.shape[1]))
        anchor = best_cut if record.threshold is None else record.threshold
        drawn = _draw_heatmap(image, prediction, anchor)
        pictures.append(
            {
                "path": record.path,
                "label": record.label,
                "kind": record.kind,
                "which": which,
                "ranked_right": None if np.isnan(right) else right,
                "score": record.score,
                "threshold": record.threshold,
                "defect": record.defect,
                "image": _to_jpeg(outlined(image, mask)),
                "heatmap": None if drawn is None else _to_jpeg(drawn),
            }
        )
    return pictures


def _draw_heatmap(image: np.ndarray, prediction: Prediction, anchor: float) -> Image.Image | None:
    """The method's own picture of it, else the heatmap on a scale anchored to `anchor`; None without a heatmap."""
    if prediction.overlay is not None:
        return prediction.overlay(max_side=_SIDE)
    if prediction.heatmap is None:
        return None
    if not np.isfinite(anchor) or anchor <= 0:
        anchor = float(prediction.heatmap.max()) or 1.0
    return viz.overlay(image, prediction.heatmap, anchor, max_side=_SIDE)


def outlined(image: np.ndarray, mask: np.ndarray | None) -> Image.Image:
    """The image at the size of the gallery, with a line around the mask, two pixels away from it."""
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    picture = np.array(Image.fromarray(image).resize(size, resampling))
    if mask is not None and mask.any():
        small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        wide = cv2.dilate(small.astype(np.uint8), np.ones((5, 5), np.uint8))
        contours, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, _OUTLINE_COLOUR, 1)
    return Image.fromarray(picture)


def _to_jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return base64.b64encode(buffer.getvalue()).decode()
