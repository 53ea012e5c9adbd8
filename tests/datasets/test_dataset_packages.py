"""Data sets that are installed as packages, read from small copies of their folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_files import relative_paths, write_images

from patchclip import MissingDependencyError
from patchclip.datasets import read_elpv, read_textile


def test_elpv(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"images/{k}.png" for k in range(7)))
    probabilities = ("0.0", "0.0", "1.0", "0.3333333333333333", "1.0", "0.0", "0.6666666666666666")
    kinds = ("mono", "mono", "mono", "mono", "poly", "poly", "poly")
    lines = [f"images/{k}.png  {p}   {kind}" for k, (p, kind) in enumerate(zip(probabilities, kinds, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    mono, poly = read_elpv(tmp_path)
    assert (mono.dataset, mono.name, poly.name) == ("elpv", "mono", "poly")
    assert mono.references == {None: (tmp_path / "images/0.png",)}
    assert (relative_paths(mono, 0), relative_paths(mono, 1)) == (["images/1.png"], ["images/2.png"])
    assert (relative_paths(poly, 0), relative_paths(poly, 1)) == ([], ["images/4.png"])
    assert mono.problems == ("elpv: 2 cells with a probability between 0 and 1 are left out",)


def test_textile(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"nominal/{k}.jpg" for k in range(4)), "local/0.jpg", "global/0.jpg", "global/1.jpg")
    local, whole = read_textile(tmp_path)
    assert (local.dataset, local.name, whole.name) == ("textile", "local", "global")
    assert relative_paths(local, 0) == relative_paths(whole, 0) == ["nominal/1.jpg", "nominal/3.jpg"]
    assert relative_paths(local, 1) == ["local/0.jpg"]
    assert relative_paths(whole, 1) == ["global/0.jpg", "global/1.jpg"]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchclip.datasets.packages.find_spec", lambda name: None)
    for reader, package in ((read_elpv, "elpv-dataset"), (read_textile, "conformal-clip-data")):
        with pytest.raises(
            MissingDependencyError, match=rf'{package} is not installed: pip install "patchclip\[bench\]"'
        ):
            reader()
