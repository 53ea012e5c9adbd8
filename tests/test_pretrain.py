"""The recipe: losses by hand, a run that learns, stops and goes on, and a release that the detector loads."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from patchclip import Detector
from patchclip.encoders.loading import ASSETS
from patchclip.encoders.timm import load_network
from patchclip.pretrain import data, losses
from patchclip.pretrain.data import PairSampler, build_pool
from patchclip.pretrain.model import MODEL_CFG, encode_window, new_model, write_vocabulary
from patchclip.pretrain.muon import Muon, orthogonalised
from patchclip.pretrain.objective import position_window
from patchclip.pretrain.photographs import find_photographs, photographed
from patchclip.pretrain.teacher import Distillation, draw_patches, taught_features
from patchclip.pretrain.train import Settings, train
from patchclip.pretrain.validate import main, make_validation
from patchclip.synthetic import HELD_OUT, KINDS, sample_defective, sample_surface

SMALL = {"images": 96, "products": 12, "pairs": 4, "stages": ((64, 0.5), (96, 0.5)), "validation_images": 12}


def test_patch_targets_by_hand() -> None:
    coverage = torch.tensor([[[0.0, 0.01], [0.03, 0.5]], [[0.0, 0.0], [0.004, 0.001]]])
    found = losses.patch_targets(coverage)
    assert found.label.tolist() == [[0, 0, 1, 1], [0, 0, 1, 0]]  # a tiny defect marks its fullest patch
    assert found.weight.tolist() == [[1, 0, 1, 1], [1, 1, 1, 0]]  # touched, but not enough: neither


def test_muon_takes_the_steps_of_torch() -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch.optim.Muon is of torch 2.9")
    torch.manual_seed(0)
    start = [0.02 * torch.randn(shape) for shape in ((48, 16), (16, 16), (16, 48), (48, 16))]
    ends = []
    makers = (
        lambda parameters: torch.optim.Muon(parameters, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        lambda parameters: Muon(parameters, lr=0.01, weight_decay=0.1, dtype=torch.bfloat16),
        lambda parameters: Muon(parameters, lr=0.01, weight_decay=0.1, dtype=torch.float32),
    )
    for make in makers:
        parameters = [torch.nn.Parameter(matrix.clone()) for matrix in start]
        optimizer = make(parameters)
        gradients = torch.Generator().manual_seed(1)
        for _ in range(3):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=gradients)
            optimizer.step()
        ends.append([parameter.detach() - matrix for parameter, matrix in zip(parameters, start, strict=True)])
    for theirs, half, full in zip(*ends, strict=True):
        assert torch.allclose(theirs, half, rtol=0, atol=0.02 * float(theirs.abs().max()))
        assert torch.allclose(theirs, full, rtol=0, atol=0.05 * float(theirs.abs().max()))


@pytest.mark.parametrize("shape", [(2, 24, 8), (2, 8, 24), (1, 8, 8)])
def test_singular_values_come_close_to_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
    assert (values - 1).abs().max() < 0.5


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


def test_a_broken_pattern_is_compared_with_another_shot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_pool(tmp_path, 8, 0, 1)
    views, masks = (np.load(tmp_path / f"{name}.npy", mmap_mode="r+") for name in ("views", "masks"))
    for view in range(3):
        views[:, view] = 50 * view
    masks[:] = True
    seen = []
    real = data._crop
    monkeypatch.setattr(data, "_crop", lambda image, *where: (seen.append(int(image[0, 0, 0])), real(image, *where))[1])
    sampler = PairSampler(tmp_path, 8, 0)
    for seed in range(20):
        sampler._pair(np.random.default_rng(seed), KINDS.index("broken pattern"), 64)
    assert (100, 50) in set(zip(seen, seen[1:], strict=False))
    assert (100, 0) not in set(zip(seen, seen[1:], strict=False))


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


def test_the_teacher_describes_each_patch() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 3, 96, 96), dtype=np.uint8))
    features = taught_features(load_network(torch.device("cpu")), images)
    assert [tuple(feature.shape) for feature in features] == [(3, 36, 40), (3, 36, 112)]
    for feature in features:
        assert feature.mean((0, 1)).abs().max() < 1e-3
        assert feature.std((0, 1)).median() == pytest.approx(1, abs=0.05)
        assert not feature.requires_grad


def test_distillation_wants_tokens_alike_where_the_features_are() -> None:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 9, width, generator=generator) for width in (40, 112)]
    chosen = draw_patches(18, np.random.default_rng(0))
    assert sorted(chosen.tolist()) == list(range(18))
    torch.manual_seed(0)
    loss = Distillation(152)
    same = torch.cat([feature / feature.norm(dim=-1, keepdim=True) for feature in features], -1)
    for head in loss.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    told = sum(float(feature.square().mean()) for feature in features) / 2
    other = torch.randn(2, 9, 152, generator=generator)
    with torch.no_grad():
        assert loss([same, same], features, chosen).item() == pytest.approx(told, abs=1e-4)  # all that is left
        assert loss([other, other], features, chosen).item() == pytest.approx(told + 1, abs=0.3)  # no correlation


def test_losses_prefer_the_right_answer() -> None:
    targets = losses.Targets(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[1.0, 1, 1, 0]]))
    right, wrong = torch.tensor([[4.0, -4, -4, 9]]), torch.tensor([[-4.0, 4, 4, 9]])
    assert losses.focal(right, targets) < 0.05 < 1 < losses.focal(wrong, targets)
    assert losses.dice(right, targets) < 0.05 < 0.4 < losses.dice(wrong, targets)
    unit = torch.eye(3)
    matches = torch.tensor([0, 1, 2])
    good = losses.contrastive(unit, unit, matches, torch.tensor(10.0))
    bad = losses.contrastive(unit, unit.roll(1, 0), matches, torch.tensor(10.0))
    assert good < 0.01 < 5 < bad


def test_pair_distance_falls_when_a_support_shows_the_same() -> None:
    head = losses.PairDistance(1)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(1, 6, 8, generator=generator)
    odd = clean.clone()
    odd[0, 2] = -clean[0, 2]
    marked = losses.Targets(torch.tensor([[0.0, 0, 1, 0, 0, 0]]), torch.ones(1, 6))
    blank = losses.Targets(torch.zeros(1, 6), torch.ones(1, 6))
    assert head([torch.cat([odd, clean])], marked) < head([torch.cat([clean, clean])], marked)
    assert head([torch.cat([clean, clean])], blank) < head([torch.cat([odd, clean])], blank)


def test_new_models_repeat_and_see_windows_of_the_grid() -> None:
    first, second = new_model(3), new_model(3)
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        whole = encode_window(first.visual, pixels)
        assert torch.allclose(whole.cls, second.encode_image(pixels), atol=1e-5)
        part = encode_window(first.visual, pixels[..., :64, :96][..., :64], (2, 5, 4, 4))
        stretched = encode_window(first.visual, pixels[..., :64, :64], (2, 5, 9, 3))
    assert not torch.allclose(part.dense, stretched.dense, atol=1e-3)
    assert whole.dense.shape == (1, 14, 14, 192)
    assert part.dense.shape == (1, 4, 4, 192)
    assert [layer.shape for layer in part.layers] == [(1, 4, 4, 192)] * 2


@pytest.mark.parametrize("cells", [4, 8, 14])
def test_positions_are_drawn_from_inside_the_grid(cells: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [position_window(rng, cells, 14) for _ in range(200)]
    for row, column, rows, columns in drawn:
        assert 0 <= row <= 14 - rows
        assert 0 <= column <= 14 - columns
        assert 0.5 * cells <= min(rows, columns)
    plain = sum((rows, columns) == (cells, cells) for _, _, rows, columns in drawn)
    assert 80 <= plain < 150  # half of them, and some by chance


def test_the_short_vocabulary_reads_any_word(tmp_path: Path) -> None:
    tokenizer = open_clip.SimpleTokenizer(str(write_vocabulary(tmp_path)), context_length=32)
    assert tokenizer.vocab_size == MODEL_CFG["text_cfg"]["vocab_size"]
    ids = tokenizer(["a photo of a Zwieback grinder", "scratch"])
    assert ids.shape == (2, 32)
    assert int(ids.max()) == tokenizer.vocab_size - 1 == tokenizer.eot_token_id


def test_the_model_card_tells_the_embedded_models_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    rows = [line for line in (ASSETS / "tiny" / "README.md").read_text().splitlines() if " k, 224 px |" in line]
    told = [float(cell) for cell in rows[-1].strip("| ").split("|")[1:]]
    monkeypatch.setattr(sys, "argv", ["validate"])
    main()
    names, values = zip(*(part.split() for part in capsys.readouterr().out.strip().split(", ")), strict=True)
    assert names == ("image_auroc", "patch_ap", "kind_accuracy")
    assert [float(value) for value in values] == pytest.approx(told, abs=0.006)


def test_validation_is_held_out_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "patchclip.pretrain.validate.sample_surface",
        lambda rng, families: (drawn.append(families), sample_surface(rng, families))[1],
    )
    painted = []
    monkeypatch.setattr(
        "patchclip.pretrain.validate.sample_defective",
        lambda *given, **options: (painted.append(options["held_out"]), sample_defective(*given, **options))[1],
    )
    data = make_validation(12, side=64)
    assert (set(drawn), set(painted)) == ({HELD_OUT}, {True})
    assert (data.kinds >= 0).sum() == pytest.approx(6, abs=1)
    assert (data.coverage.flatten(1).amax(1).numpy() > 0).tolist() == (data.kinds >= 0).tolist()
    assert torch.equal(make_validation(12, side=64).pixels, data.pixels)


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_a_run_can_be_stopped_and_resumed(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "run", **SMALL)
    release = train(settings)
    rows = [json.loads(line) for line in (settings.out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] >= 96
    assert np.isfinite([value for value in rows[-1].values() if isinstance(value, float)]).all()
    with pytest.raises(FileExistsError, match="--resume"):
        train(settings)
    before = torch.load(settings.out / "checkpoint.pt", weights_only=True)
    train(replace(settings, images=160), resume=True)
    after = torch.load(settings.out / "checkpoint.pt", weights_only=True)
    assert after["step"] > before["step"]
    assert after["images"] >= 160

    detector = Detector(f"local-dir:{release}", precision="fp32")
    assert detector.options["layers"] == (6, 8)
    assert detector.options["cues"] == ("text", "tokens", "texture", "imagenet")
    assert detector.options["dense_attention"] == "qk"
    assert 0 < detector.predict(np.zeros((50, 60, 3), np.uint8)).score < 1


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_a_run_stopped_at_its_end_is_released_when_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path / "run", **{**SMALL, "images": 16})
    with monkeypatch.context() as patch:
        patch.setattr("patchclip.pretrain.train.validate", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(settings)
    assert (train(settings, resume=True) / "open_clip_model.safetensors").exists()


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_a_run_with_a_teacher(tmp_path: Path) -> None:
    release = train(Settings(tmp_path / "run", **SMALL, teacher=True))
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < row["teacher"] < 10
    assert 0 < Detector(f"local-dir:{release}").predict(np.zeros((50, 60, 3), np.uint8)).score < 1


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_an_interrupted_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    """The data of a step does not depend on the steps before it, nor does the schedule."""
    whole = Settings(tmp_path / "whole", **SMALL, checkpoint_every_s=0)
    train(whole)

    class Killed(Exception):
        pass

    def kill(*args: object, **options: object) -> None:
        raise Killed

    broken = replace(whole, out=tmp_path / "broken")
    with pytest.MonkeyPatch.context() as patch:
        calls = iter([None] * 3 + [kill])
        from patchclip.pretrain import train as module

        real = module.validate
        patch.setattr(module, "validate", lambda *a: (next(calls) or real)(*a))
        with pytest.raises(Killed):
            train(broken)
    train(broken, resume=True)
    states = [torch.load(out / "checkpoint.pt", weights_only=True) for out in (whole.out, broken.out)]
    assert states[0]["step"] == states[1]["step"]
    for key, value in states[0]["objective"].items():
        assert torch.allclose(value, states[1]["objective"][key], atol=1e-5), key
