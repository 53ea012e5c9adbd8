"""A torch module as an ONNX model: traced, lowered to the opset of our files, checked, and its products in int8."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from .encoders.downloads import root_logger_silenced
from .encoders.timm import PaddedFirst

OPSET = 17

#: Version of the file format that came with `OPSET`.
_IR_VERSION = 8

#: torch writes no earlier one.
_TRACED_OPSET = 18

#: Their axes are an input since opset 18, and were an attribute.
_REDUCTIONS = {"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"}

#: Attributes that opset 18 added: name -> default.
_LATER_DEFAULTS = {"antialias": 0, "keep_aspect_ratio_policy": b"stretch", "noop_with_empty_axes": 0}


class _Gelu(nn.Module):
    """GELU with the factor of one half last: OpenCV's dnn module crashes on the order in which torch writes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of any shape."""
        return x * (1 + torch.erf(x / 2**0.5)) * 0.5


def simplify(network: nn.Module) -> None:
    """In place, the same values by operations that programs for ONNX files run, and run fast."""
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.GELU) and module.approximate == "none":
                setattr(parent, name, _Gelu())
            elif isinstance(module, PaddedFirst):
                setattr(parent, name, module.block)  # they pad without a copy, and set no borders to zero


def trace(module: nn.Module, input_hw: tuple[int, int], names: Sequence[str]) -> Any:
    """The module as an `onnx.ModelProto`."""
    generator = torch.Generator().manual_seed(0)
    with (
        torch.device("cpu"),  # whatever the defaults of the process are
        torch.autocast("cpu", enabled=False),
        torch.no_grad(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of the exporter, about its own code
        pixels = torch.rand(2, 3, *input_hw, generator=generator, dtype=torch.float32)
        program: Any = torch.onnx.export(
            module,
            (pixels,),
            input_names=["image"],
            output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("batch", max=2**16)},),  # torch 2.7 wants a limit; the file has none
            opset_version=_TRACED_OPSET,
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto
    _drop_notes(model.graph)
    _lower_opset(model)
    return model


def _drop_notes(graph: Any) -> None:
    """The exporter notes where each node comes from: paths of this machine, and lines of source."""
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]


def _lower_opset(model: Any) -> None:
    """From `_TRACED_OPSET` to `OPSET`, in place; what `OPSET` cannot express is left for the checker to refuse.

    The converter of ONNX cannot do it: it knows no way down for Pad and Resize, which mean the same in both.
    """
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    axes_names = set()
    for node in model.graph.node:
        if node.op_type in _REDUCTIONS and len(node.input) == 2:
            name = node.input.pop()
            axes_names.add(name)
            node.attribute.append(helper.make_attribute("axes", numpy_helper.to_array(constants[name])))
        for attribute in list(node.attribute):
            if helper.get_attribute_value(attribute) == _LATER_DEFAULTS.get(attribute.name):
                node.attribute.remove(attribute)
    still_used = {name for node in model.graph.node for name in node.input}
    for name in axes_names - still_used:
        model.graph.initializer.remove(constants[name])
    model.opset_import[0].version = OPSET
    model.ir_version = _IR_VERSION


def check(path: Path) -> None:
    """By the checker of ONNX, with the shapes of all values."""
    import onnx

    onnx.checker.check_model(str(path), full_check=True)


def quantize(path: Path, calibration: Sequence[np.ndarray]) -> None:
    """The network's matrix products in int8, in place; distances, texture and heatmap stay in float32."""
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(str(path)).graph
    matrices = {weight.name for weight in graph.initializer if len(weight.dims) == 2 and min(weight.dims) > 1}
    products = [node.name for node in graph.node if node.op_type == "MatMul" and matrices & set(node.input)]
    inputs = iter([{"image": pixels} for pixels in calibration])
    reader = SimpleNamespace(get_next=lambda: next(inputs, None))
    with (
        tempfile.TemporaryDirectory() as folder,
        root_logger_silenced(),  # it advises a preparation that torch's exporter has made
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        quantized = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            str(path),
            str(quantized),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=products,
        )
        shutil.copyfile(quantized, path)
