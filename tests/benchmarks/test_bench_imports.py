"""The floors of benchmarks/: imports go down only, the two programs stay apart, one file knows patchclip's inside."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from import_graph import compute_floors

from accuracy.main import measuring_files
from environment import BENCHMARKS, ROOT

FILES = sorted(BENCHMARKS.rglob("*.py"))

#: Modules that patchclip offers to everybody.
PUBLIC = {"batch", "datasets", "metrics", "synthetic", "viz", "printable"}


@cache
def imported_names(file: Path) -> set[str]:
    """All modules that a file names, wherever in it; "a.b" of `from a import b` too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} has a relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@cache
def below(file: Path) -> frozenset[Path]:
    """The files of benchmarks/ that a file imports."""
    found = set()
    for name in imported_names(file):
        module = BENCHMARKS / Path(*name.split("."))
        for candidate in (module / "__init__.py", module.with_suffix(".py")):
            if candidate.is_file():
                found.add(candidate)
                break
    return frozenset(found)


def reachable(file: Path) -> set[Path]:
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        for other in below(waiting.pop()) - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def test_imports_only_go_down() -> None:
    """A circle raises."""
    imports = {str(file): {str(other) for other in below(file)} for file in FILES}
    floors = compute_floors(imports)
    assert len(floors) == len(FILES) > 35
    assert max(floors.values()) > 5
    imported = {other for others in imports.values() for other in others}
    for door in ("run.py", "speed.py", "record.py", "thresholds.py"):
        assert str(BENCHMARKS / door) not in imported


def test_the_two_programs_stay_apart() -> None:
    accuracy, speed = BENCHMARKS / "accuracy", BENCHMARKS / "speed"
    for program, other in ((accuracy, speed), (speed, accuracy)):
        for file in program.rglob("*.py"):
            assert not [below_it for below_it in reachable(file) if other in below_it.parents]


def test_one_file_knows_the_inside_of_patchclip() -> None:
    insiders = [file.name for file in FILES if any(map(is_inside, imported_names(file)))]
    assert insiders == ["internals.py"]


def is_inside(name: str) -> bool:
    """Whether a name is of a module of patchclip that is not public."""
    package, *parts = name.split(".")
    if package != "patchclip" or not parts or parts[0] in PUBLIC:
        return False
    module = ROOT / "patchclip" / parts[0]
    return module.is_dir() or module.with_suffix(".py").is_file()


def test_figures_come_from_the_files_that_are_hashed() -> None:
    """`--resume` measures anew when one of them changes."""
    hashed = set(measuring_files())
    assert all(file.is_file() for file in hashed)
    needed = {BENCHMARKS / "accuracy" / "tasks.py", *reachable(BENCHMARKS / "accuracy" / "tasks.py")}
    code = {file for file in needed if file.name != "__init__.py"}
    assert code <= hashed
