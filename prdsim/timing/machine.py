"""The machine and the versions of a measurement."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import prdsim
from prdsim.files.cores import available_cores

_PACKAGES = ("numpy", "scipy", "numba", "cupy-cuda13x", "cupy-cuda12x")


def circumstances(*packages: str) -> dict[str, Any]:
    """Return date, commit, machine and versions, also of further packages, as JSON values."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {
            "processor": _processor(),
            "cores": available_cores(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), "prdsim": prdsim.__version__}
        | {name: found for name in (*_PACKAGES, *packages) if (found := _version(name))},
    }


def commit() -> str | None:
    """Return the commit of the checkout prdsim runs from, "+" added if files differ; else None."""
    root = Path(prdsim.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        found = _git(root, "rev-parse", "HEAD")
        return f"{found}+" if _git(root, "status", "--porcelain", "-uno") else found
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
