"""Features of many images by a pool of actors, as float16 parquet, and from there into `Detector.fit` and `rank`.

The networks run on all machines. What `fit` and `rank` do with the features runs on one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from ..errors import FileFormatError
from ..files import is_exported
from .blocks import ERROR, PATH, check_image_column
from .pool import import_ray, read_detector_file, run_in_pool
from .sources import resolve
from .workers import Extractor

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

    from ..stored import StoredFeatures

#: Columns that are read at once for all images; the arrays of one are read when they are asked for.
_FACTS = (PATH, ERROR, "size_hw", "fingerprint", "networks", "grid_hw")


def feature_schema() -> pa.Schema:
    """The pyarrow schema of `extract_features`' rows.

    `arrays` has "vectors.tokens" and those of the other banks, (rows, columns, D) each, and "text_map" where the
    detector has it: little-endian float16. Of an unreadable image, all but `path`, `error` and `node` are null.
    """
    import pyarrow as pa

    array = pa.struct([("name", pa.string()), ("shape", pa.list_(pa.int32())), ("values", pa.binary())])
    return pa.schema(
        [
            (PATH, pa.string()),
            (ERROR, pa.string()),
            ("size_hw", pa.list_(pa.int32())),
            ("fingerprint", pa.string()),
            ("networks", pa.string()),
            ("grid_hw", pa.list_(pa.int32())),
            ("arrays", pa.list_(array)),
            ("node", pa.string()),
        ]
    )


def extract_features(
    dataset: ray.data.Dataset,
    detector_file: str | os.PathLike[str],
    *,
    image_column: Literal["path", "bytes", "image"] = "path",
    batch_size: int = 16,
    num_actors: int | None = None,
    num_gpus: float = 0,
    allow_download: bool = False,
) -> ray.data.Dataset:
    """The features of images, for `read_features`; images are decoded by the actors.

    Args:
        detector_file: of `Detector.save`, fitted or not: its model and its options count.
        dataset, image_column, batch_size, num_actors, num_gpus, allow_download: as for `predict_dataset`.

    Returns:
        Not computed yet: `write_parquet(folder, row_group_size=1)` it, so that one image can be read alone.
        `feature_schema` has its columns.

    Raises:
        ValueError: an exported file, which has no features; and as `predict_dataset`, with its other errors.
    """
    import_ray()
    check_image_column(image_column)
    if is_exported(detector_file):
        raise ValueError(f"{detector_file} is an exported file, which gives no features: name one by Detector.save")
    _, file = read_detector_file(detector_file, allow_download=allow_download)
    return run_in_pool(
        dataset,
        Extractor,
        file,
        image_column=image_column,
        batch_size=batch_size,
        num_actors=num_actors,
        num_gpus=num_gpus,
        options={"schema": feature_schema()},
    )


class FeatureSet(Sequence["StoredFeatures"]):
    """The features of images in parquet files, by path; in the place of images for `Detector.fit` and `Detector.rank`.

    A slice is a set too. Arrays are read when they are used; the rest takes a kilobyte an image.

    Attributes:
        errors: path -> why there are no features of it.
    """

    def __init__(self, facts: Sequence[Mapping[str, Any]], errors: Mapping[str, str]):
        self._facts = facts
        self.errors = dict(errors)

    def __len__(self) -> int:
        return len(self._facts)

    @overload
    def __getitem__(self, index: int) -> StoredFeatures: ...

    @overload
    def __getitem__(self, index: slice) -> FeatureSet: ...

    def __getitem__(self, index: int | slice) -> StoredFeatures | FeatureSet:
        if isinstance(index, slice):
            return FeatureSet(self._facts[index], self.errors)
        from ..stored import StoredFeatures

        facts = self._facts[index]
        return StoredFeatures(
            filename=facts[PATH],
            image_hw=tuple(facts["size_hw"]),
            fingerprint=facts["fingerprint"],
            networks=facts["networks"],
            grid_hw=tuple(facts["grid_hw"]),
            read_arrays=partial(_read_arrays, facts["location"], facts["row_group"], facts["row"]),
        )


def read_features(location: str | os.PathLike[str]) -> FeatureSet:
    """The features in a folder of parquet files by `extract_features`, or at an address such as s3://bucket/features.

    Returns:
        In the order of their paths; of a path that is there twice, one row.

    Raises:
        OSError: nothing is there.
        FileFormatError: parquet files of another schema, or damaged ones.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import fs

    filesystem, folder = resolve(os.fspath(location))
    files = []
    for entry in filesystem.get_file_info(fs.FileSelector(folder)):
        if entry.is_file and entry.path.endswith(".parquet"):
            files.append(entry.path)
    if not files:
        raise FileNotFoundError(f"no parquet file in {location}: write_parquet what extract_features returns")
    facts: dict[str, Mapping[str, Any]] = {}
    errors: dict[str, str] = {}
    for path in sorted(files):
        try:
            with pq.ParquetFile(path, filesystem=filesystem) as file:
                if not set(_FACTS) <= set(file.schema_arrow.names):
                    raise KeyError(f"columns {file.schema_arrow.names}")
                for row_group in range(file.num_row_groups):
                    table = file.read_row_group(row_group, columns=list(_FACTS))
                    for row, entry in enumerate(table.to_pylist()):
                        if entry[ERROR] is not None:
                            errors[entry[PATH]] = entry[ERROR]
                        else:
                            place = {"location": (filesystem, path), "row_group": row_group, "row": row}
                            facts[entry[PATH]] = entry | place
        except (pa.ArrowException, KeyError) as error:
            raise FileFormatError(f"{path} has no features, or is damaged ({error}): extract them again") from error
    return FeatureSet([facts[path] for path in sorted(facts)], errors)


def _read_arrays(location: tuple[Any, str], row_group: int, row: int) -> dict[str, np.ndarray]:
    """The arrays of one image."""
    import pyarrow.parquet as pq

    filesystem, path = location
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        [entry] = file.read_row_group(row_group, columns=["arrays"]).slice(row, 1).to_pylist()
    arrays = {}
    for array in entry["arrays"]:
        arrays[array["name"]] = np.frombuffer(array["values"], "<f2").reshape(array["shape"])
    return arrays
