"""Prepared images -> features, batched by size; what a detector computes once: text embeddings and descriptors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import nn

from .config import Config
from .encoders.clip import Backbone
from .encoders.loading import load_model
from .encoders.text import TextTower, encode_defects, encode_states
from .forking import survive_fork
from .images.load import ImageLike, describe, load_image
from .images.plan import Plan, Prepared
from .images.prepare import cut_tiles, join_tiles, resize, to_rgb
from .recipes import RECIPES, Recipe
from .recipes.features import Features, concatenate
from .scoring.cues import TEXT, bank_cues
from .scoring.regions import DefectNames

#: Images, or tiles of one, that go through the network at once.
_CHUNK = 32

#: Side of the image that the widths of vectors are found by.
_EXAMPLE_SIDE = 16


class ImagePreparer:
    """What `Detector.prepare` needs to know: no network, and it can be pickled.

    Args:
        config: options of the detector.
        patch: side in pixels of the backbone's patches.
        interpolation: by which the backbone's images are resized.
    """

    def __init__(self, config: Config, *, patch: int, interpolation: str):
        self.config = config
        self._patch = patch
        self._interpolation = interpolation

    @property
    def max_pixels(self) -> int:
        """That a file may have."""
        return self.config.max_pixels

    @property
    def recipe(self) -> Recipe:
        """The functions of the recipe in use; not kept, since a module cannot be pickled."""
        return RECIPES[self.config.recipe]

    def plan(self, image_hw: tuple[int, int]) -> Plan:
        """The size at which the network sees an image of that height and width, and its tiles."""
        return self.recipe.plan(image_hw, self.config, self._patch)

    def prepare(self, image: ImageLike) -> Prepared:
        """Read an image and resize it to what the network sees; on the CPU, in any thread."""
        upright = load_image(image, max_pixels=self.config.max_pixels)
        size_hw, tiles_hw = self.plan((upright.shape[0], upright.shape[1]))
        pixels = resize(upright, size_hw, self._interpolation, with_pillow=self.recipe.RESIZES_WITH_PILLOW)
        return Prepared(upright, pixels, tiles_hw)


class FeatureExtractor(ImagePreparer):
    """A backbone with the options of a detector.

    Attributes:
        backbone, config: as given.
    """

    def __init__(self, backbone: Backbone, config: Config):
        survive_fork()
        super().__init__(config, patch=backbone.patch, interpolation=backbone.model.interpolation)
        self.backbone = backbone
        if TEXT not in config.cues and not config.defects:
            backbone.model.drop_text_tower()

    @cached_property
    def states(self) -> torch.Tensor:
        """(2, E) embeddings of the prompts for normal and anomalous images."""
        return encode_states(self._text_tower(), self.config.state_sentences)

    @cached_property
    def defect_names(self) -> DefectNames | None:
        """What regions may be called; None where the options have no defects."""
        wordings = self.config.wordings
        if not wordings:
            return None
        embeddings = encode_defects(self._text_tower(), wordings, self.config.object_name).float().cpu().numpy()
        return DefectNames(tuple(wordings), embeddings, self.backbone.model.naming_temperature)

    @cached_property
    def descriptors(self) -> dict[str, nn.Module]:
        """Bank cue -> the module that gives its vectors, in the order of the table of cues; some share one."""
        cues = bank_cues(self.config.cues)
        modules = {make: make(self.backbone) for make in dict.fromkeys(cue.make_descriptor for cue in cues)}
        return {cue.name: modules[cue.make_descriptor] for cue in cues}

    def _text_tower(self) -> TextTower:
        model = self.backbone.model
        if not model.has_text_tower():
            model = load_model(model.name, model.pretrained)
        return TextTower(model, self.backbone.device)

    def check(self, prepared: Sequence[Prepared]) -> None:
        """Raise ValueError for an image that was not prepared, or for another model or other options."""
        for image in prepared:
            if not isinstance(image, Prepared):
                raise ValueError(f"expected images by Detector.prepare, got {describe(image)}: prepare each of them")
            plan = self.plan(image.image_hw)
            if image.plan != plan:
                raise ValueError(
                    f"expected an image prepared for {plan}, got {image.plan}: prepare it with this detector"
                )

    def example_features(self) -> Features:
        """Features of a small black image, with the vectors of all banks: their names and widths."""
        prepared = self.prepare(np.zeros((_EXAMPLE_SIDE, _EXAMPLE_SIDE, 3), np.uint8))
        [(_, features)] = self.extract([prepared], with_text=False, with_banks=True)
        return features

    @torch.inference_mode()
    def extract(
        self, prepared: Sequence[Prepared], *, with_text: bool, with_banks: bool
    ) -> list[tuple[list[int], Features]]:
        """Features of images, those of one size together.

        Args:
            with_text: whether the text map is wanted.
            with_banks: whether the vectors that banks hold are wanted.

        Returns:
            Indices of images, and the features of these as one batch.
        """
        states = self.states if with_text else None
        descriptors = self.descriptors if with_banks else {}
        run = partial(self.recipe.extract, self.backbone, config=self.config, states=states, descriptors=descriptors)
        by_plan: dict[Plan, list[int]] = defaultdict(list)
        for index, image in enumerate(prepared):
            by_plan[image.plan].append(index)
        batches = []
        for (_, tiles_hw), indices in by_plan.items():
            is_tiled = tiles_hw != (1, 1)
            at_once = 1 if is_tiled else _CHUNK  # the tiles of one image are many already
            for start in range(0, len(indices), at_once):
                batch = indices[start : start + at_once]
                rgb = to_rgb([prepared[index].pixels for index in batch], self.backbone.device)
                tiles = cut_tiles(rgb, tiles_hw)
                features = concatenate([run(chunk) for chunk in tiles.split(_CHUNK)])
                if is_tiled:
                    features = features.map(partial(join_tiles, tiles_hw=tiles_hw))
                batches.append((batch, features))
        return batches
