"""A batch of unlabelled images, each scored by how unlike the others it is: nothing fitted, nothing labelled.

Up to 128 images all are compared with all. Of more, each is compared with a seeded subset: time grows with the number
of images, and memory hardly does. The text has no part in it: on objects it harms.

Several products in one folder need not be told apart where each has a good share of the images, since a patch is
compared with the nearest 30 % of them. All images of a product with fewer rank high, in their own right order.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np
import torch

from . import fitting
from .errors import ImageError
from .features import FeatureExtractor
from .images.load import ImageLike, list_images
from .images.names import image_name
from .images.plan import Prepared
from .inference import check_finite
from .progress import progress_bar
from .ranked import RankedImage, Ranking, SuggestedCut
from .recipes.features import Features
from .scoring.bank import thin_out
from .scoring.cues import TEXT, bank_cues, bank_share, cue_names
from .scoring.gap import find_gap
from .scoring.heatmap import separate_heatmaps
from .scoring.maps import fuse
from .scoring.memory import Fitted
from .scoring.mutual import mutual_distances
from .scoring.odd import Unlabelled
from .stored import StoredFeatures
from .streaming import prepared_batches
from .threshold import Threshold

#: Images are compared with so many others, drawn with a fixed seed. On 607 solar cells (elpv, mono) the image AUROC is
#: 0.890 with 64, 0.915 with 128 and 0.907 with 256.
REFERENCE_COUNT = 128

#: The vectors of the images that others are compared with take at most so many bytes.
_MAX_REFERENCE_BYTES = 512 * 1024 * 1024

#: Images that go through the network at once.
_BATCH_SIZE = 16

_SEED = 0

#: Colours are anchored to the score that this share of the images exceeds, where the scores do not part.
_COLOURED_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class _Extracted:
    """A readable image: its index, height and width, and its features as a batch of one."""

    index: int
    image_hw: tuple[int, int]
    features: Features


@dataclass(frozen=True, eq=False)
class _Scored:
    """The maps of a readable image, (gh, gw) float32 on the CPU for each cue, and its height and width."""

    maps: dict[str, torch.Tensor]
    image_hw: tuple[int, int]


@dataclass(eq=False)
class _References:
    """The images that others are compared with.

    Attributes:
        vectors: bank -> (patches, D) of each image.
        positions: index of each image -> its position among them.
    """

    vectors: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    total_bytes: int = 0

    @property
    def are_complete(self) -> bool:
        if len(self.positions) >= REFERENCE_COUNT:
            return True
        return len(self.positions) > 1 and self.total_bytes >= _MAX_REFERENCE_BYTES

    def add(self, image: _Extracted) -> None:
        """One more."""
        self.positions[image.index] = len(self.positions)
        for name, grid in image.features.vectors.items():
            vectors = thin_out(grid.flatten(0, 2), bank_share(name))
            self.vectors.setdefault(name, []).append(vectors)
            self.total_bytes += vectors.nbytes


def rank(extractor: FeatureExtractor, images: Iterable[ImageLike | StoredFeatures], *, progress: bool) -> Ranking:
    """See `Detector.rank`.

    Raises:
        ValueError: see there.
    """
    config = extractor.config
    sources = list_images(images, max_pixels=config.max_pixels)
    if set(config.cues) == {TEXT}:
        raise ValueError(f"nothing to compare images by with cues={config.cues}: add some of {cue_names()[1:]}")
    with torch.inference_mode():
        scored, errors = _score_all(extractor, sources, progress=progress)
    weights = _weigh(extractor, list(scored.values()))
    return _make_ranking(extractor, sources, scored, errors, weights)


def fit_unlabelled(
    extractor: FeatureExtractor,
    images: Iterable[ImageLike | StoredFeatures],
    *,
    at_most_anomalous: float,
    progress: bool,
) -> tuple[Fitted, Threshold]:
    """See `Detector.fit_unlabelled`.

    Raises:
        ImageError, ValueError: see there.
    """
    if not isinstance(at_most_anomalous, Real) or not 0 <= at_most_anomalous < 1:
        raise ValueError(f"expected a share in [0, 1) as at_most_anomalous, got {at_most_anomalous!r}")
    ranking = rank(extractor, images, progress=progress)
    if ranking.errors:
        index, error = next(iter(ranking.errors.items()))
        warnings.warn(
            f"fit_unlabelled: {len(ranking.errors)} of {len(ranking)} images are unreadable and left out; "
            f"the first is {ranking.items[index].path}: {error}",
            stacklevel=3,
        )
    readable, odd_patches = ranking.find_odd_patches(at_most_anomalous)
    unlabelled = Unlabelled(odd_patches, at_most_anomalous)
    return fitting.fit(extractor, readable, progress=progress, unlabelled=unlabelled)


def _score_all(
    extractor: FeatureExtractor, images: Sequence[ImageLike], *, progress: bool
) -> tuple[dict[int, _Scored], dict[int, ImageError]]:
    """The maps of every readable image, and why the others are none."""
    scored: dict[int, _Scored] = {}
    errors: dict[int, ImageError] = {}
    references = _References()
    held: list[_Extracted] = []
    with progress_bar("rank", total=len(images), show=progress) as bar:
        for image in _extract_all(extractor, images, errors):
            if references.are_complete:
                scored[image.index] = _score(extractor, image, references)
            else:
                references.add(image)
                held.append(image)
            bar.update(len(scored) + len(errors) - bar.n)
        if len(held) < 2:
            raise ValueError(f"expected at least two readable images to compare, got {len(held)} of {len(images)}")
        for image in held:
            scored[image.index] = _score(extractor, image, references)
            bar.update(len(scored) + len(errors) - bar.n)
    return scored, errors


def _extract_all(
    extractor: FeatureExtractor, images: Sequence[ImageLike], errors: dict[int, ImageError]
) -> Iterator[_Extracted]:
    """The features of readable images in a random order, the same each time; fills in the errors of the others.

    Raises:
        ValueError: stored features among images, or of other networks.
    """
    order = np.random.default_rng(_SEED).permutation(len(images)).tolist()
    stored = [image for image in images if isinstance(image, StoredFeatures)]
    if stored and len(stored) < len(images):
        raise ValueError("expected images or stored features, got both: extract the features of all")
    if stored:
        for index in order:
            yield _Extracted(index, stored[index].image_hw, stored[index].load(extractor))
        return
    position = 0
    for batch in prepared_batches(extractor, (images[index] for index in order), _BATCH_SIZE):
        usable: list[Prepared] = []
        indices: list[int] = []
        for index, image in zip(order[position:], batch, strict=False):
            if isinstance(image, Prepared):
                usable.append(image)
                indices.append(index)
            elif isinstance(image, ImageError):
                errors[index] = image
            else:
                raise image.error
        position += len(batch)
        for rows, features in extractor.extract(usable, with_text=False, with_banks=True):
            for position_in_group, row in enumerate(rows):
                single = features.select(position_in_group)
                yield _Extracted(indices[row], usable[row].image_hw, single)


def _score(extractor: FeatureExtractor, image: _Extracted, references: _References) -> _Scored:
    """The maps of an image, compared with all references but itself."""
    skip = references.positions.get(image.index)
    squared = {}
    for name, grid in image.features.vectors.items():
        squared[name] = mutual_distances(grid, references.vectors[name], skip=skip).square()
    maps = extractor.recipe.bank_maps(squared, image.features.grid_hw)
    return _Scored({cue: cue_map[0].cpu() for cue, cue_map in maps.items()}, image.image_hw)


def _weigh(extractor: FeatureExtractor, scored: Sequence[_Scored]) -> dict[str, float]:
    """Cue -> weight, in inverse proportion to the root of the spread of its maps over the batch, together 1.

    The root, since a batch holds what is odd too, and its spreads tell less than those of normal images do.
    """
    raw = {}
    for cue in bank_cues(scored[0].maps):
        values = torch.cat([image.maps[cue.name].flatten() for image in scored])
        spread = max(float(values.std()), 1e-9)
        raw[cue.name] = cue.ranking_gain / math.sqrt(spread)
    if not extractor.recipe.WEIGHS_CUES:
        return dict.fromkeys(raw, 1 / len(raw))
    total = sum(raw.values())
    return {name: weight / total for name, weight in raw.items()}


def _make_ranking(
    extractor: FeatureExtractor,
    images: Sequence[ImageLike],
    scored: Mapping[int, _Scored],
    errors: Mapping[int, ImageError],
    weights: Mapping[str, float],
) -> Ranking:
    smoothing = extractor.recipe.smoothing(extractor.config)
    fused: dict[int, torch.Tensor] = {}
    scores = np.full(len(images), np.nan)
    for index, image in scored.items():
        fused[index] = fuse({cue: cue_map[None] for cue, cue_map in image.maps.items()}, weights)[0]
        [heatmap] = separate_heatmaps(fused[index][None], [image.image_hw], smoothing)
        scores[index] = float(heatmap.amax())
    readable = np.array(sorted(scored))
    check_finite(scores[readable].tolist(), extractor)
    order = readable[np.argsort(-scores[readable], kind="stable")]
    ranks = {int(index): rank for rank, index in enumerate(order, 1)}
    cut = _suggest_cut(scores[readable])
    colour_level = cut.score if cut else float(np.quantile(scores[readable], 1 - _COLOURED_SHARE))
    items = []
    for index, source in enumerate(images):
        image_hw = scored[index].image_hw if index in scored else None
        share_below = float((scores[readable] < scores[index]).mean()) if index in scored else float("nan")
        item = RankedImage(
            index=index,
            path=image_name(source, index),
            score=float(scores[index]),
            rank=ranks.get(index),
            share_below=share_below,
            error=errors.get(index),
            image_hw=image_hw,
            source=source,
            _map=fused.get(index),
            _smoothing=smoothing,
            _colour_level=colour_level,
            _max_pixels=extractor.config.max_pixels,
        )
        items.append(item)
    return Ranking(items=tuple(items), suggested_cut=cut, cue_weights=dict(weights))


def _suggest_cut(scores: np.ndarray) -> SuggestedCut | None:
    found = find_gap(scores)
    if found is None:
        return None
    value, confidence = found
    return SuggestedCut(value, int((scores > value).sum()), confidence)
