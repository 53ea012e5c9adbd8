"""The documented code for a machine without torch: it scores photographs of every kind as `Detector.predict` does."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from patchclip import Detector, ImageError

PAGE = (Path(__file__).parents[1] / "docs" / "deployment.md").read_text(encoding="utf-8")
[BLOCK] = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "InferenceSession" in block]

#: What the machine need not have.
NOT_NEEDED = ["cv2", "huggingface_hub", "open_clip", "safetensors", "scipy", "timm", "torch", "torchvision", "tqdm"]


@pytest.fixture(scope="module")
def detector(local_model: str, normals: list[np.ndarray]) -> Detector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few images: the threshold is extrapolated
        return Detector(local_model, precision="fp32", cues=("tokens", "texture")).fit(normals[:4], progress=False)


@pytest.fixture(scope="module")
def folder(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the exported file under the name that it has in the block."""
    folder = tmp_path_factory.mktemp("exported")
    detector.export(folder / "bottle.onnx")
    return folder


@pytest.fixture
def run_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, Any]]:
    """The block's variables after it has run on a photograph."""

    def run(photo: Path) -> dict[str, Any]:
        monkeypatch.chdir(folder)
        variables: dict[str, Any] = {}
        exec(BLOCK.replace('"photo.jpg"', repr(str(photo))), variables)
        return variables

    return run


def turned(image: np.ndarray, orientation: int, path: Path) -> None:
    """As a camera that was held upright saves it: pixels the other way, and a tag that turns them back."""
    quarter_turns = {6: 1, 8: -1}[orientation]
    picture = Image.fromarray(np.rot90(image, quarter_turns))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, "PNG", exif=exif)


def transparent(image: np.ndarray, path: Path) -> None:
    """A frame around it cannot be seen, and black is stored there."""
    height, width = image.shape[:2]
    layered = np.zeros((height, width, 4), np.uint8)
    layered[8:-8, 8:-8, :3] = image[8:-8, 8:-8]
    layered[8:-8, 8:-8, 3] = 255
    Image.fromarray(layered).save(path, "PNG")


def transparent_palette(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).quantize(200).save(path, "PNG", transparency=3)


def deep_grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257


def deep_colour(image: np.ndarray, path: Path) -> None:
    _, content = cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 257)
    path.write_bytes(content.tobytes())


#: Kind of photograph -> writes it.
KINDS: dict[str, Callable[[np.ndarray, Path], object]] = {
    "jpeg": lambda image, path: Image.fromarray(image).save(path, "JPEG", quality=95),
    "another size": lambda image, path: Image.fromarray(image).resize((400, 300)).save(path, "PNG"),
    "16-bit grey": lambda image, path: Image.fromarray(deep_grey(image)).save(path, "PNG"),
    "16-bit colour": deep_colour,
    "float tiff": lambda image, path: Image.fromarray((deep_grey(image) / 65535).astype(np.float32)).save(path, "TIFF"),
    "turned by exif 6": lambda image, path: turned(image, 6, path),
    "turned by exif 8": lambda image, path: turned(image, 8, path),
    "transparent": transparent,
    "palette": lambda image, path: Image.fromarray(image).quantize(200).save(path, "PNG"),
    "transparent palette": transparent_palette,
    "cmyk": lambda image, path: Image.fromarray(image).convert("CMYK").save(path, "JPEG", quality=95),
}


@pytest.mark.parametrize("is_defective", [False, True], ids=["normal", "defective"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_block_scores_as_predict_does(
    kind: str,
    is_defective: bool,
    detector: Detector,
    run_block: Callable[[Path], dict[str, Any]],
    normals: list[np.ndarray],
    defective: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
) -> None:
    image = defective[0] if is_defective else normals[4]
    photo = tmp_path / "photo"  # of no suffix: the content says what it is
    KINDS[kind](image, photo)
    result = detector.predict(photo)
    assert result.heatmap.shape[0] / result.heatmap.shape[1] == 0.75  # upright
    variables = run_block(photo)
    assert variables["score"].shape == (1,)
    assert variables["heatmap"].shape == (1, 96, 128)
    assert variables["score"][0] == pytest.approx(result.score, abs=0.01)
    assert variables["is_anomalous"] == result.is_anomalous


def test_the_block_refuses_what_predict_refuses(
    detector: Detector, run_block: Callable[[Path], dict[str, Any]], normals: list[np.ndarray], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(normals[0]).save(photo)
    photo.write_bytes(photo.read_bytes()[:-500])
    with pytest.raises(ImageError, match="truncated or damaged"):
        detector.predict(photo)
    with pytest.raises(ImageError, match="truncated or damaged"):
        run_block(photo)


def test_the_block_needs_neither_torch_nor_the_other_dependencies(
    detector: Detector, folder: Path, defective: tuple[np.ndarray, np.ndarray]
) -> None:
    Image.fromarray(defective[0]).save(folder / "photo.jpg", quality=95)
    missing = "".join(f"sys.modules[{name!r}] = None\n" for name in NOT_NEEDED)
    code = f"import sys\n{missing}{BLOCK}\nprint(score[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(detector.predict(folder / "photo.jpg").score, abs=0.01)


def test_the_line_for_openvino(
    run_block: Callable[[Path], dict[str, Any]], defective: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(defective[0]).save(photo)
    variables = run_block(photo)  # in the folder of the file from here on
    [line] = re.findall(r"`(openvino\..*?)`", PAGE)
    exec(f"import openvino\nmodel = {line}", variables)
    outputs = variables["model"]({"image": variables["pixels"]})
    np.testing.assert_allclose(outputs["heatmap"], variables["heatmap"], atol=1e-3, rtol=0)
