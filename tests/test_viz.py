"""Pictures: colours on a fixed scale, labels inside, sheets with room for all."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from patchclip import viz


def test_colours_are_anchored_to_the_threshold() -> None:
    assert viz.colour_level(np.array([0.0, 0.2, 0.4]), 0.2).tolist() == pytest.approx([0, 0.5, 0.8])


def test_colours_run_from_blue_to_red() -> None:
    colours = viz.colour_map(np.array([[0.1, 0.5, 0.9]]))
    assert colours.shape == (1, 3, 3)
    assert colours.dtype == np.uint8
    assert colours[0].argmax(1).tolist() == [2, 1, 0]  # blue, green, red


def test_overlay_colours_only_what_is_near_the_threshold() -> None:
    image = np.full((300, 400, 3), 90, np.uint8)
    heatmap = np.zeros((300, 400), np.float32)
    heatmap[100:150, 200:260] = 0.8
    picture = np.asarray(viz.overlay(image, heatmap, 0.4, [((200, 100, 260, 150), "crack 0.80")]))
    assert picture.shape == (300, 400, 3)
    assert (picture[:90, :150] == 90).all()
    red, _, blue = picture[125, 230].astype(int)
    assert red > blue + 60  # far above the threshold is red
    assert (picture[100, 200:260] == 255).all()  # the box
    assert (picture[70:99, 200:215] < 60).any()  # its label above it


def test_boxes_of_a_picture_that_is_shrunk() -> None:
    image, heatmap = np.full((800, 1600, 3), 90, np.uint8), np.zeros((800, 1600), np.float32)
    picture = np.asarray(viz.overlay(image, heatmap, 0.4, [((800, 400, 1000, 600), "hole")], max_side=400))
    assert picture.shape == (200, 400, 3)
    white = np.argwhere((picture == 255).all(2))
    assert ((white >= (80, 199)) & (white <= (150, 251))).all()  # the box at a quarter, and its label above it
    assert (picture[100, 200:250] == 255).all()


def test_the_first_ten_boxes_have_labels() -> None:
    image, heatmap = np.full((400, 400, 3), 90, np.uint8), np.zeros((400, 400), np.float32)
    labels = [((30 * k + 20, 200, 30 * k + 30, 210), "x") for k in range(12)]
    picture = np.asarray(viz.overlay(image, heatmap, 0.4, labels))
    labelled = [(picture[170:199, 30 * k + 20 : 30 * k + 32] < 60).any() for k in range(12)]
    boxed = [(picture[200, 30 * k + 20] == 255).all() for k in range(12)]
    assert labelled == [True] * 10 + [False] * 2
    assert all(boxed)


def test_labels_stay_inside_the_picture() -> None:
    image = np.full((120, 260, 3), 90, np.uint8)
    labels = [((0, 0, 20, 20), "contamination 0.99"), ((240, 100, 260, 120), "contamination 0.99")]
    picture = np.asarray(viz.overlay(image, np.zeros((120, 260), np.float32), 0.5, labels))
    assert (picture[21:34, 0:90] < 30).any()
    assert (picture[84:99, 150:259] < 30).any()


def test_contact_sheet_has_room_for_all() -> None:
    pictures = [Image.new("RGB", (50, 10 + 10 * k), "red") for k in range(5)]
    sheet = viz.contact_sheet(pictures, list("abcde"), columns=2, side=60)
    assert sheet.size == (2 * 64 - 4, 3 * (50 + 13))  # as high as the highest
