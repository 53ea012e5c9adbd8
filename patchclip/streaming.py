"""A stream of images -> results in order: prepared ahead in threads, predicted in batches, within a bound of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from operator import length_hint
from typing import NoReturn, Protocol

from .errors import ImageError
from .images.load import ImageLike, require_several, snapshot
from .images.plan import Prepared
from .images.prefetch import SourceFailure, ordered_map, trim_memory
from .progress import progress_bar
from .result import Result

#: Images after which freed memory goes back to the system.
_TRIM_EVERY = 64

#: Decoded images that wait take at most so many bytes, and so do the images of one batch; the heatmaps of a batch take
#: 4 / 3 of that. A single larger image is let through.
_MAX_WAITING_BYTES = 256 * 1024 * 1024
_MAX_BATCH_BYTES = 128 * 1024 * 1024


class Preparer(Protocol):
    """What reads and resizes images: a `FeatureExtractor`, or a detector of an exported file."""

    @property
    def max_pixels(self) -> int:
        """That a file may have."""

    def prepare(self, image: ImageLike) -> Prepared:
        """Of an image that does not change."""


def predict_stream(
    preparer: Preparer,
    predict_prepared: Callable[[Sequence[Prepared]], list[Result]],
    images: Iterable[ImageLike],
    *,
    batch_size: int,
    progress: bool,
    errors: str,
) -> Iterator[Result | ImageError]:
    """See `Detector.predict_batch`.

    Raises:
        ValueError: at once, for one image in place of several, and options outside their range.
    """
    require_several(images)
    if batch_size < 1:
        raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
    if errors not in ("raise", "return"):
        raise ValueError(f'expected errors="raise" or "return", got {errors!r}')
    return _stream(preparer, predict_prepared, images, batch_size, progress, errors)


def _stream(
    preparer: Preparer,
    predict_prepared: Callable[[Sequence[Prepared]], list[Result]],
    images: Iterable[ImageLike],
    batch_size: int,
    progress: bool,
    errors: str,
) -> Iterator[Result | ImageError]:
    batches = prepared_batches(preparer, images, batch_size)
    batch: deque[Prepared | ImageError | SourceFailure] = deque()
    results: deque[Result] = deque()
    since_trimmed = 0
    try:
        with progress_bar("predict", total=length_hint(images) or None, show=progress) as bar:
            for batch in batches:
                usable = [image for image in batch if isinstance(image, Prepared)]
                results = deque(predict_prepared(usable))
                since_trimmed += len(batch)
                del usable
                while batch:
                    image: Prepared | ImageError | SourceFailure | None = batch.popleft()
                    bar.update()
                    if isinstance(image, Prepared):
                        image = None  # the result alone is handed over
                        yield results.popleft()
                    elif isinstance(image, SourceFailure):
                        _raise(image.error)
                    elif isinstance(image, ImageError) and errors == "raise":
                        _raise(image)
                    elif isinstance(image, ImageError):
                        yield image
                if since_trimmed >= _TRIM_EVERY:
                    trim_memory()
                    since_trimmed = 0
    finally:
        # the traceback of an error holds this frame: what it has is dropped here, and not when the error is
        image = None
        batch.clear()
        results.clear()
        batches.close()
        trim_memory()


def prepared_batches(
    preparer: Preparer, images: Iterable[ImageLike], batch_size: int
) -> Generator[deque[Prepared | ImageError | SourceFailure], None, None]:
    """Images in order, prepared ahead in threads, in batches: up to `batch_size`, fewer where the images are large.

    An image that cannot be used is its `ImageError`. Where `images` raises, a `SourceFailure` is the last of all.
    """

    def try_prepare(image: ImageLike) -> Prepared | ImageError:
        try:
            return preparer.prepare(image)
        except ImageError as error:
            return error

    prepared = ordered_map(
        try_prepare,
        map(partial(snapshot, max_pixels=preparer.max_pixels), images),
        ahead=2 * batch_size,
        size_of=_bytes_of,
        max_bytes=_MAX_WAITING_BYTES,
    )
    batch: deque[Prepared | ImageError | SourceFailure] = deque()
    batch_bytes = 0
    try:
        for image in prepared:
            batch.append(image)
            batch_bytes += _bytes_of(image)
            del image
            if len(batch) == batch_size or batch_bytes >= _MAX_BATCH_BYTES:
                yield batch
                batch, batch_bytes = deque(), 0
        if batch:
            yield batch
    finally:
        prepared.close()


def _bytes_of(image: Prepared | ImageError | SourceFailure) -> int:
    return image.image.nbytes if isinstance(image, Prepared) else 0


def _raise(error: Exception) -> NoReturn:
    """Raise it without keeping a reference in this frame, which its traceback holds."""
    try:
        raise error
    finally:
        del error
