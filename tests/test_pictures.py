"""The descriptors, pictures, and the example as a user runs it."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from patchclip import viz
from patchclip.descriptors import (
    describe_imagenet,
    describe_texture,
    filters,
    imagenet_network,
    texture_constants,
)
from patchclip.pretrain.imagenet import convert

ROOT = Path(__file__).parents[1]


def test_descriptor_of_a_plain_image_is_its_colour() -> None:
    rgb = torch.tensor([0.2, 0.6, 0.4]).view(1, 3, 1, 1).expand(1, 3, 64, 48)
    found = describe_texture(rgb, 16)
    assert found.shape == (1, 4, 3, 39)
    luminance = 0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 0.4
    colour = [0.5, -0.2 * 0.5 / luminance, 0.0]
    assert found[0, 1, 1, :3].tolist() == pytest.approx(colour, abs=1e-5)
    assert float(found[0, :, :, 3:14].abs().max()) < 1e-3  # no energy
    assert float(found[0, :, :, 14:].abs().max()) < 2e-3  # no deviation, no peak


def test_filters_have_no_mean_and_feel_their_orientation() -> None:
    pairs, blobs = filters()
    assert (pairs.shape, blobs.shape) == ((16, 1, 15, 15), (3, 1, 15, 15))
    assert float(torch.cat([pairs, blobs]).sum((1, 2, 3)).abs().max()) < 1e-5
    x = torch.arange(64.0)
    stripes = (0.5 + 0.5 * torch.cos(2 * torch.pi * x / 4)).expand(1, 3, 64, 64)
    energies = describe_texture(stripes, 16)[0, 1, 1, 3:14]
    assert int(energies[:8].argmax()) == 0  # wavelength 4, across x
    turned = describe_texture(stripes.transpose(2, 3), 16)[0, 1, 1, 3:14]
    assert int(turned[:8].argmax()) == 2  # wavelength 4, across y


def test_descriptor_does_not_see_the_exposure() -> None:
    rgb = 0.6 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) + 0.05
    assert torch.allclose(describe_texture(rgb, 16), describe_texture(0.4 * rgb, 16), atol=1e-3)
    assert torch.isfinite(describe_texture(torch.zeros(1, 3, 64, 64), 16)).all()


def test_descriptor_depends_on_nothing_far_away() -> None:
    rgb = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    changed = rgb.clone()
    changed[..., 80:, 80:] = rgb[..., 80:, 80:].mean((2, 3), keepdim=True)  # the mean luminance stays
    difference = (describe_texture(rgb, 16) - describe_texture(changed, 16)).abs().amax(-1)[0]
    assert float(difference[5, 5]) > 0.05
    assert float(difference[:4, :4].max()) < 1e-5


def test_texture_constants_are_complete() -> None:
    scale, half_at = texture_constants()
    assert scale.shape == (39,)
    assert float(scale.min()) > 0
    assert half_at > 0


@pytest.fixture
def other_network(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    """EfficientNet-Lite0 with random weights and norms, its tensors under other names, and the network itself."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    state = {f"other.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(state, tmp_path / "network.pth")
    return tmp_path / "network.pth", model


def test_imagenet_features_are_those_of_the_whole_network(
    other_network: tuple[Path, torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converted to float16, its norms folded away, cut off and read again: as timm runs the network it came from."""
    source, model = other_network
    convert(source, tmp_path / "parts.safetensors")
    monkeypatch.setattr("patchclip.descriptors.IMAGENET_WEIGHTS", tmp_path / "parts.safetensors")
    network = imagenet_network.__wrapped__(torch.device("cpu"))
    rgb = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = describe_imagenet(network, rgb)
        enlarged = F.interpolate(2 * rgb - 1, (96, 144), mode="bilinear")
        whole = model.forward_intermediates(enlarged, indices=[3], intermediates_only=True)[0]
    assert found.shape == (2, 6, 9, 112)
    assert torch.allclose(found.norm(dim=-1), torch.ones(2, 6, 9), atol=1e-5)
    expected = F.normalize(whole, dim=1).permute(0, 2, 3, 1)
    assert torch.allclose(found, expected, atol=5e-3)
    assert describe_imagenet(network, rgb[..., :56, :14]).shape == (2, 5, 1, 112)  # to whole steps of 16 pixels
    quick = imagenet_network.__wrapped__(torch.device("cpu"), torch.bfloat16)
    rough = describe_imagenet(quick, rgb)
    assert {parameter.dtype for parameter in quick.parameters()} == {torch.float32, torch.bfloat16}
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, expected, atol=3e-2)


def test_another_network_is_not_converted(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold EfficientNet-Lite0"):
        convert(tmp_path / "other.pth", tmp_path / "parts.safetensors")
    assert not (tmp_path / "parts.safetensors").exists()


def test_the_embedded_imagenet_features_tell_a_stripe_from_a_plain_patch() -> None:
    rgb = torch.full((1, 3, 64, 64), 0.5)
    rgb[..., 16:32, 16:32] = (torch.arange(16) % 4 < 2).float()
    found = describe_imagenet(imagenet_network(torch.device("cpu")), rgb).flatten(1, 2)[0]  # 6 x 6
    similarity = found @ found.T
    assert float(similarity[14, 35]) < 0.8 < float(similarity[5, 35])
    assert imagenet_network(torch.device("cpu")) is imagenet_network(torch.device("cpu"))


def test_overlay_colours_only_what_is_near_the_threshold() -> None:
    image = np.full((300, 400, 3), 90, np.uint8)
    heatmap = np.zeros((300, 400), np.float32)
    heatmap[100:150, 200:260] = 0.8
    picture = np.asarray(viz.overlay(image, heatmap, 0.4, [((200, 100, 260, 150), "crack 0.80")]))
    assert picture.shape == (300, 400, 3)
    assert (picture[:90, :150] == 90).all()
    red, _, blue = picture[125, 230].astype(int)
    assert red > blue + 60  # far above the threshold is red
    assert (picture[100, 200:260] == 255).all()  # the box
    assert (picture[70:99, 200:215] < 60).any()  # its label above it


def test_labels_stay_inside_the_picture() -> None:
    image = np.full((120, 260, 3), 90, np.uint8)
    labels = [((0, 0, 20, 20), "contamination 0.99"), ((240, 100, 260, 120), "contamination 0.99")]
    picture = np.asarray(viz.overlay(image, np.zeros((120, 260), np.float32), 0.5, labels))
    assert (picture[21:34, 0:90] < 30).any()
    assert (picture[84:99, 150:259] < 30).any()


def test_contact_sheet_has_room_for_all() -> None:
    pictures = [Image.new("RGB", (50, 10 + 10 * k), "red") for k in range(5)]
    sheet = viz.contact_sheet(pictures, list("abcde"), columns=2, side=60)
    assert sheet.size == (2 * 64 - 4, 3 * (50 + 13))  # as high as the highest


def run_example(*arguments: object, cwd: Path, script: str = "heatmap.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_the_example_without_and_with_normals(tmp_path: Path) -> None:
    image = ROOT / "examples" / "images" / "tile_crack.jpg"
    done = run_example(image, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert {"score", "verdict", "threshold", "overlay"} <= lines.keys()
    assert 0 < float(lines["score"]) < 1
    with Image.open(tmp_path / "tile_crack_overlay.png") as overlay, Image.open(image) as given:
        assert overlay.size == given.size
    fitted = run_example(
        image, "--normals", ROOT / "examples" / "images" / "tile_normal", "--out", "o.png", cwd=tmp_path
    )
    assert fitted.returncode == 0, fitted.stderr
    assert "anomalous" in fitted.stdout
    assert "(fit)" in fitted.stdout
    assert (tmp_path / "o.png").exists()


def test_a_folder_becomes_a_table(tmp_path: Path) -> None:
    images, photos = ROOT / "examples" / "images", tmp_path / "photos"
    photos.mkdir()
    shutil.copy(images / "tile_crack.jpg", photos)
    shutil.copy(images / "tile_normal" / "3.jpg", photos)
    (photos / "torn.png").write_bytes(b"not a picture")
    first = run_example(photos, "--normals", images / "tile_normal", "--out", "a", cwd=tmp_path, script="folder.py")
    assert first.returncode == 0, first.stderr
    assert "note: fit: 4 normal images cannot fix" in first.stderr
    again = run_example(photos, "--detector", "a/detector.safetensors", "--out", "b", cwd=tmp_path, script="folder.py")
    assert again.returncode == 0, again.stderr
    text = (tmp_path / "a" / "verdicts.csv").read_text()
    assert text == (tmp_path / "b" / "verdicts.csv").read_text()
    rows = {row["image"]: row for row in csv.DictReader(text.splitlines())}
    assert [row["verdict"] for row in rows.values()] == ["normal", "anomalous", "unreadable"]
    crack = rows["tile_crack.jpg"]
    assert crack["threshold_source"] == "fit"
    assert float(crack["score"]) > float(crack["threshold"]) > float(rows["3.jpg"]["score"])
    assert len(crack["boxes left top right bottom"].split("; ")[0].split()) == 4
    assert "torn.png is no image" in rows["torn.png"]["fault"]
    assert [path.name for path in (tmp_path / "b" / "overlays").iterdir()] == ["tile_crack.jpg.overlay.png"]
    detector = ("--detector", "b/detector.safetensors", "--out", "c")
    (photos / "more").mkdir()
    high = run_example(photos, *detector, "--threshold", 0.9, cwd=tmp_path, script="folder.py")
    assert re.search(r"normal +2\n.*unreadable +1\n", high.stdout, re.S), high.stdout
    assert f"note: {photos}: 1 entries are not images and are left out, such as more" in high.stderr
    own = run_example(photos, *detector, "--calibrate", images / "metal_normal", cwd=tmp_path, script="folder.py")
    assert own.returncode == 0, own.stderr
    assert "note: calibrate: 4 normal images cannot fix" in own.stderr
    missing = run_example("nowhere", cwd=tmp_path, script="folder.py")
    assert missing.returncode == 2
    assert missing.stderr == "error: nowhere is not a folder: give a folder of images\n"
    assert not (tmp_path / "verdicts").exists()


def test_the_readme_says_what_is_printed(tmp_path: Path) -> None:
    """In bfloat16 or float32: scores move by up to 0.01 from one to the other, and boxes by a few pixels."""
    readme = (ROOT / "README.md").read_text()
    images = ROOT / "examples" / "images"
    shown = re.search(r"```\n(note .*?)```", readme, re.S)
    printed = run_example(images / "tile_crack.jpg", "--normals", images / "tile_normal", cwd=tmp_path).stdout
    code, told = re.search(
        r"```python\n(from patchclip import Detector\n.*?)```\n\n```\n(.*?)```", readme, re.S
    ).groups()
    code = code.replace('"examples/', f'"{ROOT}/examples/')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    number = re.compile(r"\d+(?:\.\d+)?")
    for said, found in ((shown[1], printed), (told, done.stdout)):
        assert number.sub("#", found) == number.sub("#", said)
        for one, other in zip(number.findall(said), number.findall(found), strict=True):
            assert float(other) == pytest.approx(float(one), rel=0.1, abs=0.01 if "." in one else 6)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["absent.jpg"], "absent.jpg does not exist"),
        (["absent.jpg", "--normals", "."], ". has no images (.jpg"),
        (["absent.jpg", "--normals", "nowhere"], "nowhere is not a folder"),
        (["absent.jpg", "--model", "ViT-B16"], "did you mean"),
        (["absent.jpg", "--out", "absent.jpg"], "absent.jpg is the image itself"),
        (["absent.jpg", "--out", "overlay"], "overlay does not end as a picture does"),
    ],
)
def test_the_example_says_what_is_wrong(arguments: list[str], reason: str, tmp_path: Path) -> None:
    done = run_example(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
