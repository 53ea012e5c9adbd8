"""A folder of unlabelled images in; a csv of them, the oddest first, and overlays of the oddest, out.

python examples/rank_folder.py photos/ --out ranking/
python examples/rank_folder.py photos/ --show 30 --normals 20
"""

from __future__ import annotations

import argparse
import csv
import sys
import warnings
from pathlib import Path

from patchclip import Detector, PatchclipError, Ranking
from patchclip.datasets import images_in
from patchclip.printable import allow_any_name_on_consoles, csv_cell, csv_encoding, printable


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="images of one product, of which most are normal")
    parser.add_argument("--show", type=int, default=10, help="overlays to draw (default: %(default)s)")
    parser.add_argument("--normals", type=int, default=0, help="list so many images to fit on, in normals.txt")
    parser.add_argument("--out", type=Path, default=Path("ranking"), help="folder to write to (default: %(default)s)")
    return parser.parse_args()


def rank(args: argparse.Namespace) -> Ranking:
    """Rank the folder, and write what was found."""
    ranking = Detector().rank(images_in(args.folder))
    overlays = args.out / "overlays"
    overlays.mkdir(parents=True, exist_ok=True)
    for old in overlays.glob("*.overlay.png"):
        old.unlink()
    for item in ranking.most_anomalous(args.show):
        item.overlay().save(overlays / f"{item.rank:04d}_{Path(item.path).name}.overlay.png")
    rows = ranking.table()
    encoding = csv_encoding([row["path"] for row in rows])
    with open(args.out / "ranking.csv", "w", newline="", encoding=encoding) as file:
        table = csv.writer(file)
        table.writerow(rows[0])
        table.writerows([csv_cell(value) for value in row.values()] for row in rows)
    if args.normals:
        normals = "".join(f"{path!s}\n" for path in ranking.most_normal(args.normals))
        (args.out / "normals.txt").write_text(normals, encoding="utf-8", errors="surrogateescape")
    return ranking


def main() -> int:
    allow_any_name_on_consoles()
    args = parse_arguments()
    warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
    try:
        ranking = rank(args)
    except (PatchclipError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for item in ranking.most_anomalous(args.show):
        print(f"{item.rank:5d}  score {item.score:.3f}  {printable(Path(item.path).name)}")
    if ranking.errors:
        print(f'{len(ranking.errors)} of {len(ranking)} images are unreadable: see the column "error"')
    cut = ranking.suggested_cut
    if cut is None:
        print("suggested  no cut: the scores have no gap")
    else:
        found = f"{cut.anomalous_count} images above {cut.score:.3f}"
        print(f"suggested  a cut, {found} (confidence {cut.confidence:.0%}): look at the images around it")
    print(f"written to {args.out}: ranking.csv, overlays/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
