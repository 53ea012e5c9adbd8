"""The tables of results: one row an image, with the same columns whatever is in them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..normal_scores import NormalScore
from ..viz import to_16_bit

if TYPE_CHECKING:
    import pyarrow as pa

#: Encodings of a heatmap.
PNG16, NPY = HEATMAPS = ("png16", "npy")


def result_schema(heatmaps: str | None = None) -> pa.Schema:
    """The pyarrow schema of `predict_dataset`'s rows.

    Of an unreadable image, all but `path`, `verdict`, `error`, `regions` (empty) and `node` are null.

    Args:
        heatmaps: as for `predict_dataset`; None is without the last column.
    """
    import pyarrow as pa

    region = pa.struct(
        [
            ("box_xyxy", pa.list_(pa.int32())),
            ("area_px", pa.int64()),
            ("score", pa.float64()),
            ("defect", pa.string()),
            ("confidence", pa.float64()),
            ("defect_source", pa.string()),
        ]
    )
    columns = [
        ("path", pa.string()),
        ("verdict", pa.string()),
        ("error", pa.string()),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("threshold_source", pa.string()),
        ("is_anomalous", pa.bool_()),
        ("defect", pa.string()),
        ("confidence", pa.float64()),
        ("defect_source", pa.string()),
        ("class_name", pa.string()),
        ("size_hw", pa.list_(pa.int32())),
        ("regions", pa.list_(region)),
        ("normal_percentile", pa.float64()),
        ("node", pa.string()),
    ]
    if heatmaps is not None:
        columns.append(("heatmap", pa.binary()))
    return pa.schema(columns)


def to_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of that schema, also where a column is null throughout; keys without a column are left out."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=schema)


def normal_percentile(score: float, normal_scores: Sequence[NormalScore]) -> float | None:
    """How many of 100 normal images that set the threshold have a lower score, 0 to 100; None without such images."""
    counted = [normal.score for normal in normal_scores if normal.counts]
    if not counted:
        return None
    return 100 * sum(normal_score < score for normal_score in counted) / len(counted)


def encode_heatmap(heatmap: np.ndarray, encoding: str) -> bytes:
    """The bytes of a file: a 16-bit PNG, where 65535 is 1, or float32 in numpy's format.

    Args:
        heatmap: (H, W) float32 in [0, 1].
    """
    file = io.BytesIO()
    if encoding == PNG16:
        to_16_bit(heatmap).save(file, "PNG")
    else:
        np.save(file, heatmap)
    return file.getvalue()
