"""A study for analysis: its table as a pandas frame, its trajectories opened when asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prdsim.arguments import file_path
from prdsim.config import RunConfig
from prdsim.errors import ConfigError
from prdsim.study.folder import State, StudyFolder
from prdsim.study.table import look, study_table
from prdsim.trajectory import Trajectory, open_trajectory
from prdsim.trajectory.labeled import library
from prdsim.words import shown

if TYPE_CHECKING:
    import pandas as pd


def open_study(path: str | os.PathLike[str]) -> Study:
    """Open a study for analysis, even while it runs.

    Raises `StudyError` for what is none, `ConfigError` for what is no path.
    """
    return Study(StudyFolder.open(file_path("path", path)))


class Study(Mapping[str, Trajectory]):
    """The finished members of a study by name, each opened when it is asked for.

    The caller closes them: ``with study[name] as trajectory: ...``. A name of no finished member
    raises `KeyError`.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        standings = look(folder)
        self._states = Counter(str(standing.state) for standing in standings.values())
        self._finished = {
            member.name: member
            for member in folder.plan.members
            if standings[member.name].state is State.FINISHED
        }

    def __getitem__(self, name: str) -> Trajectory:
        """Open a member; raises `KeyError` unless it is finished."""
        return open_trajectory(self._folder.trajectory(self._finished[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._finished)

    def __len__(self) -> int:
        return len(self._finished)

    @property
    def states(self) -> Mapping[str, int]:
        """How many members are in each state."""
        return self._states

    @property
    def paths(self) -> list[Path]:
        """The files of the finished members, in their order."""
        return [self._folder.trajectory(member) for member in self._finished.values()]

    def __repr__(self) -> str:
        count = len(self._folder.plan.members)
        return f"<Study {shown(self._folder.path)}: {len(self)} of {count} members finished>"

    def frame(self, groups: str | Iterable[str] = ()) -> pd.DataFrame:
        """Return settings, state and final scalars of all members, indexed by name.

        ``groups`` of measures, among `prdsim.analysis.GROUPS`, are computed at the last snapshots;
        those of members that are not finished, or lack data for them, are NaN. Raises
        `ConfigError` without pandas, or for an unknown group.
        """
        pandas = library("pandas", "frame")
        table = study_table(self._folder, groups=groups)
        frame: pd.DataFrame = pandas.DataFrame(dict(table.columns))
        return frame.set_index("member")

    def where(self, **settings: object) -> list[str]:
        """Return the names of finished members with some settings, such as ``seed=0``.

        Raises `ConfigError` for an unknown key.
        """
        for key in settings:
            if key not in RunConfig.model_fields:
                raise ConfigError(f"{shown(key)}: no such configuration key")
        return [
            name
            for name, member in self._finished.items()
            if all(getattr(member.config, key) == value for key, value in settings.items())
        ]
