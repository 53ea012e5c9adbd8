"""A detector over a Ray Dataset: many images, on the processors of one machine or of many. Extra `ray`.

from patchclip.batch import predict_dataset
predict_dataset(ray.data.from_items([{"path": "photo.jpg"}]), "bottle.safetensors").write_parquet("rows")
"""

from __future__ import annotations

from .features import FeatureSet, extract_features, feature_schema, read_features
from .predict import predict_dataset
from .rows import result_schema
from .sources import fetch_bytes, paths_dataset

__all__ = [
    "FeatureSet",
    "extract_features",
    "feature_schema",
    "fetch_bytes",
    "paths_dataset",
    "predict_dataset",
    "read_features",
    "result_schema",
]
