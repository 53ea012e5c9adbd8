"""Names: public ones, private ones that no test reaches, and those that are written as a literal in one place."""

from __future__ import annotations

import ast
import pydoc
import re
from pathlib import Path

import pytest
from import_graph import PACKAGE, TESTS, TREES

import patchclip
from patchclip import Detector
from patchclip.scoring.cues import cue_names

# --- public names -----------------------------------------------------------------------------------------------------


def test_all_is_what_the_reference_says() -> None:
    reference = (PACKAGE.parent / "docs" / "api.md").read_text()
    listed = re.search(r"<!-- public names -->(.*?)<!-- end -->", reference, re.S)
    assert listed is not None
    assert sorted(re.findall(r"`([A-Za-z_]+)`", listed[1])) == sorted(patchclip.__all__)


def test_names_that_are_imported_when_they_are_used() -> None:
    namespace: dict[str, object] = {}
    exec("from patchclip import *", namespace)
    for name in patchclip.__all__:
        assert namespace[name] is getattr(patchclip, name)
        assert name in dir(patchclip)
    assert namespace["Detector"] is Detector
    text = pydoc.plain(pydoc.render_doc(patchclip))
    assert "class Detector" in text
    assert "zero-shot from the start" in text
    with pytest.raises(AttributeError, match="module 'patchclip' has no attribute 'Detektor'"):
        patchclip.Detektor  # noqa: B018
    assert not hasattr(patchclip, "Options")


def private_definitions() -> set[str]:
    """Functions, classes, constants, fields and modules of the package whose names begin with an underscore."""
    names = {Path(file).stem for file in TREES}
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in names if name.startswith("_") and not name.endswith("__") and name != "_"}


def test_tests_reach_no_private_name() -> None:
    private = private_definitions()
    assert {"_heatmap", "_version", "_run_block", "_MIN_PROMINENCE", "_extractor"} <= private
    found = []
    for file in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            used: list[str] = []
            if isinstance(node, ast.Attribute):
                used = [node.attr]
            elif isinstance(node, ast.keyword):
                used = [node.arg or ""]
            elif isinstance(node, ast.ImportFrom):
                used = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and file != Path(__file__):
                used = node.value.split(".")[-1:]  # a path of monkeypatch.setattr
            found += [f"{file.relative_to(TESTS)}:{node.lineno} {name}" for name in used if name in private]
    assert found == []


# --- names that are literals in one place -----------------------------------------------------------------------------


def mentions(node: ast.AST, names: set[str], constants: set[str]) -> bool:
    """Whether a name is written in an expression, as a literal or by its constant."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in names:
            return True
        if (isinstance(part, ast.Name) and part.id in constants) or (
            isinstance(part, ast.Attribute) and part.attr in constants
        ):
            return True
    return False


def test_the_recipe_is_asked_for_in_one_place() -> None:
    """Outside recipes/ and config.py: the export refuses all but one. To the training, "dense" is a loss."""
    found = []
    for file, tree in TREES.items():
        if file.split("/")[0] in ("recipes", "config.py", "pretrain"):
            continue
        for node in ast.walk(tree):
            asked: list[ast.AST | None] = []
            if isinstance(node, (ast.Compare, ast.MatchValue)):
                asked = [node]
            elif isinstance(node, ast.Dict):
                asked = list(node.keys)
            elif isinstance(node, ast.Subscript):
                is_annotation = isinstance(node.value, ast.Name) and node.value.id == "Literal"
                asked = [] if is_annotation else [node.slice]
            if any(mentions(part, {"dense", "winclip"}, {"DENSE", "WINCLIP"}) for part in asked if part is not None):
                found.append(file)
    assert found == ["export.py"]


def test_a_cues_name_is_a_literal_in_the_table_alone() -> None:
    """And in its encoder, in what models bring by default, and in docstrings. Surfaces are named by other words. The
    "text" of result.py is where a defect's name comes from, which an exported file says without the table of cues."""
    allowed = ("scoring/cues.py", "encoders/texture.py", "encoders/timm.py", "result.py")
    for file, tree in TREES.items():
        if file in allowed or file.startswith(("synthetic/", "pretrain/mixtures")):
            continue
        skipped: set[ast.AST] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr):  # docstrings
                skipped.add(node.value)
            elif file == "encoders/model.py" and isinstance(node, ast.ClassDef) and node.name == "ModelDefaults":
                skipped |= set(ast.walk(node))
        for node in set(ast.walk(tree)) - skipped:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in cue_names(), f"{file}:{node.lineno}"
