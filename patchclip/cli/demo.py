"""`patchclip demo`: fitted and predicted on images in the package, offline."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import click

from .command import Command
from .console import Console
from .detectors import check_output

IMAGES = Path(__file__).parent.parent / "assets" / "demo"


def run(console: Console, args: Namespace) -> int:
    """Fit on three tiles, look at a fourth and at one with a crack, and write a picture."""
    target = check_output(args.output, ".png")
    import warnings

    from PIL import Image

    from ..detector import Detector
    from .pictures import write_sheet

    unseen, *normals = sorted(IMAGES.glob("normal_*.jpg"))
    cracked = IMAGES / "crack.jpg"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few images, which the last lines are about
        detector = Detector(object_name="tile", defects=("crack", "hole", "scratch")).fit(normals, progress=False)
    good = detector.predict(unseen)
    bad = detector.predict(cracked)
    with Image.open(cracked) as picture:
        pictures = [good.overlay(), picture.convert("RGB"), bad.overlay()]
    titles = [f"normal: score {good.score:.3f}", "with a crack", f"found: score {bad.score:.3f}"]
    write_sheet(pictures, titles, target, side=480)
    console.say("Fitted on three normal tiles. Nothing was trained, nothing downloaded.")
    console.data(f"normal tile     score {good.score:.3f}  {'anomalous' if good.is_anomalous else 'normal'}")
    found = "anomalous" if bad.is_anomalous else "normal"
    if bad.regions:
        region = next(region for region in bad.regions if region.defect == bad.defect)
        found = f"{found}: {bad.defect or 'anomaly'} at {region.box_xyxy}"
    console.data(f"cracked tile    score {bad.score:.3f}  {found}")
    console.data(f"threshold       {detector.threshold:.3f}")
    console.data(f"picture         {target}")
    console.say()
    console.say("Next, with images of your own:", bold=True)
    console.say("  patchclip predict photos/ --normals good/ --out run   # with a few normal images")
    console.say("  patchclip rank photos/ --out odd                      # with no normal image")
    console.say("  patchclip predict photos/ --object bottle             # from the text alone")
    return 0


COMMAND = Command(
    "demo",
    run,
    purpose="Fit on three images that come with the package, find the crack in another, and write one picture. "
    "Offline, in some seconds.",
    options={
        "Output": [
            click.Option(
                ["-o", "--output"],
                default="patchclip_demo.png",
                metavar="FILE",
                help="Picture to write.  [default: patchclip_demo.png]",
            )
        ]
    },
    examples=["patchclip demo", "patchclip demo -o tiles.png", "patchclip demo -q"],
)
