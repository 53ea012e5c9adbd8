"""The pieces of the benchmark, each against a slow loop, by hand, or against what it must agree with."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from benchmarks import measures
from benchmarks.baselines import (
    CourseFewShot,
    CourseZeroShot,
    RandomVit,
    synthetic_anomalies,
    train_head,
    write_random_model,
)
from benchmarks.gallery import choose, outlined
from benchmarks.latency import measure_latency
from benchmarks.measures import Record, bootstrap_weights, interval, replicate, summarise
from benchmarks.methods import METHODS, OwnMethod, Settings, make_detector
from benchmarks.record import against_baselines, make_course, planned
from benchmarks.state import pack_array, pack_tally, read_partial, unpack_arrays, unpack_tally
from benchmarks.thresholds import product_images, shares_above
from patchclip import Detector, MissingDependencyError, metrics
from patchclip.image import load_image
from patchclip.models import load_model


@pytest.fixture
def settings(local_model: str, tmp_path: Path) -> Settings:
    return Settings(work=tmp_path, model=local_model, precision="fp32", batch_size=3)


@pytest.fixture
def paths(normals: list[np.ndarray], defective: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> list[Path]:
    """Six normal images and a defective one on disk."""
    found = []
    for number, image in enumerate([*normals, defective[0]]):
        found.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(found[-1])
    return found


# --- bootstrap ----------------------------------------------------------------------------------------------------


def random_records(seed: int, count: int = 12) -> list[Record]:
    rng = np.random.default_rng(seed)
    records = []
    for number in range(count):
        label = int(number % 3 == 0)
        mask = np.zeros((12, 14), bool)
        mask[2:5, 3:9] = label
        heatmap = np.round(rng.random(mask.shape) + 0.3 * mask, 2).astype(np.float32)
        kind = ("hole", "dot")[number % 2] if label else None
        score = round(float(rng.random() + 0.4 * label), 1)
        named = ("hole", "dot", None)[rng.integers(3)]
        records.append(Record(f"{number}", label, kind, score, 0.6, named, metrics.tally(heatmap, mask)))
    return records


def test_weights_keep_both_classes() -> None:
    labels = np.array([1, 0, 0, 1, 0])
    weights = bootstrap_weights(labels, resamples=200, seed=1)
    assert weights.shape == (200, 5)
    assert (weights[:, labels == 1].sum(1) == 2).all()
    assert (weights[:, labels == 0].sum(1) == 3).all()
    assert np.array_equal(weights, bootstrap_weights(labels, resamples=200, seed=1))
    assert not np.array_equal(weights, bootstrap_weights(labels, resamples=200, seed=2))


@pytest.mark.parametrize("seed", range(5))
def test_resamples_equal_the_metrics_of_repeated_images(seed: int) -> None:
    records = random_records(seed)
    found = replicate(records, named=True, seed=seed, resamples=4)
    weights = bootstrap_weights(np.array([record.label for record in records]), resamples=4, seed=seed)
    for row, weight in enumerate([np.ones(len(records)), *weights]):
        drawn = [record for record, times in zip(records, weight, strict=True) for _ in range(int(times))]
        labels = np.array([record.label for record in drawn])
        scores = np.array([record.score for record in drawn])
        flagged = scores > 0.6
        true, false = (flagged & (labels == 1)).sum(), (flagged & (labels == 0)).sum()
        pixels = metrics.pixel_metrics([record.tally for record in drawn if record.tally])
        asked = [record for record in drawn if record.label and record.score > 0.6]
        right = [record.defect == record.kind for record in asked]
        expected = {
            "image_auroc": metrics.auroc(labels, scores),
            "image_ap": metrics.average_precision(labels, scores),
            "image_f1_max": metrics.f1_max(labels, scores)[0],
            "accuracy": (flagged == labels).mean(),
            "precision": true / flagged.sum() if flagged.any() else 0,
            "recall": true / labels.sum(),
            "f1": 2 * true / (flagged.sum() + labels.sum()),
            "false_positive_rate": false / (labels == 0).sum(),
            "name_accuracy": np.mean(right) if right else np.nan,
            **{name: pixels[name] for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro")},
        }
        assert set(expected) == set(found)
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_what_is_not_there_is_nan() -> None:
    records = [replace(record, threshold=None, tally=None) for record in random_records(0)]
    found = replicate(records, named=False, resamples=3)
    defined = {name for name, values in found.items() if np.isfinite(values[0])}
    assert defined == {"image_auroc", "image_ap", "image_f1_max"}
    alone = replicate([record for record in records if not record.label], named=False, resamples=3)
    assert not any(np.isfinite(values).any() for values in alone.values())
    assert not any(np.isfinite(values).any() for values in replicate([], named=True, resamples=3).values())
    assert interval(np.array([np.nan, 1.0, 1.0])) is None
    assert interval(np.array([0.5, *np.arange(1001)])) == (25.0, 975.0)


def test_summary_by_hand() -> None:
    """Two categories, two seeds: the mean over seeds first, then over categories; spread over seeds."""

    def unit(category: str, seed: int, *values: float, shots: int = 4, asked: int | str = 4) -> dict:
        row = {"dataset": "d", "category": category, "method": "bank", "shots": shots, "seed": seed, "images": 10}
        row |= {"anomalous": 4, "seconds_per_image": 0.1}
        empty = {name: np.full(3, np.nan) for name in measures.METRICS}
        return {"row": row, "asked": (asked,), "replicates": empty | {"image_auroc": np.array(values)}}

    units = [unit("a", 0, 0.8, 0.7, 0.9), unit("a", 1, 0.6, 0.5, 0.7), unit("b", 0, 1, 1, 1), unit("b", 1, 0.8, 0.6, 1)]
    a, b, mean = summarise(units)
    assert [row["category"] for row in (a, b, mean)] == ["a", "b", "mean"]
    assert a["image_auroc"]["mean"] == pytest.approx(0.7)
    assert a["image_auroc"]["sd"] == pytest.approx(np.sqrt(2) / 10)
    # resampled means over seeds are 0.6 and 0.8
    assert a["image_auroc"]["low"] == pytest.approx(0.605)
    assert a["image_auroc"]["high"] == pytest.approx(0.795)
    assert (a["images"], a["anomalous"], a["seeds"]) == (10, 4, 2)
    # by seed over categories 0.9 and 0.7
    assert mean["image_auroc"]["mean"] == pytest.approx(0.8)
    assert mean["image_auroc"]["sd"] == pytest.approx(np.sqrt(2) / 10)
    assert (mean["images"], mean["anomalous"], mean["seeds"]) == (20, 8, 2)
    assert a["aupro"] is None
    # as many as there are, of categories of different size; and a number that one of them does not have
    every = [unit("a", 0, 0.9, 0.9, 0.9, shots=20, asked="all"), unit("b", 0, 0.7, 0.7, 0.7, shots=22, asked="all")]
    assert [(row["category"], row["shots"]) for row in summarise(every)] == [("a", 20), ("b", 22), ("mean", "all")]
    assert summarise(every)[2]["image_auroc"]["mean"] == pytest.approx(0.8)
    lone = [unit("a", 0, 1, 1, 1), unit("b", 0, 1, 1, 1), unit("a", 0, 1, 1, 1, shots=8, asked=8)]
    assert [(row["category"], row["shots"]) for row in summarise(lone)] == [("a", 4), ("b", 4), ("a", 8), ("mean", 4)]


# --- files of a stopped run ---------------------------------------------------------------------------------------


def test_tallies_survive_the_file() -> None:
    tally = random_records(3)[0].tally
    assert tally is not None
    again = unpack_tally(pack_tally(tally))
    assert (again.bits, again.regions) == (tally.bits, tally.regions)
    for name in ("normal_bins", "normal", "defect_bins", "defect", "overlap"):
        assert np.array_equal(getattr(again, name), getattr(tally, name))
        assert getattr(again, name).dtype == getattr(tally, name).dtype
    values = np.array([0.1, np.nan, 1 / 3])
    assert np.array_equal(unpack_arrays({"a": pack_array(values)})["a"], values, equal_nan=True)


def test_partial_files_are_cut_to_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "unit.part"
    assert read_partial(path, 4) == []
    path.write_text("".join(f'{{"k": {k}}}\n' for k in range(7)) + '{"k": 7')
    assert read_partial(path, 3) == [{"k": k} for k in range(6)]
    assert path.read_text().count("\n") == 6
    assert read_partial(path, 4) == [{"k": k} for k in range(4)]


# --- baselines ----------------------------------------------------------------------------------------------------


def test_synthetic_anomalies(normals: list[np.ndarray]) -> None:
    made = synthetic_anomalies(normals[0], np.random.default_rng(0))
    again = synthetic_anomalies(normals[0], np.random.default_rng(0))
    assert len(made) == 4
    for one, other in zip(made, again, strict=True):
        assert one.shape == normals[0].shape
        assert one.dtype == np.uint8
        assert not np.array_equal(one, normals[0])
        assert np.array_equal(one, other)


def embed(settings: Settings, images: list[np.ndarray]) -> torch.Tensor:
    """Independently: open_clip's own encoder on the squashed image."""
    loaded = load_model(settings.model)
    mean, std = torch.tensor(loaded.mean).view(3, 1, 1), torch.tensor(loaded.std).view(3, 1, 1)
    pixels = []
    for image in images:
        small = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))
        pixels.append((torch.from_numpy(small.copy()).permute(2, 0, 1) / 255 - mean) / std)
    with torch.inference_mode():
        return F.normalize(loaded.clip.encode_image(torch.stack(pixels)), dim=-1)


def test_course_zeroshot_is_its_formula(settings: Settings, paths: list[Path]) -> None:
    method = CourseZeroShot(settings)
    references = {"a": paths[:2], "b": paths[2:4]}
    method.fit(references, seed=5)
    images = [load_image(path) for path in paths]
    rng = np.random.default_rng(5)
    anomalies = embed(settings, [made for image in images[:4] for made in synthetic_anomalies(image, rng)])
    embedded = embed(settings, images)
    means = [embedded[:2].mean(0), embedded[2:4].mean(0)]
    broken = paths[0].parent / "broken.png"
    broken.write_bytes(b"no image")
    found = list(method.predict([*paths[:3], broken, *paths[3:]], batch_size=3))
    assert "broken.png" in str(found.pop(3))
    for vector, prediction in zip(embedded, found, strict=True):
        normal = max(float(F.cosine_similarity(vector, mean, dim=0)) for mean in means)
        anomalous = float(np.mean([float(vector @ anomaly) for anomaly in anomalies]))
        assert prediction.similarity == pytest.approx((normal, anomalous), abs=1e-5)
        assert prediction.score == pytest.approx(anomalous - normal, abs=1e-5)  # normal from 0.2 on, negated
        assert prediction.threshold == -0.2
        assert prediction.heatmap is None


def test_the_head_keeps_its_best_epoch(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(60, 8, generator=generator), dim=-1)
    labels = (features[:, 0] > 0.1).float()
    history = train_head(features, labels, tmp_path / "head.safetensors", seed=1, epochs=12)
    assert [entry["epoch"] for entry in history] == list(range(1, 13))
    assert history[-1]["accuracy"] > 0.85
    state = load_file(tmp_path / "head.safetensors")
    logits = F.linear(features, state["weight"], state["bias"])[:, 0]
    balance = (labels == 0).sum() / labels.sum()
    losses = labels * F.softplus(-logits) * balance + (1 - labels) * F.softplus(logits)
    assert float(losses.mean()) == pytest.approx(min(entry["loss"] for entry in history), abs=1e-6)
    again = train_head(features, labels, tmp_path / "again.safetensors", seed=1, epochs=12)
    assert again == history


def test_course_fewshot_reloads_what_it_saved(settings: Settings, paths: list[Path]) -> None:
    method = CourseFewShot(settings)
    method.fit({None: paths[:4]}, seed=2)
    state = load_file(settings.work / "course-fewshot-2.safetensors")
    embedded = embed(settings, [load_image(path) for path in paths])
    expected = torch.sigmoid(F.linear(embedded, state["weight"], state["bias"]))[:, 0]
    found = list(method.predict(paths, batch_size=4))
    assert [prediction.score for prediction in found] == pytest.approx(expected.tolist(), abs=1e-4)
    assert {prediction.threshold for prediction in found} == {0.5}


def test_random_vit_has_the_shape_and_nothing_else(settings: Settings, tmp_path: Path, paths: list[Path]) -> None:
    own = load_model(settings.model).clip.state_dict()
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_random_model(settings, tmp_path / name, seed=seed)
        made[name] = load_model(f"local-dir:{tmp_path / name}").clip.state_dict()
    assert {key: value.shape for key, value in made["a"].items()} == {key: value.shape for key, value in own.items()}
    key = "visual.transformer.resblocks.1.attn.in_proj_weight"
    assert torch.equal(made["a"][key], made["b"][key])
    assert not torch.equal(made["a"][key], made["c"][key])
    assert not torch.equal(made["a"][key], own[key])
    method = RandomVit(settings, ())
    method.fit({None: paths[:3]}, seed=0)
    assert len(list(method.predict(paths, batch_size=4))) == 7
    assert method.detector is not None
    assert method.detector.options["cues"] == ("tokens",)
    with pytest.raises(ValueError, match="leave it out of --methods"):
        write_random_model(replace(settings, model="hf-hub:some/model"), tmp_path / "e", seed=0)


# --- own methods and peers ----------------------------------------------------------------------------------------


def test_methods_are_the_detector(settings: Settings, paths: list[Path]) -> None:
    """Every method of ours gives what a Detector with those options gives."""
    options = {
        "dense": {"cues": ("text",)},
        "winclip": {"recipe": "winclip", "cues": ("text", "tokens")},
        "bank": {"cues": ("tokens",)},
        "texture": {"cues": ("texture",)},
        "imagenet": {"cues": ("imagenet",)},
        "dense+bank": {},
    }
    for name, own in options.items():
        entry = METHODS[name]
        method = entry.make(settings, ("hole", "dot"))
        detector = Detector(settings.model, precision="fp32", defects=("hole", "dot"), **own)
        for references in [{}] * entry.zero_shot + [{None: paths[:3]}] * entry.few_shot:
            method.fit(references, seed=0)
            if references:
                with pytest.warns(UserWarning, match="extrapolation"):
                    detector.fit(paths[:3], progress=False)
            for path, prediction in zip(paths, method.predict(paths, batch_size=3), strict=True):
                result = detector.predict(path)
                np.testing.assert_allclose(prediction.heatmap, result.heatmap, atol=1e-5)
                assert prediction.score == pytest.approx(result.score, abs=1e-5)
                assert prediction.threshold == result.threshold
                drawn, expected = (np.asarray(each.overlay()).astype(int) for each in (prediction, result))
                assert np.abs(drawn - expected).max() <= 2


@pytest.mark.filterwarnings("ignore:.*extrapolation")
def test_zero_shot_after_a_fit_has_forgotten(settings: Settings, paths: list[Path]) -> None:
    method = METHODS["winclip"].make(settings, ())
    scores = []
    for references in ({}, {None: paths[:2]}, {}):
        method.fit(references, seed=0)
        scores.append([prediction.score for prediction in method.predict(paths, batch_size=3)])
    assert scores[0] == scores[2] != scores[1]


def test_anomalib_agrees_or_says_how_to_get_it(settings: Settings, paths: list[Path]) -> None:
    """The same weights, pixels and formulas: WinCLIP of both must agree where it is installed."""
    if find_spec("anomalib") is None:
        for name in ("anomalib-patchcore", "anomalib-winclip"):
            with pytest.raises(MissingDependencyError, match="pip install patchclip anomalib"):
                METHODS[name].make(settings, ())
        return
    peer = METHODS["anomalib-winclip"].make(settings, ())
    from anomalib.models.image.winclip.prompting import TEMPLATES

    own = Detector(settings.model, precision="fp32", recipe="winclip", templates=TEMPLATES)
    peer.fit({}, seed=0)
    for path, prediction in zip(paths, peer.predict(paths, batch_size=2), strict=True):
        result = own.predict(path)
        assert prediction.heatmap is not None
        # anomalib's map goes to the model's square first, and from there to the image
        np.testing.assert_allclose(prediction.heatmap, result.heatmap, atol=1e-4, rtol=0)
        assert prediction.score == pytest.approx(result.score, abs=1e-5)


# --- latency ------------------------------------------------------------------------------------------------------


def test_latency(settings: Settings, paths: list[Path]) -> None:
    bare = make_detector(settings, cues=("text",))
    method = OwnMethod(settings, (), None)
    method.fit({None: paths[:3]}, seed=0)
    one, three = measure_latency(method, bare, paths, seconds=0.01, batches=(1, 3))
    for row, batch in ((one, 1), (three, 3)):
        assert row["batch"] == batch
        assert row["repetitions"] >= 3
        assert 0 < row["median_s"] <= row["p95_s"]
        assert row["images_per_second"] == pytest.approx(batch / row["median_s"])
        assert row["ratio"] > 0
        assert row["peak_memory_mb"] > 50
    assert "parts_s" not in three
    assert {"decode", "resize", "forward", "text", "bank", "heatmap", "rest"} <= set(one["parts_s"])
    assert all(seconds > 0 for seconds in one["parts_s"].values())
    winclip = OwnMethod(settings, (), ("text", "tokens"), "winclip")
    (row,) = measure_latency(winclip, bare, paths, seconds=0, batches=(1,))
    assert row["parts_s"]["windows"] > 0
    course = CourseZeroShot(settings)
    course.fit({None: paths[:2]}, seed=0)
    (row,) = measure_latency(course, bare, paths, seconds=0, batches=(1,))
    assert "parts_s" not in row


# --- pictures -----------------------------------------------------------------------------------------------------


def test_best_median_and_worst_by_hand() -> None:
    """Three anomalous images above 2, 1 and 0 of two normal ones; a tie counts half."""
    scores = [(1, 0.9), (1, 0.4), (1, 0.1), (0, 0.5), (0, 0.2)]
    records = [Record(str(k), label, None, score, 0.5) for k, (label, score) in enumerate(scores)]
    assert choose(records) == [
        (0, "best", 1.0),
        (1, "median", 0.5),
        (2, "worst", 0.0),
        (4, "best", pytest.approx(2 / 3)),
        (3, "worst", pytest.approx(1 / 3)),
    ]
    tied = [Record("a", 1, None, 0.5, 0.5), Record("b", 0, None, 0.5, 0.5)]
    assert choose(tied) == [(0, "worst", 0.5), (1, "worst", 0.5)]
    assert choose(tied[:1])[0][:2] == (0, "worst")


def test_the_outline_is_around_the_mask() -> None:
    mask = np.zeros((128, 256), bool)
    mask[60:64, 100:104] = True
    picture = np.asarray(outlined(np.full((128, 256, 3), 128, np.uint8), mask))
    assert picture.shape == (128, 256, 3)
    drawn = (picture != 128).any(2)
    assert not drawn[60:64, 100:104].any()
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (58, 65, 98, 105)


# --- the record ---------------------------------------------------------------------------------------------------


def test_course_out_of_categories(tmp_path: Path) -> None:
    for name in ("tile", "plate"):
        for part, count in (("train/good", 7), ("test/good", 3), ("test/hole", 4)):
            (tmp_path / "data" / name / part).mkdir(parents=True)
            for k in range(count):
                Image.new("L", (8, 8)).save(tmp_path / "data" / name / part / f"{k}.png")
    course = make_course(tmp_path / "data", tmp_path / "course", each=3)
    counts = {str(p.relative_to(course)): len(list(p.iterdir())) for p in course.glob("*/*")}
    assert counts == {"train/tile": 5, "train/plate": 5, "test/normal": 6, "test/anomaly": 6}
    runs = planned(tmp_path / "data", course=course, peer_python="python")
    assert [run.name for run in runs] == ["plate", "tile", "elpv", "textile", "synthetic", "course", "peers"]


def test_against_the_baselines() -> None:
    accuracy = {"dense+bank": 0.7, "course-zeroshot": 0.55, "course-fewshot": 0.5, "dense": 0.6}
    summary = [{"method": name, "accuracy": {"mean": value}} for name, value in accuracy.items()]
    assert against_baselines(summary) == (
        "`dense+bank` has 70.0 % accuracy at its own threshold, +15.0 points against the better baseline "
        "(course-zeroshot, 55.0 %)."
    )
    assert against_baselines(summary[:1]) == ""


def test_more_exceed_the_threshold_where_fit_aims_at_more() -> None:
    made = [product_images(number, 7, 4) for number in range(4)]
    for classes in (1, 2):
        strict, loose = (
            shares_above(Detector(image_size=64, max_false_positive_rate=rate), made, 3, classes, 4)
            for rate in (0.01, 0.99)
        )
        assert strict.shape == (4 // classes, 2)
        assert np.all(strict <= loose)
        assert strict[:, 0].sum() < loose[:, 0].sum()
