"""The rows of `speed.py`: each measures one promise as a ratio, or as a difference, taken in one run."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.nn import functional as F

from patchclip import Detector
from patchclip.backbone import default_precision
from patchclip.bank import PatchBank
from patchclip.image import resize, to_pixels
from patchclip.models import load_model
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface
from patchclip.windows import window_indices

LARGE = "ViT-B-16-plus-240"
ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: is measured; value: as measured, with its unit; target: as promised.
        hit: None where it cannot be measured here; detail: spread and the absolute figures behind the ratio.
    """

    what: str
    value: str
    target: str
    hit: bool | None
    detail: str


class Bench:
    """What rows share: files, weights, detectors; made when first needed.

    Args:
        folder: an empty one, for what is written.
        quick: smaller sizes and fewer repetitions, to see that all runs; not for the record.
        busy: count the processor's seconds in place of the clock's; torch has one thread then.
    """

    def __init__(self, folder: Path, *, quick: bool, busy: bool):
        self.folder, self.quick, self.busy = folder, quick, busy
        self.repetitions = 3 if quick else 5
        self.clock = time.process_time if busy else time.perf_counter

    def alternate(self, functions: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, np.ndarray]:
        """Seconds of each function: one round to warm up, then rounds in which each has its turn."""
        for function in functions.values():
            function()
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(repetitions):
            for name, function in functions.items():
                start = self.clock()
                function()
                times[name].append(self.clock() - start)
        return {name: np.array(values) for name, values in times.items()}

    @cached_property
    def large_weights(self) -> str:
        """A checkpoint of the large model with random weights."""
        path = self.folder / "random.pt"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.save(open_clip.CLIP(**open_clip.get_model_config(LARGE)).state_dict(), path)
        return str(path)

    def large(self, precision: str = "fp32", recipe: Any = "dense") -> Detector:
        detector = Detector(LARGE, pretrained=self.large_weights, precision=precision, recipe=recipe, device="cpu")  # type: ignore[arg-type]
        detector.threshold = 1.0  # random weights have no regions to name
        return detector

    @cached_property
    def photographs(self) -> list[Path]:
        """64 JPEG files of 800 x 800 pixels, every second one with a defect."""
        rng = np.random.default_rng(5)
        surfaces = [sample_surface(rng) for _ in range(4)]
        paths = []
        for number in range(64):
            surface = surfaces[number % 4]
            if number % 2:
                image = sample_defective(surface, number, rng, size_hw=(800, 800))[0]
            else:
                image = surface.photograph(surface.render(number, (800, 800)), number)
            paths.append(self.folder / f"{number:02}.jpg")
            Image.fromarray(image).save(paths[-1], quality=90)
        return paths


def spread(own: np.ndarray, base: np.ndarray) -> tuple[float, str]:
    """Ratio of the medians; and the lowest and highest ratio of one round, with both medians."""
    ratios = own / base
    detail = (
        f"rounds {ratios.min():.2f} to {ratios.max():.2f}; {_seconds(np.median(own))} to {_seconds(np.median(base))}"
    )
    return float(np.median(own) / np.median(base)), detail


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def _at_most(what: str, own: np.ndarray, base: np.ndarray, limit: float) -> Row:
    ratio, detail = spread(own, base)
    return Row(what, f"{ratio:.2f} x", f"<= {limit:.2f} x", ratio <= limit, detail)


def _at_least(what: str, slower: np.ndarray, faster: np.ndarray, limit: float) -> Row:
    """Ratio of speeds, that is of `slower`'s seconds to `faster`'s."""
    ratio, detail = spread(slower, faster)
    return Row(what, f"{ratio:.2f} x", f">= {limit:.2f} x", ratio >= limit, detail)


def bare_forward(detector: Detector, batch: int) -> Callable[[], Any]:
    """open_clip's own `encode_image` on pixels at the model's size, in the detector's precision."""
    clip, side = detector.backbone.model.clip, detector.backbone.image_size
    kind = next(clip.visual.parameters()).dtype
    pixels = torch.rand(batch, 3, side, side, device=detector.backbone.device, dtype=kind)

    def forward() -> None:
        with torch.inference_mode():
            clip.encode_image(pixels)

    return forward


# --- rows ---------------------------------------------------------------------------------------------------------


def predict(bench: Bench) -> Iterator[Row]:
    detector = bench.large()
    image = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    clip, backbone = detector.backbone.model.clip, detector.backbone
    pixels = to_pixels([image], backbone.mean, backbone.std)

    def bare() -> None:
        with torch.inference_mode():
            clip.encode_image(pixels)

    times = bench.alternate({"own": lambda: detector.predict(image), "bare": bare}, 2 * bench.repetitions)
    yield _at_most(
        f"predict, dense, zero-shot, {LARGE}, batch 1, fp32, to bare encode_image", **_two(times), limit=1.10
    )


def _two(times: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"own": times["own"], "base": times["bare"]}


def stream(bench: Bench) -> Iterator[Row]:
    precisions = ["fp32"] + (["bf16"] if default_precision(CPU) == "bf16" else [])
    for precision in precisions:
        detector = Detector(precision=precision, device="cpu")  # type: ignore[arg-type]
        paths = bench.photographs
        seconds = {
            batch: float(np.median(bench.alternate({"": bare_forward(detector, batch)}, 3)[""])) / batch
            for batch in (1, 2, 4, 8, 16, 32)
        }
        best = min(seconds, key=lambda batch: seconds[batch])
        forward = bare_forward(detector, best)

        def bare(forward: Callable[[], Any] = forward, rounds: int = len(paths) // best) -> None:
            for _ in range(rounds):
                forward()

        def own(detector: Detector = detector, paths: Sequence[Path] = paths) -> None:
            for _ in detector.predict_batch(paths, progress=False):
                pass

        times = bench.alternate({"bare": bare, "own": own}, bench.repetitions)
        row = _at_least(
            f"predict_batch of 64 JPEG 800 x 800, embedded model, {precision}, images a second to those of the bare "
            "forward on ready pixels",
            times["bare"],
            times["own"],
            0.6,
        )
        yield Row(row.what, row.value, row.target, row.hit, f"{row.detail} for 64; bare at its best batch size {best}")


def winclip(bench: Bench) -> Iterator[Row]:
    image = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    repetitions = 2 if bench.quick else 3
    detector = bench.large(recipe="winclip")
    pixels = to_pixels([image], detector.backbone.mean, detector.backbone.std)
    loops = {str(chunk): _window_loop(detector, pixels, chunk) for chunk in (64, 128, 256)}
    best = min(bench.alternate(loops, 1).items(), key=lambda item: float(np.median(item[1])))[0]
    functions = {"own": lambda: detector.predict(image), "bare": loops[best]}
    auto = default_precision(CPU)
    if auto != "fp32":
        quick = bench.large(auto, "winclip")
        functions["auto"] = lambda: quick.predict(image)
    with contextlib.suppress(ImportError):
        functions["anomalib"] = _anomalib_winclip(bench, pixels)
    times = bench.alternate(functions, repetitions)
    row = _at_most(f"predict, winclip, {LARGE}, batch 1, fp32, to the windows alone", **_two(times), limit=1.1)
    yield Row(row.what, row.value, row.target, row.hit, f"{row.detail}; windows at their best chunk, {best}")
    for name, precision, limit in (("own", "fp32", 1.0), ("auto", 'precision="auto"', 0.6)):
        what = f"predict, winclip, {LARGE}, {precision}, to anomalib's WinCLIP in fp32"
        if "anomalib" not in times:
            yield Row(what, "-", f"<= {limit:.2f} x", None, "anomalib is not installed here")
        elif name in times:
            yield _at_most(what, times[name], times["anomalib"], limit)
        else:
            yield Row(what, "-", f"<= {limit:.2f} x", None, "this processor has no bf16")


def _window_loop(detector: Detector, pixels: torch.Tensor, chunk: int) -> Callable[[], Any]:
    visual: Any = detector.backbone.model.clip.visual

    def loop() -> None:
        with torch.inference_mode():
            x = visual.conv1(pixels)
            grid_hw = (x.shape[2], x.shape[3])
            x = x.flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
            cls = (visual.class_embedding + visual.positional_embedding[0]).view(1, 1, -1)
            for side in (2, 3):
                sequences = x[0][window_indices(grid_hw, side)]  # (windows, tokens, D)
                for part in sequences.split(chunk):
                    tokens = torch.cat([cls.expand(len(part), -1, -1), part], 1)
                    visual.ln_post(visual.transformer(visual.ln_pre(tokens)))[:, 0] @ visual.proj

    return loop


def _anomalib_winclip(bench: Bench, pixels: torch.Tensor) -> Callable[[], Any]:
    """anomalib's WinClipModel on the same weights, its windows batch first as open_clip wants them since 2.26."""
    logging.getLogger("anomalib").setLevel(logging.ERROR)
    module = importlib.import_module("anomalib.models.image.winclip.torch_model")
    loaded = load_model(LARGE, bench.large_weights)
    visual = loaded.clip.visual

    def embed(feature_map: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        count = masks.shape[1]
        index = torch.cat((torch.zeros(1, count, dtype=torch.int64), masks + 1)).T.long()
        sequences = torch.cat([torch.index_select(feature_map, 1, window) for window in index])
        tokens = visual.ln_post(visual.transformer(visual.ln_pre(visual.patch_dropout(sequences))))
        pooled = visual._global_pool(tokens)[0] @ visual.proj
        return pooled.reshape((count, feature_map.shape[0], -1)).permute(1, 0, 2)

    ours = SimpleNamespace(create_model_and_transforms=lambda *_, **__: (loaded.clip, None, None))
    with mock.patch.object(module, "open_clip", ours), mock.patch.object(module, "tokenize", loaded.tokenizer):
        model = module.WinClipModel()
        model._get_window_embeddings = embed
        with torch.no_grad():
            model.setup("surface")
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            model(pixels)

    return run


def bank(bench: Bench) -> Iterator[Row]:
    count = 100_000 if bench.quick else 1_000_000
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(count, 384, generator=generator), dim=1)
    queries = F.normalize(torch.randn(225, 384, generator=generator), dim=1)
    stored = PatchBank(vectors)

    def product(block: int) -> torch.Tensor:
        best = torch.full((len(queries),), float("-inf"))
        for start in range(0, count, block):
            best = torch.maximum(best, (queries @ vectors[start : start + block].T).amax(1))
        return best

    blocks = {str(block): lambda block=block: product(block) for block in (2048, 8192, 32768)}
    best = min(bench.alternate(blocks, 1).items(), key=lambda item: float(item[1][0]))[0]
    times = bench.alternate({"own": lambda: stored.nearest(queries), "bare": blocks[best]}, bench.repetitions)
    row = _at_most(
        f"bank, 225 queries against {count:,} x 384 fp32, to the bare blocked product with a running minimum",
        **_two(times),
        limit=1.25,
    )
    wrong = float((stored.nearest(queries) - (2 - 2 * product(int(best)))).abs().max())
    yield Row(row.what, row.value, row.target, row.hit, f"{row.detail}; largest difference {wrong:.1e}")
    extra = extra_memory(lambda: stored.nearest(queries))
    yield Row(
        "bank, extra memory of that", f"{extra:.0f} MB", "<= 64 MB", extra <= 64, "highest resident size, less before"
    )


def coreset(bench: Bench) -> Iterator[Row]:
    count = 10_000 if bench.quick else 100_000
    vectors = torch.randn(count, 384, generator=torch.Generator().manual_seed(0))
    stored, seconds = PatchBank(vectors), []

    def choose() -> None:
        start = bench.clock()
        stored.coreset(count // 100, progress=False)
        seconds.append(bench.clock() - start)

    megabytes = vectors.numel() * 4 / 2**20
    extra = extra_memory(choose)
    choose()
    what = f"coreset, {count:,} x 384 to 1 %"
    yield Row(
        what, f"{min(seconds):.1f} s", "< 60 s", min(seconds) < 60, f"two runs, {seconds[0]:.1f} and {seconds[1]:.1f} s"
    )
    times = (megabytes + extra) / megabytes
    yield Row(
        f"{what}, memory", f"{times:.2f} x", "< 3 x", times < 3, f"vectors {megabytes:.0f} MB, {extra:.0f} MB more"
    )
    small = torch.randn(3000, 384, generator=torch.Generator().manual_seed(1))
    own = _radius(small, PatchBank(small).coreset(150, progress=False))
    exact = _radius(small, _exact_greedy(small, 150))
    yield Row(
        "coreset, covering radius to the exact greedy's, 3,000 x 384 to 5 %",
        f"{own / exact:.3f} x",
        "<= 1.05 x",
        own <= 1.05 * exact,
        f"{own:.3f} to {exact:.3f}",
    )


def _exact_greedy(points: torch.Tensor, count: int) -> torch.Tensor:
    """Greedy k-centre on the distances themselves, from the same first point as `PatchBank.coreset`."""
    chosen = [int(torch.randint(len(points), (1,), generator=torch.Generator().manual_seed(0)))]
    nearest = torch.full((len(points),), float("inf"))
    while len(chosen) < count:
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def _radius(points: torch.Tensor, chosen: torch.Tensor) -> float:
    return float(torch.cdist(points, points[chosen]).amin(1).max())


_CLOCK = """
import os, sys, time
import torch, open_clip
clock = time.process_time if os.environ.get("BUSY") else time.perf_counter
torch.set_num_threads(1 if os.environ.get("BUSY") else torch.get_num_threads())
"""

_FIRST_RESULT = """
start = clock()
from patchclip import Detector
import warnings
warnings.simplefilter("ignore")
folder, *paths = sys.argv[1:]
detector = Detector(device="cpu").fit(paths[:16], progress=False)
detector.save(folder + "/fitted.safetensors")
Detector.load(folder + "/fitted.safetensors").predict(paths[16])
print(clock() - start)
"""

_IMPORT = """
start = clock()
import patchclip
print(clock() - start)
"""

_MANY = """
import numpy as np
from patchclip import Detector
total = int(sys.argv[1])
detector = Detector(device="cpu")
images = np.random.default_rng(0).integers(0, 256, (37, 256, 256, 3), np.uint8)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
after = []
for number, _ in enumerate(detector.predict_batch((images[k % 37] for k in range(total)), progress=False), 1):
    if number >= 200 and number % 100 == 0:
        after.append(resident())
print(max(after) - after[0])
"""


def fresh(bench: Bench) -> Iterator[Row]:
    arguments = [str(bench.folder), *map(str, bench.photographs[0:34:2])]
    values = [_child(bench, _FIRST_RESULT, arguments) for _ in range(2 if bench.quick else 3)]
    yield _seconds_row(
        "fit of 16 images of 800 x 800, save, load, first predict, embedded model, fresh process", values, 5
    )


def importing(bench: Bench) -> Iterator[Row]:
    values = [_child(bench, _IMPORT, []) for _ in range(3 if bench.quick else 7)]
    yield _seconds_row("import patchclip, beyond torch and open_clip", values, 0.15)


def _seconds_row(what: str, values: Sequence[float], limit: float) -> Row:
    middle = float(np.median(values))
    detail = f"{len(values)} processes, {min(values):.2f} to {max(values):.2f} s"
    return Row(what, f"{middle:.2f} s", f"<= {limit} s", middle <= limit, detail)


def _child(bench: Bench, code: str, arguments: Sequence[str]) -> float:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", _CLOCK + code, *arguments],
        cwd=ROOT,
        env=os.environ | {"BUSY": "1" if bench.busy else ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def memory(bench: Bench) -> Iterator[Row]:
    total = 1_000 if bench.quick else 10_000
    what = f"memory over predict_batch of {total:,} images, growth after the first 200"
    if not Path("/proc/self/statm").exists():
        yield Row(what, "-", "< 20 MB", None, "no /proc here")
        return
    growth = _child(bench, _MANY, [str(total)])
    yield Row(
        what, f"{growth:.1f} MB", "< 20 MB", growth < 20, "highest resident size after image 200, less that at 200"
    )


def extra_memory(function: Callable[[], Any]) -> float:
    """Most resident memory while it runs, less that before, in MB; 0 where the system cannot tell."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept would hide what is taken now
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        before = _status("VmRSS")
        function()
        return _status("VmHWM") - before
    function()
    return 0.0


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def bf16(bench: Bench) -> Iterator[Row]:
    if default_precision(CPU) != "bf16":
        yield Row("bf16 to fp32, images a second", "-", ">= 1.40 x", None, "this processor has no bf16")
        return
    images, labels = _synthetic_set(24 if bench.quick else 240)
    embedded = {kind: Detector(precision=kind, device="cpu") for kind in ("fp32", "bf16")}
    large = {kind: bench.large(kind) for kind in ("fp32", "bf16")}
    for name, pair, some in (("embedded model", embedded, images[:24]), (LARGE, large, images[:4])):
        small = [resize(image, (side := pair["fp32"].backbone.image_size, side)) for image in some]
        runs = {
            kind: lambda d=detector, x=small: list(d.predict_batch(x, progress=False))
            for kind, detector in pair.items()
        }
        times = bench.alternate(runs, bench.repetitions)
        yield _at_least(f"bf16 to fp32, images a second, {name}", times["fp32"], times["bf16"], 1.4)
    scores = {
        kind: np.array([result.score for result in detector.predict_batch(images, progress=False)])
        for kind, detector in embedded.items()
    }
    from sklearn.metrics import roc_auc_score

    auroc = {kind: float(roc_auc_score(labels, values)) for kind, values in scores.items()}
    moved = abs(auroc["bf16"] - auroc["fp32"])
    detail = f"{auroc['bf16']:.4f} to {auroc['fp32']:.4f}, {len(images)} synthetic images"
    yield Row("bf16, image AUROC to that of fp32", f"{moved:.4f}", "<= 0.002", moved <= 0.002, detail)
    apart = float(np.abs(scores["bf16"] - scores["fp32"]).max())
    yield Row(
        "bf16, scores to those of fp32", f"{apart:.4f}", "<= 0.01", apart <= 0.01, "largest difference of an image"
    )


def _synthetic_set(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Images of families that training never saw, every second one with a defect; and which those are."""
    rng, images = np.random.default_rng(11), []
    surfaces = [sample_surface(rng, [family]) for family in HELD_OUT]
    for number in range(count):
        surface = surfaces[number // 2 % len(surfaces)]
        if number % 2:
            images.append(sample_defective(surface, number, rng, held_out=True)[0])
        else:
            images.append(surface.photograph(surface.render(number), number))
    return images, np.arange(count) % 2


def gpu(bench: Bench) -> Iterator[Row]:
    what = f"one GPU: predict_batch, dense, {LARGE}, batch 64, bf16, images a second to those of the bare forward"
    if not torch.cuda.is_available():
        yield Row(what, "-", ">= 0.85 x", None, "no GPU here")
        return
    detector = Detector(LARGE, pretrained=bench.large_weights, precision="bf16", device="cuda")
    detector.threshold = 1.0
    images = list(np.random.default_rng(0).integers(0, 256, (128, 240, 240, 3), np.uint8))
    forward = bare_forward(detector, 64)

    def bare() -> None:
        forward()
        forward()
        torch.cuda.synchronize()

    times = bench.alternate(
        {"bare": bare, "own": lambda: list(detector.predict_batch(images, batch_size=64, progress=False))},
        bench.repetitions,
    )
    yield _at_least(what, times["bare"], times["own"], 0.85)


def onnx(bench: Bench) -> Iterator[Row]:
    what = "ONNX, heatmaps to torch's, embedded model fitted with 8 images, largest difference over 20"
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        yield Row(what, "-", "<= 0.001", None, 'not installed here: pip install "patchclip[onnx]"')
        return
    import warnings

    images, _ = _synthetic_set(56)
    small = [resize(image, (224, 224)) for image in images]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # eight images: the threshold is extrapolated
        detector = Detector(precision="fp32", device="cpu").fit(small[0:16:2], progress=False)
    path = bench.folder / "detector.onnx"
    detector.export(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ready = np.stack(small[20:40]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    (heatmaps,) = session.run(["heatmap"], {"image": ready})
    expected = np.stack([result.heatmap for result in detector.predict_batch(small[20:40], progress=False)])
    apart = float(np.abs(heatmaps - expected).max())
    yield Row(what, f"{apart:.1e}", "<= 0.001", apart <= 1e-3, f"{path.stat().st_size / 2**20:.1f} MB file")
    detector.threshold = 1.0  # onnxruntime finds no regions either
    times = bench.alternate(
        {"own": lambda: session.run(None, {"image": ready[:1]}), "bare": lambda: detector.predict(small[20])},
        2 * bench.repetitions,
    )
    ratio, detail = spread(times["own"], times["bare"])
    yield Row("ONNX, time of onnxruntime to that of predict, batch 1", f"{ratio:.2f} x", "told", True, detail)


#: Name for `--rows` -> what measures it.
ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "predict": predict,
    "stream": stream,
    "winclip": winclip,
    "bank": bank,
    "coreset": coreset,
    "fresh": fresh,
    "import": importing,
    "memory": memory,
    "bf16": bf16,
    "gpu": gpu,
    "onnx": onnx,
}


@contextlib.contextmanager
def make_bench(*, quick: bool, busy: bool) -> Iterator[Bench]:
    """A bench whose files are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder), quick=quick, busy=busy)
