"""The methods that are compared: baselines by their formulas, patchclip's by its Detector, anomalib's by agreement."""

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

from accuracy.methods.base import Settings
from accuracy.methods.course import CourseFewShot, CourseZeroShot, synthetic_anomalies, train_head
from accuracy.methods.table import METHODS
from accuracy.methods.untrained import RandomVit, write_random_model
from anomalib_models import patchcore_imagenet_model
from internals import encode_imagenet, load_image, load_model, load_square_rgb
from patchclip import Detector, ImageError, MissingDependencyError
from patchclip.encoders.timm import load_network

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


def embed_independently(settings: Settings, images: list[np.ndarray]) -> torch.Tensor:
    """By open_clip's encoder on the squashed image."""
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
    anomalies = embed_independently(
        settings, [made for image in images[:4] for made in synthetic_anomalies(image, rng)]
    )
    embedded = embed_independently(settings, images)
    means = [embedded[:2].mean(0), embedded[2:4].mean(0)]
    broken = settings.work / "broken.png"
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
    embedded = embed_independently(settings, [load_image(path) for path in paths])
    expected = torch.sigmoid(F.linear(embedded, state["weight"], state["bias"]))[:, 0]
    found = list(method.predict(paths, batch_size=4))
    assert [prediction.score for prediction in found] == pytest.approx(expected.tolist(), abs=1e-4)
    assert {prediction.threshold for prediction in found} == {0.5}


def test_random_vit_has_the_shape_and_nothing_else(settings: Settings, tmp_path: Path, paths: list[Path]) -> None:
    trained = load_model(settings.model).clip.state_dict()
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_random_model(settings, tmp_path / name, seed=seed)
        made[name] = load_model(f"local-dir:{tmp_path / name}").clip.state_dict()
    assert {key: value.shape for key, value in made["a"].items()} == {
        key: value.shape for key, value in trained.items()
    }
    key = "visual.transformer.resblocks.1.attn.in_proj_weight"
    assert torch.equal(made["a"][key], made["b"][key])
    assert not torch.equal(made["a"][key], made["c"][key])
    assert not torch.equal(made["a"][key], trained[key])
    method = RandomVit(settings, ())
    method.fit({None: paths[:3]}, seed=0)
    assert len(list(method.predict(paths, batch_size=4))) == 7
    assert method.detector is not None
    assert method.detector.options["cues"] == ("tokens",)
    with pytest.raises(ValueError, match="leave it out of --methods"):
        write_random_model(replace(settings, model="hf-hub:some/model"), tmp_path / "e", seed=0)


# --- patchclip and peers ----------------------------------------------------------------------------------------


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
    for name, chosen in options.items():
        entry = METHODS[name]
        method = entry.make(settings, ("hole", "dot"))
        detector = Detector(settings.model, precision="fp32", defects=("hole", "dot"), **chosen)
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


def test_rank_scores_the_batch_together(settings: Settings, paths: list[Path]) -> None:
    method = METHODS["rank"].make(settings, ())
    method.fit({}, seed=0)
    ranking = Detector(settings.model, precision="fp32").rank(paths)
    predictions = list(method.predict(paths, batch_size=2))
    for item, prediction in zip(ranking.items, predictions, strict=True):
        assert prediction.score == pytest.approx(item.score, abs=1e-5)
        assert prediction.threshold is None
        np.testing.assert_allclose(prediction.heatmap, item.heatmap, atol=1e-5)
    [again] = method.predict(paths[1:2], batch_size=1)  # for a picture of it: of the same batch
    assert again.score == predictions[1].score
    method.fit({}, seed=1)
    [alone] = method.predict(paths[1:2], batch_size=1)
    assert isinstance(alone, ImageError)
    assert str(paths[1]) in str(alone)


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
        for name in ("anomalib-patchcore", "anomalib-patchcore-imagenet", "anomalib-winclip"):
            with pytest.raises(MissingDependencyError, match="pip install patchclip anomalib"):
                METHODS[name].make(settings, ())
        return
    peer = METHODS["anomalib-winclip"].make(settings, ())
    from anomalib.models.image.winclip.prompting import TEMPLATES

    detector = Detector(settings.model, precision="fp32", recipe="winclip", templates=TEMPLATES)
    peer.fit({}, seed=0)
    for path, prediction in zip(paths, peer.predict(paths, batch_size=2), strict=True):
        result = detector.predict(path)
        assert prediction.heatmap is not None
        # anomalib's map goes to the model's square first, and from there to the image
        np.testing.assert_allclose(prediction.heatmap, result.heatmap, atol=1e-4, rtol=0)
        assert prediction.score == pytest.approx(result.score, abs=1e-5)


def test_the_embedded_features_of_two_strides(paths: list[Path]) -> None:
    rgb, image_hw = load_square_rgb(paths[0], 64, torch.device("cpu"))
    image = load_image(paths[0])
    assert image_hw == image.shape[:2]
    squashed = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(rgb[0].permute(1, 2, 0), squashed / np.float32(255), atol=1e-6)
    fine, coarse = encode_imagenet(rgb)
    assert (fine.shape, coarse.shape) == ((1, 40, 8, 8), (1, 112, 4, 4))
    network = load_network(torch.device("cpu"))
    for found, expected in zip((fine, coarse), network(2 * rgb - 1), strict=True):  # its mean and deviation are 0.5
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Argument embeddings:DeprecationWarning")  # of anomalib by itself
def test_anomalib_patchcore_sees_the_embedded_features(settings: Settings, paths: list[Path]) -> None:
    """Where anomalib is installed its patches are the pooled features of both strides, joined on the finer grid."""
    if find_spec("anomalib") is None:
        with pytest.raises(MissingDependencyError, match="pip install patchclip anomalib"):
            patchcore_imagenet_model(torch.device("cpu"))
        return
    rgb, image_hw = load_square_rgb(paths[0], 256, torch.device("cpu"))
    fine, coarse = (F.avg_pool2d(level, 3, 1, 1) for level in encode_imagenet(rgb))
    joined = torch.cat([fine, F.interpolate(coarse, (32, 32), mode="bilinear")], 1)  # (1, 152, 32, 32)
    patches = patchcore_imagenet_model(torch.device("cpu"))(rgb)
    np.testing.assert_allclose(patches, joined[0].flatten(1).T, atol=1e-5)
    method = METHODS["anomalib-patchcore-imagenet"].make(settings, ())
    found = {}
    for seed in (0, 0, 1):
        method.fit({None: paths[:2]}, seed=seed)
        predictions = list(method.predict(paths, batch_size=3))
        scores = [prediction.score for prediction in predictions]
        assert found.setdefault(seed, scores) == scores
        assert scores[6] > max(scores[:6])  # the defective one
    assert found[0] != found[1]
    assert predictions[0].heatmap is not None
    assert predictions[0].heatmap.shape == image_hw
