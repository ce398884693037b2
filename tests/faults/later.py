"""Lives that go on to their end once all have been judged: in turn, in few children."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from faults.places import fresh_folder
from faults.report import Broken, Report
from faults.sandbox import in_turn
from faults.tables import Table
from faults.world import Life


class Later:
    """What is to be completed, and the report that is told what goes wrong."""

    def __init__(self, report: Report) -> None:
        self._report, self._place = report, fresh_folder()
        self._waiting: list[tuple[str, Life | Table, Path]] = []

    def complete(self, label: str, life: Life | Table, folder: Path) -> None:
        """Take a folder away (not a copy: temporary files may be links), to complete it later."""
        kept = folder.rename(self._place / str(len(self._waiting)))
        self._waiting.append((label, life, kept))

    def now(self) -> None:
        """Complete all that wait."""
        ends = in_turn(partial(_end, life, folder) for _, life, folder in self._waiting)
        for (label, _, _), broken in zip(self._waiting, ends, strict=True):
            with self._report.guard(label):
                if broken:
                    raise broken


def _end(life: Life | Table, folder: Path) -> Broken | None:
    try:
        life.complete(folder)
    except Broken as broken:
        return broken
    return None
