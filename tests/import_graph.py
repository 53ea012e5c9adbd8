"""The syntax trees of the package's files, what they import, and the floors that follow from it; for tests."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import patchclip

PACKAGE = Path(patchclip.__file__).parent
TESTS = Path(__file__).parent

#: Path below the package -> syntax tree.
TREES = {file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}


def module_name(file: str) -> str:
    """As "patchclip.scoring.maps"; of an __init__.py the package."""
    parts = ["patchclip", *Path(file).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(file: str) -> set[str]:
    """The modules of the package that a file imports anywhere: in functions and for type checkers alone too."""
    known = {module_name(other) for other in TREES}
    package = ["patchclip", *Path(file).parent.parts]
    found = set()
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                found.add(submodule if submodule in known else source)
    return (found & known) - {module_name(file)}


def compute_floors(imports: Mapping[str, set[str]]) -> dict[str, int]:
    """Name -> floor: 1 for what imports nothing, else one above the highest that it imports."""
    floors: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            raise ValueError(f"a circle: {' -> '.join([*path[path.index(name) :], name])}")
        if name not in floors:
            below = [visit(other, (*path, name)) for other in imports[name]]
            floors[name] = 1 + max(below, default=0)
        return floors[name]

    for name in imports:
        visit(name, ())
    return floors


#: Module -> the modules that it imports.
IMPORTS = {module_name(file): imported_modules(file) for file in TREES}
