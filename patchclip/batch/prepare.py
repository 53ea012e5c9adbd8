"""Images decoded and resized in tasks of their own, for actors that hold a GPU and would wait for it.

What goes from the tasks to the actors is the image at the size that the network sees, and how large it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError
from ..images.load import ImageLike
from ..images.plan import Prepared
from ..runtime import Contents, OnnxDetector
from .blocks import ERROR, IMAGE, PATH, Block, name_in

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

    from ..detector import Detector
    from ..streaming import Preparer

#: The column that makes a block one of prepared images: (h, w, 3) uint8 as bytes.
PIXELS = "pixels"

#: Images of one table that a task hands over.
_ROWS_PER_TABLE = 16


@dataclass(frozen=True, eq=False)
class ExportedPreparer:
    """What `OnnxDetector.prepare` needs to know; unlike the detector it can be pickled."""

    contents: Contents

    @property
    def max_pixels(self) -> int:
        """That a file may have."""
        return self.contents.max_pixels

    def prepare(self, image: ImageLike) -> Prepared:
        """As `OnnxDetector.prepare`."""
        return OnnxDetector(None, self.contents).prepare(image)


def make_preparer(detector: Detector | OnnxDetector) -> Preparer:
    """The first half of `predict`, to be sent to a task."""
    if isinstance(detector, OnnxDetector):
        return ExportedPreparer(detector.contents)
    from ..config import Config
    from ..features import ImagePreparer

    backbone = detector.backbone
    config = Config(**detector.options)
    return ImagePreparer(config, patch=backbone.patch, interpolation=backbone.model.interpolation)


def prepare_dataset(
    dataset: ray.data.Dataset, detector: Detector | OnnxDetector, *, image_column: str
) -> ray.data.Dataset:
    """The images of a dataset, ready for the network: rows that `prepared_images` reads."""
    return dataset.map_batches(
        prepare_block,
        fn_kwargs={"preparer": make_preparer(detector), "image_column": image_column},
        batch_size=None,
        batch_format="numpy" if image_column == IMAGE else "pyarrow",
        num_cpus=1,
    )


def prepare_block(data: Any, *, preparer: Preparer, image_column: str) -> Iterator[pa.Table]:
    """Tables of prepared images, a row for each image in its order; of one that cannot be used, its error."""
    import cv2

    cv2.setNumThreads(1)
    block = Block(data, image_column)
    rows: list[dict[str, Any]] = []
    for name, reason, image in zip(block.names(), block.reasons(), block.images(), strict=True):
        row: dict[str, Any] = {PATH: name, ERROR: reason}
        if reason is None:
            row |= _prepare(preparer, image, name)
        rows.append(row)
        if len(rows) == _ROWS_PER_TABLE:
            yield _to_table(rows)
            rows = []
    if rows:
        yield _to_table(rows)


def _prepare(preparer: Preparer, image: ImageLike, name: str) -> dict[str, Any]:
    try:
        prepared = preparer.prepare(image)
    except ImageError as error:
        return {ERROR: name_in(str(error), name)}
    return {
        PIXELS: prepared.pixels.tobytes(),
        "pixels_hw": list(prepared.pixels.shape[:2]),
        "tiles_hw": list(prepared.tiles_hw),
        "image_hw": list(prepared.image_hw),
    }


def _to_table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    sizes = [(name, pa.list_(pa.int32())) for name in ("pixels_hw", "tiles_hw", "image_hw")]
    columns = [(PATH, pa.string()), (ERROR, pa.string()), (PIXELS, pa.large_binary()), *sizes]
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def prepared_images(table: pa.Table) -> Iterator[Prepared | ImageError]:
    """The images of a block by `prepare_block`, or why there is none. The upright images are blank."""
    for record_batch in table.to_batches(max_chunksize=_ROWS_PER_TABLE):
        for row in record_batch.to_pylist():
            if row[ERROR] is not None:
                yield ImageError(row[ERROR])
                continue
            pixels = np.frombuffer(row[PIXELS], np.uint8).reshape(*row["pixels_hw"], 3)
            blank = np.broadcast_to(np.uint8(0), (*row["image_hw"], 3))  # takes no memory
            yield Prepared(blank, pixels, tuple(row["tiles_hw"]))
