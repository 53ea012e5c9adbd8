"""A stream of images -> results in order: prepared ahead in threads, predicted in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from operator import length_hint

from .errors import ImageError
from .features import FeatureExtractor
from .images.load import ImageLike, require_several, snapshot
from .images.prefetch import SourceFailure, ordered_map, trim_memory
from .images.prepare import Prepared
from .progress import progress_bar
from .result import Result

#: Images after which freed memory goes back to the system.
_TRIM_EVERY = 64


def predict_stream(
    extractor: FeatureExtractor,
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
    return _stream(extractor, predict_prepared, images, batch_size, progress, errors)


def _stream(
    extractor: FeatureExtractor,
    predict_prepared: Callable[[Sequence[Prepared]], list[Result]],
    images: Iterable[ImageLike],
    batch_size: int,
    progress: bool,
    errors: str,
) -> Iterator[Result | ImageError]:
    def try_prepare(image: ImageLike) -> Prepared | ImageError:
        try:
            return extractor.prepare(image)
        except ImageError as error:
            return error

    snapshots = map(partial(snapshot, max_pixels=extractor.config.max_pixels), images)
    prepared = ordered_map(try_prepare, snapshots, ahead=2 * batch_size)
    since_trimmed = 0
    with progress_bar("predict", total=length_hint(images) or None, show=progress) as bar:
        while batch := list(islice(prepared, batch_size)):
            usable = [image for image in batch if isinstance(image, Prepared)]
            results = iter(predict_prepared(usable))
            for image in batch:
                if isinstance(image, SourceFailure):
                    raise image.error
                bar.update()
                if isinstance(image, Prepared):
                    yield next(results)
                elif errors == "raise":
                    raise image
                else:
                    yield image
            since_trimmed += len(batch)
            if since_trimmed >= _TRIM_EVERY:
                trim_memory()
                since_trimmed = 0
