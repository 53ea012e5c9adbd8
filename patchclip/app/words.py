"""What is said of a score, a threshold and an image: sentences for those who have never heard of either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..result import BY_EXAMPLES
from ..threshold import images_needed

if TYPE_CHECKING:
    from ..detector import Detector
    from ..result import Result

#: A score this close to the threshold, as a share of it, may be on either side.
_CLOSE = 0.1


def verdict(result: Result) -> tuple[str, str]:
    """A headline and a sentence that explains it."""
    score, threshold = f"{result.score:.2f}", f"{result.threshold:.2f}"
    ratio = result.score / result.threshold if result.threshold > 0 else float("inf")
    if result.is_anomalous:
        headline = "Unusual"
        if result.defect is not None:
            doubt = "" if result.defect_source == BY_EXAMPLES else "?"
            headline = f"Unusual: {result.defect}{doubt}"
        if ratio < 1 + _CLOSE:
            return headline, f"A close call: its score of {score} is just above the threshold of {threshold}."
        if ratio < 10:
            return headline, f"Its score of {score} is {ratio:.1f} times the threshold of {threshold}."
        return headline, f"Its score of {score} is far above the threshold of {threshold}."
    if ratio > 1 - _CLOSE:
        return "Looks normal", f"A close call: its score of {score} is just below the threshold of {threshold}."
    return "Looks normal", f"Its score of {score} is below the threshold of {threshold}."


def places(result: Result) -> list[str]:
    """A line for each marked place: what it may be, and what the name is from."""
    lines = []
    for region in result.regions:
        if region.defect is None or region.confidence is None:
            lines.append("no name fits well")
        elif region.defect_source == BY_EXAMPLES:
            percent = min(99, round(100 * region.confidence))
            lines.append(f"{region.defect}: like the examples that you named, {percent} % sure")
        else:
            lines.append(f"{region.defect}? A guess from the word alone.")
    return lines


def threshold_origin(detector: Detector) -> str:
    """Where the threshold is from, and how far it can be trusted."""
    images = sum(normal.kind != "variation" for normal in detector.normal_scores_)
    rate = float(detector.options["max_false_positive_rate"])
    needed = images_needed(rate)
    in_how_many = round(1 / rate)
    source = detector.threshold_source
    if source == "user":
        return "You have set this threshold."
    if source == "calibrate":
        return f"Set from {count(images, 'further normal image')}."
    if source in ("fit", "fit_unlabelled"):
        if images >= needed:
            return (
                f"Set from {images} normal images: of new normal ones, about 1 in {in_how_many} will be called unusual."
            )
        learnt = "1 normal image" if images <= 1 else f"{images} normal images"
        return f"Set from {learnt}, so it is a rough guess: with {needed} or more it becomes dependable."
    return "No normal images are known yet, so this threshold is a guess from drawn examples."


def learnt(detector: Detector | None, file_name: str | None) -> str:
    """What the page works with."""
    if detector is None or detector.memory_ is None:
        return "Nothing is learnt yet. Images can be inspected all the same, by words alone, which finds far less."
    if file_name is not None:
        return f"Loaded from “{file_name}”. Its normal images are not in the file, so it cannot be corrected here."
    images = sum(normal.kind != "variation" for normal in detector.normal_scores_)
    return f"Learnt from {count(max(images, 1), 'normal image')}."


def count(number: int, noun: str) -> str:
    """ "1 image", "2 images"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
