"""`patchclip info`: what is in a detector file or an exported file, without its model."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import click

from .command import Command
from .console import Console
from .detectors import check_exists
from .rows import to_json


def run(console: Console, args: Namespace) -> int:
    """Print the facts as a table or as JSON."""
    check_exists(args.file, "FILE")
    if Path(args.file).suffix.lower() == ".onnx":
        facts = _exported_facts(args.file)
    else:
        facts = _detector_facts(args.file)
    facts = {"file": args.file, "megabytes": round(Path(args.file).stat().st_size / 1e6, 2), **facts}
    if args.json:
        console.data(to_json({"schema": 1, **facts}, only_ascii=True))
    else:
        console.table([[name.replace("_", " "), _in_words(value)] for name, value in facts.items()])
    return 0


def _detector_facts(path: str) -> dict[str, Any]:
    from ..detector_file import EXAMPLES
    from ..persistence import damage_reported, read_file

    saved = read_file(path)
    with damage_reported(path):
        options = saved.content["options"]
        threshold = saved.threshold()
        classes = saved.content["classes"]
        vectors: Counter[str] = Counter()
        for name, tensor in saved.tensors.items():
            if name != EXAMPLES:
                vectors[name.split(".")[-1]] += len(tensor)
        return {
            "kind": "detector" if classes is not None else "detector, zero-shot",
            "model": options["model"],
            "pretrained": options["pretrained"],
            "recipe": options["recipe"],
            "object": options["object_name"],
            "defects": list(options["defects"]),
            "taught_kinds": dict(Counter(saved.content.get("example_kinds", ()))),
            "image_size": options["image_size"],
            "classes": [name for name in classes or [] if name is not None],
            "images": len(saved.content.get("fingerprints", ())),
            "image_hw": saved.content.get("image_hw"),
            "vectors": dict(vectors),
            "cue_weights": {name: round(weight, 3) for name, weight in saved.content["cue_weights"].items()},
            "threshold": threshold.value,
            "threshold_source": threshold.source,
            "threshold_guaranteed": threshold.guaranteed,
            "max_false_positive_rate": options["max_false_positive_rate"],
            "normal_images": len({(score.class_name, score.name) for score in threshold.normal_scores}),
            "not_counted": [score.name for score in threshold.normal_scores if score.kind == "unlike"],
        }


def _exported_facts(path: str) -> dict[str, Any]:
    from ..errors import FileFormatError, MissingDependencyError

    try:
        import onnx
    except ImportError as error:
        message = f'info of an ONNX file needs onnx: pip install "patchclip[onnx]" ({error})'
        raise MissingDependencyError(message) from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf has its own kinds
        raise FileFormatError(f"{path} cannot be read as ONNX ({error}): export it again") from error
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if "patchclip" not in entries:
        raise FileFormatError(f"{path} was not exported by patchclip: expected one by `patchclip export`")
    details: dict[str, Any] = json.loads(entries["patchclip"])
    for entry in ("sha256", "sha256_bytes"):
        details.pop(entry, None)
    details["normal_images"] = len({(score[1], score[0]) for score in details.pop("normal_scores", ())})
    defects = details.pop("defects", None)
    details["defects"] = defects["names"] if defects else []
    kinds = details.pop("kinds", None)
    details["taught_kinds"] = dict(zip(kinds["names"], kinds["counts"], strict=True)) if kinds else {}
    return {"kind": "exported", "opset": model.opset_import[0].version, **details}


def _in_words(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


COMMAND = Command(
    "info",
    run,
    purpose="Show what is in a detector file (.safetensors) or an exported file (.onnx): model, product, classes, "
    "banks, threshold and where it is from. The model itself is not needed.",
    arguments=[click.Argument(["file"], metavar="FILE")],
    options={"Output": [click.Option(["--json"], is_flag=True, help="One JSON object.")]},
    examples=[
        "patchclip info bottle.safetensors",
        "patchclip info bottle.safetensors --json",
        "patchclip info bottle.onnx",
    ],
)
