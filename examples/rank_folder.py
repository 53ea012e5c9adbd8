"""Unlabelled images, the oddest first: nothing is fitted, and there is no verdict.

python examples/rank_folder.py

      1  score 0.335  metal_scratch.jpg
      2  score 0.309  fabric_hole.jpg
      3  score 0.293  tile_crack.jpg
      4  score 0.180  0.jpg
      5  score 0.157  3.jpg
    a cut is suggested: 3 images above 0.236
"""

from __future__ import annotations

import argparse
from pathlib import Path

from patchclip import Detector
from patchclip.datasets.listing import list_images
from patchclip.printable import printable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "images", help="and all below")
    parser.add_argument("--show", type=int, default=5, help="images to list (default: %(default)s)")
    parser.add_argument("--overlays", type=Path, help="folder for pictures of those")
    args = parser.parse_args()

    ranking = Detector().rank(list_images(args.folder).images, progress=False)
    for item in ranking.most_anomalous(args.show):
        print(f"{item.rank:3d}  score {item.score:.3f}  {printable(Path(item.path).name)}")
        if args.overlays is not None:
            args.overlays.mkdir(parents=True, exist_ok=True)
            item.overlay().save(args.overlays / f"{item.rank:04d}.png")
    for error in ranking.errors.values():
        print(f"unreadable: {error}")
    cut = ranking.suggested_cut
    if cut is not None:
        print(f"a cut is suggested: {cut.anomalous_count} images above {cut.score:.3f}")


if __name__ == "__main__":
    main()
