"""One image in; score, verdict, regions and an overlay out.

python examples/heatmap.py img.jpg                                  zero-shot, embedded model, offline
python examples/heatmap.py img.jpg --normals good/ --object bottle  few-shot from a folder of normal images
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from PIL import Image

from patchclip import Detector, PatchclipError
from patchclip.datasets import images_in
from patchclip.printable import allow_any_name_on_consoles


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("image", type=Path, help="the image to inspect")
    parser.add_argument("--normals", type=Path, help="folder of normal images to fit first (few-shot)")
    parser.add_argument("--shots", type=int, metavar="N", help="use only so many of the normal images (default: all)")
    parser.add_argument(
        "--model", default="tiny-7", help="an open_clip name such as ViT-B-16-plus-240 (default: %(default)s)"
    )
    parser.add_argument("--pretrained", help="open_clip tag or path of a checkpoint (default: the model's own)")
    parser.add_argument("--object", default="surface", help="what the image shows, in a word (default: %(default)s)")
    parser.add_argument("--defects", nargs="+", help="names to choose from, after the image (default: twelve)")
    parser.add_argument(
        "--recipe", default="dense", choices=("dense", "winclip"), help="one forward (default), or the paper's"
    )
    parser.add_argument("--threshold", type=float, help="scores above it are anomalous (default: the detector's own)")
    parser.add_argument("--out", type=Path, help="where the overlay goes (default: <image>_overlay.png, here)")
    args = parser.parse_args()
    if args.shots is not None and (args.shots < 1 or args.normals is None):
        parser.error("--shots takes a number of at least 1, of the images in --normals")
    if args.out is not None:
        if not args.out.parent.is_dir():
            parser.error(f"--out: the folder {args.out.parent} does not exist")
        if args.out.suffix.lower() not in Image.registered_extensions():
            parser.error(f"--out: {args.out} does not end as a picture does, such as .png")
        if args.out.resolve() == args.image.resolve():
            parser.error(f"--out: {args.out} is the image itself")
    return args


def main() -> int:
    allow_any_name_on_consoles()
    args = parse_arguments()
    options = {"defects": args.defects} if args.defects else {}
    try:
        detector = Detector(
            args.model, pretrained=args.pretrained, object_name=args.object, recipe=args.recipe, **options
        )
        if args.normals is not None:
            with warnings.catch_warnings(record=True) as notes:
                warnings.simplefilter("always", UserWarning)
                detector.fit(images_in(args.normals)[: args.shots])
            for note in notes:
                print(f"note       {note.message}")
        if args.threshold is not None:
            detector.threshold = args.threshold
        result = detector.predict(args.image)
    except (PatchclipError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    out = args.out or Path(f"{args.image.stem}_overlay.png")
    print(f"score      {result.score:.3f}")
    print(f"verdict    {'anomalous' if result.is_anomalous else 'normal'}")
    print(f"threshold  {result.threshold:.3f} ({detector.threshold_source})")
    for region in result.regions:
        name = f"{region.defect} ({region.confidence:.0%})" if region.defect else "anomaly"
        print(f"region     {name:24s} score {region.score:.3f}  box {region.box_xyxy}  {region.area_px} px")
    try:
        result.overlay().save(out)
    except (OSError, ValueError) as error:
        print(f"error: the overlay cannot be written to {out}: {error}", file=sys.stderr)
        return 2
    print(f"overlay    {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
