"""Many images, few machines: a saved detector over a Ray Dataset by two actors, written as parquet and read back.

python examples/ray_batch.py

    fabric_hole.jpg     anomalous   score 0.439
    metal_scratch.jpg   anomalous   score 0.400
    tile_crack.jpg      anomalous   score 0.348
    0.jpg               normal      score 0.032
    1.jpg               normal      score 0.034
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import ray
import ray.data

from patchclip import Detector
from patchclip.batch import predict_dataset
from patchclip.datasets import images_in
from patchclip.printable import printable

IMAGES = Path(__file__).parent / "images"


def main(images: list[Path], out: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images: the threshold is an extrapolation
        detector = Detector(object_name="tile").fit(images_in(IMAGES / "tile_normal"), progress=False)
    detector.save(out / "tile.safetensors")

    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items([{"path": str(path)} for path in images])
    predict_dataset(dataset, out / "tile.safetensors", num_actors=2).write_parquet(str(out / "rows"))
    ray.shutdown()

    for row in pq.read_table(out / "rows").sort_by("path").to_pylist():
        print(f"{printable(Path(row['path']).name):18s}  {row['verdict']:10s}  score {row['score']:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    shown = [*sorted(IMAGES.glob("*.jpg")), IMAGES / "tile_normal/0.jpg", IMAGES / "tile_normal/1.jpg"]
    parser.add_argument("images", type=Path, nargs="*", default=shown)
    given = parser.parse_args().images
    with tempfile.TemporaryDirectory() as temporary:
        main(given, Path(temporary))
