"""The model's shape and vocabulary, its validation, and the figures of its card."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from patchclip.encoders.loading import ASSETS
from patchclip.pretrain.model import MODEL_CFG, encode_window, new_model, write_vocabulary
from patchclip.pretrain.objective import position_window
from patchclip.pretrain.validate import main, make_validation
from patchclip.synthetic import HELD_OUT, sample_defective, sample_surface


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
    monkeypatch.setattr(sys, "argv", ["validate", str(ASSETS / "tiny")])
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
