"""What `export --verify` says of an exported file and its detector."""

from __future__ import annotations

from ..printable import printable
from ..verification import MARGIN, Verification

_MOST_NAMED = 5


def describe(verification: Verification) -> list[str]:
    """Lines for a person."""
    count = len(verification.scores)
    lines = [f"compared on {count} image{'s' * (count != 1)}, threshold {verification.threshold:.4f}"]
    if count:
        lines.append(f"largest difference of scores    {max(verification.scores):.5f}")
        lines.append(f"largest difference of heatmaps  {max(verification.heatmaps):.5f}")
    lines.append(f"verdicts that differ            {len(verification.flipped)} of {count}")
    lines += [f"  {printable(flip)}" for flip in verification.flipped[:_MOST_NAMED]]
    if verification.flipped_within_margin:
        lines.append(f"  and {verification.flipped_within_margin} whose score is within {MARGIN:g} of the threshold")
    if count:
        detector_s, file_s = verification.median_s
        ratio = file_s / detector_s
        lines.append(f"time of an image                {1e3 * file_s:.1f} ms, {ratio:.2f} of the detector's")
    lines += [f"not compared: {message}" for message in verification.unreadable[:_MOST_NAMED]]
    return lines
