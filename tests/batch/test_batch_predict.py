"""`predict_dataset`: the rows of a dataset are those of `predict_batch`, whatever its column, and whoever has died."""

from __future__ import annotations

import copy
import io
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import fit_quietly

from patchclip import Detector, ImageError
from patchclip.batch import extract_features, feature_schema, predict_dataset, read_features, result_schema
from patchclip.batch.sources import ROWS_PER_BLOCK, fetch_bytes, paths_dataset

from .conftest import CORRUPT_COUNT, IMAGE_COUNT
from .ray_processes import RAY, actors_below, wait_until

pytestmark = RAY


@pytest.fixture(scope="module")
def expected(fitted: Detector, many: list[str]) -> dict[str, float]:
    """Path -> score in one process; nothing of corrupt images."""
    scores = {}
    outcomes = fitted.predict_batch(many, progress=False, errors="return")
    for path, outcome in zip(many, outcomes, strict=True):
        if not isinstance(outcome, ImageError):
            scores[path] = outcome.score
    return scores


def assert_complete(rows: pa.Table, many: list[str], expected: dict[str, float]) -> None:
    """Every image once, with its score, and an error for those that are corrupt."""
    assert rows.num_rows == IMAGE_COUNT
    assert sorted(rows["path"].to_pylist()) == many
    found = {}
    for row in rows.select(["path", "verdict", "score", "error"]).to_pylist():
        if row["verdict"] == "unreadable":
            assert row["score"] is None
            assert row["error"].startswith(f"{row['path']} ")
        else:
            found[row["path"]] = row["score"]
    assert len(found) == IMAGE_COUNT - CORRUPT_COUNT
    assert found.keys() == expected.keys()
    assert max(abs(score - expected[path]) for path, score in found.items()) < 1e-6


def test_an_actor_killed_in_the_middle_loses_nothing(
    local_ray: Any, many: list[str], small_file: Path, expected: dict[str, float], shared_folder: str
) -> None:
    """And rows read back by pyarrow and pandas are those of one process."""
    rows = predict_dataset(paths_dataset(many, rows_per_block=40), small_file, num_actors=2)
    killed: list[int] = []

    def kill_one() -> None:
        wait_until(lambda: len(list(Path(shared_folder).glob("*.parquet"))) > 5)
        killed.extend(actors_below(os.getpid())[:1])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    rows.write_parquet(shared_folder, ray_remote_args={"num_cpus": 0})
    killer.join()
    assert killed
    read = pq.read_table(shared_folder)
    assert read.schema.equals(result_schema())
    assert_complete(read, many, expected)
    frame = read.to_pandas()
    assert len(frame) == IMAGE_COUNT
    assert frame["score"].notna().sum() == IMAGE_COUNT - CORRUPT_COUNT
    anomalous = read.filter(pa.compute.equal(read["verdict"], "anomalous")).slice(0, 1).to_pylist()[0]
    assert anomalous["regions"][0].keys() == {"box_xyxy", "area_px", "score", "defect", "confidence", "defect_source"}
    assert anomalous["size_hw"] == [48, 64]


def test_bytes_and_prepared_images_give_the_same_rows(
    local_ray: Any, many: list[str], small_file: Path, expected: dict[str, float]
) -> None:
    """The first block has no image that can be used: the columns have their types all the same."""
    corrupt = [path for path in many if path not in expected][:4]
    nowhere = str(Path(many[0]).with_name("nowhere.png"))
    chosen = [*corrupt, nowhere, *many[:5]]
    dataset = paths_dataset(chosen, rows_per_block=5)
    by_bytes = predict_dataset(fetch_bytes(dataset), small_file, image_column="bytes", num_actors=1)
    by_tasks = predict_dataset(dataset, small_file, num_actors=1, decode="tasks")
    for rows in (by_bytes, by_tasks):
        blocks = list(rows.iter_batches(batch_size=None, batch_format="pyarrow"))
        assert all(block.schema.equals(result_schema()) for block in blocks)
        found = pa.concat_tables(blocks).to_pylist()
        assert sorted(row["path"] for row in found) == sorted(chosen)
        for row in found:
            if row["path"] in expected:
                assert row["score"] == pytest.approx(expected[row["path"]], abs=1e-6)
                assert row["size_hw"] == [48, 64]
            else:
                assert row["verdict"] == "unreadable"
                assert row["error"].startswith(f"{row['path']} ")


def test_arrays_heatmaps_and_the_node(
    local_ray: Any, fitted: Detector, small_file: Path, normals: list[np.ndarray]
) -> None:
    result = fitted.predict(normals[4])
    node = local_ray.get_runtime_context().get_node_id()
    dataset = local_ray.data.from_items([{"image": normals[4]}])
    [row] = predict_dataset(dataset, small_file, image_column="image", num_actors=1, heatmaps="npy").take_all()
    assert row["score"] == pytest.approx(result.score, abs=1e-6)
    assert row["path"] == ""
    assert row["node"] == node
    counted = [normal.score for normal in fitted.normal_scores_ if normal.counts]
    assert row["normal_percentile"] == 100 * np.mean(np.array(counted) < result.score)
    np.testing.assert_allclose(np.load(io.BytesIO(row["heatmap"])), result.heatmap, atol=1e-6)


def test_many_paths_are_divided_into_blocks(local_ray: Any) -> None:
    paths = [f"/photos/{index:05d}.png" for index in range(10_000)]
    blocks = list(paths_dataset(paths).iter_batches(batch_size=None, batch_format="pyarrow"))
    assert max(block.num_rows for block in blocks) <= 2 * ROWS_PER_BLOCK
    assert sorted(path.decode() for block in blocks for path in block["path"].to_pylist()) == paths


def test_features_of_images_are_a_fit_on_them(
    local_ray: Any, fitted: Detector, many: list[str], small_file: Path, shared_folder: str
) -> None:
    """The eighth image is corrupt."""
    rows = extract_features(paths_dataset(many[:8], rows_per_block=4), small_file, num_actors=1)
    rows.write_parquet(shared_folder, row_group_size=1, ray_remote_args={"num_cpus": 0})
    assert pq.read_table(shared_folder).schema.equals(feature_schema())
    features = read_features(shared_folder)
    assert [stored.filename for stored in features] == many[:7]
    assert [stored.filename for stored in features[::3]] == many[0:7:3]
    assert features.errors.keys() == {many[7]}
    expected = fit_quietly(copy.copy(fitted), many[:7])
    found = fit_quietly(copy.copy(fitted), features)
    assert found.threshold == pytest.approx(expected.threshold, abs=2e-3)
    assert found.predict(many[8]).score == pytest.approx(expected.predict(many[8]).score, abs=2e-3)


def test_an_exported_file_takes_no_torch(
    local_ray: Any, local_model: str, normals: list[np.ndarray], tmp_path: Path
) -> None:
    """Looked up among the libraries that are mapped into the actor's process."""
    detector = fit_quietly(Detector(local_model, precision="fp32", cues=("tokens", "texture")), normals[:3])
    exported = tmp_path / "small.onnx"
    detector.export(exported)
    rows = predict_dataset(local_ray.data.from_items([{"image": normals[4]}] * 64), exported, image_column="image")
    mapped: list[str] = []
    for row in rows.iter_rows():
        assert row["score"] == pytest.approx(detector.predict(normals[4]).score, abs=1e-4)
        if not mapped:
            mapped = [Path(f"/proc/{process}/maps").read_text() for process in actors_below(os.getpid())]
    assert mapped
    assert all("onnxruntime" in libraries and "libtorch" not in libraries for libraries in mapped)


def test_an_error_can_end_the_run(local_ray: Any, many: list[str], small_file: Path) -> None:
    rows = predict_dataset(paths_dataset(many[7:8]), small_file, num_actors=1, errors="raise")
    with pytest.raises(Exception, match=r"0007\.png is no image"):
        rows.take_all()
