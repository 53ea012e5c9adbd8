"""Kinds of defects that a detector is taught: what it takes, what it says then, and what it keeps."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import fit_quietly
from PIL import Image
from safetensors.numpy import load_file

from patchclip import Detector, ImageError
from patchclip.synthetic import Surface, sample_defective

Examples = dict[str, list[tuple[np.ndarray, np.ndarray]]]


@pytest.fixture(scope="module")
def examples(surface: Surface) -> Examples:
    """Kind -> four images (96, 128, 3) uint8 with their masks."""
    rng = np.random.default_rng(1)
    drawn: Examples = {}
    for kind in ("hole", "colour patch", "scratch"):
        pairs = []
        for index in range(4):
            image, mask, _ = sample_defective(surface, 20 + index, rng, kind=kind, size_hw=(96, 128))
            pairs.append((image, mask))
        drawn[kind] = pairs
    return drawn


@pytest.fixture(scope="module")
def low(fitted_tiny: Detector) -> Detector:
    """The embedded model, fitted, with so low a threshold that every image has a region; tests copy it to change it."""
    detector = copy.copy(fitted_tiny)
    detector.threshold = 0.0
    return detector


@pytest.fixture(scope="module")
def taught(low: Detector, examples: Examples) -> Detector:
    """Two kinds of three examples each; tests do not change it."""
    detector = copy.copy(low)
    return detector.teach({kind: [image for image, _ in examples[kind][:3]] for kind in ("hole", "colour patch")})


def images_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    return [image for image, _ in pairs]


def test_regions_are_named_by_the_examples(low: Detector, taught: Detector, examples: Examples) -> None:
    assert (low.kinds_, taught.kinds_) == ({}, {"hole": 3, "colour patch": 3})
    for kind in taught.kinds_:
        result = taught.predict(examples[kind][3][0])
        assert (result.defect, result.defect_source) == (kind, "examples")
        assert result.regions[0].defect_source == "examples"
        assert result.confidence == result.regions[0].confidence
        assert 0 < (result.confidence or 0) <= 1
        plain = low.predict(examples[kind][3][0])
        assert np.array_equal(plain.heatmap, result.heatmap)
        assert [region.box_xyxy for region in plain.regions] == [region.box_xyxy for region in result.regions]


def test_the_source_is_in_every_form_of_a_result(taught: Detector, low: Detector, examples: Examples) -> None:
    entries = json.loads(json.dumps(taught.predict(examples["hole"][3][0]).to_dict()))
    assert (entries["defect"], entries["defect_source"]) == ("hole", "examples")
    assert entries["confidence"] == entries["regions"][0]["confidence"]
    for result in low.predict_batch(images_of(examples["hole"]), progress=False):
        assert result.defect_source == (None if result.defect is None else "text")


def test_names_do_not_depend_on_the_batch(taught: Detector, examples: Examples) -> None:
    images = [image for pairs in examples.values() for image in images_of(pairs)]
    for result, image in zip(taught.predict_batch(images, progress=False), images, strict=True):
        single = taught.predict(image)
        assert [region.defect for region in single.regions] == [region.defect for region in result.regions]
        assert single.confidence == pytest.approx(result.confidence, abs=1e-4)


def test_examples_are_added_and_copies_do_not_count(taught: Detector, examples: Examples) -> None:
    detector = copy.copy(taught)
    detector.teach({"scratch": images_of(examples["scratch"][:2]), "hole": images_of(examples["hole"][2:])}, add=True)
    assert detector.kinds_ == {"hole": 4, "colour patch": 3, "scratch": 2}  # the third hole was known
    at_once = {
        "hole": examples["hole"],
        "colour patch": examples["colour patch"][:3],
        "scratch": examples["scratch"][:2],
    }
    again = copy.copy(taught).teach({kind: images_of(pairs) for kind, pairs in at_once.items()})
    image = examples["scratch"][3][0]
    expected, found = again.predict(image), detector.predict(image)
    assert (found.defect, found.confidence) == (expected.defect, pytest.approx(expected.confidence))
    shown, mask = examples["scratch"][0]
    again = copy.copy(taught).teach(
        {"scratch": [(shown, mask), (shown[:, ::-1], mask[:, ::-1]), (shown[::-1], mask[::-1])]}
    )
    assert again.kinds_ == {"scratch": 1}
    with pytest.warns(UserWarning, match=r"image 0 \(mark\) shows the same as an example of 'scratch': leave out one"):
        again.teach({"mark": [(shown, mask)]}, add=True)
    assert taught.kinds_ == {"hole": 3, "colour patch": 3}
    detector.teach({"scratch": images_of(examples["scratch"][:1])})
    assert detector.kinds_ == {"scratch": 1}
    assert detector.teach({}).kinds_ == {}
    assert detector.predict(image).defect_source in ("text", None)


def test_a_flipped_defect_is_known_as_well(low: Detector, examples: Examples, tmp_path: Path) -> None:
    (image, mask), flips = examples["hole"][0], [np.s_[:, ::-1], np.s_[::-1], np.s_[::-1, ::-1]]
    plain = copy.copy(low).teach({"hole": [(image, mask)]})
    for index, flip in enumerate(flips):
        flipped = copy.copy(low).teach({"hole": [(image[flip], mask[flip])]})
        plain.save(tmp_path / "plain")
        flipped.save(tmp_path / str(index))
        one, other = (load_file(tmp_path / name)["examples"][0] for name in ("plain", str(index)))
        view = index + 1
        assert np.array_equal(one[0], other[view])
        assert np.array_equal(one[view], other[0])
        assert not np.array_equal(one[0], other[0])


def test_masks_and_boxes(low: Detector, examples: Examples, tmp_path: Path) -> None:
    image, mask = examples["hole"][0]
    path = tmp_path / "mask.png"
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    white = np.full((*mask.shape, 3), 255, np.uint8)
    forms: list[Any] = [mask, mask.astype(np.uint8), path, str(path), [path], Image.open(path)]
    forms += [white * mask[..., None], Image.fromarray(np.dstack([white, mask * np.uint8(255)]))]  # in the alpha
    probe = examples["hole"][1][0]
    expected = copy.copy(low).teach({"hole": [(image, mask), image]}).predict(probe).regions
    for form in forms:
        assert copy.copy(low).teach({"hole": [(image, form), image]}).predict(probe).regions == expected
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    filled = np.zeros_like(mask)
    filled[box[1] : box[3], box[0] : box[2]] = True
    by_mask = copy.copy(low).teach({"hole": [(image, filled), image]}).predict(probe).regions
    for box_form in (box, list(map(int, box)), np.array(box)):
        assert copy.copy(low).teach({"hole": [(image, box_form), image]}).predict(probe).regions == by_mask


def test_a_mask_that_is_unusual_is_named(low: Detector, examples: Examples, tmp_path: Path) -> None:
    image, mask = examples["hole"][0]
    path = tmp_path / "small.png"
    Image.fromarray(mask).resize((64, 48)).save(path)
    with pytest.warns(
        UserWarning, match=r"teach: the mask of image 0 \(hole\): mask of another size, resized"
    ) as caught:
        copy.copy(low).teach({"hole": [(image, path)]})
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"image 0 \(hole\): it covers the whole image, check that it is one"):
        copy.copy(low).teach({"hole": [(image, np.ones_like(mask))]})


@pytest.mark.parametrize("size_hw", [(3000, 2), (2, 3000), (5, 5)])
def test_one_pixel_of_an_image_is_enough(size_hw: tuple[int, int], low: Detector, examples: Examples) -> None:
    detector = copy.copy(low)
    image = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), np.uint8)
    mask = np.zeros(size_hw, bool)
    mask[size_hw[0] // 2, size_hw[1] // 2] = True
    detector.teach({"dot": [(image, mask)]})
    assert detector.predict(image).regions
    detector.teach({"hole": examples["hole"]}, add=True)
    result = detector.predict(examples["hole"][0][0])
    assert result.defect == "hole"  # a vector that is not finite would spoil the others' too


def test_examples_without_a_region_are_named(fitted_tiny: Detector, examples: Examples, tmp_path: Path) -> None:
    detector = copy.copy(fitted_tiny)
    path = tmp_path / "faint.png"
    (image, mask), *others = examples["hole"]
    Image.fromarray(image).save(path)
    detector.threshold = 1.0
    with pytest.raises(
        ValueError, match=r"no example of 'hole' has a region above the threshold 1.0000: mark the defect"
    ):
        detector.teach({"hole": [image]})
    assert detector.kinds_ == {}
    with pytest.warns(UserWarning, match=r"1 of 2 examples are left out.*faint.png \(hole\); mark the defect"):
        detector.teach({"hole": [path, (image, mask)]})
    assert detector.kinds_ == {"hole": 1}
    detector.teach({"hole": [others[0]]}, add=True)  # with its mask
    with pytest.raises(ValueError, match=r"no example of 'hole' has a region"):
        detector.teach({"hole": [path]}, add=True)
    assert detector.kinds_ == {"hole": 2}


def test_an_iterator_may_use_one_array_again(low: Detector, examples: Examples) -> None:
    def overwritten() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        frame, mask = (np.empty_like(array) for array in examples["hole"][0])
        for pair in examples["hole"][:3]:
            frame[:], mask[:] = pair
            yield frame, mask

    expected = copy.copy(low).teach({"hole": examples["hole"][:3]})
    found, probe = copy.copy(low).teach({"hole": overwritten()}), examples["hole"][3][0]
    assert found.kinds_ == {"hole": 3}
    assert found.predict(probe).regions == expected.predict(probe).regions


def test_only_after_a_fit(tiny: Detector, examples: Examples) -> None:
    with pytest.raises(ValueError, match=r"teach needs a fitted detector.*call fit first"):
        copy.copy(tiny).teach({"hole": images_of(examples["hole"])})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a.png"], "expected a mapping of kind -> images of that defect"),
        ({"": ["a.png"]}, "names of kinds to be printable strings on one line, not empty, got ''"),
        ({3: ["a.png"]}, "names of kinds to be printable strings .* got 3"),
        ({"two\nlines": ["a.png"]}, r"names of kinds to be printable strings .* got 'two\\nlines'"),
        ({"cr\udcffck": ["a.png"]}, r"names of kinds to be printable strings .* got 'cr\\udcffck'"),
        ({"hole": []}, "at least one image for kind 'hole', got none"),
        ({"hole": "a.png"}, "a list of images for kind 'hole', got one"),
        ({"hole": ("a.png", "mask.png")}, r"a tuple of two: write \[\(image, mask\)\] for one image with its mask"),
        ({"hole": [("a.png", None, None)]}, "image 0 of kind 'hole' to be an image, .* got 3 values"),
    ],
)
def test_what_is_no_examples(given: Any, message: str, low: Detector) -> None:
    with pytest.raises(ValueError, match=message):
        copy.copy(low).teach(given)


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (np.zeros((96, 128), bool), r"the mask of image 0 \(hole\) marks nothing"),
        (
            np.ones((95, 128), bool),
            r"the mask of image 0 \(hole\) to have 96 x 128 pixels .* got the shape \(95, 128\)",
        ),
        ((5, 5, 4, 9), r"the box of image 0 \(hole\) as \(left, top, right, bottom\) .* 128 x 96, got \(5, 5, 4, 9\)"),
        ((0, 0, 129, 9), r"got \(0, 0, 129, 9\)"),
        (
            (0.1, 0.1, 0.3, 1.0),
            r"the box of image 0 \(hole\) in pixels, got fractions .* the width 128 and the height 96",
        ),
        ((1, 2, [3, 4]), r"96 x 128 pixels as its upright image, or a box .* got \(1, 2, \[3, 4\]\)"),
        ("absent.png", r"the mask of image 0 \(hole\) cannot be used: mask unreadable: absent\.png"),
        (np.full((96, 128), None), "96 x 128 pixels .* got values of object"),
        (np.full((96, 128), np.nan), "cannot be used: mask with NaN or infinite values; mark the defect"),
        (np.arange(96 * 128).reshape(96, 128) > 500, "cannot be used: mask marks 96% of the image, perhaps inverted"),
    ],
)
def test_masks_and_boxes_that_do_not_fit(marked: Any, message: str, taught: Detector, examples: Examples) -> None:
    detector = copy.copy(taught)
    with pytest.raises(ValueError, match=message):
        detector.teach({"hole": [(examples["hole"][0][0], marked)]})
    assert detector.kinds_ == taught.kinds_  # a failed lesson changes nothing


def test_an_image_that_cannot_be_read(taught: Detector, examples: Examples) -> None:
    detector = copy.copy(taught)
    with pytest.raises(ImageError, match=r"absent\.png"):
        detector.teach({"hole": [examples["hole"][0][0], "absent.png"]}, add=True)
    assert detector.kinds_ == taught.kinds_


def test_a_refit_keeps_what_was_taught(taught: Detector, normals: list[np.ndarray], examples: Examples) -> None:
    """The features' meaning does not change: the same images give the same names."""
    detector = copy.copy(taught)
    fit_quietly(detector, normals[3:6])
    assert detector.kinds_ == taught.kinds_
    fit_quietly(detector, normals[:3])
    detector.threshold = 0.0
    image = examples["hole"][3][0]
    assert detector.predict(image).regions == taught.predict(image).regions


def test_classes_share_the_kinds(tiny: Detector, normals: list[np.ndarray], examples: Examples) -> None:
    darker = [(image * 0.6).astype(np.uint8) for image in normals[3:6]]
    detector = fit_quietly(copy.copy(tiny), {"light": normals[:3], "dark": darker})
    detector.threshold = 0.0
    both = [examples["hole"][0][0], (examples["hole"][1][0] * 0.6).astype(np.uint8)]
    detector.teach({"hole": both, "scratch": images_of(examples["scratch"][:2])})
    assert [detector.predict(image).class_name for image in both] == ["light", "dark"]
    assert {detector.predict(image).defect for image in both} == {"hole"}


@pytest.mark.parametrize("options", [{"recipe": "winclip"}, {"tile": 60}, {"cues": ("imagenet_fine",)}])
def test_other_detectors(
    options: dict[str, Any], local_model: str, normals: list[np.ndarray], examples: Examples
) -> None:
    detector = fit_quietly(Detector(local_model, precision="fp32", **options), normals[:3])
    detector.threshold = 0.0
    detector.teach({kind: pairs[:2] for kind, pairs in examples.items()})
    result = detector.predict(examples["hole"][0][0])
    assert detector.kinds_ == {"hole": 2, "colour patch": 2, "scratch": 2}
    assert result.regions
    assert result.defect in (*examples, None)
