"""The package itself: what imports what, how quickly, how long its files are, and how deep a call goes."""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from conftest import fit_quietly
from import_graph import IMPORTS, PACKAGE, TESTS, TREES, compute_floors, module_name

from patchclip import Detector

# --- imports ----------------------------------------------------------------------------------------------------------


def room(module: str) -> str:
    """The folder of a module below the package; a module without one is a room of its own."""
    return ".".join(module.split(".")[:2])


def test_floors_by_hand() -> None:
    imports = {"door": {"stairs", "wall"}, "stairs": {"wall"}, "wall": set()}
    assert compute_floors(imports) == {"door": 3, "stairs": 2, "wall": 1}
    with pytest.raises(ValueError, match="a circle: wall -> stairs -> wall"):
        compute_floors({"wall": {"stairs"}, "stairs": {"wall"}})


def test_imports_only_go_down() -> None:
    assert len(IMPORTS) == len(TREES) > 50
    assert {"patchclip.detector", "patchclip.errors"} <= IMPORTS["patchclip"]  # for type checkers
    assert "patchclip.export" in IMPORTS["patchclip.detector"]  # in a function
    floors = compute_floors(IMPORTS)
    assert floors["patchclip.errors"] == 1
    for module, imported in IMPORTS.items():
        assert all(floors[other] < floors[module] for other in imported)


def test_rooms_have_no_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module, imported in IMPORTS.items():
        rooms.setdefault(room(module), set()).update({room(other) for other in imported} - {room(module)})
    floors = compute_floors(rooms)
    order = ["images", "recipes", "features", "inference", "fitting", "detector"]
    heights = [floors[f"patchclip.{name}"] for name in order]
    assert heights == sorted(set(heights))


def test_only_what_is_always_installed_is_imported_at_once() -> None:
    """Optional packages are imported in the function that needs them, or for type checkers alone."""
    project = (PACKAGE.parent / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)\]", project, re.S | re.M)
    assert listed is not None
    distributions = re.findall(r'"([\w-]+)', listed[1])
    modules = {"open_clip_torch": "open_clip", "opencv-python-headless": "cv2", "pillow": "PIL"}
    allowed = {modules.get(name, name) for name in distributions} | {"patchclip"} | set(sys.stdlib_module_names)
    for file, tree in TREES.items():
        not_at_once = set()
        for node in ast.walk(tree):
            is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if is_for_types or isinstance(node, (ast.FunctionDef, ast.Lambda)):
                not_at_once |= set(ast.walk(node))
        for node in set(ast.walk(tree)) - not_at_once:
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, file
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] in allowed, file


def test_importing_the_package_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import patchclip; elapsed = time.perf_counter() - start\n"
        "assert set(patchclip.__all__) <= set(dir(patchclip)); patchclip.__version__; patchclip.ImageError\n"
        "print(elapsed, *[name for name in ('torch', 'open_clip', 'timm', 'cv2', 'numpy') if name in sys.modules])"
    )
    times = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        elapsed, *loaded = done.stdout.split()
        assert loaded == []
        times.append(float(elapsed))
    assert min(times) < 0.1


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_files_are_short() -> None:
    """A thermometer: what is longer has more than one job. Half of detector.py is the docstrings of its one class,
    which has a method for each of the many things that a detector does; `measure` and `judge` came last."""
    lengths = {file: len((PACKAGE / file).read_text().splitlines()) for file in TREES}
    del lengths["detector.py"]
    assert {file: length for file, length in lengths.items() if length > 320} == {}
    [detector] = [node for node in TREES["detector.py"].body if isinstance(node, ast.ClassDef)]
    assert detector.end_lineno is not None
    assert detector.end_lineno - detector.lineno + 1 < 380


def test_files_of_tests_are_short() -> None:
    lengths = {file.relative_to(TESTS).as_posix(): len(file.read_text().splitlines()) for file in TESTS.rglob("*.py")}
    assert {file: length for file, length in lengths.items() if length > 300} == {}


# --- calls ------------------------------------------------------------------------------------------------------------

Call = tuple[str, str, int]  # module, function, line


def calls_of_one_predict(detector: Detector, image: np.ndarray) -> list[list[Call]]:
    """The functions of the package on the stack, at each call of one; a comprehension or a lambda is none."""
    detector = copy.copy(detector)
    detector.threshold = 0.0
    detector.predict(image)  # texts and descriptors are made once
    stacks: list[list[Call]] = []

    def profile(frame: FrameType | None, event: str, argument: object) -> None:
        if event != "call":
            return
        stack: list[Call] = []
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(str(PACKAGE)) and "<" not in code.co_name:
                module = module_name(Path(code.co_filename).relative_to(PACKAGE).as_posix())
                stack.insert(0, (module, code.co_name, code.co_firstlineno))
            frame = frame.f_back
        stacks.append(stack)

    sys.setprofile(profile)
    try:
        result = detector.predict(image)
    finally:
        sys.setprofile(None)
    assert result.regions
    return stacks


@pytest.mark.parametrize("kind", ["zero-shot", "fitted", "fitted with classes", "taught", "tiles", "winclip"])
def test_one_predict_is_short_to_read(
    kind: str, tiny: Detector, fitted_tiny: Detector, local_model: str, normals: list[np.ndarray]
) -> None:
    classes = {"a": normals[:2], "b": normals[2:4]}
    detector = {
        "zero-shot": lambda: tiny,
        "fitted": lambda: fitted_tiny,
        "fitted with classes": lambda: fit_quietly(copy.copy(tiny), classes),
        "taught": lambda: copy.copy(fitted_tiny).teach(
            {"dark": [(normals[4], (0, 0, 20, 20)), (normals[5], (9, 9, 30, 30))]}
        ),
        "tiles": lambda: fit_quietly(Detector(local_model, tile=60), normals[:2]),
        "winclip": lambda: fit_quietly(Detector(local_model, recipe="winclip"), normals[:2]),
    }[kind]()
    floors = compute_floors(IMPORTS)
    called: set[Call] = set()
    climbs: set[tuple[Call, Call]] = set()
    deepest: list[Call] = []
    for stack in calls_of_one_predict(detector, normals[4]):
        deepest = max(deepest, stack, key=len)
        called |= set(stack)
        for caller, callee in pairwise(stack):
            if floors[caller[0]] < floors[callee[0]]:
                climbs.add((caller, callee))
    assert len(deepest) <= 8, [call[1] for call in deepest]
    assert len(climbs) <= 3, climbs
    assert len(called) <= 80, sorted(called)  # a thermometer: 67 with all cues, 77 with kinds that were taught
    assert len({module for module, *_ in called}) <= 22  # two of them are what an exported file shares, without torch
