"""What runs in the actors: images of a block -> a table of results.

Nothing here imports torch for an exported file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from ..images.load import fingerprint
from ..images.plan import Prepared
from ..images.prefetch import SourceFailure, trim_memory
from ..outcomes import outcome_entries, unreadable_entries
from ..printable import printable
from ..streaming import prepared_batches
from .blocks import Block, name_in
from .pool import DetectorFile, load_detector
from .prepare import PIXELS, make_preparer, prepared_images
from .rows import encode_heatmap, normal_percentile, result_schema, to_table

if TYPE_CHECKING:
    import pyarrow as pa


class Worker:
    """A detector in a process of its own, with a bound on its threads. Called with a block, it gives a row an image.

    Args:
        detector_file: a reference to a `DetectorFile` in the object store.
        batch_size: images that go through the network together.
        threads: of torch or onnxruntime, and of OpenCV.
        device: "cpu" or "cuda".

    Attributes:
        schema: of the tables that a call gives.
    """

    schema: pa.Schema

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

    def __call__(self, data: Any) -> Iterator[pa.Table]:
        """Tables of the schema, a row for each image of a block in its order."""
        block = Block(data, self.image_column)
        labels = zip(block.names(), block.reasons(), strict=True)
        for batch in self.batches(block):
            found = iter(self._run([image for image in batch if isinstance(image, Prepared)]))
            rows = []
            for image in batch:
                name, reason = next(labels)
                entries = next(found) if isinstance(image, Prepared) else self._unreadable(image, name, reason)
                rows.append({"path": name, "node": self.node} | entries)
            yield to_table(rows, self.schema)
        trim_memory()

    def _run(self, images: list[Prepared]) -> Iterable[dict[str, Any]]:
        """The entries of each image's row."""
        raise NotImplementedError

    def _unreadable(self, error: ImageError, name: str, reason: str | None) -> dict[str, Any]:
        """The entries of the row of an image that cannot be used."""
        return {"error": printable(reason or name_in(str(error), name))}


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
        self.schema = result_schema(heatmaps)

    def _run(self, images: list[Prepared]) -> Iterable[dict[str, Any]]:
        for result in self.detector.predict_prepared(images):
            entries = outcome_entries(result)
            entries["normal_percentile"] = normal_percentile(result.score, self.detector.normal_scores_)
            if self._heatmaps is not None:
                entries["heatmap"] = encode_heatmap(result.heatmap, self._heatmaps)
            yield entries

    def _unreadable(self, error: ImageError, name: str, reason: str | None) -> dict[str, Any]:
        why = reason or name_in(str(error), name)
        if self._raises:
            raise ImageError(f"{name}: {why}")
        return unreadable_entries(why)


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
        self.schema = schema

    def _run(self, images: list[Prepared]) -> Iterable[dict[str, Any]]:
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
