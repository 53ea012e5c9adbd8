"""The face of patchclip: construct, fit, calibrate, predict, save, load."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from numbers import Real
from operator import length_hint
from typing import Any, Literal, overload

import numpy as np
import torch
from tqdm import tqdm

from . import models, scoring
from .backbone import Backbone, default_precision, usable_device
from .bank import Memory, Rows
from .descriptors import texture_constants
from .errors import ImageError
from .features import Extractor, Features
from .fitting import Normal, as_groups, gather
from .heatmap import find_blobs, half_way, separate_heatmaps
from .image import ImageLike, fingerprint, load_image, own_copy, refuse_single
from .options import CUES, check_options, options_in_force
from .pipeline import Failed, hidden, ordered_map, trim_memory
from .prompts import DEFAULT_DEFECTS
from .result import Region, Result
from .threshold import Threshold, from_normal_scores, images_needed

#: Where a normal image's maps stay below it, it is a copy of another, or blank.
_ALIKE = 1e-5

#: Of the heatmap by default, and when the embedded model's threshold was measured.
_SMOOTHING = 0.25

#: Images of a stream after which freed memory goes back to the system.
_TRIM_EVERY = 64


class Detector:
    """Anomaly detector on the patch tokens of a CLIP: zero-shot from the start, few-shot after `fit`.

    Args:
        model: "tiny" (embedded, nothing to download), any open_clip model with its own ViT tower, "hf-hub:org/name",
            or "local-dir:folder".
        pretrained: an open_clip tag or the path of a checkpoint; None is the model's default tag
            (`models.DEFAULT_TAGS`), never random weights. A checkpoint that was trained with QuickGELU, as OpenAI's
            were, takes the model's name that ends in "-quickgelu".
        object_name: what the images show, as a word or two for the prompts ("bottle"). Of a prompt, the embedded model
            reads 30 tokens, which unusual words soon fill: a warning says so.
        defects: names to choose from, or a mapping of name -> wordings, as `DEFAULT_DEFECTS` is one. A single name is
            given to every region.
        prompts: (normal, anomalous), two lists of complete sentences in place of the composed ones.
        states: (normal, anomalous), two lists such as "flawless {}" in place of WinCLIP's.
        templates: sentences such as "a photo of a {}." in place of WinCLIP's.
        recipe: "dense" is one forward; "winclip" the paper's method, to the letter.
        cues: which of "text", "tokens", "texture" and "imagenet" (see `descriptors`) are used, the last three once
            fitted. None is all four for the embedded model, text and tokens for others.
        scales: window sides in tokens for the text map, 0 or more; 0 is the whole image. Recipe "dense" only, as are
            `layers` and `tile`.
        temperature: of the text probabilities, above 0; None is the model's own, else 0.07.
        layers: blocks, counted from 1 to the model's depth, whose tokens fill the bank.
        dense_attention: of the last block: "qk" as trained, or self-self "qq", "kk", "vv" (`backbone.run_tower`).
        image_size: side in pixels of the square whose area an image is resized to, 32 to 4096; None is the model's own.
        tile: cut larger images into tiles of about so many of their pixels a side, 32 or more, each seen at
            `image_size`; None has no tiles.
        coreset: share of the bank to keep, in (0, 1].
        neighbours: "exact", or "faiss" for banks of a million vectors: 99.9 % of the nearest ones, many times faster
            (extra `faiss`; its index is made anew by `load`).
        rotations: 1, 2, 4 or 8 turned copies of each normal image in the bank; flips: mirrored ones too.
        smoothing: sigma of the heatmap's Gaussian in tokens, up to 16; recipe "winclip" has none.
        max_false_positive_rate: share of normal images that may exceed the threshold of `fit`, between 0 and 1.
        precision: "fp32", "bf16", or "auto" by the processor's flags.
        device: "cpu", "cuda", ..., or "auto".

    Raises:
        ModelNotFoundError, WeightsUnavailableError: see `models.load_model`; recipe "winclip" needs a model with [CLS].
        ValueError: an option outside its range, or a device that is not there.
        MissingDependencyError: neighbours="faiss" without faiss.

    Threads may share a detector to predict with, as long as none fits or calibrates it.
    """

    def __init__(
        self,
        model: str = "tiny",
        *,
        pretrained: str | os.PathLike[str] | None = None,
        object_name: str = "surface",
        defects: Sequence[str] | Mapping[str, Sequence[str]] = tuple(DEFAULT_DEFECTS),
        prompts: tuple[Sequence[str], Sequence[str]] | None = None,
        states: tuple[Sequence[str], Sequence[str]] | None = None,
        templates: Sequence[str] | None = None,
        recipe: Literal["dense", "winclip"] = "dense",
        cues: Sequence[str] | None = None,
        scales: Sequence[int] | None = None,
        temperature: float | None = None,
        layers: Sequence[int] | None = None,
        dense_attention: str | None = None,
        image_size: int | None = None,
        tile: int | None = None,
        coreset: float = 1.0,
        neighbours: Literal["exact", "faiss"] = "exact",
        rotations: int = 1,
        flips: bool = False,
        smoothing: float = _SMOOTHING,
        max_false_positive_rate: float = 0.05,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        device: str = "auto",
    ):
        options = {name: value for name, value in locals().items() if name not in ("self", "device")}
        check_options(options)
        place = usable_device(device)
        loaded = models.load_model(model, None if pretrained is None else os.fspath(pretrained))
        resolved = default_precision(place) if precision == "auto" else precision
        self.backbone = Backbone(loaded, device=place, precision=resolved, dense_attention=dense_attention)
        #: every option as it is in force; saved with the detector
        self.options: dict[str, Any] = options | options_in_force(options, self.backbone)
        self.memory_: Memory | None = None
        #: weight of each cue in the heatmap, set by `fit`
        self.weights_: dict[str, float] = {}
        #: with several classes: the level of each one's normal images, where its heatmaps are one half
        self.levels_: tuple[float, ...] = ()
        self._fingerprints: list[str] = []  # of the images it was fitted with
        self._image_hw: tuple[int, int] | None = None  # their size, where they have one
        moving = ("prompts", "states", "templates", "scales", "temperature", "dense_attention", "image_size", "tile")
        own = loaded.about | {"image_size": self.backbone.image_size}
        moved = any(options[name] not in (None, own.get(name)) for name in moving) or smoothing != _SMOOTHING
        if "threshold" in loaded.about and recipe == "dense" and not moved:
            self._threshold = Threshold(float(loaded.about["threshold"]), "model")
        else:
            self._threshold = Threshold(0.5, "uncalibrated")
        self._extractor = Extractor(self.backbone, self.options)

    # --- threshold ------------------------------------------------------------------------------------------------

    @property
    def threshold(self) -> float:
        """Scores above it are anomalous. May be set."""
        return self._threshold.value

    @threshold.setter
    def threshold(self, value: float) -> None:
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise ValueError(f"expected a number between 0 and 1 as threshold, got {value!r}")
        self._threshold = Threshold(float(value), "user")

    @property
    def threshold_source(self) -> str:
        """ "model" (set on synthetic normal images), "uncalibrated" (0.5), "fit", "calibrate" or "user"."""
        return self._threshold.source

    @property
    def threshold_guaranteed(self) -> bool:
        """Whether the stated false-positive rate holds for new normal images of the same kind."""
        return self._threshold.guaranteed

    # --- fit ------------------------------------------------------------------------------------------------------

    @property
    def classes_(self) -> tuple[str, ...]:
        """Names of the classes it was fitted with; empty without."""
        return tuple(name for name in (self.memory_.classes if self.memory_ else ()) if name is not None)

    def fit(
        self, images: Sequence[ImageLike] | Mapping[str, Sequence[ImageLike]], *, progress: bool = True
    ) -> Detector:
        """Fill the banks with normal images, weigh the cues and set the threshold; forgets what was fitted before.

        The weights and the threshold come from leave-one-image-out scores of the normal images (of about 64; for a
        class with a single image from six mild variations of it). With several classes each heatmap is relative to
        the level of its class, so that one threshold serves all. Recipe "winclip" has the threshold alone.

        Args:
            images: normal images, or a mapping of class -> normal images of it. One works, but the threshold is a rough
                guess then. All classes share the text of `object_name`.
            progress: show a bar on a terminal or in a notebook.

        Returns:
            self.

        Raises:
            ImageError: an image cannot be used.
            ValueError: no images, one image in place of a list, `cues` without a bank, or a coreset too small.

        After an error the detector is as it was.
        """
        if set(self.options["cues"]) == {"text"}:
            raise ValueError(f"nothing to fit with cues={self.options['cues']}: add some of {CUES[1:]}")
        groups = as_groups(images)
        before = self.memory_, self.weights_, self.levels_, self._fingerprints, self._image_hw
        try:
            total = sum(map(len, groups.values()))
            with torch.autocast(self.backbone.device.type, enabled=False):
                self.memory_, normals, seen = gather(self._extractor, groups, progress=progress)
                scores = np.array(self._weigh(normals, copies=total - len(seen)))
            self._fingerprints = list(seen)
            sizes = set(seen.values())
            self._image_hw = sizes.pop() if len(sizes) == 1 else None
            rate, left_out = self.options["max_false_positive_rate"], np.array([bool(own.rows) for own in normals])
            if left_out.sum() >= images_needed(rate):
                scores = scores[left_out]  # without variations of the only image of a class, which vary less
            self._set_threshold(scores, rate, "fit", min(total, len(scores)))
        except BaseException:
            self.memory_, self.weights_, self.levels_, self._fingerprints, self._image_hw = before
            raise
        return self

    def _weigh(self, normals: Sequence[Normal], *, copies: int) -> list[float]:
        """Set the cues' weights and the classes' levels by normal images that are compared with the others of their
        class; their scores. `copies`: how many of the fitted images are another's."""
        every = [self._cue_maps(normal.features, own=(normal.number, normal.rows))[0] for normal in normals]
        numbers = [normal.number for normal in normals]
        self.levels_ = ()
        if self.options["recipe"] == "dense":
            spreads = {cue: float(torch.cat([maps[cue].flatten() for maps in every]).std()) for cue in every[0]}
            self.weights_ = scoring.fusion_weights(spreads)
            if len(self.classes_) > 1:
                highest = [float(scoring.fuse(maps, self.weights_).max()) for maps in every]
                self.levels_ = scoring.class_levels(highest, numbers)
        scores = []
        for maps, number, (features, size_hw, *_) in zip(every, numbers, normals, strict=True):
            heatmaps = self._heatmaps(self._combine(maps, number)[None], size_hw)
            scores += self._scores(heatmaps, [maps], [features])
        if copies or any(max(float(m.max()) for cue, m in maps.items() if cue != "text") < _ALIKE for maps in every):
            warnings.warn(
                "fit: a normal image looks just like another, or like its own variations, and the threshold may be too "
                "low: leave out copies and blank images",
                stacklevel=3,
            )
        return scores

    def calibrate(
        self, images: Sequence[ImageLike], *, max_false_positive_rate: float | None = None, progress: bool = True
    ) -> Detector:
        """Set the threshold so that new normal images exceed it at most that often; the heatmaps stay as they are.

        Guaranteed (`threshold_guaranteed`) for n >= 1 / rate - 1 normal images that `fit` has not seen: 19 for
        0.05, 99 for 0.01. With fewer it is an extrapolation, and a warning says so. Works before `fit` too.

        Args:
            images: normal images that `fit` has not seen.
            max_false_positive_rate: None is the detector's own.

        Raises:
            ImageError: an image cannot be used.
            ValueError: fewer than two images, or a rate outside (0, 1).
        """
        rate = self.options["max_false_positive_rate"] if max_false_positive_rate is None else max_false_positive_rate
        if not 0 < rate < 1:
            raise ValueError(f"expected a false-positive rate between 0 and 1, got {rate}")
        scores, seen = [], set(self._fingerprints)
        for result in self.predict_batch(images, progress=progress):
            scores.append(result.score)
            seen.add(fingerprint(result._image))
        if known := len(set(self._fingerprints)) + len(scores) - len(seen):
            warnings.warn(
                f"calibrate: {known} of {len(scores)} images are copies of each other or of those that fit has seen, "
                "and the threshold may be too low: take new images",
                stacklevel=2,
            )
        self._set_threshold(np.array(scores), rate, "calibrate", len(scores))
        if known:
            self._threshold = replace(self._threshold, guaranteed=False)
        return self

    def _set_threshold(self, scores: np.ndarray, rate: float, source: str, count: int) -> None:
        """From the scores of `count` normal images, or of as many variations of fewer."""
        fitted = self.memory_ is not None and self.options["recipe"] == "dense"
        usual = self.backbone.model.about.get("score_spread") if fitted else None
        threshold = from_normal_scores(scores, rate, source, images=count, usual_spread=usual)
        needed = images_needed(rate)
        if count < max(needed, len(scores)):
            images = "one normal image" if count == 1 else f"{count} normal images"
            takes = f"which takes {needed}" if count < needed else "but images alone in their class do not count"
            warnings.warn(
                f"{source}: {images} cannot fix a false-positive rate of {rate:g}, {takes}: the threshold "
                f"{threshold.value:.4f} is an extrapolation; calibrate with {needed} new images, or set it",
                stacklevel=3,
            )
        self._threshold = threshold

    # --- predict --------------------------------------------------------------------------------------------------

    def predict(self, image: ImageLike) -> Result:
        """Heatmap, score, verdict and regions of one image.

        Raises:
            ImageError: see `image.load_image`.
        """
        with torch.autocast(self.backbone.device.type, enabled=False):  # it has a precision of its own
            return self._results([load_image(own_copy(image))])[0]

    @overload
    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int = 16,
        progress: bool = True,
        errors: Literal["raise"] = ...,
    ) -> Iterator[Result]: ...

    @overload
    def predict_batch(
        self, images: Iterable[ImageLike], *, batch_size: int = 16, progress: bool = True, errors: Literal["return"]
    ) -> Iterator[Result | ImageError]: ...

    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int = 16,
        progress: bool = True,
        errors: Literal["raise", "return"] = "raise",
    ) -> Iterator[Result | ImageError]:
        """Results in the order of the images, while later images are decoded.

        A result holds its image and its heatmap, 7 bytes a pixel: of many large images keep what you need alone.

        Args:
            images: any iterable; it is read three batches ahead at most, so ask `predict` for a camera's.
            errors: "return" yields the `ImageError` in the place of an image that cannot be used.

        Raises:
            ImageError: with errors="raise", when that image's turn has come; what `images` raises, likewise.
            ValueError: one image in place of several, batch_size below 1, or another word for errors.
        """
        refuse_single(images)
        if batch_size < 1:
            raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
        if errors not in ("raise", "return"):
            raise ValueError(f'expected errors="raise" or "return", got {errors!r}')
        return self._predict_stream(images, batch_size, progress, errors == "raise")

    def _predict_stream(
        self, images: Iterable[ImageLike], batch_size: int, progress: bool, strict: bool
    ) -> Iterator[Result | ImageError]:
        total = length_hint(images) or None
        loaded = ordered_map(self._try_load, map(own_copy, images), ahead=2 * batch_size)
        untrimmed = 0
        with tqdm(total=total, desc="predict", unit="img", disable=hidden(progress), leave=False) as bar:
            while batch := list(islice(loaded, batch_size)):
                usable = [pair for pair in batch if not isinstance(pair, (ImageError, Failed))]
                with torch.autocast(self.backbone.device.type, enabled=False):
                    results = iter(self._results([image for image, _ in usable], [small for _, small in usable]))
                for pair in batch:
                    if isinstance(pair, Failed):
                        raise pair.error
                    bar.update()
                    if not isinstance(pair, ImageError):
                        yield next(results)
                    elif strict:
                        raise pair
                    else:
                        yield pair
                untrimmed += len(batch)
                if untrimmed >= _TRIM_EVERY:
                    trim_memory()
                    untrimmed = 0

    def _try_load(self, image: ImageLike) -> tuple[np.ndarray, np.ndarray] | ImageError:
        """The upright image, and resized: both in the thread that decodes."""
        try:
            upright = load_image(image)
        except ImageError as error:
            return error
        return upright, self._extractor.resized(upright)

    def _results(self, images: Sequence[np.ndarray], resized: Sequence[np.ndarray] | None = None) -> list[Result]:
        """Upright images (and the same resized, where that is done) -> results; images of one size share each step."""
        features = self._extractor.features(images, for_bank=self.memory_ is not None, resized=resized)
        cue_maps, numbers = [], []
        for single in features:
            maps, number = self._cue_maps(single)
            cue_maps.append(maps)
            numbers.append(number)
        threshold = self._threshold
        results: dict[int, Result] = {}
        same_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            same_size[(image.shape[0], image.shape[1])].append(index)
        for size_hw, indices in same_size.items():
            combined = torch.stack([self._combine(cue_maps[index], numbers[index]) for index in indices])
            heatmaps = self._heatmaps(combined, size_hw)
            scores = self._scores(
                heatmaps, [cue_maps[index] for index in indices], [features[index] for index in indices]
            )
            for index, heatmap, score in zip(indices, heatmaps, scores, strict=True):
                flagged, scale = score > threshold.value, (0.0, threshold.value)
                if self.options["recipe"] == "winclip":  # whose score has another scale than its heatmap
                    scale = half_way(heatmap.cpu().numpy()) if flagged else (0.0, float("inf"))
                regions = self._regions(heatmap, scale[1], features[index].dense[0]) if flagged else ()
                name = self.memory_.classes[numbers[index]] if self.memory_ else None
                verdict = (score, threshold.value, threshold.source)
                results[index] = Result(*verdict, regions, name, heatmap, images[index], scale)
        return [results[index] for index in range(len(images))]

    def _cue_maps(
        self, features: Features, *, own: tuple[int, Rows] | None = None
    ) -> tuple[dict[str, torch.Tensor], int]:
        """One (gh, gw) map in [0, 1] for each cue in use, and the number of the nearest class, or of its own."""
        maps = {"text": features.text[0]} if "text" in self.options["cues"] or self.memory_ is None else {}
        if self.memory_ is None:
            return maps, 0
        squared, number = self.memory_.squared_distances(features.vectors, own=own)
        if self.options["recipe"] == "winclip":
            maps["tokens"] = scoring.winclip_few_shot_map(squared)
        else:
            grid_hw = (features.dense.shape[1], features.dense.shape[2])
            half_at = {"texture": texture_constants()[1]}
            maps |= scoring.distance_maps(squared, half_at=half_at, grid_hw=grid_hw)
        return maps, number

    def _combine(self, maps: Mapping[str, torch.Tensor], number: int) -> torch.Tensor:
        """The cues' maps of an image of that class -> one (gh, gw) map."""
        even = {cue: 1 / len(maps) for cue in maps}
        return scoring.fuse(maps, self.weights_ or even, level=self.levels_[number] if self.levels_ else None)

    def _heatmaps(self, maps: torch.Tensor, size_hw: tuple[int, int]) -> list[torch.Tensor]:
        """(B, gh, gw) -> B of (H, W) float32 on the device; recipe winclip does not smooth."""
        smoothing = 0.0 if self.options["recipe"] == "winclip" else self.options["smoothing"]
        return separate_heatmaps(maps, size_hw, smoothing)

    def _scores(
        self, heatmaps: Sequence[torch.Tensor], maps: Sequence[Mapping[str, torch.Tensor]], features: Sequence[Features]
    ) -> list[float]:
        """Each heatmap's maximum, or WinCLIP's score."""
        if self.options["recipe"] == "dense":
            return torch.stack([heatmap.amax() for heatmap in heatmaps]).tolist()
        return [
            scoring.winclip_score(single.p_image if "text" in cues else None, cues.get("tokens"))
            for cues, single in zip(maps, features, strict=True)
        ]

    def _regions(self, heatmap: torch.Tensor, level: float, dense: torch.Tensor) -> tuple[Region, ...]:
        """Pieces that lie above the level and stand out, each named by the mean of its tokens."""
        regions = []
        for blob in find_blobs(heatmap.cpu().numpy(), level, (dense.shape[0], dense.shape[1])):
            name, confidence = self._extractor.name(dense[torch.from_numpy(blob.cells)].mean(0))
            regions.append(Region(blob.box_xyxy, blob.area_px, blob.score, name, confidence))
        return tuple(regions)

    # --- save and load --------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the detector, fitted or not, to one safetensors file (format: `store`). Atomic.

        The backbone's weights are not in it: their name and hash are.

        Raises:
            OSError: the folder does not exist or cannot be written.
        """
        from .saved import save_detector

        save_detector(self, path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, device: str = "auto", pretrained: str | os.PathLike[str] | None = None
    ) -> Detector:
        """Read what `save` wrote; on the same kind of device every heatmap comes out as before.

        Args:
            device: as in the constructor.
            pretrained: where the backbone's checkpoint, or the folder of a "local-dir:", is now, if it has moved.

        Raises:
            FileNotFoundError: no such file.
            FileFormatError: not a detector file, truncated, or of a newer version.
            ModelNotFoundError, ValueError, MissingDependencyError: as in the constructor.
            WeightsUnavailableError: the weights of the backbone, or of a descriptor, are not to be had, or are not
                those it was fitted with.
        """
        from .saved import load_detector

        return load_detector(cls, path, device=device, pretrained=pretrained)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        image_hw: tuple[int, int] | None = None,
        int8_images: Sequence[ImageLike] | None = None,
    ) -> None:
        """Write one ONNX file that onnxruntime runs without torch; recipe "dense" without tiles only.

        Input "image": (B, 3, h, w) float32, RGB in [0, 1], any B; h and w are fixed, and an image of another size is
        first resized to them with an antialiased bicubic filter (as `image.resize` does; Pillow's differs by up to one
        step of 255, which moves heatmaps by up to 0.01). Outputs "heatmap": (B, H, W) float32 in
        [0, 1]; "score": (B,), its maximum; when fitted with classes also "class_index": (B,) int64. The model's
        metadata, entry "patchclip", is JSON with the input's size, the threshold, and the names of the classes.

        It computes in float32: of the same pixels, heatmaps are within 1e-3 of those of `predict` in precision "fp32".
        A detector in "bf16" exports its rounded weights, and differs by some thousandths. All distances to a bank are
        held at once: 4 * B * patches * vectors bytes.

        Args:
            image_hw: (H, W) of the images, and of the heatmaps; h and w are what `predict` would resize them to.
                None is the size of the images that it was fitted with. Where they have several it is the model's own
                square, with a warning, for images of other proportions have other heatmaps there; before `fit` it is
                the square.
            int8_images: some normal images (20 will do) to set the ranges by, for a static int8 network: the file is
                half as large and no slower, heatmaps move by some hundredths (`calibrate` again on its scores).

        Raises:
            ValueError: recipe "winclip", tiles, or more than the 2 GiB that one file holds.
            MissingDependencyError: without `pip install "patchclip[onnx]"`.
            OSError: the folder does not exist or cannot be written.
        """
        from .export import export_onnx

        export_onnx(self, path, image_hw=image_hw, int8_images=int8_images)

    def __repr__(self) -> str:
        vectors = sum(len(bank) for banks in self.memory_.banks for bank in banks.values()) if self.memory_ else 0
        fitted = f"fitted, {vectors} vectors" if self.memory_ else "zero-shot"
        return (
            f"Detector({self.options['model']!r}, recipe={self.options['recipe']!r}, {fitted}, "
            f"threshold={self.threshold:.4f} ({self.threshold_source}))"
        )
