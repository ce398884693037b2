"""The table of a study: a row a member, derived from the files alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prdsim.study.folder import DONE, Standing, State, StudyFolder
from prdsim.study.plan import Member
from prdsim.table import Table
from prdsim.trajectory import SCALARS


def study_table(study: StudyFolder, standings: Mapping[str, Standing] | None = None) -> Table:
    """Return settings, state, and the scalars at the end of every member, in the plan's order.

    Scalars of members that are not finished are missing. No column depends on when or where a
    member ran: the table of the same files is the same text.
    """
    standings = standings or look(study)
    names = [field.name for field in SCALARS if field.name not in ("step", "time")]
    columns: dict[str, list[Any]] = {"member": []}
    columns |= {key: [] for key in study.plan.keys}
    columns |= {key: [] for key in ("state", "step", "time", *names, "reason")}
    for member in study.plan.members:
        standing = standings[member.name]
        values = standing.scalars if standing.state is State.FINISHED else {}
        row = {"member": member.name, "state": str(standing.state), "step": standing.step}
        row |= {"time": standing.time, "reason": standing.reason}
        for key in study.plan.keys:
            row[key] = getattr(member.config, key)
        for name, column in columns.items():
            column.append(row.get(name, values.get(name, float("nan"))))
    return Table(f"{study.path}: {len(study.plan.members)} members", columns)


def look(study: StudyFolder, known: Mapping[str, Standing] | None = None) -> dict[str, Standing]:
    """Return the state of every member by name; of those ``known`` to be done, as it was."""
    known, begun = known or {}, study.begun()

    def standing(member: Member) -> Standing:
        former = known.get(member.name)
        if former and former.state in DONE:
            return former
        return study.standing(member) if member.name in begun else Standing(State.PLANNED)

    return {member.name: standing(member) for member in study.plan.members}
