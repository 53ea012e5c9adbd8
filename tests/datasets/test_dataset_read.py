"""Paths that hold no data set, and what the errors say of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_files import write_images

from patchclip.datasets import DatasetError, read_dataset


def test_what_cannot_be_read_shows_the_layouts(tmp_path: Path) -> None:
    write_images(tmp_path, "somewhere/0.png")
    for path in (tmp_path, tmp_path / "somewhere/0.png", tmp_path / "nowhere"):
        with pytest.raises(DatasetError) as caught:
            read_dataset(path)
        assert str(path) in str(caught.value)
        for layout in ("mvtec", "realiad", "visa", "course", "folders", "csv"):
            assert f"  {layout} " in str(caught.value)
    write_images(tmp_path, "set/train/good/0.png")
    (tmp_path / "set/test/good").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"category 'set' \(mvtec\) has no test images"):
        read_dataset(tmp_path / "set")
