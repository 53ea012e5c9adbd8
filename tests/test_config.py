"""Options: their ranges, what the model decides, and their sentences."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from patchclip import DEFAULT_DEFECTS, Detector, MissingDependencyError
from patchclip.config import Config, Options
from patchclip.encoders.prompts import ANOMALOUS_STATES, NORMAL_STATES, TEMPLATES


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"recipe": "fast"}, "recipe"),
        ({"precision": "fp8"}, "precision"),
        ({"cues": ("text", "depth")}, "cues"),
        ({"cues": "text"}, "cues"),
        ({"coreset": 0.0}, "coreset"),
        ({"temperature": -1.0}, "temperature"),
        ({"rotations": 3}, "rotations"),
        ({"layers": (0,)}, "layers between 1 and 3"),
        ({"layers": ()}, "layers"),
        ({"layers": (1.5,)}, "layers"),
        ({"scales": (1.5,)}, "scales"),
        ({"scales": ()}, "scales"),
        ({"dense_attention": "qv"}, "dense_attention"),
        ({"scales": 2}, "scales"),
        ({"smoothing": None}, "smoothing"),
        ({"coreset": "all"}, "coreset"),
        ({"templates": "a photo of a {}."}, "templates"),
        ({"templates": ["{} {}"]}, "one {} for the object"),
        ({"states": (["flawless {1}"], ["damaged {}"])}, "one {} for the object"),
        ({"prompts": (["a"], [])}, "prompts"),
        ({"states": ("{}", "bad {}")}, "states"),
        ({"recipe": "winclip", "tile": 100}, "tiles"),
        ({"recipe": "winclip", "layers": (1,)}, "layers"),
        ({"smoothing": float("inf")}, "smoothing"),
        ({"image_size": 100_000}, "image_size"),
        ({"object_name": None}, "object_name"),
        ({"templates": ["a photo"]}, "one {} for the object"),
        ({"templates": (part for part in ["a {}"])}, "templates"),
        ({"states": ([3], ["bad {}"])}, "states"),
        ({"recipe": "winclip", "cues": ("texture",)}, "winclip"),
        ({"max_false_positive_rate": 1.0}, "max_false_positive_rate"),
        ({"scales": np.array([2, 3])}, "scales to be a list"),
        ({"cues": (cue for cue in ["tokens"])}, "cues to be a list"),
        ({"defects": None}, "defects to be a list"),
        ({"defects": [3]}, "names of defects"),
        ({"defects": {"dot": [3]}}, "wordings of defect 'dot'"),
        ({"image_size": 224.5}, "image_size to be a whole number"),
        ({"flips": "no"}, "flips to be True or False"),
        ({"prompts": (["a"], ["b"]), "templates": ["a {}"]}, "leave out states and templates"),
        ({"templates": ["a {.size}"]}, "one {} for the object"),
        ({"defects": {"dot": 3}}, "wordings of defect 'dot'"),
        ({"tile": 16}, "tile to be at least 32 pixels, got 16"),
        ({"recipe": np.array(["dense", "winclip"])}, "recipe to be one of"),
        ({"pretrained": ""}, "pretrained"),
    ],
)
def test_options_outside_their_range(options: dict[str, Any], reason: str, local_model: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Detector(local_model, **options)


def test_a_model_is_a_name() -> None:
    with pytest.raises(ValueError, match="model to be a string, got None"):
        Detector(None)


def test_faiss_is_missed_at_once(local_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"patchclip\[faiss\]"):
        Detector(local_model, neighbours="faiss")


def test_the_model_decides_what_is_left_out(local: Detector, tiny: Detector) -> None:
    """A CLIP that brings no options of its own, and the embedded model, which does."""
    defects = {name: list(wordings) for name, wordings in DEFAULT_DEFECTS.items()}
    expected: dict[str, Any] = {
        "pretrained": None,
        "object_name": "surface",
        "defects": defects,
        "recipe": "dense",
        "cues": ("text", "tokens"),
        "scales": (0, 2, 3),
        "temperature": 0.07,
        "layers": (1, 2),
        "dense_attention": "qq",
        "image_size": 64,
        "tile": None,
        "precision": "fp32",
    }
    assert {name: local.options[name] for name in expected} == expected
    defaults = tiny.backbone.model.defaults
    assert tiny.options["cues"] == defaults.cues == ("text", "tokens", "texture", "imagenet", "imagenet_fine")
    for name in ("scales", "temperature", "dense_attention"):
        assert tiny.options[name] == getattr(defaults, name)
    assert tiny.options["layers"] == defaults.bank_layers
    assert tiny.options["image_size"] == tiny.backbone.image_size


def test_what_is_given_stays(local: Detector) -> None:
    given: dict[str, Any] = {
        "cues": ["tokens"],
        "scales": [1],
        "layers": [3, 1],
        "temperature": 0.2,
        "image_size": 96,
        "tile": 64,
        "precision": "fp32",
    }
    config = Config.resolve(Options(**given), local.backbone)
    in_force = config.to_dict()
    assert (config.cues, config.scales, config.layers) == (("tokens",), (1,), (3, 1))
    assert {name: in_force[name] for name in ("temperature", "image_size", "tile")} == {
        "temperature": 0.2,
        "image_size": 96,
        "tile": 64,
    }
    assert Config(**in_force).to_dict() == in_force


def test_recipe_winclip_has_no_scales_layers_and_tiles(local: Detector) -> None:
    config = Config.resolve(Options(recipe="winclip"), local.backbone)
    assert (config.cues, config.scales, config.layers, config.tile) == (("text", "tokens"), None, None, None)


def test_options_in_force_are_a_read_only_view(local_model: str, normals: list[np.ndarray]) -> None:
    detector = Detector(local_model, states=(["good {}"], ["bad {}"]), precision="fp32")
    before, score = dict(detector.options), detector.predict(normals[0]).score
    with pytest.raises(TypeError):
        detector.options["smoothing"] = 2.0
    with pytest.raises(TypeError):
        del detector.options["smoothing"]
    with pytest.raises(AttributeError):
        detector.options = {}
    detector.options["defects"].clear()
    assert detector.options == before
    assert detector.predict(normals[0]).score == score


def test_lists_that_were_given_may_change_afterwards(local_model: str, normals: list[np.ndarray]) -> None:
    scales, states, defects = [0, 2], (["good {}"], ["bad {}"]), {"dot": ["a dot"]}
    detector = Detector(local_model, scales=scales, states=states, defects=defects, precision="fp32")
    before = dict(detector.options)
    scales.append(3)
    states[0].append("fine {}")
    defects["dot"].append("a speck")
    assert detector.options == before
    same = Detector(local_model, scales=[0, 2], states=(["good {}"], ["bad {}"]), precision="fp32")
    assert detector.predict(normals[0]).score == same.predict(normals[0]).score


def test_prompts_states_and_templates_change_the_text(
    local_model: str, local: Detector, normals: list[np.ndarray]
) -> None:
    options = {"object_name": "tile", "precision": "fp32"}
    composed = Detector(local_model, states=(["good {}"], ["bad {}"]), templates=["a {}."], **options)
    written = Detector(local_model, prompts=(["a good tile."], ["a bad tile."]), precision="fp32")
    scores = [detector.predict(normals[0]).score for detector in (composed, written, local)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] != pytest.approx(scores[2], abs=1e-6)


# --- the threshold that the embedded model brings ---------------------------------------------------------------------


def test_the_embedded_model_brings_a_threshold(tiny: Detector) -> None:
    assert tiny.threshold_source == "model"
    assert tiny.threshold == tiny.backbone.model.defaults.threshold
    assert 0 < tiny.threshold < 1


@pytest.mark.parametrize("as_list", [False, True])
def test_options_at_the_models_own_values_keep_its_threshold(as_list: bool, tiny: Detector) -> None:
    kind = list if as_list else tuple
    defaults = tiny.backbone.model.defaults
    assert defaults.scales == (1,)
    named: list[dict[str, Any]] = [
        {"scales": kind(defaults.scales)},
        {"states": (kind(NORMAL_STATES), kind(ANOMALOUS_STATES))},
        {"templates": kind(TEMPLATES)},
        {
            "scales": kind(defaults.scales),
            "temperature": defaults.temperature,
            "dense_attention": defaults.dense_attention,
            "image_size": np.int64(tiny.backbone.image_size),
            "layers": kind(defaults.bank_layers or ()),
            "cues": kind(defaults.cues),
            "states": (kind(NORMAL_STATES), kind(ANOMALOUS_STATES)),
            "templates": kind(TEMPLATES),
            "smoothing": 0.25,
        },
        {"cues": kind(["text"])},  # zero-shot heatmaps are those of the text in any case
        {"coreset": 0.5, "rotations": 2, "defects": kind(["dot"]), "layers": kind([2])},
    ]
    for options in named:
        detector = Detector(**options)
        assert (detector.threshold, detector.threshold_source) == (tiny.threshold, "model"), options


@pytest.mark.parametrize(
    "options",
    [
        {"smoothing": 1.0},
        {"image_size": 112},
        {"scales": (2,)},
        {"scales": (0, 1)},
        {"temperature": 0.5},
        {"dense_attention": "vv"},
        {"tile": 100},
        {"recipe": "winclip"},
        {"states": (["good {}"], ["bad {}"])},
        {"templates": ["a photo of a {}."]},
        {"prompts": (["a good surface."], ["a bad surface."])},
    ],
)
def test_options_that_change_zero_shot_heatmaps_lose_it(options: dict[str, Any]) -> None:
    detector = Detector(**options)
    assert (detector.threshold, detector.threshold_source, detector.threshold_guaranteed) == (
        0.5,
        "uncalibrated",
        False,
    )
