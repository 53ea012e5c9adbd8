"""benchmarks/representative.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import representative
from patchclip import Detector, metrics
from patchclip.datasets import read_dataset
from representative import PRODUCTS, VARIANTS, image_auroc, measure, rank_correlation, tables


def test_rank_correlation_by_hand() -> None:
    columns = {"a": (0.9, 0.5, 0.8), "b": (0.8, 0.6, 0.9), "c": (0.7, 0.7, 0.2), "d": (0.6, 0.8, 0.1)}
    found = {name: dict(zip(("one", "two", "three"), values, strict=True)) for name, values in columns.items()}
    assert rank_correlation(found, "one", "two") == pytest.approx(-1)
    assert rank_correlation(found, "one", "three") == pytest.approx(1 - 6 * 2 / (4 * 15))  # two neighbours swapped
    assert np.isnan(rank_correlation({name: {"one": k, "flat": 0.5} for k, name in enumerate("ab")}, "one", "flat"))
    text = tables({name: {**row, "mean": row["one"]} for name, row in found.items()}, ["one", "three"])
    assert text.index("| a ") < text.index("| b ") < text.index("| d ")
    last = [cell.strip() for cell in text.splitlines()[-1].strip("|").split("|")]
    assert last == ["mean of the sets' correlations", "+0.90", "-0.90", "+0.90", "+0.90"]


@pytest.mark.parametrize("sort", PRODUCTS)
def test_products_repeat(sort: str) -> None:
    made = [PRODUCTS[sort](np.random.default_rng(seed), 2, 1) for seed in (3, 3, 4)]
    assert [len(part) for part in made[0]] == [2, 1, 1]
    images = [np.stack([image for part in parts for image in part]) for parts in made]
    assert images[0].shape == (4, 256, 256, 3)
    assert images[0].dtype == np.uint8
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_at_least_eight_variants_that_exist() -> None:
    assert len(VARIANTS) >= 8
    options = [Detector(**chosen).options for chosen in VARIANTS.values()]
    assert len({repr(each) for each in options}) == len(VARIANTS)


def test_the_table_of_a_small_set(
    data: Path, local_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (category,) = read_dataset(data)
    monkeypatch.setattr(representative, "load_categories", lambda *_, **__: [category])
    monkeypatch.setattr(representative, "_DEVELOPMENT", ("fabric/fabric",))
    lot = [PRODUCTS["plain"](np.random.default_rng(0), 2, 2)]
    detectors = {"model": local_model, "precision": "fp32"}
    found = measure(["tokens", "texture"], [category], {"plain 0": lot}, shots=2, draws=1, **detectors)
    references, normal, defective = lot[0]
    detector = Detector(local_model, precision="fp32", cues=("texture",))
    with pytest.warns(UserWarning, match="extrapolation"):
        detector.fit(references)
    scores = np.array([detector.predict(image).score for image in (*normal, *defective)])
    expected = metrics.auroc(np.array([0, 0, 1, 1]), scores)
    assert found["texture"]["plain 0"] == image_auroc(detector, references, normal, defective) == expected
    assert set(found["tokens"]) == {"fabric/fabric", "mean", "plain 0"}

    out = tmp_path / "found.json"
    sizes = ["--shots", "2", "--draws", "1", "--count", "1", "--each", "2", "--seeds", "0"]
    representative.main(["--variants", "tokens", "texture", "--sets", "fabric/fabric", *sizes, "--out", str(out)])
    assert set(json.loads(out.read_text())["texture"]) == {"fabric/fabric", "mean", *(f"{sort} 0" for sort in PRODUCTS)}
    assert "| mean of the sets' correlations " in capsys.readouterr().out
