"""`predict_dataset`: the images of a Ray Dataset -> a dataset of verdicts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from .blocks import check_image_column
from .pool import import_ray, read_detector_file, run_in_pool
from .prepare import PIXELS, prepare_dataset
from .rows import HEATMAPS
from .workers import Predictor

if TYPE_CHECKING:
    import ray.data

    from ..detector import Detector
    from ..runtime import OnnxDetector
    from .pool import DetectorFile


def predict_dataset(
    dataset: ray.data.Dataset,
    detector_file: str | os.PathLike[str],
    *,
    image_column: Literal["path", "bytes", "image"] = "path",
    batch_size: int = 16,
    num_actors: int | None = None,
    num_gpus: float = 0,
    heatmaps: Literal["png16", "npy"] | None = None,
    errors: Literal["row", "raise"] = "row",
    decode: Literal["auto", "actors", "tasks"] = "auto",
    allow_download: bool = False,
) -> ray.data.Dataset:
    """Verdicts on the images of a dataset, by a pool of actors that hold the detector.

    Blocks of the dataset are what actors take, and what is done again after a failure; `repartition` divides larger
    ones. Rows come in any order, and scores are those of `Detector.predict_batch`.

    Args:
        dataset: one image a row; of its other columns "path" alone is read, which names the rows.
        detector_file: of `Detector.save`, or of `Detector.export`, for which no actor imports torch. It is read here,
            and goes to the actors through the object store.
        image_column: "path" (text, or bytes by `os.fsencode`; to be read where the actors are), "bytes" (of files), or
            "image" (arrays, as `Detector.predict` takes them).
        batch_size: images that go through the network together.
        num_actors: None is one for each processor of the cluster, or one for each `num_gpus` of its GPUs. Where there
            are fewer actors than processors, each has as many threads as it may.
        num_gpus: of each actor; 0 is the processor.
        heatmaps: "png16" (16-bit PNG, 65535 is 1) or "npy" (float32) adds the column "heatmap", bytes of such a file.
        errors: "raise" ends the run at an image that cannot be used, which has a row with its error else.
        decode: where images are decoded and resized: in threads of the "actors", so that nothing but paths or bytes
            crosses the object store; or in "tasks" on all processors, whose images have the size that the network sees.
            "auto" is "tasks" for actors with a GPU, which would wait for their own threads.
        allow_download: whether the actors may download the model that the file names.

    Returns:
        Not computed yet: `write_parquet` it. `result_schema` has its columns.

    Raises:
        OSError, PatchclipError: of the file, at once: see `Detector.load` and `runtime.load`.
        ValueError: an option outside its range, or a dataset without the column.
        MissingDependencyError: without the extra `ray`.
    """
    import_ray()
    check_image_column(image_column)
    if heatmaps is not None and heatmaps not in HEATMAPS:
        raise ValueError(f"expected heatmaps to be None or one of {HEATMAPS}, got {heatmaps!r}")
    if errors not in ("row", "raise"):
        raise ValueError(f'expected errors="row" or "raise", got {errors!r}')
    if decode not in ("auto", "actors", "tasks"):
        raise ValueError(f'expected decode="auto", "actors" or "tasks", got {decode!r}')
    detector, file = read_detector_file(detector_file, allow_download=allow_download)
    return predict_by_file(
        dataset,
        detector,
        file,
        image_column=image_column,
        batch_size=batch_size,
        num_actors=num_actors,
        num_gpus=num_gpus,
        heatmaps=heatmaps,
        errors=errors,
        decode=decode,
    )


def predict_by_file(
    dataset: ray.data.Dataset,
    detector: Detector | OnnxDetector,
    file: DetectorFile,
    *,
    image_column: str,
    batch_size: int,
    num_actors: int | None,
    num_gpus: float,
    heatmaps: str | None,
    errors: str = "row",
    decode: str = "auto",
) -> ray.data.Dataset:
    """As `predict_dataset`, by a file that was read already, and the detector in it."""
    column = image_column
    if decode == "tasks" or (decode == "auto" and num_gpus > 0):
        dataset = prepare_dataset(dataset, detector, image_column=image_column)
        column = PIXELS
    return run_in_pool(
        dataset,
        Predictor,
        file,
        image_column=column,
        batch_size=batch_size,
        num_actors=num_actors,
        num_gpus=num_gpus,
        options={"heatmaps": heatmaps, "errors": errors},
    )
