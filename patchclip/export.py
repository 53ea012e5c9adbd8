"""One ONNX file of a detector: pixels in, heatmap and score out; texts, banks, weights and smoothing are inside.

Input "image": (B, 3, h, w). Outputs, float32 but for the class: "heatmap" (B, H, W) and "score" (B,), its maximum; with
classes "class_index" (B,) int64; "fine_map" (B, rows, columns), the heatmap before it is interpolated to an image's
size; "dense" (B, gh, gw, E), tokens that regions are named by; with taught kinds "vectors_<bank>" (B, rows, columns,
D), by which they are told too. `runtime.load` makes `Result`s of the last ones, for images of the file's proportions.

The file is a trace of the functions that `Detector.predict` runs, in float32. It is tested with onnxruntime, with
OpenVINO (hint INFERENCE_PRECISION_HINT "f32": by default it computes in 16 bits where the processor can), and with the
dnn module of OpenCV 5, where a `Net` keeps the batch size of its first input. Opset 17 is the first with
LayerNormalization; `onnx.version_converter` makes any later one of it. `runtime.contents` describes the metadata entry.

Recipe "winclip" is refused: it runs the network on each of hundreds of windows, which takes seven times as long as
"dense" by the embedded model. So are tiles: classes, windows and the grids of banks join tiles between the network and
the heatmap, and how many there are depends on the image.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .config import DENSE
from .errors import MissingDependencyError
from .features import FeatureExtractor
from .files import atomic_write, resolve_writable
from .images.load import ImageLike, load_image, require_several
from .images.plan import plan_square
from .images.prepare import resize
from .inference import combine, cue_maps, kind_bank_names, uses_text
from .onnx_model import check, quantize, simplify, trace
from .recipes import dense
from .runtime.contents import CLASS_INDEX, FINE_MAP, HEATMAP, METADATA_KEY, SCORE, Contents, vectors_output
from .runtime.contents import DENSE as DENSE_TOKENS
from .scoring.bank import PatchBank
from .scoring.heatmap import enlarge, smooth
from .scoring.kinds import DefectKinds
from .scoring.memory import Fitted, Memory
from .threshold import Threshold

#: A protobuf file holds no more.
MAX_FILE_BYTES = 2**31 - 2**24

#: Distances of one image to one bank, 4 bytes each: 2.4 million vectors where an image has 14 x 14, 266,000 where it
#: has 42 x 42.
MAX_DISTANCE_BYTES = 2**31 - 2**28


def export_onnx(
    path: str | os.PathLike[str],
    extractor: FeatureExtractor,
    fitted: Fitted | None,
    threshold: Threshold,
    kinds: DefectKinds | None = None,
    *,
    image_hw: tuple[int, int] | None = None,
    int8_images: Sequence[ImageLike] | None = None,
) -> None:
    """Write what `Detector.export` describes."""
    config = extractor.config
    if config.recipe != DENSE:
        raise ValueError(
            f'only recipe "dense" can be exported, this detector has {config.recipe!r}, which runs the network on each '
            "of hundreds of windows: too slow for what an exported file is for"
        )
    if config.tile is not None:
        raise ValueError(
            f"a detector with tile={config.tile} cannot be exported, since how many tiles an image has depends on its "
            "size: build it without tile, with a larger image_size for small defects"
        )
    heatmap_hw = _heatmap_size(extractor, fitted, image_hw)
    _require_onnx(for_int8=int8_images is not None)
    target = resolve_writable(path)
    input_hw, _ = extractor.plan(heatmap_hw)
    calibration = None
    if int8_images is not None:
        interpolation, max_pixels = extractor.backbone.model.interpolation, extractor.config.max_pixels
        calibration = _calibration_inputs(int8_images, input_hw, interpolation, max_pixels)
    banks = kind_bank_names(extractor.descriptors) if kinds is not None else ()
    module = ExportedDetector(extractor, fitted, input_hw=input_hw, heatmap_hw=heatmap_hw, kind_banks=banks).eval()
    _check_file_size(module)
    _check_bank_size(extractor, fitted, input_hw)
    contents = _contents(extractor, fitted, threshold, module, kinds, is_int8=calibration is not None)
    model = trace(module, input_hw, module.output_names)
    with atomic_write(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
        if calibration is not None:
            quantize(temporary, calibration)
        _append_metadata(temporary, contents)
        check(temporary)


class ExportedDetector(nn.Module):
    """A detector of recipe "dense" between pixels and heatmap, in float32 on the CPU, for any batch.

    Args:
        input_hw: height and width of the network's input. heatmap_hw: of the heatmap.
        kind_banks: whose vectors are outputs.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        fitted: Fitted | None,
        *,
        input_hw: tuple[int, int],
        heatmap_hw: tuple[int, int],
        kind_banks: Sequence[str] = (),
    ):
        super().__init__()
        backbone = extractor.backbone.float32_copy()
        simplify(backbone)
        backbone.positions((input_hw[0] // backbone.patch, input_hw[1] // backbone.patch))  # kept, not traced
        self.backbone = backbone
        self.descriptors = nn.ModuleDict()
        if fitted is not None:
            for name, descriptor in copy.deepcopy(extractor.descriptors).items():  # at once: some cues share one
                self.descriptors[name] = descriptor.to("cpu", torch.float32)
            simplify(self.descriptors)
        self.states = extractor.states.cpu() if uses_text(extractor, fitted) else None
        self.fitted = None if fitted is None else replace(fitted, memory=_traceable(fitted.memory))
        self.extractor = extractor
        self.input_hw = input_hw
        self.heatmap_hw = heatmap_hw
        self.kind_banks = kind_banks

    @property
    def has_classes(self) -> bool:
        """Whether it says which class an image belongs to."""
        return self.fitted is not None and bool(self.fitted.class_names)

    @property
    def output_names(self) -> list[str]:
        """Of what `forward` returns."""
        classes = [CLASS_INDEX] if self.has_classes else []
        return [HEATMAP, SCORE, *classes, FINE_MAP, DENSE_TOKENS, *map(vectors_output, self.kind_banks)]

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, 3, h, w) in [0, 1] -> the outputs that the module's docstring describes."""
        config = self.extractor.config
        descriptors = dict(self.descriptors.items())
        features = dense.extract(
            self.backbone, image, config, states=self.states, descriptors=descriptors, in_one_pass=True
        )
        maps, class_index = cue_maps(self.extractor, features, self.fitted)
        combined = combine(maps, self.fitted, class_index)
        fine_map = smooth(combined, dense.smoothing(config))  # (B, 1, rows, columns)
        heatmap = enlarge(fine_map, self.heatmap_hw)
        score = heatmap.amax((1, 2))
        classes = (class_index,) if self.has_classes and class_index is not None else ()
        vectors = [features.vectors[name] for name in self.kind_banks]
        return (heatmap, score, *classes, fine_map[:, 0], features.dense, *vectors)


def _traceable(memory: Memory) -> Memory:
    """A copy on the CPU that branches on no value."""
    class_banks = []
    for banks in memory.banks:
        copied = {
            name: PatchBank(bank.vectors.detach().cpu().clone(), in_one_block=True) for name, bank in banks.items()
        }
        class_banks.append(copied)
    return Memory(memory.classes, tuple(class_banks), every_class=True)


def _heatmap_size(
    extractor: FeatureExtractor, fitted: Fitted | None, image_hw: tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width of the images that the file is for; warns where there is no single answer."""
    if image_hw is not None:
        is_pair = isinstance(image_hw, (tuple, list)) and len(image_hw) == 2
        if not is_pair or not all(isinstance(side, Integral) and int(side) >= 1 for side in image_hw):
            raise ValueError(f"expected image_hw to be (height, width), two whole numbers of pixels, got {image_hw!r}")
        return int(image_hw[0]), int(image_hw[1])
    if fitted is not None and fitted.image_hw is not None:
        return fitted.image_hw
    square = plan_square(side=extractor.config.image_size, patch=extractor.backbone.patch).size_hw
    if fitted is not None:
        warnings.warn(
            f"exported for images of {square[0]} x {square[1]}, since those it was fitted with have several sizes, or "
            "an older file does not say theirs: pass image_hw=(height, width), or other proportions have other scores",
            stacklevel=4,
        )
    return square


def _calibration_inputs(
    images: Sequence[ImageLike], size_hw: tuple[int, int], interpolation: str, max_pixels: int
) -> list[np.ndarray]:
    """(1, 3, h, w) float32 in [0, 1] of each image."""
    require_several(images)
    inputs = []
    for image in images:
        small = resize(load_image(image, max_pixels=max_pixels), size_hw, interpolation, with_pillow=False)
        inputs.append(small.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    if not inputs:
        raise ValueError("expected at least one image in int8_images, got none: leave it out for float32")
    return inputs


def _check_file_size(module: ExportedDetector) -> None:
    tensors = [*module.parameters(), *module.buffers()]
    if module.fitted is not None:
        tensors += module.fitted.memory.tensors().values()
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if stored > MAX_FILE_BYTES:
        raise ValueError(
            f"the file would have {stored / 2**30:.1f} GiB and one ONNX file holds 2: fit with a smaller coreset"
        )


def _check_bank_size(extractor: FeatureExtractor, fitted: Fitted | None, input_hw: tuple[int, int]) -> None:
    """Raise ValueError where the distances of one image would fill the memory: the graph holds a bank's at once."""
    if fitted is None:
        return
    example = extractor.example_features()
    example_cells = example.grid_hw[0] * example.grid_hw[1]
    cells = input_hw[0] * input_hw[1] // extractor.backbone.patch**2
    for banks in fitted.memory.banks:
        for name, bank in banks.items():
            vectors_per_cell = example.vectors[name][0, ..., 0].numel() / example_cells
            queries = round(cells * vectors_per_cell)
            needed = 4 * queries * len(bank)
            if needed > MAX_DISTANCE_BYTES:
                share = MAX_DISTANCE_BYTES / needed * extractor.config.coreset
                raise ValueError(
                    f"the bank {name} has {len(bank)} vectors, and the distances of one image to them would take "
                    f"{needed / 2**30:.1f} GiB where an exported file may take {MAX_DISTANCE_BYTES / 2**30:.1f}: fit "
                    f"with coreset={math.floor(1000 * share) / 1000:g} or less"
                )


def _require_onnx(*, for_int8: bool) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401

        if for_int8:
            import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f'export needs onnx, onnxscript and for int8 onnxruntime ({error}): pip install "patchclip[onnx]"'
        ) from error


def _contents(
    extractor: FeatureExtractor,
    fitted: Fitted | None,
    threshold: Threshold,
    module: ExportedDetector,
    kinds: DefectKinds | None,
    *,
    is_int8: bool,
) -> Contents:
    """What a program that runs the file must know."""
    config, model = extractor.config, extractor.backbone.model
    return Contents(
        size_hw=module.input_hw,
        interpolation=model.interpolation,
        side=config.image_size,
        patch=extractor.backbone.patch,
        heatmap_hw=module.heatmap_hw,
        threshold=threshold,
        max_false_positive_rate=float(config.max_false_positive_rate),
        classes=fitted.class_names if fitted else (),
        class_levels=tuple(fitted.class_levels) if fitted else (),
        cue_weights=dict(fitted.cue_weights) if fitted else {},
        object_name=config.object_name,
        recipe=config.recipe,
        is_int8=is_int8,
        model=config.model,
        weights_sha256=model.weights_sha256,
        max_pixels=config.max_pixels,
        defects=extractor.defect_names,
        versions={name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript")},
        kinds=kinds,
        kind_banks=tuple(module.kind_banks),
    )


def _append_metadata(path: Path, contents: Contents) -> None:
    """As the last bytes, with the checksum of all before: protobuf joins what is written one after another."""
    import onnx

    graph = path.read_bytes()
    entries = contents.to_dict()
    entries |= {"sha256": hashlib.sha256(graph).hexdigest(), "sha256_bytes": len(graph)}
    tail = onnx.ModelProto()
    # an option may be a numpy scalar
    tail.metadata_props.add(key=METADATA_KEY, value=json.dumps(entries, default=lambda value: value.item()))
    with path.open("ab") as file:
        file.write(tail.SerializeToString())
