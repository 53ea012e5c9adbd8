"""A folder of images in; a csv of verdicts, and an overlay of every anomalous one, out.

python examples/folder.py photos/ --normals good/ --out verdicts/
python examples/folder.py photos2/ --detector verdicts/detector.safetensors --calibrate more_good/ --out verdicts2/
"""

from __future__ import annotations

import argparse
import csv
import sys
import warnings
from collections import Counter
from pathlib import Path

from patchclip import Detector, PatchclipError, Result
from patchclip.datasets import images_in
from patchclip.printable import allow_any_name_on_consoles, csv_cell, csv_encoding

BOXES = "boxes left top right bottom"
COLUMNS = ("image", "verdict", "score", "threshold", "threshold_source", "defect", BOXES, "fault")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the images to inspect")
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--normals", type=Path, help="fit to the images in this folder, known to be good (few-shot)")
    known.add_argument("--detector", type=Path, help="take the detector that an earlier run left in its --out")
    parser.add_argument("--object", help="what the images show, in a word (default: surface)")
    parser.add_argument("--defects", nargs="+", metavar="NAME", help="names to choose from, after the folder")
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="more good images, to set the threshold by")
    parser.add_argument("--threshold", type=float, help="scores above it are anomalous")
    parser.add_argument("--out", type=Path, default=Path("verdicts"), help="folder to write to (default: %(default)s)")
    args = parser.parse_args()
    if args.detector and (args.object or args.defects):
        parser.error("--object, --defects: the detector of --detector has its own")
    if args.calibrate and args.threshold is not None:
        parser.error("--calibrate and --threshold both set the threshold: choose one")
    return args


def inspect(args: argparse.Namespace) -> Counter[str]:
    """How many images have each verdict."""
    paths = images_in(args.folder)
    (args.out / "overlays").mkdir(parents=True, exist_ok=True)
    if args.detector:
        detector = Detector.load(args.detector)
    else:
        options = {"defects": args.defects} if args.defects else {}
        detector = Detector(object_name=args.object or "surface", **options)
        if args.normals:
            detector.fit(images_in(args.normals))
    if args.calibrate:
        detector.calibrate(images_in(args.calibrate))
    if args.threshold is not None:
        detector.threshold = args.threshold
    for old in (args.out / "overlays").glob("*.overlay.png"):
        old.unlink()
    detector.save(args.out / "detector.safetensors")
    verdicts: Counter[str] = Counter()
    encoding = csv_encoding([*(str(path) for path in paths), *detector.options["defects"]])
    with open(args.out / "verdicts.csv", "w", newline="", encoding=encoding, buffering=1) as file:  # a line at once
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for path, result in zip(paths, detector.predict_batch(paths, errors="return"), strict=True):
            if isinstance(result, PatchclipError):
                verdict, values = "unreadable", [*[""] * 5, str(result)]
            else:
                verdict = "anomalous" if result.is_anomalous else "normal"
                boxes = "; ".join(" ".join(map(str, region.box_xyxy)) for region in result.regions)
                values = [f"{result.score:.4f}", f"{result.threshold:.4f}", result.threshold_source]
                values += [result.defect or "", boxes, save_overlay(result, args.out / "overlays", path.name)]
            table.writerow([csv_cell(value) for value in (path.name, verdict, *values)])
            verdicts[verdict] += 1
    return verdicts


def save_overlay(result: Result, folder: Path, name: str) -> str:
    """Of an anomalous image; what went wrong, or nothing: the name may be too long, and the run goes on."""
    if not result.is_anomalous:
        return ""
    try:
        result.overlay().save(folder / f"{name}.overlay.png")
    except OSError as error:
        return f"no overlay: {error}"
    return ""


def main() -> int:
    allow_any_name_on_consoles()
    args = parse_arguments()
    warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
    try:
        verdicts = inspect(args)
    except (PatchclipError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for verdict, count in verdicts.most_common():
        print(f"{verdict:11s}{count}")
    print(f"{'written to':11s}{args.out}: verdicts.csv, overlays/, detector.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
