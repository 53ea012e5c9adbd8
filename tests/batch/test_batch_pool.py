"""What is checked before Ray runs: options, the file, and how many actors there are. Rows without Ray."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import patchclip.batch
from patchclip import FileFormatError
from patchclip.batch import extract_features, predict_dataset, result_schema
from patchclip.batch.pool import PoolPlan, plan_pool
from patchclip.batch.rows import encode_heatmap, normal_percentile, to_table
from patchclip.normal_scores import NormalScore
from patchclip.outcomes import unreadable_entries


def plan(nodes: list[tuple[float, float]], num_actors: int | None = None, num_gpus: float = 0) -> PoolPlan:
    return plan_pool(nodes, num_actors=num_actors, num_gpus=num_gpus, batch_size=16)


def test_the_pool_leaves_a_processor_of_each_machine_to_other_tasks() -> None:
    assert plan([(2, 0)]) == PoolPlan(2, threads=1, num_cpus=0.5, num_gpus=0)
    assert plan([(16, 0)] * 4) == PoolPlan(64, threads=1, num_cpus=15 / 16, num_gpus=0)
    assert plan([(16, 0), (0, 0)], num_actors=2) == PoolPlan(2, threads=8, num_cpus=7.5, num_gpus=0)
    assert plan([(4, 0)] * 8, num_actors=1).threads == 4
    assert plan([(1, 0)], num_actors=3) == PoolPlan(3, threads=1, num_cpus=0.5, num_gpus=0)
    assert plan([(32, 4), (8, 0)], num_gpus=0.5) == PoolPlan(8, threads=1, num_cpus=1, num_gpus=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_actors": 0}, "at least one actor, got 0"),
        ({"num_gpus": -1}, "num_gpus of 0 or more"),
        ({"num_gpus": 1}, "no machine of the cluster has a processor and 1 GPUs"),
        ({"nodes": [(0, 0)]}, "no machine of the cluster has a processor"),
        ({"batch_size": 0}, "a batch size of at least 1"),
    ],
)
def test_a_pool_that_cannot_be(options: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {"nodes": [(2, 0)], "num_actors": None, "num_gpus": 0, "batch_size": 16}
    given = defaults | options
    with pytest.raises(ValueError, match=message):
        plan_pool(given.pop("nodes"), **given)


def test_a_wrong_file_fails_at_once(tmp_path: Path) -> None:
    """Before the dataset is looked at."""
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"no detector")
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(b"no graph")
    dataset: Any = None
    for run in (predict_dataset, extract_features):
        with pytest.raises(FileFormatError, match=r"foreign\.safetensors"):
            run(dataset, foreign)
        with pytest.raises(FileNotFoundError, match="no detector file at"):
            run(dataset, tmp_path / "absent.safetensors")
    with pytest.raises(FileFormatError, match=r"truncated\.onnx"):
        predict_dataset(dataset, truncated)
    with pytest.raises(ValueError, match="exported file, which gives no features"):
        extract_features(dataset, truncated)
    for wrong in ({"image_column": "file"}, {"heatmaps": "jpeg"}, {"errors": "skip"}, {"decode": "threads"}):
        with pytest.raises(ValueError, match="expected"):
            predict_dataset(dataset, foreign, **wrong)


def test_neither_ray_nor_torch_is_imported_with_the_module() -> None:
    code = "import sys, patchclip.batch; print([n for n in ('ray', 'pyarrow', 'torch', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert set(patchclip.batch.__all__) <= set(dir(patchclip.batch))


def test_the_schema_is_the_same_whatever_is_in_a_table() -> None:
    schema = result_schema("png16")
    nothing = to_table([{"path": "a", "node": "n"} | unreadable_entries("no image")], schema)
    assert nothing.schema.equals(schema)
    assert to_table([], schema).schema.equals(schema)
    assert not any(pa.types.is_null(field.type) for field in schema)
    assert schema.remove(schema.get_field_index("heatmap")).equals(result_schema())


def test_percentiles_by_hand() -> None:
    scores = [NormalScore("a", None, 0.1), NormalScore("b", None, 0.3), NormalScore("c", None, 0.9, "unlike", False)]
    assert normal_percentile(0.2, scores) == 50
    assert normal_percentile(0.3, scores) == 50
    assert normal_percentile(0.95, scores) == 100
    assert normal_percentile(0.5, []) is None


def test_heatmaps_as_files() -> None:
    heatmap = np.array([[0, 0.25], [0.5, 1]], np.float32)
    with Image.open(io.BytesIO(encode_heatmap(heatmap, "png16"))) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), [[0, 16384], [32768, 65535]])
    np.testing.assert_array_equal(np.load(io.BytesIO(encode_heatmap(heatmap, "npy"))), heatmap)
