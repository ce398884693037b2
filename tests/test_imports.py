"""What is imported when: the command line answers at once, and nothing heavy comes unasked."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import prdsim

HEAVY = {"numpy", "scipy", "h5py", "numba", "cupy", "matplotlib"}
ROOT = Path(__file__).parents[1]


def modules_after(code: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after running code."""
    report = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(answer.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy():
    code = """
import sys
sys.argv = ["prdsim", "--help"]
from prdsim.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
"""
    modules = modules_after(code)
    assert "click" in modules
    assert not modules & {*HEAVY, "pydantic", "tqdm"}


def test_importing_the_package_imports_nothing_heavy():
    assert not modules_after("import prdsim") & {*HEAVY, "click", "pydantic"}


def test_what_downloads_is_imported_by_a_download_alone():
    modules = modules_after("import prdsim.cli.data, prdsim.datasets.fetch")
    assert not modules & {"pooch", "requests", "tqdm"}


def test_reading_a_configuration_needs_no_numerics():
    assert not modules_after("import prdsim; prdsim.RunConfig()") & HEAVY


def test_a_cpu_run_never_imports_cupy(tmp_path):
    code = f"""
import prdsim
for backend in ("auto", "numpy", "numba"):
    prdsim.run(dataset="digits", samples=4, width=3, steps=2, diffusion=True, backend=backend,
               output={str(tmp_path)!r} + "/" + backend + ".h5")
"""
    modules = modules_after(code)
    assert "numpy" in modules
    assert "cupy" not in modules


def test_public_names_are_there_and_others_are_not():
    for name in prdsim.__all__:
        assert getattr(prdsim, name) is not None
        assert name in dir(prdsim)
    with pytest.raises(AttributeError, match="module 'prdsim' has no attribute 'nothing'"):
        prdsim.nothing  # noqa: B018


def test_errors_and_results_are_public():
    import prdsim.errors

    errors = {name for name in vars(prdsim.errors) if name.endswith("Error")}
    assert {"PrdsimError", "ConfigError"} < errors < {*prdsim.__all__}
    assert {"History", "Observation", "Result", "Trajectory"} < {*prdsim.__all__}
    assert prdsim.figures.draw is not None
    assert prdsim.analysis.History is prdsim.History
    assert {"analysis", "errors", "figures"} < {*dir(prdsim)}


def test_the_run_function_is_not_hidden_by_a_module():
    assert callable(prdsim.run)
    assert callable(prdsim.resume)


def test_nothing_that_ships_imports_automatic_differentiation():
    for folder in ("prdsim", "backends", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [str(getattr(node, "module", ""))]
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                assert not {name.partition(".")[0] for name in names} & {"torch", "jax"}, path
