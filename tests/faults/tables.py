"""Small files, whole or not at all: a table or report of a run, new or in place of an older one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from faults.child import call
from faults.places import fresh_folder
from faults.report import Broken
from faults.world import NAME, STEPS, world

OLD = b"an older file\n"


@dataclass(frozen=True)
class Table:
    """A command that writes a small file next to a run, over an older one or none."""

    name: str
    arguments: tuple[object, ...]
    output: str
    over: bool

    def begin(self, folder: Path) -> Path:
        """Make the folder as it is before the command; return the output."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(world().files[f"whole {STEPS}"], folder / NAME)
        if self.over:
            (folder / self.output).write_bytes(OLD)
        return folder / self.output

    def accepts(
        self, told: Sequence[dict[str, Any]], before: tuple[bytes | None, ...] = ()
    ) -> tuple[bytes | None, ...]:
        """What may be left: nothing before the end of the command is promised."""
        if any("finished" in what for what in told):
            return (written_by(self),)
        return before or (OLD if self.over else None, written_by(self))

    def judge(self, path: Path, accepted: Sequence[bytes | None]) -> None:
        """Raise `Broken` unless the file is one of those, and the run is what it was."""
        content = undated(path.read_bytes()) if path.exists() else None
        if content not in accepted:
            raise Broken("lost", f"{path.name} is {(content or b'')[:50]!r}...")
        if (path.parent / NAME).read_bytes() != world().files[f"whole {STEPS}"].read_bytes():
            raise Broken("lost", f"{NAME} was changed")

    def complete(self, folder: Path) -> None:
        """Do it again; raise `Broken` unless that works."""
        ended = call(
            folder, *self.arguments, *(() if "--force" in self.arguments else ("--force",))
        )
        if ended.code not in (0, 1):  # converge: 1 if not converged
            raise Broken("lost", f"{self.name} gave {ended.code}: {ended.err}")
        self.judge(folder / self.output, (written_by(self),))


@cache
def written_by(table: Table) -> bytes:
    """What the command writes if nothing happens to it."""
    folder = fresh_folder() / "table"
    path = table.begin(folder)
    ended = call(folder, *table.arguments)
    assert ended.code in (0, 1), ended
    return undated(path.read_bytes())


def undated(content: bytes) -> bytes:
    """Return a file without the moment at which it was written, which a report holds."""
    return re.sub(rb'"created": "[^"]*"', b'"created": ""', content)


_COMMAND = ("analyze", NAME, "spread", "-o", "t.csv")
ANALYZE = Table("analyze", _COMMAND, "t.csv", over=False)
ANALYZE_OVER = Table("analyze --force", (*_COMMAND, "--force"), "t.csv", over=True)
TABLES = (ANALYZE, ANALYZE_OVER)
REPORT = Table("converge --force", ("converge", NAME, "--force"), "run.converge.json", over=True)
