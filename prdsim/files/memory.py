"""How much memory is free: the one budget of runs and of the readers of data."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Return the memory that this process could still get.

    What the system has free, within the limits of the container and of the process (``ulimit -v``).
    """
    page = os.sysconf("SC_PAGE_SIZE")
    available = page * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    with suppress(OSError, ValueError):  # no control group, or one without a limit ("max")
        limit = int((_GROUP / "memory.max").read_text())
        available = min(available, limit - _used_by_group())
    with suppress(ImportError, OSError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * page
            available = min(available, limit - used)
    return max(0, available)


def _used_by_group() -> int:
    """Return the memory of the control group, less cached files, which it gives up on demand."""
    used = int((_GROUP / "memory.current").read_text())
    with suppress(OSError):
        for line in (_GROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
    return used
