"""Products, pools, batches and sentences."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from patchclip.pretrain import data
from patchclip.pretrain.batches import planned_batches
from patchclip.pretrain.data import PairSampler, build_pool
from patchclip.pretrain.mixtures import sample_mixture
from patchclip.pretrain.model import write_vocabulary
from patchclip.pretrain.schedule import Plan
from patchclip.pretrain.sentences import STATE_COUNT, draw_sentences
from patchclip.synthetic import HELD_OUT, KINDS


def test_mixtures_are_products() -> None:
    families, broken = set(), []
    for seed in range(24):
        surface = sample_mixture(np.random.default_rng(seed))
        families.add(surface.family)
        image = surface.render(1, (64, 96))
        assert image.shape == (64, 96, 3)
        assert np.array_equal(image, surface.render(1, (64, 96)))
        if surface.has_pattern:
            _, mask = surface.render_broken(1, 2, (64, 96))
            broken.append(mask.mean())
    assert "motifs" in families
    assert np.median(broken) > 0
    assert max(broken) < 0.3  # all else stays as it was
    assert not families & set(HELD_OUT)


def test_a_broken_pattern_is_compared_with_another_shot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_pool(tmp_path, 8, 0, 1)
    views, masks = (np.load(tmp_path / f"{name}.npy", mmap_mode="r+") for name in ("views", "masks"))
    for view in range(3):
        views[:, view] = 50 * view
    masks[:] = True
    seen = []
    real = data.crop
    monkeypatch.setattr(data, "crop", lambda image, *where: (seen.append(int(image[0, 0, 0])), real(image, *where))[1])
    sampler = PairSampler(tmp_path, 8, 0)
    for seed in range(20):
        sampler.pair(np.random.default_rng(seed), KINDS.index("broken pattern"), 64)
    assert (100, 50) in set(zip(seen, seen[1:], strict=False))
    assert (100, 0) not in set(zip(seen, seen[1:], strict=False))


def test_batches_do_not_depend_on_who_makes_them(tmp_path: Path) -> None:
    build_pool(tmp_path, 8, 0, 1, side=96)
    assert np.load(tmp_path / "views.npy", mmap_mode="r").shape == (8, 3, 96, 96, 3)
    tokenizer = open_clip.SimpleTokenizer(str(write_vocabulary(tmp_path)), context_length=32)
    plans = [Plan(step, 3, side, 0.0) for step, side in ((5, 32), (6, 48), (7, 32))]
    made = [
        list(planned_batches(plans, PairSampler(tmp_path, 8, 0), tokenizer, seed=0, rank=1, workers=workers))
        for workers in (0, 2)
    ]
    assert [plan for plan, _, _ in made[1]] == plans
    for (_, batch, sentences), (_, other, other_sentences) in zip(*made, strict=True):
        assert torch.equal(batch.queries, other.queries)
        assert torch.equal(batch.supports, other.supports)
        assert torch.equal(batch.coverage, other.coverage)
        assert torch.equal(sentences.ids, other_sentences.ids)
    assert made[0][1][1].queries.shape == (3, 3, 48, 48)
    assert not torch.equal(made[0][0][1].queries, made[0][2][1].queries)


def test_a_pool_does_not_depend_on_how_many_processes_render_it(tmp_path: Path) -> None:
    for processes in (1, 2):
        build_pool(tmp_path / str(processes), 17, 0, processes, side=32)  # the seventeenth is the second process's
    for name in ("views.npy", "masks.npy"):
        assert np.array_equal(np.load(tmp_path / "1" / name), np.load(tmp_path / "2" / name))


def test_a_sampler_can_be_sent_to_a_process(tmp_path: Path) -> None:
    build_pool(tmp_path, 4, 0, 1, side=64)
    sampler = PairSampler(tmp_path, 4, 0)
    sent = pickle.loads(pickle.dumps(sampler))  # noqa: S301
    assert torch.equal(sent.batch(3, 0, 2, 32).queries, sampler.batch(3, 0, 2, 32).queries)


def test_each_image_has_its_caption(tmp_path: Path) -> None:
    tokenizer = open_clip.SimpleTokenizer(str(write_vocabulary(tmp_path)), context_length=32)
    drawn = draw_sentences(np.random.default_rng(0), ["wood"] * 40 + ["gear"], [KINDS.index("crack")] * 41, tokenizer)
    assert drawn.ids.shape == (STATE_COUNT + len(KINDS) + 82, 32)
    captions = [tokenizer.decode(ids) for ids in drawn.ids[STATE_COUNT + len(KINDS) :].tolist()]
    assert len(set(captions[: drawn.captions])) == drawn.captions < 82
    assert len(set(captions[drawn.captions :])) == 1  # empty
    assert drawn.matches.max() == drawn.captions - 1
    assert any("gear" in captions[match] for match in drawn.matches[[40, 81]])
    assert not any("gear" in captions[match] for match in drawn.matches[:40])
