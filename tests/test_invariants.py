"""What always holds: the invariants that the design names."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch

import patchclip
from patchclip import Detector
from patchclip.descriptors import imagenet_network
from patchclip.image import load_image

PACKAGE = Path(patchclip.__file__).parent


def fitted(model: str, images: list[np.ndarray], **options: object) -> Detector:
    detector = Detector(model, precision="fp32", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few images: the threshold is extrapolated
        return detector.fit(images, progress=False)


@pytest.mark.parametrize("model", ["tiny", "local"])
def test_bank_maps_of_fitted_images_vanish(model: str, local_model: str, normals: list[np.ndarray]) -> None:
    detector = fitted(local_model if model == "local" else model, normals[:3], cues=("tokens", "texture", "imagenet"))
    for image in normals[:3]:
        maps, _ = detector._cue_maps(detector._extractor.features([load_image(image)], for_bank=True)[0])
        assert set(maps) == {"tokens", "texture", "imagenet"}
        assert all(float(value.max()) < 1e-5 for value in maps.values())


@pytest.mark.parametrize("recipe", ["dense", "winclip"])
def test_batch_equals_single(recipe: str, local_model: str, normals: list[np.ndarray]) -> None:
    detector = fitted(local_model, normals[:2], recipe=recipe)
    images = [*normals[2:5], normals[5][:50], normals[3]]  # one of another size in between
    batch = list(detector.predict_batch(images, batch_size=4))
    for image, result in zip(images, batch, strict=True):
        single = detector.predict(image)
        np.testing.assert_allclose(result.heatmap, single.heatmap, atol=1e-5, rtol=0)
        assert result.score == pytest.approx(single.score, abs=1e-5)


def test_refit_forgets(local_model: str, normals: list[np.ndarray]) -> None:
    twice = fitted(local_model, normals[:2])
    with pytest.warns(UserWarning, match="extrapolation"):
        twice.fit(normals[2:4])
    once = fitted(local_model, normals[2:4])
    assert twice.threshold == once.threshold
    assert np.array_equal(twice.predict(normals[0]).heatmap, once.predict(normals[0]).heatmap)


@pytest.mark.parametrize("options", [{}, {"recipe": "winclip"}, {"coreset": 0.3}, {"tile": 60}])
def test_save_and_load_reproduce_every_heatmap(
    options: dict, local_model: str, normals: list[np.ndarray], tmp_path: Path
) -> None:
    detector = fitted(local_model, normals[:3], **options)
    detector.save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors")
    assert (loaded.threshold, loaded.threshold_source) == (detector.threshold, "fit")
    for image in normals:
        before, after = detector.predict(image), loaded.predict(image)
        assert np.array_equal(before.heatmap, after.heatmap)
        assert before.to_dict() == after.to_dict()


def test_two_detectors_share_nothing(local_model: str, normals: list[np.ndarray]) -> None:
    first, second = fitted(local_model, normals[:2]), Detector(local_model, precision="fp32")
    before = second.predict(normals[3])
    with pytest.warns(UserWarning, match="extrapolation"):
        first.fit(normals[2:])
    first.threshold = 0.9
    first.options["defects"].clear()
    after = second.predict(normals[3])
    assert before.to_dict() == after.to_dict()
    assert np.array_equal(before.heatmap, after.heatmap)
    assert second.options["defects"]


def test_predicting_leaves_no_hook_and_no_thread_behind(local_model: str, normals: list[np.ndarray]) -> None:
    import threading

    detector = fitted(local_model, normals[:2])
    list(detector.predict_batch(normals * 17, batch_size=8, progress=False))  # 102 images
    hooks = [
        hook
        for module in detector.backbone._clip.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    assert hooks == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patchclip")]


@pytest.mark.parametrize("size_hw", [(37, 211), (64, 64), (300, 90), (5, 4)])
def test_heatmap_has_the_images_size(size_hw: tuple[int, int], local_model: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    detector = Detector(local_model)
    result = detector.predict(image)
    assert result.heatmap.shape == size_hw
    assert result.heatmap.dtype == np.float32
    assert 0 <= result.heatmap.min() <= result.heatmap.max() == pytest.approx(result.score)
    assert result.score <= 1


LEVELS = [
    {
        "errors",
        "_version",
        "result",
        "prompts",
        "windows",
        "scoring",
        "heatmap",
        "descriptors",
        "viz",
        "metrics",
        "threshold",
    },
    {"pipeline", "synthetic"},
    {"backbone", "models", "bank", "image", "store", "features", "options"},
    {"detector", "fitting", "saved", "datasets", "pretrain", "export"},
    {"cli", "batch", "app", "__init__"},
]


def imported_modules(file: Path) -> set[str]:
    """First names below `patchclip` that a file imports, relative imports resolved."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = list(parts[: -node.level]) + (node.module.split(".") if node.module else [])
        found |= {base[0]} if base else {alias.name for alias in node.names}
    return found


def test_imports_only_go_down() -> None:
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).with_suffix("").parts[0]
        assert own in level, f"{file.name}: give it a floor"
        for name in imported_modules(file) & level.keys():
            assert level[name] <= level[own], f"{own} imports {name}, which is above it"


def test_light_import() -> None:
    """A fresh interpreter: `import patchclip` loads no heavy optional package."""
    import subprocess

    heavy = ("ray", "gradio", "matplotlib", "faiss", "sklearn", "onnxruntime", "cv2", "anomalib")
    code = (
        "import sys, torch, open_clip; before = set(sys.modules); import patchclip;"
        f"print([name for name in {heavy!r} if name in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_is_what_the_readme_says() -> None:
    readme = (PACKAGE.parent / "README.md").read_text()
    listed = re.search(r"<!-- public names -->(.*?)<!-- end -->", readme, re.S)
    assert listed is not None
    assert sorted(re.findall(r"`([A-Za-z_]+)`", listed[1])) == sorted(patchclip.__all__)
    assert all(hasattr(patchclip, name) for name in patchclip.__all__)


@pytest.mark.parametrize("shots", [0, 2])
def test_one_predict_is_short_to_read(shots: int, normals: list[np.ndarray]) -> None:
    detector = fitted("tiny", normals[:2]) if shots else Detector(precision="fp32")
    detector.threshold = 0.0
    detector.predict(normals[4])
    called = set()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        own = event == "call" and code.co_filename.startswith(str(PACKAGE))
        if own and "<" not in code.co_name:  # a comprehension is no function
            called.add((code.co_filename, code.co_name, code.co_firstlineno))

    sys.setprofile(profile)
    try:
        result = detector.predict(normals[4])
    finally:
        sys.setprofile(None)
    assert result.regions
    assert len({file for file, *_ in called}) <= 9, called
    assert len(called) <= 45, sorted(called)


def test_global_state_is_left_alone(local_model: str, normals: list[np.ndarray]) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads(), torch.is_grad_enabled()
    imagenet_network.cache_clear()
    cues = ("text", "tokens", "imagenet")
    fitted(local_model, normals[:2], coreset=0.5, cues=cues).predict(normals[2])
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2:] == (torch.get_num_threads(), torch.is_grad_enabled())
