"""An exported detector: images -> `Result`s, as `Detector.predict` gives them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, overload

import cv2
import numpy as np

from ..errors import ImageError, PatchclipError
from ..images.load import ImageLike, describe, load_image, snapshot
from ..images.plan import Prepared
from ..images.resample import resample
from ..result import Region, Result
from ..scoring.regions import named_regions
from ..state import ThresholdState
from ..streaming import predict_stream
from .contents import CLASS_INDEX, DENSE, FINE_MAP, INPUT, Contents
from .session import open_file

#: Images that go through the graph at once, on a processor and elsewhere: 16 do not fit into its caches, take a sixth
#: longer than pairs, and five times the memory.
_CPU_CHUNK = 2
_CHUNK = 32


def load(
    path: str | os.PathLike[str], *, providers: Sequence[str] | None = None, threads: int | None = None
) -> OnnxDetector:
    """Read what `Detector.export` wrote, in float32 or int8.

    Args:
        providers: where the graph runs, best first: "cpu", "cuda", "openvino", or names of onnxruntime's providers;
            None is the processor. What a provider cannot run, the processor does.
        threads: that one product is shared by; None is one for each core.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: not by patchclip, damaged, or of another version.
        ValueError: a provider that is not installed or cannot start, or threads below 1.
        MissingDependencyError: without onnxruntime.
    """
    session, contents = open_file(path, providers=providers, threads=threads)
    return OnnxDetector(session, contents)


class OnnxDetector(ThresholdState):
    """A detector from an exported file; `load` makes it. The threshold may be set, as that of a `Detector`.

    Images may have any size but the proportions that the file was exported for: others are refused, since the network
    would see them at another size, and score them otherwise.

    Attributes:
        contents: what the file says of itself.

    Threads may share it.
    """

    def __init__(self, session: Any, contents: Contents):
        super().__init__(contents.threshold)
        self.contents = contents
        self._session = session
        classes = [CLASS_INDEX] if contents.classes else []
        self._output_names = [FINE_MAP, *classes, DENSE, *contents.vector_outputs]
        self._run_options = _run_options()

    @property
    def options(self) -> Mapping[str, Any]:
        """Name -> value of the detector's options that the file tells; read-only."""
        contents = self.contents
        known = {
            "model": contents.model,
            "object_name": contents.object_name,
            "recipe": contents.recipe,
            "precision": "int8" if contents.is_int8 else "fp32",
            "image_size": contents.side,
            "max_false_positive_rate": contents.max_false_positive_rate,
            "max_pixels": contents.max_pixels,
        }
        return MappingProxyType(known)

    @property
    def providers(self) -> tuple[str, ...]:
        """Where the graph runs, by onnxruntime's names, best first."""
        return tuple(self._session.get_providers())

    @property
    def weights_(self) -> dict[str, float]:
        """Cue -> weight in the heatmap, together 1; empty for a detector that was not fitted."""
        return dict(self.contents.cue_weights)

    @property
    def levels_(self) -> tuple[float, ...]:
        """(classes,) floats, where heatmaps of each class are one half; empty for fewer than two classes."""
        return self.contents.class_levels

    @property
    def classes_(self) -> tuple[str, ...]:
        """Names of the classes it was fitted with; empty without."""
        return self.contents.classes

    @property
    def kinds_(self) -> dict[str, int]:
        """Kind of defect -> how many examples of it were taught; empty without."""
        kinds = self.contents.kinds
        return {} if kinds is None else dict(zip(kinds.names, kinds.counts, strict=True))

    @property
    def max_pixels(self) -> int:
        """That an image file may have."""
        return self.contents.max_pixels

    def predict(self, image: ImageLike) -> Result:
        """Heatmap, score, verdict and regions of one image; arrays are RGB: pass OpenCV's BGR as `image[..., ::-1]`.

        Raises:
            ImageError: see `images.load.load_image`; or other proportions than the file's.
        """
        [result] = self.predict_prepared([self.prepare(snapshot(image, max_pixels=self.max_pixels))])
        return result

    def prepare(self, image: ImageLike) -> Prepared:
        """The first half of `predict`, in any thread: read an image, resize it for the network.

        Raises:
            ImageError: as `predict`.
        """
        upright = load_image(image, max_pixels=self.max_pixels)
        height, width = upright.shape[:2]
        size_hw = self.contents.plan((height, width))
        if size_hw != self.contents.size_hw:
            raise ImageError(
                f"{describe(image)} has {height} x {width} pixels, and the file was exported for the proportions of "
                f"{self.contents.heatmap_hw[0]} x {self.contents.heatmap_hw[1]}: export it again with image_hw="
                f"({height}, {width})"
            )
        return Prepared(upright, resample(upright, size_hw, self.contents.interpolation), (1, 1))

    def predict_prepared(self, prepared: Sequence[Prepared]) -> list[Result]:
        """The second half of `predict`: images go through the graph together.

        Args:
            prepared: by `prepare`.

        Raises:
            ValueError: an image that was prepared for another size.
        """
        for image in prepared:
            if not isinstance(image, Prepared) or image.plan != (self.contents.size_hw, (1, 1)):
                raise ValueError("expected images by OnnxDetector.prepare of this file: prepare each of them")
        results: list[Result] = []
        chunk = _CPU_CHUNK if self.providers[0].startswith("CPU") else _CHUNK
        for start in range(0, len(prepared), chunk):
            results += self._predict_chunk(prepared[start : start + chunk])
        return results

    def _predict_chunk(self, prepared: Sequence[Prepared]) -> list[Result]:
        stacked = np.stack([image.pixels for image in prepared])  # (B, h, w, 3)
        pixels = np.ascontiguousarray(stacked.transpose(0, 3, 1, 2), np.float32)
        pixels /= 255
        values = self._session.run(self._output_names, {INPUT: pixels}, self._run_options)
        outputs = dict(zip(self._output_names, values, strict=True))
        results = []
        for index, image in enumerate(prepared):
            class_name = self.classes_[int(outputs[CLASS_INDEX][index])] if self.classes_ else None
            grids = [outputs[name][index] for name in (DENSE, *self.contents.vector_outputs)]
            results.append(self._result(image, outputs[FINE_MAP][index], grids, class_name))
        return results

    def _result(
        self, image: Prepared, fine_map: np.ndarray, grids: Sequence[np.ndarray], class_name: str | None
    ) -> Result:
        """From an image's map of (rows, columns), and the vectors that regions are named by, the dense tokens first."""
        height, width = image.image_hw
        heatmap = cv2.resize(fine_map, (width, height), interpolation=cv2.INTER_LINEAR)
        score = float(heatmap.max())
        if not math.isfinite(score):
            raise PatchclipError(f"the exported file gives a score of {score}: export the detector again")
        regions: tuple[Region, ...] = ()
        if score > self.threshold:
            names = self.contents.kinds or self.contents.defects
            regions = named_regions(heatmap, self.threshold, grids, names)
        return Result(
            score=score,
            threshold=self.threshold,
            threshold_source=self.threshold_source,
            regions=regions,
            class_name=class_name,
            image=image.image,
            _heatmap=heatmap,
            _background=0.0,
            _region_level=self.threshold,
        )

    @overload
    def predict_batch(
        self, images: Iterable[ImageLike], *, batch_size: int = 16, progress: bool = ..., errors: Literal["raise"] = ...
    ) -> Iterator[Result]: ...

    @overload
    def predict_batch(
        self, images: Iterable[ImageLike], *, batch_size: int = 16, progress: bool = ..., errors: Literal["return"]
    ) -> Iterator[Result | ImageError]: ...

    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int = 16,
        progress: bool = False,
        errors: Literal["raise", "return"] = "raise",
    ) -> Iterator[Result | ImageError]:
        """As `Detector.predict_batch`: results in the order of the images, while later images are decoded.

        Args:
            progress: show a bar on a terminal or in a notebook; needs tqdm.
        """
        return predict_stream(
            self, self.predict_prepared, images, batch_size=batch_size, progress=progress, errors=errors
        )

    def __repr__(self) -> str:
        threshold = f"threshold={self.threshold:.4f} ({self.threshold_source})"
        return f"OnnxDetector({self.contents.model!r}, for {self.contents.heatmap_hw}, {threshold})"


def _run_options() -> Any:
    """Compute what is asked for alone: not the heatmap of a fixed size."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    return options
