"""The face of patchclip: construct, fit, calibrate, predict, save, load."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from . import calibration, fitting, inference, persistence, ranking, teaching
from .config import Config, Options
from .encoders.clip import Backbone, resolve_device
from .encoders.downloads import downloads
from .encoders.loading import DEFAULT_MODEL, load_model
from .encoders.prompts import DEFAULT_DEFECTS
from .errors import ImageError
from .features import FeatureExtractor
from .images.load import MAX_PIXELS, ImageLike, snapshot
from .images.names import NamedImages
from .images.plan import Prepared
from .ranked import Ranking
from .result import Result
from .state import DetectorState
from .streaming import predict_stream

if TYPE_CHECKING:
    from .stored import StoredFeatures
    from .verification import Verification


class Detector(DetectorState):
    """Anomaly detector on the patch tokens of a CLIP: zero-shot from the start, few-shot after `fit`.

    Args:
        model: "tiny-7" or the earlier "tiny" (embedded, nothing to download), any open_clip model with its own ViT
            tower, "hf-hub:org/name", or "local-dir:folder".
        pretrained: an open_clip tag or the path of a checkpoint; None is the model's default tag
            (`encoders.loading.DEFAULT_TAGS`), never random weights. A checkpoint that was trained with QuickGELU, as
            OpenAI's were, takes the model's name that ends in "-quickgelu".
        object_name: what the images show, as a word or two for the prompts ("bottle"). Of a prompt, the embedded model
            reads 30 tokens, which unusual words soon fill: a warning says so.
        defects: names to choose from, or a mapping of name -> wordings, as `DEFAULT_DEFECTS` is one.
        prompts: (normal, anomalous), two lists of complete sentences in place of the composed ones.
        states: (normal, anomalous), two lists such as "flawless {}", in place of WinCLIP's.
        templates: such as "a photo of a {}.", in place of WinCLIP's.
        recipe: "dense" is one forward; "winclip" the paper's method, to the letter.
        cues: which of "text", "tokens", "texture", "imagenet" and "imagenet_fine" (`scoring.cues`) are used, all but
            the first once fitted. None is all of them for the embedded models, text and tokens for others.
        scales: window sides in tokens for the text map, 0 or more; 0 is the whole image. Recipe "dense" only, as are
            `layers` and `tile`.
        temperature: of the text probabilities, above 0; None is the model's own, else 0.07.
        layers: blocks, counted from 1 to the model's depth, whose tokens fill the bank.
        dense_attention: of the last block: "qk" as trained, or self-self "qq", "kk", "vv" (`encoders.clip.run_tower`).
        image_size: side in pixels of the square whose area an image is resized to, 32 to 4096; None is the model's own.
        tile: side in pixels, 32 or more, of the tiles that larger images are cut into, each seen at `image_size`.
        coreset: share of the bank to keep, in (0, 1].
        neighbours: "exact", or "faiss" for banks of a million vectors: 99.9 % of the nearest ones, many times faster
            (extra `faiss`; `load` builds its index again).
        rotations: 1, 2, 4 or 8 turned copies of each normal image in the bank.
        flips: mirrored copies too.
        smoothing: sigma of the heatmap's Gaussian in tokens, up to 16; recipe "winclip" has none.
        max_false_positive_rate: share of normal images that may exceed the threshold of `fit`, between 0 and 1.
        precision: "fp32", "bf16", or "auto" by the processor's flags.
        max_pixels: that a file may have; images in memory have no limit.
        device: "cpu", "cuda", ..., or "auto".

    Raises:
        ModelNotFoundError: no such model, one that is not supported, or recipe "winclip" with a model without [CLS].
        WeightsUnavailableError: the weights are not to be had (`encoders.loading.load_model`).
        ValueError: an option outside its range, or a device that is not there.
        MissingDependencyError: neighbours="faiss" without faiss.

    Threads may share a detector to predict with, as long as none fits or calibrates it.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
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
        smoothing: float = 0.25,
        max_false_positive_rate: float = 0.05,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        max_pixels: int = MAX_PIXELS,
        device: str = "auto",
    ):
        options = Options(
            model=model,
            pretrained=pretrained,
            object_name=object_name,
            defects=defects,
            prompts=prompts,
            states=states,
            templates=templates,
            recipe=recipe,
            cues=cues,
            scales=scales,
            temperature=temperature,
            layers=layers,
            dense_attention=dense_attention,
            image_size=image_size,
            tile=tile,
            coreset=coreset,
            neighbours=neighbours,
            rotations=rotations,
            flips=flips,
            smoothing=smoothing,
            max_false_positive_rate=max_false_positive_rate,
            precision=precision,
            max_pixels=max_pixels,
        )
        torch_device = resolve_device(device)
        loaded = load_model(options.model, options.pretrained)
        self.backbone = Backbone(
            loaded, device=torch_device, precision=precision, dense_attention=options.dense_attention
        )
        self._config = Config.resolve(options, self.backbone)
        self._extractor = FeatureExtractor(self.backbone, self._config)
        super().__init__(inference.zero_shot_threshold(self._extractor))

    @property
    def options(self) -> Mapping[str, Any]:
        """Name -> value of every option in force; read-only, saved with the detector."""
        return MappingProxyType(self._config.to_dict())

    def fit(self, images: fitting.NormalImages, *, progress: bool = True) -> Detector:
        """Fill the banks with normal images, weigh the cues and set the threshold; forgets what was fitted before.

        The weights and the threshold come from leave-one-image-out scores of the normal images (of about 64; for a
        class with a single image from six mild variations of it). An image that scores unlike the rest is named in a
        warning and left out of the threshold. With several classes each heatmap is relative to the level of its class,
        so that one threshold serves all. Recipe "winclip" has the threshold alone.

        Args:
            images: normal images, or a mapping of class -> normal images of it. One works, but the threshold is a rough
                guess then. All classes share the text of `object_name`. Or features of several, `batch.read_features`.
            progress: show a bar on a terminal or in a notebook.

        Raises:
            ImageError: an image cannot be used. After any error the detector is as it was.
            ValueError: no images, one image in place of a list, `cues` without a bank, or a coreset too small.
        """
        with torch.autocast(self.backbone.device.type, enabled=False):
            self._fitted, self._threshold = fitting.fit(self._extractor, images, progress=progress)
        return self

    def fit_unlabelled(
        self, images: Iterable[ImageLike | StoredFeatures], *, at_most_anomalous: float = 0.2, progress: bool = True
    ) -> Detector:
        """`fit` on unlabelled images: odd patches of the most anomalous ones, by `rank`, stay out of banks.

        The threshold is never guaranteed: it may leave out the stated share of the images, and is too high where more
        are anomalous. Unreadable images are left out, with a warning.

        Args:
            images: of one product, most of them normal.
            at_most_anomalous: share in [0, 1) of the images that may show a defect.

        Raises:
            ImageError, ValueError: as in `fit` and `rank`, or a share outside its range.
        """
        with torch.autocast(self.backbone.device.type, enabled=False):
            self._fitted, self._threshold = ranking.fit_unlabelled(
                self._extractor, images, at_most_anomalous=at_most_anomalous, progress=progress
            )
        return self

    def calibrate(
        self, images: Sequence[ImageLike], *, max_false_positive_rate: float | None = None, progress: bool = True
    ) -> Detector:
        """Set the threshold so that new normal images exceed it at most that often; the heatmaps stay as they are.

        Guaranteed (`threshold_guaranteed`) for n >= 1 / rate - 1 normal images that `fit` has not seen: 19 for
        0.05, 99 for 0.01. With fewer it is an extrapolation, and a warning says so; where one is left out, as by `fit`,
        nothing is guaranteed. Works before `fit` too.

        Args:
            images: normal images that `fit` has not seen.
            max_false_positive_rate: None is the detector's own.

        Raises:
            ImageError: an image cannot be used.
            ValueError: fewer than two images, or a rate outside (0, 1).
        """
        named = NamedImages(images)
        results = self.predict_batch(named, progress=progress)
        self._threshold = calibration.calibrate(self._extractor, self._fitted, named, results, max_false_positive_rate)
        return self

    def teach(self, examples: teaching.DefectExamples, *, add: bool = False, progress: bool = True) -> Detector:
        """Learn kinds of defects from a few examples, one or better five of each: regions are named by them from then
        on, and not by the text; one that is like none of them has no name. Another `fit` keeps them.

        Args:
            examples: kind -> its images, or (image, mask) or (image, box) of each; see `teaching`. {} forgets all.
            add: keep what was taught before.
            progress: show a bar on a terminal or in a notebook.

        Raises:
            ImageError: an image cannot be used. After any error the detector is as it was.
            ValueError: before `fit`, a kind of whose examples none has a region, or a mask or box that does not fit.
        """
        extractor, fitted, earlier = self._extractor, self._fitted, self._examples if add else None
        with torch.autocast(self.backbone.device.type, enabled=False):
            self._examples = teaching.teach(
                extractor, fitted, self._threshold, examples, earlier=earlier, progress=progress
            )
        return self

    def predict(self, image: ImageLike) -> Result:
        """Heatmap, score, verdict and regions of one image; arrays are RGB: pass OpenCV's BGR as `image[..., ::-1]`.

        Raises:
            ImageError: see `images.load.load_image`.
        """
        [result] = self.predict_prepared([self.prepare(image)])
        return result

    def prepare(self, image: ImageLike) -> Prepared:
        """The first half of `predict`, on the CPU alone and in any thread: read an image, resize it for the network.

        Raises:
            ImageError: see `images.load.load_image`.
        """
        return self._extractor.prepare(snapshot(image, max_pixels=self._config.max_pixels))

    def predict_prepared(self, prepared: Sequence[Prepared]) -> list[Result]:
        """The second half of `predict`, on the detector's device: images of one size share a forward.

        Args:
            prepared: by `prepare`, of this detector or one with the same model and options.

        Returns:
            In the order given; a result does not depend on the other images.

        Raises:
            ValueError: an image that was prepared for another size.
        """
        self._extractor.check(prepared)
        with torch.autocast(self.backbone.device.type, enabled=False):  # the detector has a precision of its own
            found = inference.measure(self._extractor, self._fitted, prepared)
            kinds = self._learnt_kinds
            return [inference.judge(self._extractor, measured, self._threshold, kinds) for measured in found]

    def measure(self, prepared: Sequence[Prepared]) -> list[inference.Measured]:
        """`predict_prepared` without the verdicts: what `judge` takes, again after each change of the threshold."""
        self._extractor.check(prepared)
        with torch.autocast(self.backbone.device.type, enabled=False):
            return inference.measure(self._extractor, self._fitted, prepared)

    def judge(self, measured: inference.Measured) -> Result:
        """A result at the present threshold, with the present names of defects, in milliseconds: no network runs.

        Args:
            measured: by this detector, since its last `fit`.
        """
        with torch.autocast(self.backbone.device.type, enabled=False):  # names by the text may be encoded now
            return inference.judge(self._extractor, measured, self._threshold, self._learnt_kinds)

    @overload
    def predict_batch(
        self, images: Iterable[ImageLike], *, batch_size: int = 16, progress: bool = ..., errors: Literal["raise"] = ...
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
        extractor, predict = self._extractor, self.predict_prepared
        return predict_stream(extractor, predict, images, batch_size=batch_size, progress=progress, errors=errors)

    def rank(self, images: Iterable[ImageLike | StoredFeatures], *, progress: bool = True) -> Ranking:
        """Order unlabelled images by how unlike the others each is: nothing is fitted, and what was fitted is not used.

        A ranking and no verdict: scores depend on what else is among the images, and what most of them show is normal.
        Of more than 128 images each is compared with 128 drawn ones (`ranking`). Images are not kept in memory.

        Args:
            images: of one product, at least two; several tens make a good ranking. An unreadable one has the score nan.
                Or features of them, `batch.read_features`.

        Raises:
            ValueError: fewer than two readable images, one image in place of a list, or `cues` without a bank.
        """
        with torch.autocast(self.backbone.device.type, enabled=False):
            return ranking.rank(self._extractor, images, progress=progress)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the detector, fitted or not, to one safetensors file (format: `persistence`). Atomic.

        The backbone's weights are not in it: their name and hash are.

        Raises:
            OSError: the folder does not exist or cannot be written.
        """
        persistence.save(path, self.backbone, self._config, self._fitted, self._threshold, self._examples)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        pretrained: str | os.PathLike[str] | None = None,
        allow_download: bool = False,
    ) -> Detector:
        """Read what `save` wrote; on the same kind of device every heatmap comes out as before.

        Args:
            device: as in the constructor.
            pretrained: where the backbone's checkpoint, or the folder of a "local-dir:", is now, if it has moved.
            allow_download: whether the backbone that the file names may be downloaded where it is not on this machine.

        Raises:
            FileNotFoundError: no such file.
            FileFormatError: not a detector file, truncated, or of a newer version.
            ModelNotFoundError, ValueError, MissingDependencyError: as in the constructor.
            WeightsUnavailableError: the weights of the backbone, or of a descriptor, are not to be had, or are not
                those it was fitted with.
        """
        saved = persistence.read_file(path)
        resolve_device(device)  # a wrong device is no damage of the file
        with persistence.damage_reported(path), downloads(allowed=allow_download):
            detector = cls(**saved.options(pretrained), device=device)
            detector._fitted, detector._threshold, detector._examples = saved.state(detector._extractor)
        return detector

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        image_hw: tuple[int, int] | None = None,
        int8_images: Sequence[ImageLike] | None = None,
        verify: Sequence[ImageLike] | None = None,
    ) -> Verification | None:
        """Write one ONNX file, opset 17, for `runtime.load`, which gives the same results without torch, and for any
        other program (format: `export`); recipe "dense" without tiles only.

        Heatmaps are within 1e-3 of `predict` in precision "fp32"; a detector in "bf16" exports its rounded weights, and
        differs by some thousandths. Distances take 4 * B * cells * vectors bytes, at most 1.75 GiB a bank and image.

        Args:
            image_hw: (H, W) of the images, whose proportions the file is for, and of its heatmaps. None is the size of
                the fitted images; where they have several (with a warning), and before `fit`, the model's own square.
            int8_images: some normal images (20 will do) that set the ranges of a static int8 network: half the file, no
                slower, heatmaps move by some hundredths (`calibrate` again on its scores).
            verify: images to compare the file and this detector on. A warning names verdicts that differ though the
                score is further than 1e-3 from the threshold.

        Returns:
            The comparison of `verify`, else None.

        Raises:
            ValueError: recipe "winclip", tiles, more than the 2 GiB that one file holds, or banks that are too large.
            MissingDependencyError: without `pip install "patchclip[onnx]"`. OSError: as for `save`.
        """
        from . import export, verification

        fitted, threshold, kinds = self._fitted, self._threshold, self._learnt_kinds
        export.export_onnx(path, self._extractor, fitted, threshold, kinds, image_hw=image_hw, int8_images=int8_images)
        if verify is None:
            return None
        return verification.verify(self.predict, path, verify, threads=torch.get_num_threads())

    def __repr__(self) -> str:
        state = f"fitted, {len(self._fitted.memory)} vectors" if self._fitted else "zero-shot"
        threshold = f"threshold={self.threshold:.4f} ({self.threshold_source})"
        return f"Detector({self._config.model!r}, recipe={self._config.recipe!r}, {state}, {threshold})"
