"""The table of a study: a row a member, derived from the files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prdsim.errors import ConfigError, DataError, ResumeMismatchError, did_you_mean
from prdsim.study.folder import DONE, Standing, State, StudyFolder
from prdsim.study.plan import Member
from prdsim.table import Table
from prdsim.trajectory import Trajectory, open_trajectory
from prdsim.vocabulary import MEASURES, SCALARS
from prdsim.words import shown

LeftOut = dict[str, list[str]]
"""By group of measures, the reasons for its lack, one a member."""


def study_table(
    study: StudyFolder,
    standings: Mapping[str, Standing] | None = None,
    *,
    groups: str | Iterable[str] = (),
    progress: Callable[[Iterable[Member]], Iterable[Member]] = iter,
) -> Table:
    """Return settings, state, and the scalars at the end of every member, in the plan's order.

    ``groups`` of measures, among `prdsim.analysis.GROUPS`, are computed at the last snapshot; a
    measure that is a scalar as well is the scalar. Numbers of members that are not finished are
    missing, and so are measures whose data a member lacks: notes of the table tell why. No column
    depends on when or where a member ran: the table of the same files is the same text.
    ``progress`` may wrap the loop over members.

    Raises:
        ConfigError: an unknown group.
        DamagedTrajectoryError: a checksum of a member's data fails.
    """
    standings = standings or look(study)
    chosen = _known(groups)
    measures = [name for group in chosen for name in MEASURES[group]]
    columns: dict[str, list[Any]] = {"member": []}
    columns |= {key: [] for key in study.plan.keys}
    columns |= {name: [] for name in ("state", *SCALARS, *measures, "reason")}
    left_out: LeftOut = {}
    for member in progress(study.plan.members):
        standing = standings[member.name]
        values: Mapping[str, float] = {}
        if standing.state is State.FINISHED:
            values = _measures(study, member, chosen, left_out) | dict(standing.scalars)
        row = {"member": member.name, "state": str(standing.state), "step": standing.step}
        row |= {"time": standing.time, "reason": standing.reason}
        for key in study.plan.keys:
            row[key] = getattr(member.config, key)
        for name, column in columns.items():
            column.append(row.get(name, values.get(name, float("nan"))))
    notes = tuple(
        f"{group} left out of {len(reasons)} of the members, such as {reasons[0]}"
        for group, reasons in left_out.items()
    )
    return Table(f"{study.path}: {len(study.plan.members)} members", columns, notes=notes)


def groups_of(measure: str) -> tuple[str, ...]:
    """Return the groups that a table needs for a measure: its own, none for a scalar.

    Raises `ConfigError` for an unknown name.
    """
    if measure in SCALARS:
        return ()
    for group, names in MEASURES.items():
        if measure in names:
            return (group,)
    if measure in MEASURES:
        names = MEASURES[measure]
        raise ConfigError(f"{measure} is a group of measures; choose one: {', '.join(names)}")
    known = [*SCALARS, *(name for names in MEASURES.values() for name in names)]
    hint = did_you_mean(measure, known) or "prdsim analyze --help lists groups of measures"
    raise ConfigError(f"{shown(measure)}: no such measure; {hint}")


def look(study: StudyFolder, known: Mapping[str, Standing] | None = None) -> dict[str, Standing]:
    """Return the state of every member by name; of those ``known`` to be done, as it was."""
    known, begun = known or {}, study.begun()

    def standing(member: Member) -> Standing:
        former = known.get(member.name)
        if former and former.state in DONE:
            return former
        return study.standing(member) if member.name in begun else Standing(State.PLANNED)

    return {member.name: standing(member) for member in study.plan.members}


def _known(groups: str | Iterable[str]) -> list[str]:
    if not groups:
        return []
    from prdsim.analysis.patterns.measures import groups_named

    return groups_named(groups) or []


def _measures(
    study: StudyFolder, member: Member, groups: Sequence[str], left_out: LeftOut
) -> dict[str, float]:
    """Return a finished member's measures at its end; tell which groups its data do not allow."""
    if not groups:
        return {}
    with open_trajectory(study.trajectory(member)) as trajectory:
        found: dict[str, float] = {}
        for group in groups:
            try:
                found |= _measured(trajectory, group)
            except (ConfigError, DataError, ResumeMismatchError) as error:  # it lacks data
                reason = str(error).splitlines()[0]
                left_out.setdefault(group, []).append(reason)
        return found


def _measured(trajectory: Trajectory, group: str) -> dict[str, float]:
    from prdsim.analysis import history  # not needed by processes that run members

    values = history(trajectory, group, snapshots=[-1]).values
    return {name: float(column[-1]) for name, column in values.items()}
