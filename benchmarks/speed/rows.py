"""The table of rows: each measures one promise as a ratio, or as a difference, taken in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from speed.banks import bank, coreset, served_by_faiss
from speed.bench import Bench, Row
from speed.exports import int8, onnx
from speed.forwards import embedded, few_shot, gpu, predict, stream
from speed.precision import bf16
from speed.processes import fresh, importing, memory, ready
from speed.winclip import winclip

#: Name for `--rows` -> what measures it.
ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "predict": predict,
    "few": few_shot,
    "stream": stream,
    "embedded": embedded,
    "winclip": winclip,
    "bank": bank,
    "faiss": served_by_faiss,
    "coreset": coreset,
    "fresh": fresh,
    "ready": ready,
    "import": importing,
    "memory": memory,
    "bf16": bf16,
    "gpu": gpu,
    "onnx": onnx,
    "int8": int8,
}
