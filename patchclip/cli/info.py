"""`patchclip info`: what is in a detector file or an exported file, without its model."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command
from .console import Console
from .detectors import check_exists
from .rows import to_json

if TYPE_CHECKING:
    from ..persistence import SavedDetector
    from ..scoring.kinds import Examples
    from ..threshold import Threshold


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
        examples = _check(saved)
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
            "taught_kinds": dict(Counter(examples.kinds if examples else ())),
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
            "normal_images": _count_images(threshold),
            "not_counted": [score.name for score in threshold.normal_scores if score.kind == "unlike"],
        }


def _check(saved: SavedDetector) -> Examples | None:
    """What `Detector.load` checks, as far as that needs no network; the examples of kinds that were taught.

    Raises:
        ValueError and its like: damaged contents.
    """
    import torch

    from ..config import Config
    from ..inference import kind_bank_names
    from ..scoring.kinds import vector_width

    options = saved.content["options"] | {"neighbours": "exact"}  # the banks are asked for nothing
    fitted = saved.fitted(Config(**options), torch.device("cpu"))
    examples = saved.examples()
    if examples is None:
        return None
    if fitted is None:
        raise ValueError("kinds of defects without what was fitted")
    banks = fitted.memory.banks[0]
    of_banks = vector_width(banks[name].vectors.shape[1] for name in kind_bank_names(banks))
    width = examples.vectors.shape[-1]
    if width % vector_width([1]) or width <= of_banks:  # the rest is of dense tokens, whose width the network knows
        raise ValueError(f"examples have {width} values where the banks alone take {of_banks}")
    return examples


def _exported_facts(path: str) -> dict[str, Any]:
    from ..errors import MissingDependencyError

    try:
        import onnx
    except ImportError as error:
        message = f'info of an ONNX file needs onnx: pip install "patchclip[onnx]" ({error})'
        raise MissingDependencyError(message) from error
    from ..runtime.contents import METADATA_KEY
    from ..runtime.session import open_file

    session, contents = open_file(path, providers=None, threads=None)  # refuses what `runtime.load` refuses
    entries = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    left_out = ("sha256", "sha256_bytes", "normal_scores", "defects", "kinds")
    details = {name: value for name, value in entries.items() if name not in left_out}
    kinds = contents.kinds
    details["normal_images"] = _count_images(contents.threshold)
    details["defects"] = list(contents.defects.names) if contents.defects else []
    details["taught_kinds"] = dict(zip(kinds.names, kinds.counts, strict=True)) if kinds else {}
    opset = onnx.load(path, load_external_data=False).opset_import[0].version
    return {"kind": "exported", "opset": opset, **details}


def _count_images(threshold: Threshold) -> int:
    """Normal images that a threshold is from."""
    return len({(score.class_name, score.name) for score in threshold.normal_scores})


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
