"""The training loop: seeded, checkpointed, resumable, one or several processes."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import open_clip
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..encoders.clip import default_precision
from ..encoders.timm import load_network
from ..files import atomic_write
from ..scoring.cues import cue_names
from .data import PairSampler, build_pool
from .model import BANK_LAYERS, DENSE_ATTENTION, new_model, write_release, write_vocabulary
from .muon import Muon
from .objective import Objective
from .photographs import find_photographs
from .teacher import taught_features
from .validate import make_validation, validate

_FUSED = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


@dataclass(frozen=True)
class Settings:
    """What a run is made of. `images` counts queries and supports.

    Attributes:
        stages: (side in pixels, share of the run) in order.
        pairs: of each process at each step, at the first stage; later stages take fewer, for equal cost.
        photographs: folders of photographed textures and objects; every second product is then made of one.
        teacher: the tokens of the bank also learn to tell the embedded features of ImageNet.
    """

    out: Path
    images: int = 640_000
    products: int = 8_000
    pairs: int = 24
    stages: tuple[tuple[int, float], ...] = ((128, 0.80), (176, 0.12), (224, 0.08))
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0
    device: str = "cpu"
    validation_images: int = 240
    checkpoint_every_s: float = 300
    initial_weights: Path | None = None
    photographs: tuple[Path, ...] = ()
    teacher: bool = False


def train(settings: Settings, *, resume: bool = False) -> Path:
    """Train, and return the folder of the released model, `out/release`.

    Started by torchrun, every process takes its share of each batch (gloo on CPU, NCCL on CUDA).

    Raises:
        FileExistsError: `out` has a checkpoint and `resume` is false.
        FileNotFoundError: a folder of photographs has none that is usable.
    """
    ranks, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    settings.out.mkdir(parents=True, exist_ok=True)
    checkpoint = settings.out / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise FileExistsError(f"{checkpoint} exists: pass --resume to go on with it, or another --out")
    if ranks > 1:
        if settings.device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if settings.device == "cuda" else "gloo")
    try:
        return _run(settings, checkpoint, ranks, rank)
    finally:
        if ranks > 1:
            dist.destroy_process_group()


def _run(settings: Settings, checkpoint: Path, ranks: int, rank: int) -> Path:
    cv2.setNumThreads(1)
    main = rank == 0
    pool = settings.out / "pool"
    photographs = []
    if main:
        photographs = find_photographs(settings.photographs)
        build_pool(pool, settings.products, settings.seed, os.cpu_count() or 1, photographs)
        write_vocabulary(settings.out)
    if ranks > 1:  # the others wait for the pool here
        told = [photographs]
        dist.broadcast_object_list(told)
        photographs = told[0]
    tokenizer = open_clip.SimpleTokenizer(str(settings.out / "bpe_simple_vocab.txt.gz"), context_length=32)
    objective = Objective(new_model(settings.seed), tokenizer, taught=settings.teacher)
    objective = objective.to(settings.device)
    if settings.initial_weights is not None:
        from safetensors.torch import load_file

        objective.model.load_state_dict({k: v.float() for k, v in load_file(settings.initial_weights).items()})
    average = copy.deepcopy(objective).requires_grad_(False)
    half = default_precision(torch.device(settings.device)) == "bf16"
    optimizers = _optimizers(objective, settings, torch.bfloat16 if half else torch.float32)
    images = step = 0
    elapsed_s = 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=settings.device, weights_only=True)
        objective.load_state_dict(state["objective"])
        average.load_state_dict(state["average"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        images, step, elapsed_s = state["images"], state["step"], state["elapsed_s"]
    teacher = load_network(torch.device(settings.device)) if settings.teacher else None
    ddp = DistributedDataParallel(objective) if ranks > 1 else objective
    sampler = PairSampler(pool, settings.products, settings.seed, photographs)
    validation = make_validation(settings.validation_images if main else 0)
    log = settings.out / "log.jsonl"
    # on a CPU the fused attention's backward is half as fast as the plain one in bf16 (torch 2.15, 64 tokens)
    attention = SDPBackend.MATH if half and settings.device == "cpu" else list(_FUSED)
    smooth: dict[str, float] = {}
    saved = begun = time.monotonic()
    bar = tqdm(total=settings.images, initial=images, unit="img", disable=None if main else True, smoothing=0.01)
    while images < settings.images:
        side = _side(images / settings.images, settings.stages)
        pairs = max(4, round(settings.pairs * (settings.stages[0][0] / side) ** 2))
        batch = sampler.batch(step, rank, pairs, side)
        for group in chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
            group["lr"] = settings.learning_rate * group["gain"] * _schedule(images, settings.images, step)
        with torch.autocast(settings.device, torch.bfloat16, enabled=half):
            features = taught_features(teacher, batch.queries.to(settings.device)) if teacher is not None else None
        with sdpa_kernel(attention):
            loss, terms = ddp(batch, np.random.default_rng([settings.seed, 2, step, rank]), features)
            objective.zero_grad()
            loss.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        images += 2 * pairs * ranks
        keep = min(0.998, (step + 1) / (step + 50))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in objective.parameters()], 1 - keep)
        bar.update(2 * pairs * ranks)
        for key, value in terms.items():
            smooth[key] = 0.98 * smooth.get(key, value) + 0.02 * value
        if main and (time.monotonic() - saved > settings.checkpoint_every_s or images >= settings.images):
            saved = time.monotonic()
            total_s = elapsed_s + saved - begun
            state = {
                "objective": objective.state_dict(),
                "average": average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "images": images,
                "step": step,
                "elapsed_s": total_s,
            }
            figures = validate(copy.deepcopy(average.model).cpu().eval(), tokenizer, validation)
            row = {"images": images, "step": step, "minutes": total_s / 60, "side": side, **figures, **smooth}
            row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
            with open(log, "a") as file:
                file.write(json.dumps(row) + "\n")
            tqdm.write(json.dumps(row))
            release(average, settings.out, row)
            with atomic_write(checkpoint) as temporary:  # last: what is resumed from has been released
                torch.save(state, temporary)
    bar.close()
    return settings.out / "release"


def release(objective: Objective, out: Path, row: dict) -> None:
    """Write the averaged weights as the open_clip folder out/release: a generation that is named as `out` is, with the
    temperature that the dense head was trained at."""
    about = {
        "generation": out.resolve().name,
        "dense_attention": DENSE_ATTENTION,
        "bank_layers": list(BANK_LAYERS),
        "scales": [1],
        "cues": list(cue_names()),
        "temperature": round(1 / float(objective.dense_scale.exp().clamp(max=100)), 5),
        "images_seen": row["images"],
    }
    write_release(objective.model, out / "release", about)


def _optimizers(objective: nn.Module, settings: Settings, quick: torch.dtype) -> list[torch.optim.Optimizer]:
    """Muon for the image tower's matrices, its products in `quick`; AdamW for the rest; weight decay on matrices alone.

    Muon needs two thirds of AdamW's images for the same validation figures here; the few scalars learn faster.
    """
    blocks, matrices, vectors, scalars = [], [], [], []
    for name, parameter in objective.named_parameters():
        if name.endswith(("logit_scale", "dense_scale", "gain", "margin")):
            scalars.append(parameter)
        elif parameter.ndim == 2 and "visual.transformer" in name:
            blocks.append(parameter)
        elif parameter.ndim > 1 and "embedding" not in name:
            matrices.append(parameter)
        else:
            vectors.append(parameter)
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay, "gain": 1.0},
        {"params": vectors, "weight_decay": 0.0, "gain": 1.0},
        {"params": scalars, "weight_decay": 0.0, "gain": 8.0},
    ]
    rate = settings.learning_rate
    muon = Muon([{"params": blocks, "gain": 1.0}], lr=rate, weight_decay=settings.weight_decay, dtype=quick)
    return [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True), muon]


def _schedule(images: int, total: int, step: int) -> float:
    """Linear warm-up over 200 steps, then a cosine down to two per cent."""
    progress = min(1.0, images / total)
    return min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def _side(progress: float, stages: tuple[tuple[int, float], ...]) -> int:
    """The image side at that share of the run."""
    passed = 0.0
    for side, share in stages:
        passed += share
        if progress < passed:
            return side
    return stages[-1][0]
