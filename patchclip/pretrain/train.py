"""The training loop: seeded, checkpointed, resumable, one or several processes."""

from __future__ import annotations

import copy
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import open_clip
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..encoders.clip import default_precision
from ..encoders.timm import load_network
from ..scoring.cues import cue_names
from .batches import planned_batches
from .data import PairSampler, build_pool
from .model import BANK_LAYERS, CONTEXT_LENGTH, DENSE_ATTENTION, new_model, write_release, write_vocabulary
from .objective import Objective
from .photographs import find_photographs
from .schedule import Stages, plan_steps
from .state import TrainingState
from .teacher import taught_features
from .validate import make_validation, validate

_FUSED = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
_SMOOTHING = 0.02  # of the losses in the log


@dataclass(frozen=True)
class Settings:
    """What a run is made of.

    Attributes:
        images: length of the run, queries and supports counted.
        minutes: length of the run in place of `images`, from the first step on; the schedule ends with it.
        pool_side: of the rendered views, in pixels.
        workers: processes that make batches ahead, for each process that trains; 0 makes them in between.
        pairs: of each process at each step, at the first stage; later stages take fewer, for equal cost.
        stages: (side in pixels, share of the run) in order.
        photographs: folders of photographed textures and objects; every second product is then made of one.
        teacher: the tokens of the bank also learn to tell the embedded features of ImageNet.
    """

    out: Path
    images: int = 640_000
    minutes: float | None = None
    products: int = 8_000
    pool_side: int = 256
    workers: int = 0
    pairs: int = 24
    stages: Stages = ((128, 0.80), (176, 0.12), (224, 0.08))
    learning_rate: float = 1e-3
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
        ValueError: a run by `minutes` in several processes, which would not end together.
    """
    ranks, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if ranks > 1 and settings.minutes is not None:
        raise ValueError(f"minutes={settings.minutes} is for one process, got {ranks}: give the length in images")
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
    device = torch.device(settings.device)
    sampler = _make_sampler(settings, ranks, main)
    tokenizer = open_clip.SimpleTokenizer(str(settings.out / "bpe_simple_vocab.txt.gz"), context_length=CONTEXT_LENGTH)
    objective = Objective(new_model(settings.seed), taught=settings.teacher).to(device)
    if settings.initial_weights is not None:
        weights = load_file(settings.initial_weights)
        objective.model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    half = default_precision(device) == "bf16"
    state = TrainingState(objective, muon_dtype=torch.bfloat16 if half else torch.float32)
    if checkpoint.exists():
        state.load(checkpoint, settings.device)
    teacher = load_network(device) if settings.teacher else None
    ddp = DistributedDataParallel(objective) if ranks > 1 else objective
    validation = make_validation(settings.validation_images if main else 0)
    # on a CPU the fused attention's backward is half as fast as the plain one in bf16 (torch 2.15, 64 tokens)
    attention = SDPBackend.MATH if half and settings.device == "cpu" else list(_FUSED)

    before_s, begun = state.trained_s, time.monotonic()

    def progress(images: int) -> float:
        if settings.minutes is None:
            return images / settings.images
        return (before_s + time.monotonic() - begun) / (60 * settings.minutes)

    plans = plan_steps(progress, settings.stages, settings.pairs, step=state.step, images=state.images, processes=ranks)
    batches = planned_batches(plans, sampler, tokenizer, seed=settings.seed, rank=rank, workers=settings.workers)
    total = settings.images if settings.minutes is None else None
    bar = tqdm(total=total, initial=state.images, unit="img", disable=None if main else True, smoothing=0.01)
    smooth: dict[str, torch.Tensor] = {}
    saved, saved_step = begun, state.step

    def save(side: int) -> None:
        figures = validate(copy.deepcopy(state.average.model).eval(), tokenizer, validation)
        figures |= {name: float(value) for name, value in smooth.items()}
        row = {"images": state.images, "step": state.step, "minutes": round(state.trained_s / 60, 4), "side": side}
        row |= {name: round(value, 4) for name, value in figures.items()}
        with open(settings.out / "log.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        tqdm.write(json.dumps(row))
        release(state.average, settings.out, state.images)
        state.save(checkpoint)  # last: what is resumed from has been released

    for plan, batch, sentences in batches:
        features = None
        if teacher is not None:
            with torch.autocast(settings.device, torch.bfloat16, enabled=half):
                features = taught_features(teacher, batch.queries.to(device))
        with sdpa_kernel(attention):
            rng = np.random.default_rng([settings.seed, 2, plan.step, rank])
            loss, terms = ddp(batch, sentences, rng, features)
            objective.zero_grad()
            loss.backward()
        images = 2 * plan.pairs * ranks
        state.update(settings.learning_rate * plan.rate, images)
        bar.update(images)
        for name, value in terms.items():
            smooth[name] = smooth.get(name, value).lerp(value, _SMOOTHING)
        now = time.monotonic()
        state.trained_s = before_s + now - begun
        if main and now - saved > settings.checkpoint_every_s:
            save(plan.side)
            saved, saved_step = now, state.step
    if main and saved_step < state.step:
        save(plan.side)
    bar.close()
    return settings.out / "release"


def _make_sampler(settings: Settings, ranks: int, main: bool) -> PairSampler:
    """Render the pool, in the first process."""
    pool, photographs = settings.out / "pool", []
    if main:
        photographs = find_photographs(settings.photographs)
        workers = os.cpu_count() or 1
        build_pool(pool, settings.products, settings.seed, workers, photographs, side=settings.pool_side)
        write_vocabulary(settings.out)
    if ranks > 1:  # the others wait for the pool here
        shared = [photographs]
        dist.broadcast_object_list(shared)
        photographs = shared[0]
    return PairSampler(pool, settings.products, settings.seed, photographs)


def release(objective: Objective, out: Path, images: int) -> None:
    """Write the averaged weights as the open_clip folder out/release: a generation that is named as `out` is, with the
    temperature that the dense head was trained at."""
    about = {
        "generation": out.resolve().name,
        "dense_attention": DENSE_ATTENTION,
        "bank_layers": list(BANK_LAYERS),
        "scales": [1],
        "cues": list(cue_names()),
        "temperature": round(1 / float(objective.dense_scale.exp().clamp(max=100)), 5),
        "images_seen": images,
    }
    write_release(objective.model, out / "release", about)
