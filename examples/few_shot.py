"""Few-shot: learn from a few normal images, and look at others; one line each.

python examples/few_shot.py

    fitted on 3 images, threshold 0.167
    tile_crack.jpg   score 0.344  anomalous
        crack at (0, 81, 305, 257), score 0.344
    3.jpg            score 0.133  normal
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from patchclip import Detector
from patchclip.datasets import images_in
from patchclip.printable import printable

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    shown = [IMAGES / "tile_crack.jpg", IMAGES / "tile_normal/3.jpg"]
    parser.add_argument("images", type=Path, nargs="*", default=shown)
    parser.add_argument("--normals", type=Path, default=IMAGES / "tile_normal", help="folder of normal images")
    parser.add_argument("--object", default="tile", help="what the images show (default: %(default)s)")
    args = parser.parse_args()

    normals = [path for path in images_in(args.normals) if path not in args.images]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few images: the threshold is an extrapolation
        detector = Detector(object_name=args.object, defects=("crack", "hole", "scratch"))
        detector.fit(normals, progress=False)
    print(f"fitted on {len(normals)} images, threshold {detector.threshold:.3f}")
    for path, result in zip(args.images, detector.predict_batch(args.images, progress=False), strict=True):
        verdict = "anomalous" if result.is_anomalous else "normal"
        print(f"{printable(path.name):16s} score {result.score:.3f}  {verdict}")
        for region in result.regions:
            print(f"    {region.defect or 'anomaly'} at {region.box_xyxy}, score {region.score:.3f}")


if __name__ == "__main__":
    main()
