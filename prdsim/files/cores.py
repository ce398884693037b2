"""How many cores there are for this process."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return the number of cores that this process may use; all, where that is not told."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # another system, or a sandbox
        return os.cpu_count() or 1
