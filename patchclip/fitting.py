"""Normal images -> what `Detector.fit` keeps: memory banks, weights of the cues, levels of the classes.

And the scores of the same images as if the banks had never seen them, to set a threshold by.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from .calibration import usual_score_spread
from .features import FeatureExtractor
from .images.augment import mild_variations, rotated_and_flipped
from .images.load import ImageLike, fingerprint, list_images, load_image
from .images.names import image_name
from .inference import check_finite, combine, cue_maps
from .normal_scores import COPY, IMAGE, VARIATION, NormalScore
from .printable import is_name
from .progress import progress_bar
from .recipes.features import Features
from .scoring.bank import thin_out
from .scoring.cues import TEXT, bank_cues, bank_share, cue_names
from .scoring.heatmap import separate_heatmaps
from .scoring.maps import class_levels, fuse, fusion_weights
from .scoring.memory import Fitted, LeftOut, Memory, build_banks
from .scoring.odd import Unlabelled, leave_out_odd, odd_shares_of_copies
from .stored import StoredFeatures
from .threshold import Threshold, images_needed, threshold_of

#: Leave-one-out looks at about so many normal images at most, or at as many as the false-positive rate takes, spread
#: evenly, and at one of each class at least.
_MAX_LEFT_OUT = 64

#: A normal image whose bank maps stay below this is a copy of another, or blank.
_DUPLICATE_DISTANCE = 1e-5


#: What `Detector.fit` takes: normal images, or a mapping of class -> normal images of it.
NormalImages: TypeAlias = "Sequence[ImageLike | StoredFeatures] | Mapping[str, Sequence[ImageLike | StoredFeatures]]"


@dataclass(frozen=True)
class Source:
    """A normal image as it was given.

    Attributes:
        name, class_name: see `NormalScore`.
        fingerprint: `images.load.fingerprint`.
        image_hw: height and width.
    """

    name: str
    class_name: str | None
    fingerprint: str
    image_hw: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Normal:
    """A normal image to weigh cues and set the threshold by.

    Attributes:
        source: the image, or the one that it is a variation of.
        features: of the image, a batch of one.
        left_out: its class, and its rows of that class's banks; no rows for a variation of the only image of a class,
            which is compared with that image.
    """

    source: Source
    features: Features
    left_out: LeftOut


def fit(
    extractor: FeatureExtractor, images: NormalImages, *, progress: bool, unlabelled: Unlabelled | None = None
) -> tuple[Fitted, Threshold]:
    """See `Detector.fit`.

    Args:
        unlabelled: of images without classes that are not known to be normal, see `Detector.fit_unlabelled`.

    Raises:
        ImageError, ValueError: see there.
    """
    config = extractor.config
    if set(config.cues) == {TEXT}:
        raise ValueError(f"nothing to fit with cues={config.cues}: add some of {cue_names()[1:]}")
    groups = group_by_class(images, max_pixels=config.max_pixels)
    odd_patches = None if unlabelled is None else unlabelled.odd_patches
    memory, normals, sources = _collect(extractor, groups, odd_patches, progress=progress)
    repeats = Counter(source.fingerprint for source in sources)
    sizes = {source.image_hw for source in sources}
    fitted = Fitted(memory, fingerprints=tuple(repeats), image_hw=sizes.pop() if len(sizes) == 1 else None)
    maps = [cue_maps(extractor, normal.features, fitted, left_out=normal.left_out)[0] for normal in normals]
    class_indices = [normal.left_out.class_index for normal in normals]
    if extractor.recipe.WEIGHS_CUES:
        fitted = _weigh(fitted, maps, class_indices, extractor.backbone.model.defaults.cue_spreads)
    normal_scores = []
    for normal, image_maps in zip(normals, maps, strict=True):
        score = _score(extractor, fitted, normal, image_maps)
        kind = _kind(normal, image_maps, repeats)
        normal_scores.append(NormalScore(normal.source.name, normal.source.class_name, score, kind))
    check_finite([normal.score for normal in normal_scores], extractor)
    _warn_of_copies(maps, has_repeats=len(repeats) < len(sources))
    usual_spread = usual_score_spread(extractor, fitted)
    rate = config.max_false_positive_rate
    if unlabelled is None:
        return fitted, threshold_of(normal_scores, rate, "fit", usual_spread=usual_spread)
    share = unlabelled.at_most_anomalous
    return fitted, threshold_of(normal_scores, rate, "fit_unlabelled", usual_spread=usual_spread, most_left_out=share)


def group_by_class(images: NormalImages, *, max_pixels: int | None = None) -> dict[str | None, list[ImageLike]]:
    """Class -> images; the class is None without a mapping.

    Args:
        max_pixels: that a file may have, see `images.load.load_image`.

    Raises:
        ValueError: no images, a class without any, a single image in place of a list, a class without a name, or two of
            the same.
    """
    if not isinstance(images, Mapping):
        return {None: _as_list(images, "", max_pixels)}
    if not images:
        raise ValueError("expected at least one class with a normal image, got none")
    for name in images:
        if not isinstance(name, (str, int, np.integer)):
            raise ValueError(f"expected names of classes to be strings, got {name!r}")
        if not is_name(str(name)):
            raise ValueError(f"expected names of classes to be printable, on one line and not empty, got {name!r}")
    if len({str(name) for name in images}) < len(images):
        raise ValueError(f"expected classes of different names, got {list(images)}: a number and its digits are one")
    return {str(name): _as_list(group, f" for class {name!r}", max_pixels) for name, group in images.items()}


def _as_list(images: Iterable[Any], whose: str, max_pixels: int | None) -> list[Any]:
    group = list_images(images, whose, max_pixels=max_pixels)
    if not group:
        raise ValueError(f"expected at least one normal image{whose}, got none")
    return group


def _collect(
    extractor: FeatureExtractor,
    groups: Mapping[str | None, Sequence[ImageLike]],
    odd_patches: Sequence[torch.Tensor] | None,
    *,
    progress: bool,
) -> tuple[Memory, list[Normal], list[Source]]:
    """The banks of every class, the normal images to judge them by, and all images.

    Raises:
        ImageError: an image cannot be used.
    """
    config = extractor.config
    image_count = sum(len(group) for group in groups.values())
    wanted = min(image_count, max(_MAX_LEFT_OUT, images_needed(config.max_false_positive_rate)))
    class_banks, normals, sources = [], [], []
    with progress_bar("fit", total=image_count, show=progress) as bar:
        for class_index, (class_name, group) in enumerate(groups.items()):
            share = -(-wanted * len(group) // image_count)  # rounded up
            left_out = set(np.linspace(0, len(group) - 1, share).round().astype(int))
            vectors, kept = [], []
            for index, image in enumerate(group):
                source, features, copies = _extract_normal(extractor, image, image_name(image, index), class_name)
                sources.append(source)
                odd_shares = None
                if odd_patches is not None and odd_patches[index].any():
                    odd_shares = odd_shares_of_copies(
                        odd_patches[index], source.image_hw, rotations=config.rotations, flips=config.flips
                    )
                vectors.append(_join_copies(features, odd_shares))
                if len(group) == 1:
                    for variation in _variations(extractor, copies):
                        normals.append(Normal(source, variation, LeftOut(class_index, {})))
                elif index in left_out:
                    alone = features[0].map(torch.clone)  # not a view into those of all copies
                    kept.append((index, source, alone))
                bar.update()
            banks, rows = build_banks(vectors, coreset=config.coreset, progress=progress, neighbours=config.neighbours)
            class_banks.append(banks)
            for index, source, single in kept:
                normals.append(Normal(source, single, LeftOut(class_index, rows[index])))
    return Memory(tuple(groups), tuple(class_banks)), normals, sources


def _extract_normal(
    extractor: FeatureExtractor, image: ImageLike | StoredFeatures, name: str, class_name: str | None
) -> tuple[Source, list[Features], list[np.ndarray]]:
    """A normal image as it was given, the features of its copies, and these, the upright image first; stored features
    have no copies.

    Raises:
        ImageError: the image cannot be used.
        ValueError: stored features of other networks, or where copies are wanted.
    """
    config = extractor.config
    if isinstance(image, StoredFeatures):
        if config.rotations > 1 or config.flips:
            raise ValueError("stored features have no turned copies: use rotations=1 and flips=False, or give images")
        source = Source(name, class_name, image.fingerprint, image.image_hw)
        return source, [image.load(extractor)], []
    upright = load_image(image, max_pixels=config.max_pixels)
    source = Source(name, class_name, fingerprint(upright), (upright.shape[0], upright.shape[1]))
    copies = rotated_and_flipped(upright, rotations=config.rotations, flips=config.flips)
    return source, _extract_each(extractor, copies), copies


def _extract_each(extractor: FeatureExtractor, images: Sequence[np.ndarray]) -> list[Features]:
    """Features of upright images, one batch of one for each."""
    with_text = TEXT in extractor.config.cues
    prepared = [extractor.prepare(image) for image in images]
    singles: dict[int, Features] = {}
    for indices, features in extractor.extract(prepared, with_text=with_text, with_banks=True):
        for position, index in enumerate(indices):
            singles[index] = features.select(position)
    return [singles[index] for index in range(len(images))]


def _variations(extractor: FeatureExtractor, copies: Sequence[np.ndarray]) -> list[Features]:
    """Of the mild variations of the only image of a class, those that its banks do not hold.

    Args:
        copies: that they hold, the upright image first.

    Raises:
        ValueError: there is no image, but its stored features.
    """
    if not copies:
        raise ValueError("one image in a class takes variations of it: give the image, or the features of several")
    variations = mild_variations(copies[0])
    new = []
    for variation in variations:
        if not any(np.array_equal(variation, copy) for copy in copies):
            new.append(variation)
    return _extract_each(extractor, new or variations)  # a blank image has no others


def _join_copies(copies: Sequence[Features], odd_shares: Sequence[np.ndarray] | None = None) -> dict[str, torch.Tensor]:
    """The bank vectors of an image and its turned copies but for what is odd: bank name -> (N, D)."""
    joined = {}
    for name in copies[0].vectors:
        grids = [copy.vectors[name][0] for copy in copies]  # (rows, columns, D) each
        if odd_shares is None:
            parts = [grid.flatten(0, 1) for grid in grids]
        else:
            parts = [leave_out_odd(*pair) for pair in zip(grids, odd_shares, strict=True)]
        joined[name] = torch.cat([thin_out(part, bank_share(name)) for part in parts])
    return joined


def _weigh(
    fitted: Fitted,
    maps: Sequence[Mapping[str, torch.Tensor]],
    class_indices: Sequence[int],
    usual_spreads: Mapping[str, float] | None,
) -> Fitted:
    """With the weights of the cues, by their spread over normal images, and the levels of the classes."""
    spreads = {}
    for cue in maps[0]:
        values = torch.cat([image_maps[cue].flatten() for image_maps in maps])
        spreads[cue] = float(values.std())
    weights = fusion_weights(spreads, usual_spreads)
    if len(fitted.class_names) < 2:
        return replace(fitted, cue_weights=weights)
    highest = [float(fuse(image_maps, weights).max()) for image_maps in maps]
    return replace(fitted, cue_weights=weights, class_levels=class_levels(highest, class_indices))


def _score(extractor: FeatureExtractor, fitted: Fitted, normal: Normal, maps: Mapping[str, torch.Tensor]) -> float:
    device = next(iter(maps.values())).device
    class_index = torch.tensor([normal.left_out.class_index], device=device)
    combined = combine(maps, fitted, class_index)
    heatmaps = separate_heatmaps(combined, [normal.source.image_hw], extractor.recipe.smoothing(extractor.config))
    [score] = extractor.recipe.scores(heatmaps, maps, normal.features)
    return score


def _kind(normal: Normal, maps: Mapping[str, torch.Tensor], repeats: Mapping[str, int]) -> str:
    """See `NormalScore`; `repeats` has the number of images of each fingerprint."""
    if not normal.left_out.rows:
        return VARIATION
    if repeats[normal.source.fingerprint] > 1 or _are_duplicate(maps):
        return COPY
    return IMAGE


def _are_duplicate(maps: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are maps of an image, or a variation, that the banks hold already."""
    whole_banks = [cue.name for cue in bank_cues(maps) if cue.bank_share == 1]
    return bool(whole_banks) and max(float(maps[cue].max()) for cue in whole_banks) < _DUPLICATE_DISTANCE


def _warn_of_copies(maps: Sequence[Mapping[str, torch.Tensor]], *, has_repeats: bool) -> None:
    if has_repeats or any(_are_duplicate(image_maps) for image_maps in maps):
        warnings.warn(
            "fit: a normal image looks just like another, or like its own variations, and the threshold may be too "
            "low: leave out copies and blank images",
            stacklevel=4,
        )
