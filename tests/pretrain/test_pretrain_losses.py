"""The losses, by hand; the optimiser beside torch's; what a teacher teaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from patchclip.encoders.timm import load_network
from patchclip.pretrain import losses
from patchclip.pretrain.muon import Muon, orthogonalised
from patchclip.pretrain.teacher import Distillation, draw_patches, taught_features


def test_patch_targets_by_hand() -> None:
    coverage = torch.tensor([[[0.0, 0.01], [0.03, 0.5]], [[0.0, 0.0], [0.004, 0.001]]])
    found = losses.patch_targets(coverage)
    assert found.label.tolist() == [[0, 0, 1, 1], [0, 0, 1, 0]]  # a tiny defect marks its fullest patch
    assert found.weight.tolist() == [[1, 0, 1, 1], [1, 1, 1, 0]]  # touched, but not enough: neither


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
