"""A file -> a session of onnxruntime, on the providers that are asked for, and what the file says of itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DAMAGE, FileFormatError, MissingDependencyError
from ..files import hash_file
from ..scoring.kinds import vector_width
from .contents import CLASS_INDEX, DENSE, FINE_MAP, INPUT, METADATA_KEY, Contents, read_entries

#: Short name -> provider, and the package that brings it.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
}


def open_file(
    path: str | os.PathLike[str], *, providers: Sequence[str] | None, threads: int | None
) -> tuple[Any, Contents]:
    """An `onnxruntime.InferenceSession`, and the contents of the file; see `runtime.load`."""
    onnxruntime = _import_onnxruntime()
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ValueError(f"expected threads to be a whole number of at least 1, got {threads!r}")
    names = resolve_providers(providers, onnxruntime.get_available_providers())
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the exported file")
    if not file.exists():
        raise FileNotFoundError(f"no exported file at {path}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=names)
    except Exception as error:  # of its own kinds, none of them public
        raise FileFormatError(
            f"{path} cannot be read as ONNX ({error}): it is truncated or no exported file, export the detector again"
        ) from error
    if session.get_providers()[0] != names[0]:  # onnxruntime goes on with the processor, and logs a line
        raise ValueError(
            f"provider {names[0]} is installed but cannot start here, onnxruntime offers {session.get_providers()}: "
            "install the libraries that it needs, or leave out providers"
        )
    metadata = session.get_modelmeta().custom_metadata_map
    entries = read_entries(path, metadata.get(METADATA_KEY))
    try:
        _check_sum(file, entries)
        contents = Contents.from_dict(entries)
        _check_graph(session, contents)
    except DAMAGE as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path} has damaged metadata ({error!r}): export the detector again") from error
    return session, contents


def resolve_providers(providers: Sequence[str] | None, available: Sequence[str]) -> list[str]:
    """Names of onnxruntime's providers, the processor last.

    Args:
        providers: "cpu", "cuda", "openvino" or onnxruntime's own names, best first; None is the processor.
        available: in the installed package.

    Raises:
        ValueError: one that is not available.
    """
    if isinstance(providers, str):
        raise ValueError(f"expected providers to be a list of names, got {providers!r}: put it into a list")
    resolved = []
    for name in providers or ("cpu",):
        provider, package = _PROVIDERS.get(str(name).lower(), (str(name), "another build of onnxruntime"))
        if provider not in available:
            raise ValueError(
                f"provider {name!r} is not installed, there are {', '.join(available)}: for it install {package} in "
                "place of onnxruntime"
            )
        resolved.append(provider)
    processor = _PROVIDERS["cpu"][0]
    return resolved if processor in resolved else [*resolved, processor]


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"exported files need onnxruntime ({error}): pip install onnxruntime") from error
    return onnxruntime


def _check_sum(file: Path, entries: Mapping[str, Any]) -> None:
    """Raise FileFormatError where the graph is not as it was written: it would have other scores."""
    if hash_file(file, int(entries["sha256_bytes"])) != entries["sha256"]:
        raise FileFormatError(
            f"{file} is damaged, or was changed after the export: its checksum does not fit, export the detector again"
        )


def _check_graph(session: Any, contents: Contents) -> None:
    inputs = {entry.name: entry.shape for entry in session.get_inputs()}
    outputs = {entry.name: entry.shape for entry in session.get_outputs()}
    needed = {FINE_MAP, DENSE, *contents.vector_outputs} | ({CLASS_INDEX} if contents.classes else set())
    if list(inputs) != [INPUT] or tuple(inputs[INPUT][1:]) != (3, *contents.size_hw):
        raise ValueError(f"inputs {inputs}")
    if not needed <= outputs.keys():
        raise ValueError(f"outputs {sorted(outputs)}")
    if contents.kinds is not None:
        width = vector_width(outputs[name][-1] for name in (DENSE, *contents.vector_outputs))
        if contents.kinds.prototypes.shape[1] != width:
            raise ValueError(f"kinds of {contents.kinds.prototypes.shape[1]} values in place of {width}")
