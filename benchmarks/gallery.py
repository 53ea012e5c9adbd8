"""Pictures for the report: the best, the median and the worst images of a measurement."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from patchclip import ImageError, metrics, viz
from patchclip.datasets import read_mask
from patchclip.image import load_image

from .measures import Record
from .methods import Method
from .plan import Task, told_path

_SIDE = 256  # of a picture, in pixels
_OUTLINE = (255, 0, 200)


def choose(records: Sequence[Record]) -> list[tuple[int, str, float]]:
    """The best, the median and the worst of the anomalous images, then of the normal ones.

    How good an image is, is the part of the other class that it is ranked on the right side of (ties count half):
    its share of the AUROC. Among equals a clearer score is better.

    Returns:
        (index, "best" | "median" | "worst", part in [0, 1]); fewer where there are fewer images.
    """
    labels = np.array([record.label for record in records])
    scores = np.array([record.score for record in records])
    chosen = []
    for label, sign in ((1, 1), (0, -1)):
        own, other = np.flatnonzero(labels == label), np.sort(sign * scores[labels != label])
        if len(own) == 0:
            continue
        mine = sign * scores[own]
        if len(other):
            right = (np.searchsorted(other, mine, "left") + np.searchsorted(other, mine, "right")) / 2 / len(other)
        else:
            right = np.full(len(own), np.nan)
        order = np.lexsort((mine, np.nan_to_num(right)))[::-1]  # best first
        places = {0: "best", len(own) // 2: "median", len(own) - 1: "worst"}
        chosen += [(int(own[order[place]]), which, float(right[order[place]])) for place, which in places.items()]
    return chosen


def make_gallery(task: Task, method: Method, records: Sequence[Record]) -> list[dict[str, Any]]:
    """The chosen images with their heatmaps on the fixed scale, as JPEG in base64."""
    samples = {told_path(task.category, sample.path): sample for sample in task.category.test}
    labels = np.array([record.label for record in records])
    best_cut = metrics.f1_max(labels, np.array([record.score for record in records]))[1]
    pictures = []
    for index, which, right in choose(records):
        record = records[index]
        sample = samples[record.path]
        (prediction,) = method.predict([sample.path], batch_size=1)
        if isinstance(prediction, ImageError):
            continue
        image = load_image(sample.path)
        mask, _ = read_mask(sample, (image.shape[0], image.shape[1]))
        entry: dict[str, Any] = {
            "path": record.path,
            "label": record.label,
            "kind": record.kind,
            "which": which,
            "ranked_right": None if np.isnan(right) else right,
            "score": record.score,
            "threshold": record.threshold,
            "defect": record.defect,
            "image": _jpeg(outlined(image, mask)),
            "heatmap": None,
        }
        if prediction.overlay is not None:
            entry["heatmap"] = _jpeg(prediction.overlay(max_side=_SIDE))
        elif prediction.heatmap is not None:
            anchor = best_cut if record.threshold is None else record.threshold
            anchor = anchor if np.isfinite(anchor) and anchor > 0 else float(prediction.heatmap.max()) or 1.0
            picture = viz.overlay(image, prediction.heatmap, anchor, max_side=_SIDE)
            entry["heatmap"] = _jpeg(picture)
        pictures.append(entry)
    return pictures


def outlined(image: np.ndarray, mask: np.ndarray | None) -> Image.Image:
    """The image at the size of the gallery, with a line around the mask, two pixels away from it."""
    scale = _SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = np.array(
        Image.fromarray(image).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    )
    if mask is not None and mask.any():
        small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        wide = cv2.dilate(small.astype(np.uint8), np.ones((5, 5), np.uint8))
        outlines, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, _OUTLINE, 1)
    return Image.fromarray(picture)


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return base64.b64encode(buffer.getvalue()).decode()
