"""The generator: masks cover what changed and nothing else, kinds are balanced, seeds repeat."""

from __future__ import annotations

import numpy as np
import pytest

from patchclip.pretrain.data import PairSampler, build_pool
from patchclip.synthetic import FAMILIES, HELD_OUT, KINDS, add_defect, sample_defective, sample_surface
from patchclip.synthetic.captions import SURFACE_NAMES, caption, kind_prompt, state_prompts

SIZE = (96, 120)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_surface_repeats_and_varies(family: str) -> None:
    surface = sample_surface(np.random.default_rng(1), [family])
    image = surface.render(5, SIZE)
    assert image.shape == (*SIZE, 3)
    assert image.dtype == np.float32
    assert -1e-3 <= image.min() <= image.max() <= 1.26  # a glint may be brighter than white before the camera
    again = sample_surface(np.random.default_rng(1), [family])
    assert np.array_equal(again.render(5, SIZE), image)
    assert not np.array_equal(surface.render(6, SIZE), image)
    shot = surface.photograph(image, 3)
    assert shot.shape == (*SIZE, 3)
    assert shot.dtype == np.uint8
    assert np.array_equal(shot, again.photograph(image, 3))


@pytest.mark.parametrize("family", sorted(name for name, (_, _, breaks) in FAMILIES.items() if breaks))
def test_a_broken_pattern_is_local_and_its_mask_exact(family: str) -> None:
    shares = []
    for seed in range(6):
        surface = sample_surface(np.random.default_rng(seed), [family])
        image = surface.render(seed)
        broken, mask = surface.render_broken(seed, seed)
        np.testing.assert_array_equal(mask, np.abs(broken - image).max(-1) > 1e-3)
        shares.append(mask.mean())
    assert max(shares) > 0
    assert np.mean(shares) < 0.2


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_covers_what_changed_and_nothing_else(kind: str, held_out: bool) -> None:
    made = 0
    for seed in range(12):
        rng = np.random.default_rng([seed, 1])
        image = sample_surface(np.random.default_rng(seed)).render(1, SIZE).clip(0, 1)
        before = image.copy()
        painted = add_defect(image, kind, rng, held_out=held_out)
        assert np.array_equal(image, before)
        if painted is None:
            continue
        made += 1
        after, mask = painted
        assert mask.any()
        assert np.array_equal(mask, np.abs(after - image).max(-1) > 0.02)
        assert np.array_equal(after[~mask], image[~mask])
        assert 0 <= after.min() <= after.max() <= 1
    assert made >= 4


def test_foreign_material_comes_from_the_other_image() -> None:
    image, other = np.full((96, 96, 3), 0.5, np.float32), np.full((96, 96, 3), (0.9, 0.1, 0.3), np.float32)
    painted = [add_defect(image, "contamination", np.random.default_rng(seed), other=other) for seed in range(40)]
    shown = [(np.abs(found[0] - other).max(2) < 0.05).any() for found in painted if found is not None]
    assert 5 < sum(shown) < len(shown)


def test_sample_defective_repeats_and_names_its_kind() -> None:
    surface = sample_surface(np.random.default_rng(2), ["grid"])
    first = sample_defective(surface, 1, np.random.default_rng(7), size_hw=SIZE)
    second = sample_defective(surface, 1, np.random.default_rng(7), size_hw=SIZE)
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert first[2] == second[2]
    assert sample_defective(surface, 1, np.random.default_rng(7), kind="crack")[2] == "crack"
    with pytest.raises(ValueError, match="expected a kind"):
        sample_defective(surface, 1, np.random.default_rng(7), kind="bruise")


def test_training_never_sees_the_held_out_families() -> None:
    drawn = {sample_surface(np.random.default_rng(seed)).family for seed in range(300)}
    assert drawn == set(FAMILIES) - set(HELD_OUT)


def test_captions_say_what_is_there() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        assert " with " in kind_prompt(rng, "tile", kind)
    normal, anomalous = state_prompts(rng, "tile", 4)
    assert (len(normal), len(anomalous)) == (4, 4)
    assert all("tile" in sentence for sentence in normal + anomalous)
    assert caption(rng, "tile", None)
    assert set(SURFACE_NAMES).isdisjoint(FAMILIES["marble"][1])


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> PairSampler:
    folder = tmp_path_factory.mktemp("pool")
    build_pool(folder, 24, 0, 1)
    build_pool(folder, 24, 0, 1)  # finished: left as it is
    return PairSampler(folder, 24, 0)


def test_batches_are_a_function_of_the_step(sampler: PairSampler) -> None:
    batch, again = sampler.batch(3, 0, 12, 64), sampler.batch(3, 0, 12, 64)
    assert batch.queries.shape == batch.supports.shape == (12, 3, 64, 64)
    assert batch.coverage.shape == (12, 4, 4)
    assert (batch.queries == again.queries).all()
    assert not (batch.queries == sampler.batch(4, 0, 12, 64).queries).all()
    assert not (batch.queries == sampler.batch(3, 1, 12, 64).queries).all()


def test_kinds_are_balanced_and_flawless_images_have_no_mask(sampler: PairSampler) -> None:
    counts = np.zeros(len(KINDS))
    for step in range(60):
        batch = sampler.batch(step, 0, 8, 64)  # fewer than there are kinds
        flawless = batch.kinds < 0
        assert (batch.coverage.flatten(1).amax(1)[flawless] == 0).all()
        assert (batch.coverage.flatten(1).amax(1)[~flawless] > 0).all()
        counts += np.bincount(batch.kinds[~flawless].numpy(), minlength=len(KINDS))
    assert counts.min() > 0.5 * counts.mean()
