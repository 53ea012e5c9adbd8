"""Two machines, as two `ray start` on loopback: both work, and one that is lost takes no row with it."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from patchclip.batch import predict_dataset
from patchclip.batch.sources import paths_dataset

from .conftest import IMAGE_COUNT
from .ray_processes import RAY, RayNode, free_port, ray_started, wait_until

pytestmark = RAY


@pytest.fixture
def second_node() -> Iterator[RayNode]:
    """The second of two machines with a processor each, of a cluster that this process is in."""
    port = free_port()
    nodes: list[RayNode] = []
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:  # sockets have short names
        try:
            for head in (True, False):
                nodes.append(RayNode(port, Path(folder), head=head))
                nodes[-1].wait_until_started()
            with ray_started(address=f"127.0.0.1:{port}") as ray:
                wait_until(lambda: ray.cluster_resources().get("CPU") == 2)
                yield nodes[1]
        finally:
            for node in nodes[::-1]:
                node.kill()


def count_by_node(folder: str) -> Counter[str]:
    """Rows of each machine in whole files."""
    counts: Counter[str] = Counter()
    for file in Path(folder).glob("*.parquet"):
        with contextlib.suppress(pa.ArrowInvalid):  # it is being written
            counts.update(pq.read_table(file)["node"].to_pylist())
    return counts


def test_a_machine_lost_in_the_middle_loses_nothing(
    second_node: RayNode, many: list[str], small_file: Path, shared_folder: str
) -> None:
    lost_after: list[int] = []

    def lose_it() -> None:
        wait_until(lambda: len(count_by_node(shared_folder)) == 2)
        second_node.kill()
        lost_after.append(count_by_node(shared_folder).total())

    killer = threading.Thread(target=lose_it)
    killer.start()
    rows = predict_dataset(paths_dataset(many, rows_per_block=40), small_file)
    rows.write_parquet(shared_folder, ray_remote_args={"num_cpus": 0})
    killer.join()
    read: Any = pq.read_table(shared_folder)
    assert read.num_rows == IMAGE_COUNT
    assert sorted(read["path"].to_pylist()) == many
    assert len(count_by_node(shared_folder)) == 2
    assert lost_after[0] < IMAGE_COUNT // 2
