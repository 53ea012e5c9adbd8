"""One ONNX file of a detector: pixels in, heatmap and score out; texts, banks, weights and smoothing are inside."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ._version import __version__
from .backbone import run_tower
from .bank import Memory
from .descriptors import describe_imagenet, describe_texture, filters, imagenet_network, texture_constants
from .errors import MissingDependencyError
from .features import join_layers
from .heatmap import to_heatmaps
from .image import ImageLike, load_image, refuse_single, resize
from .models import root_logger_silenced
from .options import CUES
from .scoring import distance_maps, fuse, text_map
from .store import writable_place, written_whole

if TYPE_CHECKING:
    from .detector import Detector

#: A protobuf file holds no more.
_LARGEST_FILE_BYTES = 2**31 - 2**24

_OPSET = 18


def export_onnx(
    detector: Detector,
    path: str | os.PathLike[str],
    *,
    image_hw: tuple[int, int] | None = None,
    int8_images: Sequence[ImageLike] | None = None,
) -> None:
    """Write what `Detector.export` describes."""
    own = detector.options
    if own["recipe"] != "dense":
        raise ValueError(f'only recipe "dense" can be exported, this detector has {own["recipe"]!r}')
    if own["tile"] is not None:
        raise ValueError(f"a detector with tile={own['tile']} cannot be exported: build it without tile")
    if image_hw is not None and not (
        isinstance(image_hw, (tuple, list))
        and len(image_hw) == 2
        and all(isinstance(side, Integral) and int(side) >= 1 for side in image_hw)
    ):
        raise ValueError(f"expected image_hw to be (height, width), two whole numbers of pixels, got {image_hw!r}")
    if image_hw is None:
        patch = detector.backbone.patch
        side = max(1, round(own["image_size"] / patch)) * patch
        image_hw = detector._image_hw or (side, side)
        if detector.memory_ is not None and detector._image_hw is None:
            warnings.warn(
                f"exported for images of {side} x {side}, for those it was fitted with have several sizes, or an older "
                "file does not tell theirs: pass image_hw=(height, width), or other proportions have other scores",
                stacklevel=3,
            )
    image_hw = (int(image_hw[0]), int(image_hw[1]))
    _require_onnx(int8_images is not None)
    place = writable_place(path)
    if int8_images is not None:
        refuse_single(int8_images)
    size_hw, _ = detector._extractor.plan(image_hw)
    interpolation = detector.backbone.model.interpolation
    calibration = [_to_input(image, size_hw, interpolation) for image in int8_images or ()]
    if int8_images is not None and not calibration:
        raise ValueError("expected at least one image in int8_images, got none: leave it out for float32")
    module = _DenseModule(detector, size_hw, image_hw).eval()
    stored = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    if stored > _LARGEST_FILE_BYTES:
        raise ValueError(
            f"the file would have {stored / 2**30:.1f} GiB and one ONNX file holds 2: fit with a smaller coreset"
        )
    names = ["heatmap", "score", "class_index"][: 3 if detector.classes_ else 2]
    program = _trace(module, size_hw, names)
    program.model.metadata_props["patchclip"] = json.dumps(_describe(detector, size_hw, image_hw))
    with written_whole(place) as partial:
        program.save(partial, external_data=False)
        if calibration:
            _to_int8(partial, calibration)


def _to_input(image: ImageLike, size_hw: tuple[int, int], interpolation: str) -> np.ndarray:
    """(1, 3, h, w) float32 in [0, 1]."""
    small = resize(load_image(image), size_hw, interpolation, exact=False)
    return small.transpose(2, 0, 1)[None].astype(np.float32) / 255


def _require_onnx(for_int8: bool) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401

        if for_int8:
            import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f'export needs onnx, onnxscript and for int8 onnxruntime ({error}): pip install "patchclip[onnx]"'
        ) from error


def _trace(module: nn.Module, size_hw: tuple[int, int], names: Sequence[str]) -> Any:
    pixels = torch.rand(2, 3, *size_hw, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own insides
        return torch.onnx.export(
            module,
            (pixels,),
            input_names=["image"],
            output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )


def _to_int8(path: Path, calibration: Sequence[np.ndarray]) -> None:
    """The network's products with its weights in int8, in place; distances, texture and heatmap stay in float32."""
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(str(path)).graph
    matrices = {weight.name for weight in graph.initializer if len(weight.dims) == 2}
    products = [node.name for node in graph.node if node.op_type == "MatMul" and matrices & set(node.input)]
    inputs = iter([{"image": pixels} for pixels in calibration])
    reader = SimpleNamespace(get_next=lambda: next(inputs, None))
    small = path.with_name(f"int8.{path.name}")  # beside it, in a folder of their own
    with root_logger_silenced(), warnings.catch_warnings():  # it advises a preparation that torch's exporter has made
        warnings.simplefilter("ignore")
        quantization.quantize_static(
            str(path),
            str(small),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=products,
        )
    os.replace(small, path)


def _describe(detector: Detector, size_hw: tuple[int, int], image_hw: tuple[int, int]) -> dict[str, Any]:
    own = detector.options
    return {
        "format": "onnx",
        "format_version": 1,
        "patchclip": __version__,
        "input": {
            "name": "image",
            "layout": "(B, 3, h, w) float32 RGB in [0, 1]",
            "size_hw": list(size_hw),
            "interpolation": detector.backbone.model.interpolation,
        },
        "heatmap_hw": list(image_hw),
        "threshold": detector.threshold,
        "threshold_source": detector.threshold_source,
        "threshold_guaranteed": detector.threshold_guaranteed,
        "classes": list(detector.classes_),
        "cue_weights": detector.weights_,
        "class_levels": detector.levels_,
        "object_name": own["object_name"],
        "model": own["model"],
        "weights_sha256": detector.backbone.weights_sha256,
    }


class _DenseModule(nn.Module):
    """All that recipe "dense" does between pixels and heatmap, in float32 on the CPU, any batch."""

    def __init__(self, detector: Detector, size_hw: tuple[int, int], image_hw: tuple[int, int]):
        super().__init__()
        own, backbone = detector.options, detector.backbone
        self.visual: Any = copy.deepcopy(backbone._clip.visual).to("cpu", torch.float32).requires_grad_(False)
        self.patch, self.image_hw = backbone.patch, image_hw
        self.scales, self.temperature = own["scales"], own["temperature"]
        self.layers: tuple[int, ...] = own["layers"]
        self.dense_attention, self.smoothing = backbone.dense_attention, own["smoothing"]
        self.mean, self.std = (nn.Buffer(value.cpu().clone()) for value in (backbone.mean, backbone.std))
        grid_hw = (size_hw[0] // backbone.patch, size_hw[1] // backbone.patch)
        self.positions = nn.Buffer(backbone.positions(grid_hw).detach().to("cpu", torch.float32).clone())
        self.states = nn.Buffer(detector._extractor.states().cpu().clone())
        self.weights = dict(detector.weights_)
        self.levels = nn.Buffer(torch.tensor(detector.levels_))  # of each class, empty for one
        memory: Memory | None = detector.memory_
        self.names = tuple(cue for cue in CUES if memory and cue in memory.banks[0])  # in the order of `predict`
        self.with_text = memory is None or "text" in own["cues"]
        self.several = bool(detector.classes_)
        #: for each name of a bank, the vectors of every class
        self.banks = nn.ModuleList(
            [nn.ParameterList([_constant(banks[name].vectors) for banks in memory.banks]) for name in self.names]
            if memory
            else []
        )
        scale, half_at = texture_constants()
        self.half_at = {"texture": half_at}
        self.texture_scale = nn.Buffer(scale.clone())
        self.imagenet = imagenet_network(torch.device("cpu")) if "imagenet" in self.names else None
        filters()  # made here, not while tracing, for it keeps what it makes

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, 3, h, w) in [0, 1] -> heatmap (B, H, W), score (B,), and class_index (B,) when fitted with classes."""
        pixels = (image - self.mean) / self.std
        layers = self.layers if "tokens" in self.names else ()
        tokens = run_tower(self.visual, pixels, self.positions, layers=layers, dense_attention=self.dense_attention)
        maps = {}
        if self.with_text:
            maps["text"] = text_map(
                tokens.cls, tokens.dense, self.states, scales=self.scales, temperature=self.temperature
            )
        vectors = {}
        if "tokens" in self.names:
            vectors["tokens"] = join_layers(tokens.layers)
        if "texture" in self.names:
            vectors["texture"] = describe_texture(image, self.patch) / self.texture_scale
        if self.imagenet is not None:
            vectors["imagenet"] = describe_imagenet(self.imagenet, image)
        chosen, distances = None, {}
        for name, banks in zip(self.names, self.banks.children(), strict=True):
            squared = torch.stack(
                [_nearest(bank, vectors[name]) for bank in banks.parameters()], 1
            )  # (B, classes, gh, gw)
            if chosen is None:  # the first bank decides on the class
                chosen = squared.mean((2, 3)).argmin(1)  # (B,)
            place = chosen.view(-1, 1, 1, 1).expand(-1, 1, squared.shape[2], squared.shape[3])
            distances[name] = squared.gather(1, place)[:, 0]
        grid_hw = (tokens.dense.shape[1], tokens.dense.shape[2])
        maps |= distance_maps(distances, half_at=self.half_at, grid_hw=grid_hw)
        weights = self.weights or {"text": 1.0}  # alone, before a fit
        level = self.levels[chosen].view(-1, 1, 1) if len(self.levels) else None
        combined = fuse(maps, weights, level=level)
        heatmap = to_heatmaps(combined, self.image_hw, self.smoothing)
        outputs = (heatmap, heatmap.amax((1, 2)))
        return (*outputs, chosen) if self.several and chosen is not None else outputs


def _constant(vectors: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(vectors.detach().cpu().clone(), requires_grad=False)


def _nearest(bank: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(N, D) and (B, gh, gw, D) -> (B, gh, gw), as `PatchBank.nearest`, in one piece."""
    queries = grid.flatten(0, 2)
    closeness = queries @ bank.T - 0.5 * bank.square().sum(1)  # (B * gh * gw, N)
    squared = (queries - bank[closeness.argmax(1)]).square().sum(1)
    return squared.view(grid.shape[:3])
