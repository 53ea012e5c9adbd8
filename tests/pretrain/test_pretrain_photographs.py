"""Products made of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip.pretrain.data import PairSampler, build_pool
from patchclip.pretrain.photographs import find_photographs, photographed


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    folder = tmp_path / "textures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)
    place = (0.2 * grain + np.linspace(0, 150, 300)[:256, None, None]).astype(np.uint8)
    images = {"floor_wood": grain, "wall": place, "wall_nm": grain, "flat": grain * 0 + 90, "tiny_metal": grain[:90]}
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "torn.jpg").write_bytes(b"not a picture")
    return folder


def test_photographs_of_surfaces_are_found_and_nothing_else(textures: Path, tmp_path: Path) -> None:
    assert [path.stem for path in find_photographs([textures])] == ["floor_wood", "wall"]
    with pytest.raises(FileNotFoundError, match=r"empty: of 0 images .* 200 px"):
        find_photographs([textures, tmp_path / "empty"])


def test_a_photograph_is_a_product(textures: Path, tmp_path: Path) -> None:
    rolled, placed = (
        photographed(textures / f"{name}.png", np.random.default_rng(3)) for name in ("floor_wood", "wall")
    )
    assert (rolled.family, placed.family) == ("photograph", "object")
    assert rolled.name in ("wood", "wooden board", "plank")
    assert placed.name in ("wall", "plaster")
    for surface, alike in ((rolled, False), (placed, True)):
        one, two = surface.render(1, (96, 128)), surface.render(2, (96, 128))
        assert one.shape == (96, 128, 3)
        assert one.dtype == np.float32
        assert np.array_equal(one, surface.render(1, (96, 128)))
        assert (np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.7) == alike
    paths = find_photographs([textures])
    build_pool(tmp_path / "pool", 8, 0, 1, paths)
    names = PairSampler(tmp_path / "pool", 8, 0, paths).batch(0, 0, 24, 64).names
    assert {"wall", "plaster"} & set(names)


def test_an_object_cut_out_of_its_photograph_is_a_product(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:160, :200]
    disc = np.hypot(rows - 80, columns - 110) < 60
    orange = np.zeros((160, 200, 4), np.uint8)
    orange[disc] = (255, 120, 0, 255)
    gloss = np.random.default_rng(0).integers(0, 255, (256, 256, 4), dtype=np.uint8)  # opacity that is none
    for name, image in {"orange_2": orange, "steel": gloss, "two": np.hstack([orange, orange])}.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    assert [path.stem for path in find_photographs([tmp_path])] == ["orange_2", "steel"]

    product = photographed(tmp_path / "orange_2.png", np.random.default_rng(1))
    assert product.family == "object"
    assert product.name in ("orange", "object")
    image = product.render(1, (96, 128))
    assert image.shape == (96, 128, 3)
    assert np.array_equal(image, product.render(1, (96, 128)))
    shown = np.abs(image - (1, 120 / 255, 0)).max(-1) < 0.02
    assert 0.6**2 * 0.7 * 96 * 96 * 0.7 < shown.sum() < 96 * 96 * 0.8  # a disc of 0.6 to 0.95 of the short side
    assert not np.array_equal(image, product.render(2, (96, 128)))


def test_a_pool_is_made_anew_for_other_photographs(textures: Path, tmp_path: Path) -> None:
    first, second = find_photographs([textures])
    for paths in ([first], [second]):
        build_pool(tmp_path, 4, 0, 1, paths)
        views = np.load(tmp_path / "views.npy")
        made = (tmp_path / "views.npy").stat().st_mtime_ns
        build_pool(tmp_path, 4, 0, 1, paths)
        assert (tmp_path / "views.npy").stat().st_mtime_ns == made  # left as it is
    build_pool(tmp_path, 4, 0, 1, [first])
    assert not np.array_equal(np.load(tmp_path / "views.npy"), views)
