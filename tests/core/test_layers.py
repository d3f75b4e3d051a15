"""Imports run one way between rooms, and bring in no package that an environment lacks. Tests stand alone."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import REPOSITORY

LAYERS = ("core", "chem oracles", "io nnp evaluation", "potentials", "training relaxation", "study", "cli")
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms.split()}
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((REPOSITORY / "golf").rglob("*.py"))
}


def room_of(module: str) -> str:
    return f"{module}..".split(".")[1]


def imported(path: Path, everywhere: bool) -> Iterator[tuple[str, int]]:
    """Modules that a file imports when it is imported itself, or `everywhere` in it, with the line."""
    text = path.read_text()
    if path.suffix == ".smk":
        text = "\n".join(re.findall(r"^ *((?:import|from) (?:.*\([^)]*\)|.*))", text, re.MULTILINE))
    nodes = [ast.parse(text)]
    while nodes:
        node = nodes.pop()
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if everywhere or not (for_types or isinstance(node, ast.FunctionDef)):
            nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name if name in MODULES else node.module, node.lineno) for name in names)


def packages(*paths: Path) -> set[str]:
    """Packages of others that files need to be imported, those that other modules of golf bring in included."""
    found, seen, left = set(), set(), [*paths]
    while left:
        for name, _ in imported(left.pop(), everywhere=False):
            parts = [name[: end.start()] for end in re.finditer(r"\.|$", name)]  # golf, golf.core, golf.core.units
            left += [MODULES[part] for part in parts if part in MODULES and part not in seen]
            seen.update(parts)
            found.add(parts[0])
    return found - sys.stdlib_module_names - {"golf"}


def test_rooms_import_earlier_rooms_only():
    assert {room_of(module) for module in MODULES} == {*LAYER, ""}
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line} imports {other}"
        for module, path in MODULES.items()
        for other, line in imported(path, everywhere=True)
        if other.startswith("golf.") and room_of(other) != room_of(module) != ""
        if LAYER[room_of(other)] >= LAYER[room_of(module)]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("name", "rooms"), [("psi4", "core oracles"), ("report", "core chem evaluation")])
def test_an_environment_has_what_its_rooms_import(name, rooms):
    """The workers of oracles are scripts, which run in the Python that has the program."""
    listed = (REPOSITORY / f"envs/{name}.yaml").read_text().lower().replace("pyyaml", "yaml")
    has = set(re.findall(r"^ +- ([\w-]+)=", listed, re.MULTILINE))
    chosen = [path for module, path in MODULES.items() if room_of(module) in rooms.split() and "_worker" not in module]
    assert len(chosen) > 30 and len(has) > 3
    assert not packages(*chosen) - has


def test_the_workflow_is_planned_with_few_packages():
    """No RDKit and no PyTorch, whatever is planned."""
    rules = sorted((REPOSITORY / "rules").glob("*.smk"))
    assert packages(*rules) == {"h5py", "jsonschema", "numpy", "yaml"}


def test_no_test_imports_a_test():
    paths = sorted((REPOSITORY / "tests").rglob("*.py"))
    found = [f"{path}:{line}" for path in paths for name, line in imported(path, everywhere=True) if "test_" in name]
    assert len(paths) > 80 and not found
