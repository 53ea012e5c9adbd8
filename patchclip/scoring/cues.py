"""The cues of a heatmap: the text, and one row for each kind of memory bank. A new bank cue is a new row.

What a row says is read by the extraction of features, the fusion, the files of detectors and the export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from ..encoders import texture, timm
from ..encoders.clip import Backbone, JoinedLayers

#: The cue that compares with prompts; it has no bank.
TEXT = "text"

#: The bank cue of the CLIP's own patch tokens.
TOKENS = "tokens"


@dataclass(frozen=True)
class BankCue:
    """A kind of vector that patches are compared by.

    Attributes:
        name: in `Detector(cues=...)`.
        make_descriptor: makes the module that gives the vectors, on the device of a backbone: RGB (B, 3, h, w) float32
            in [0, 1] and the tokens of the layers, (B, gh, gw, D) each -> (B, rows, columns, D) float32, or several of
            these for rows with the same function, which share the module.
        output: which of the several is the row's; None where there is one.
        gain: how much more the cue counts than another of the same spread on normal images.
        ranking_gain: the same in a ranking of unlabelled images, where weights are over the root of the spread over the
            batch: the gain (half of it for the texture, by the development sets), over the root of the usual spread on
            synthetic batches, relative to the other cues'.
        half_at: squared distance that counts as one half; None for vectors of unit length, where the map is
            (1 - cosine) / 2.
        bank_share: of an image's vectors, a greedy coreset of this share is what others are compared with.
        tells_kinds: whether kinds of defects that are taught are told by it too.
        reads_layers: whether it needs the tokens of `Detector(layers=...)`.
        fingerprint: what the vectors depend on beside the backbone; a file of another fingerprint is refused. None
            where they depend on nothing else.
    """

    name: str
    make_descriptor: Callable[[Backbone], nn.Module]
    output: int | None = None
    gain: float = 1.0
    ranking_gain: float = 1.0
    half_at: float | None = None
    bank_share: float = 1.0
    tells_kinds: bool = True
    reads_layers: bool = False
    fingerprint: Callable[[], list[str | float]] | None = None


#: The bank cues. Of those in use, the first decides which class an image belongs to.
BANK_CUES: tuple[BankCue, ...] = (
    BankCue(TOKENS, JoinedLayers, gain=2.0, ranking_gain=2.15, reads_layers=True),
    BankCue(
        "texture",
        texture.make_descriptor,
        ranking_gain=0.51,
        half_at=texture.HALF_AT,
        tells_kinds=False,
        fingerprint=texture.fingerprint,
    ),
    BankCue("imagenet", timm.make_descriptor, output=0, gain=4.0, ranking_gain=3.62, fingerprint=timm.fingerprint),
    BankCue(
        "imagenet_fine",
        timm.make_descriptor,
        output=1,
        gain=3.0,
        ranking_gain=2.0,
        bank_share=0.1,
        tells_kinds=False,
        fingerprint=timm.fingerprint,
    ),
)


def cue_names() -> tuple[str, ...]:
    """All cues, the text first."""
    return (TEXT, *(cue.name for cue in BANK_CUES))


def bank_cues(names: Iterable[str]) -> tuple[BankCue, ...]:
    """The rows of those cues, in the order of the table."""
    wanted = set(names)
    return tuple(cue for cue in BANK_CUES if cue.name in wanted)


def bank_share(name: str) -> float:
    """`BankCue.bank_share` of a bank; 1 for one that is no row's, as recipe "winclip" has them."""
    return next((cue.bank_share for cue in BANK_CUES if cue.name == name), 1.0)


def fingerprints(names: Iterable[str]) -> dict[str, list[str | float]]:
    """Cue -> fingerprint, of those cues that have one."""
    return {cue.name: cue.fingerprint() for cue in bank_cues(names) if cue.fingerprint is not None}
