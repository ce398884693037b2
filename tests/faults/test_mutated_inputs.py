"""The part of the campaigns of mutated inputs that every change is tried with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROMISES = ("lost", "wrong", "traceback", "hang", "memory", "promise")


def campaign(name: str, count: int) -> dict[str, Any]:
    """Run a campaign in a process of its own, which has no threads when it forks."""
    done = subprocess.run(
        [sys.executable, "-m", "faults.fuzz", name, str(count), "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize(("name", "count"), [("mutations", 500), ("forged", 250), ("flips", 100)])
def test_no_promise_is_broken(name, count):
    report = campaign(name, count)
    assert report["cases"] == count
    assert not any(report[kind] for kind in PROMISES), "\n".join(report["examples"])
