"""Whether a run goes on: what its file says of it, and whether a process holds the file's lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prdsim.files import lock
from prdsim.trajectory.commit import Status
from prdsim.trajectory.sessions import Session


def is_being_written(
    fd: int, config: Mapping[str, Any], sessions: Sequence[Session]
) -> bool | None:
    """Whether a live process writes the file; None if that cannot be known, without locks."""
    begun = {"lock": config.get("lock", True)}
    if not [begun, *sessions][-1].get("lock", True):
        return None
    return lock.is_held(fd)


def live_status(status: Status, written: bool | None) -> str:
    """Return a status; of a run that is running, whether it is `written` decides.

    The lock must have been looked at before the status was read, so that a run that ends in between
    is not mistaken for a killed one.
    """
    if status is not Status.RUNNING or written:
        return str(status)
    return "killed" if written is False else "running or killed"
