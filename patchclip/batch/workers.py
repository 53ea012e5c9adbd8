"""What runs in the actors: images of a block -> a table of results.

Nothing here imports torch for an exported file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from ..images.load import fingerprint
from ..images.plan import Prepared
from ..images.prefetch import SourceFailure, trim_memory
from ..outcomes import outcome_entries, unreadable_entries
from ..printable import printable
from ..result import Result
from ..streaming import prepared_batches
from .blocks import Block, name_in
from .pool import DetectorFile, load_detector
from .prepare import PIXELS, make_preparer, prepared_images
from .rows import encode_heatmap, normal_percentile, result_schema, to_table

if TYPE_CHECKING:
    import pyarrow as pa


class Worker:
    """A detector in a process of its own, with a bound on its threads.

    Args:
        detector_file: a reference to a `DetectorFile` in the object store.
        batch_size: images that go through the network together.
        threads: of torch or onnxruntime, and of OpenCV.
        device: "cpu" or "cuda".
    """

    def __init__(self, detector_file: Any, *, image_column: str, batch_size: int, threads: int, device: str):
        import cv2
        import ray

        cv2.setNumThreads(threads)
        file: DetectorFile = ray.get(detector_file)
        if not file.is_exported:
            import torch

            torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file.name
            path.write_bytes(file.content)
            self.detector = load_detector(path, device=device, threads=threads, allow_download=file.allow_download)
        self.preparer = make_preparer(self.detector)
        self.batch_size = batch_size
        self.image_column = image_column
        self.node = ray.get_runtime_context().get_node_id()

    def batches(self, block: Block) -> Iterator[list[Prepared | ImageError]]:
        """The images of a block ready for the network, or why they cannot be used, in the order of its rows."""
        if self.image_column == PIXELS:
            images = prepared_images(block.data)
            while batch := list(islice(images, self.batch_size)):
                yield batch
            return
        for decoded in prepared_batches(self.preparer, block.images(), self.batch_size):
            batch = []
            for image in decoded:
                if isinstance(image, SourceFailure):
                    raise image.error
                batch.append(image)
            yield batch


class Predictor(Worker):
    """Verdicts.

    Args:
        heatmaps: their encoding, None for none.
        errors: "row", or "raise" for an error in place of an unreadable image's row.
    """

    def __init__(self, detector_file: Any, *, heatmaps: str | None, errors: str, **shared: Any):
        super().__init__(detector_file, **shared)
        self._heatmaps = heatmaps
        self._raises = errors == "raise"
        self._schema = result_schema(heatmaps)

    def __call__(self, data: Any) -> Iterator[pa.Table]:
        """Tables of `rows.result_schema`, a row for each image in its order."""
        block = Block(data, self.image_column)
        labels = zip(block.names(), block.reasons(), strict=True)
        for batch in self.batches(block):
            usable = [image for image in batch if isinstance(image, Prepared)]
            results = iter(self.detector.predict_prepared(usable))
            rows = []
            for image in batch:
                name, reason = next(labels)
                outcome = next(results) if isinstance(image, Prepared) else image
                rows.append(self._row(name, reason, outcome))
            yield to_table(rows, self._schema)
        trim_memory()

    def _row(self, name: str, reason: str | None, outcome: Result | ImageError) -> dict[str, Any]:
        row: dict[str, Any] = {"path": name, "node": self.node}
        if isinstance(outcome, ImageError):
            error = reason or name_in(str(outcome), name)
            if self._raises:
                raise ImageError(f"{name}: {error}")
            return row | unreadable_entries(error)
        row |= outcome_entries(outcome)
        row["normal_percentile"] = normal_percentile(outcome.score, self.detector.normal_scores_)
        if self._heatmaps is not None:
            row["heatmap"] = encode_heatmap(outcome.heatmap, self._heatmaps)
        return row


class Extractor(Worker):
    """Features.

    Args:
        schema: of its tables.
    """

    def __init__(self, detector_file: Any, *, schema: pa.Schema, **shared: Any):
        from ..config import Config
        from ..features import FeatureExtractor
        from ..stored import networks_of

        super().__init__(detector_file, **shared)
        detector: Any = self.detector  # never an exported one
        self._extractor = FeatureExtractor(detector.backbone, Config(**detector.options))
        self._networks = networks_of(self._extractor)
        self._schema = schema

    def __call__(self, data: Any) -> Iterator[pa.Table]:
        """Tables of `features.feature_schema`, a row for each image in its order."""
        block = Block(data, self.image_column)
        labels = zip(block.names(), block.reasons(), strict=True)
        for batch in self.batches(block):
            extracted = iter(self._extract([image for image in batch if isinstance(image, Prepared)]))
            rows = []
            for image in batch:
                name, reason = next(labels)
                row: dict[str, Any] = {"path": name, "node": self.node}
                if isinstance(image, Prepared):
                    row |= next(extracted)
                else:
                    row["error"] = printable(reason or name_in(str(image), name))
                rows.append(row)
            yield to_table(rows, self._schema)
        trim_memory()

    def _extract(self, images: list[Prepared]) -> list[dict[str, Any]]:
        from ..scoring.cues import TEXT
        from ..stored import features_to_arrays

        with_text = TEXT in self._extractor.config.cues
        entries: dict[int, dict[str, Any]] = {}
        for indices, features in self._extractor.extract(images, with_text=with_text, with_banks=True):
            for position, index in enumerate(indices):
                arrays = []
                for name, array in features_to_arrays(features.select(position)).items():
                    arrays.append({"name": name, "shape": list(array.shape), "values": array.astype("<f2").tobytes()})
                entries[index] = {
                    "size_hw": list(images[index].image_hw),
                    "fingerprint": fingerprint(images[index].image),
                    "networks": self._networks,
                    "grid_hw": list(features.grid_hw),
                    "arrays": arrays,
                }
        return [entries[index] for index in range(len(images))]
