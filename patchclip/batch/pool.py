"""The pool of actors: how many, with how many threads, and what they are made from.

An actor is restarted where its process dies, and its block of images done again: Ray Data's own way. Its detector comes
as the bytes of the file through the object store, so that no machine but the driver's needs the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError
from ..files import is_exported
from .blocks import IMAGE, check_column

if TYPE_CHECKING:
    import ray.data

    from ..detector import Detector
    from ..runtime import OnnxDetector

#: What an actor asks for at least, for each of its threads: less than a processor, so that tasks that read and write
#: find room beside a pool that has as many threads as there are processors.
_LEAST_CPUS = 0.5

#: Blocks of the dataset have at most so many bytes. With Ray's own 128 MiB, actors and their queues hold more bytes of
#: files than a small object store has, and they go over the disk.
_MAX_BLOCK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class DetectorFile:
    """A file as the driver read it.

    Attributes:
        name: of the file, whose suffix says what it is.
        allow_download: see `Detector.load`.
    """

    name: str
    content: bytes
    allow_download: bool

    @property
    def is_exported(self) -> bool:
        """Whether it is one of `Detector.export`."""
        return is_exported(self.name)


@dataclass(frozen=True)
class PoolPlan:
    """How many actors, and what each asks for.

    Attributes:
        threads: of torch or onnxruntime, and of OpenCV.
        num_cpus, num_gpus: of Ray's resources.
    """

    actors: int
    threads: int
    num_cpus: float
    num_gpus: float


def import_ray() -> Any:
    """The module `ray`, with `ray.data`.

    Raises:
        MissingDependencyError: without the extra.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            f'patchclip.batch needs Ray Data ({error}): pip install "patchclip[ray]"'
        ) from error
    return ray


def load_detector(
    path: str | os.PathLike[str], *, device: str = "cpu", threads: int | None = None, allow_download: bool = False
) -> Detector | OnnxDetector:
    """From a file of `Detector.save` or `Detector.export`; the latter without torch.

    Args:
        device: "cpu" or "cuda"; threads: of an exported file, see `runtime.load`.

    Raises:
        OSError, PatchclipError, ValueError: see `Detector.load` and `runtime.load`.
    """
    if is_exported(path):
        from ..runtime import load

        return load(path, providers=None if device == "cpu" else [device], threads=threads)
    from ..detector import Detector

    return Detector.load(path, device=device, allow_download=allow_download)


def read_detector_file(
    path: str | os.PathLike[str], *, allow_download: bool
) -> tuple[Detector | OnnxDetector, DetectorFile]:
    """The detector, loaded here so that a wrong file is an error before anything runs, and the file.

    Raises:
        OSError, PatchclipError, ValueError: see `load_detector`.
    """
    detector = load_detector(path, allow_download=allow_download)
    return detector, DetectorFile(Path(path).name, Path(path).read_bytes(), allow_download)


def plan_pool(
    nodes: Sequence[tuple[float, float]], *, num_actors: int | None, num_gpus: float, batch_size: int
) -> PoolPlan:
    """The pool for a cluster.

    Args:
        nodes: processors and GPUs of each machine.
        num_actors: None is one for each processor, or as many as the GPUs take.
        num_gpus: of each actor.
        batch_size: checked here, with the rest.

    Raises:
        ValueError: a count outside its range, or no machine that has what an actor needs.
    """
    if batch_size < 1:
        raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
    if num_actors is not None and num_actors < 1:
        raise ValueError(f"expected at least one actor, got {num_actors}")
    if num_gpus < 0:
        raise ValueError(f"expected num_gpus of 0 or more, got {num_gpus}")
    usable = [(cpus, gpus) for cpus, gpus in nodes if cpus > 0 and gpus >= num_gpus]
    if not usable:
        wanted = f"a processor and {num_gpus:g} GPUs" if num_gpus else "a processor"
        raise ValueError(f"no machine of the cluster has {wanted}: it has {list(nodes)} (processors, GPUs)")
    processors = int(sum(cpus for cpus, _ in usable))
    if num_gpus:
        actors = num_actors or sum(int(gpus / num_gpus) for _, gpus in usable)
        return PoolPlan(actors, threads=1, num_cpus=1, num_gpus=num_gpus)
    actors = num_actors or processors
    smallest = min(cpus for cpus, _ in usable)
    threads = max(1, min(processors // actors, int(smallest)))
    left_for_tasks = 1 / smallest  # one processor of each machine
    return PoolPlan(actors, threads, num_cpus=threads * max(_LEAST_CPUS, 1 - left_for_tasks), num_gpus=0)


def run_in_pool(
    dataset: ray.data.Dataset,
    worker: Callable[..., Any],
    detector_file: DetectorFile,
    *,
    image_column: str,
    batch_size: int,
    num_actors: int | None,
    num_gpus: float,
    options: dict[str, Any],
) -> ray.data.Dataset:
    """The dataset through a pool of such workers, block by block.

    Args:
        worker: a class of `workers`, whose calls take a block.
        options: of the worker beside those that all have.

    Raises:
        ValueError: see `plan_pool`; or a dataset without the column, where its columns are known.
    """
    ray = import_ray()
    columns = dataset.columns(fetch_if_missing=False)
    if columns is not None:
        check_column(columns, image_column)
    if not ray.is_initialized():
        ray.init()
    nodes = []
    for node in ray.nodes():
        if node["Alive"]:
            nodes.append((node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)))
    plan = plan_pool(nodes, num_actors=num_actors, num_gpus=num_gpus, batch_size=batch_size)
    device = "cuda" if num_gpus else "cpu"
    shared = {"image_column": image_column, "batch_size": batch_size, "threads": plan.threads, "device": device}
    context = dataset.context  # of this dataset and what comes from it
    context.target_max_block_size = min(context.target_max_block_size or _MAX_BLOCK_BYTES, _MAX_BLOCK_BYTES)
    return dataset.map_batches(
        worker,
        fn_constructor_args=(ray.put(detector_file),),
        fn_constructor_kwargs=shared | options,
        batch_size=None,
        batch_format="numpy" if image_column == IMAGE else "pyarrow",
        compute=ray.data.ActorPoolStrategy(size=plan.actors),
        num_cpus=plan.num_cpus,
        num_gpus=plan.num_gpus,
    )
