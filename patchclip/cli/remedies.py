"""What a message of the library advises, in options of the command."""

from __future__ import annotations

from .sizes import DEFAULT_MODEL

#: Text of a message -> what a user of the command is told.
_REMEDIES = (
    ("pass allow_download=True to Detector.load if you trust the file", "add --allow-download if you trust the file"),
    ("pretrained= with", "--pretrained with"),
    ('pass pretrained="path/to/checkpoint.safetensors"', "give --pretrained path/to/checkpoint.safetensors"),
    (f'Detector("{DEFAULT_MODEL}")', f"--model {DEFAULT_MODEL}"),
    ("open_clip.list_models() lists the names", "patchclip models lists names"),
    ("Detector(max_pixels=...)", "--max-pixels"),
    ("pass max_pixels=", "give --max-pixels "),
    ("as (image, mask) or (image, box)", "by a mask beside the image, NAME_mask.png"),
    ("mark the defect with values above 0, or give a box", "mark the defect with values above 0"),
)


def in_options(text: str) -> str:
    """A message with the remedies that the command has."""
    for python, option in _REMEDIES:
        text = text.replace(python, option)
    return text
