"""Settings with which Numba does not compute: named, and `auto` goes on without it.

In processes of their own, since Numba reads most settings when it is imported, once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

SCRIPT = """
import contextlib, io, json, os, sys
from prdsim.cli import main

def answer(*arguments):
    sys.argv, out, err = ["prdsim", *arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()

small = "--samples", "8", "--width", "6", "--integrator", "gd", "--steps", "2"
answers = []
for number, (name, value) in enumerate(json.loads(sys.argv[1])):
    os.environ[name] = value
    if "prdsim.backends.numba" in sys.modules:
        sys.modules["numba.core.config"].reload_config()
    else:  # what is left of a failed import
        for module in [each for each in sys.modules if each.partition(".")[0] == "numba"]:
            del sys.modules[module]
    answers.append([
        answer("run", *small, "--backend", "numba", "-o", f"named{number}.h5"),
        answer("run", *small, "-o", f"auto{number}.h5"),
        answer("backends"),
    ])
    del os.environ[name]
print(json.dumps(answers))
"""


def answers(folder: Path, *settings: tuple[str, str]) -> list[Any]:
    """For each setting the code, output and errors of a run on numba, one on auto, `backends`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(settings)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found: Any, variable: str, reason: str) -> None:
    (code, out, err), (auto_code, _, auto_err), (listed_code, listed, _) = found
    words = f"does not work here ({reason});"
    assert (code, out) == (4, "")
    assert err == f"prdsim: backend numba: {words}\ncorrect or unset {variable}\n"
    assert auto_code == 0
    assert f"backend numba: {words} correct or unset {variable}; auto takes numpy inst" in auto_err
    assert "numpy on cpu" in auto_err
    assert "Traceback" not in auto_err
    assert listed_code == 0
    assert f"numba    unavailable  {words}\n{'':22}correct or unset {variable}\n" in listed


def test_settings_that_numba_rejects_are_named(tmp_path):
    found = answers(
        tmp_path,
        ("NUMBA_NUM_THREADS", "0"),
        ("NUMBA_OPT", "fast"),
        ("NUMBA_THREADING_LAYER", "nonsense"),
        ("NUMBA_THREADING_LAYER", "tbb"),
    )
    check(found[0], "NUMBA_NUM_THREADS", "Number of threads specified must be > 0.")
    defined = "Environment variable 'NUMBA_OPT' is defined but its associated value 'fast'"
    check(found[1], "NUMBA_OPT", f"{defined} could not be parsed.")
    unknown = "The threading layer requested 'nonsense' is unknown to Numba."
    check(found[2], "NUMBA_THREADING_LAYER", unknown)
    if importlib.util.find_spec("tbb") is None:
        check(found[3], "NUMBA_THREADING_LAYER", "No threading layer could be loaded.")


def test_a_numba_that_does_not_compile_computes_nothing_and_is_refused(tmp_path):
    """Its products would be left undone, and a run would end in whatever memory holds."""
    (found,) = answers(tmp_path, ("NUMBA_DISABLE_JIT", "1"))
    check(found, "NUMBA_DISABLE_JIT", "<intrinsic fork> is not usable in pure-python")
