"""Prompts and the wordings of defects, by hand."""

from __future__ import annotations

import pytest

from patchclip import DEFAULT_DEFECTS
from patchclip.encoders.prompts import (
    ANOMALOUS_STATES,
    NORMAL_STATES,
    TEMPLATES,
    compose,
    defect_prompts,
    defect_wordings,
)


def test_prompts_are_states_times_templates() -> None:
    assert len(compose(NORMAL_STATES, TEMPLATES, "tile")) == 7 * 22
    assert len(compose(ANOMALOUS_STATES, TEMPLATES, "tile")) == 4 * 22
    assert compose(["{} with flaw"], ["a photo of the {}."], "tile") == ["a photo of the tile with flaw."]
    found = compose(["damaged {}"], ["a photo of a {}.", "a dark photo of the {}."], "tile")
    assert found == ["a photo of a damaged tile.", "a dark photo of the damaged tile."]


def test_sentences_that_name_a_defect() -> None:
    assert "a photo of a tile with a slit." in defect_prompts(DEFAULT_DEFECTS["cut"], "tile")
    assert "a photo of a tile with {x}." in defect_prompts(["{x}"], "tile")


def test_wordings_of_names() -> None:
    found = defect_wordings(["dot", "ink blot", "an odd mark"])
    assert found == {"dot": DEFAULT_DEFECTS["dot"], "ink blot": ("an ink blot",), "an odd mark": ("an odd mark",)}
    assert defect_wordings(["burr"]) == {"burr": ("a burr",)}
    assert defect_wordings({"dot": ["a black spot"]}) == {"dot": ("a black spot",)}
    assert defect_wordings({"dot": "a black spot"}) == {"dot": ("a black spot",)}


@pytest.mark.parametrize("wrong", ["dot", [""], {"dot": []}, {"dot": [" "]}, [3], {"dot": 3}, {" ": ["a dot"]}])
def test_what_is_no_defect(wrong: object) -> None:
    with pytest.raises(ValueError, match="defect"):
        defect_wordings(wrong)
