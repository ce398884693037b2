"""The plan of the folders: imports run one way, nothing imports in a circle, no file is long."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"prdsim": "prdsim", "backends": "prdsim.backends", "cli": "prdsim.cli"}
LONGEST = 400  # lines of a file

# From the ground up: a module may import from its own layer and from those before it.
# The longest name that fits decides.
LAYERS = (
    "prdsim prdsim.symbols prdsim.errors",
    "prdsim.schedule prdsim.files prdsim.physics.randomness prdsim.running.tableaux",
    "prdsim.config prdsim.progress",
    "prdsim.backends",
    "prdsim.physics",
    "prdsim.datasets prdsim.trajectory",
    "prdsim.recorded prdsim.listing",
    "prdsim.running",
    "prdsim.convergence",
    "prdsim.analysis prdsim.verification prdsim.timing",
    "prdsim.convergence.assess prdsim.convergence.replays",
    "prdsim.figures",
    "prdsim.reproduction prdsim.study prdsim.explorer",
    "prdsim.cli prdsim.__main__",
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names.split()}


def files() -> Iterator[tuple[str, Path]]:
    """The modules of the product by name, packages by that of their folder."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


MODULES = dict(files())


def imported(module: str, path: Path) -> set[str]:
    """The product's modules that a module imports anywhere: in functions and for types as well."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level]
            source = ".".join([*base, *([node.module] if node.module else [])])
            source = source if node.level else str(node.module)
            found |= {
                name if (name := f"{source}.{each.name}") in MODULES else source
                for each in node.names
            }
    return (found & MODULES.keys()) - {module}


@cache
def imports() -> dict[str, set[str]]:
    return {module: imported(module, path) for module, path in MODULES.items()}


def level(module: str) -> int:
    while module not in LEVELS:
        module = module.rpartition(".")[0]
    return LEVELS[module]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    against = {name for name in imports()[module] if level(name) > level(module)}
    assert against == set(), f"{module} stands below what it imports"


def test_nothing_imports_in_a_circle():
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_reading_of_imports_sees_them():
    assert "prdsim.backends.arrays" in imports()["prdsim.physics.gradients"], "for types"
    assert "prdsim.backends.base" in imports()["prdsim.backends.numpy"], "relative"
    assert "prdsim.running.runner" in imports()["prdsim.cli.run"], "in a function"
    assert "prdsim.files.posix" in imports()["prdsim.trajectory.rows"], "a module of a package"


def test_no_backend_is_known_by_name_outside_of_the_backends():
    known = {
        (module, name)
        for module, names in imports().items()
        for name in names
        if name.startswith("prdsim.backends.") and not module.startswith("prdsim.backends")
    }
    allowed = {"arrays", "base", "fused", "numpy"}  # NumPy's is the reference, and the host's
    assert {name.rpartition(".")[2] for _, name in known} <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_long(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST, f"{lines} lines"
