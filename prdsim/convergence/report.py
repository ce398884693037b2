"""The report of a run's convergence: a JSON file next to the run, and texts that quote it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from prdsim.convergence.judgment import HEADLINE, JudgedNumber, Verdict, percent
from prdsim.errors import ReportError
from prdsim.files.foreign import ForeignFileError, open_regular_file
from prdsim.files.json_text import read_json
from prdsim.files.whole import write_whole
from prdsim.trajectory import Trajectory
from prdsim.words import shown, shown_value

FORMAT = "prdsim-convergence"
FORMAT_VERSION = 1

_LARGEST = 1 << 24  # bytes of a report; there are dozens of quantities

NOT_ASSESSED = "not assessed"

Sides = Iterable[Sequence["Report | None"]]
"""Reports by label: one per run, None for a run without a report."""


@dataclass(frozen=True)
class ReplayRecord:
    """A replay: its file's name, its step size or tolerances in words, and its outcome.

    ``diverged`` describes a divergence in one line, else it is empty.
    """

    name: str
    setting: str
    steps: int
    diverged: str = ""


@dataclass(frozen=True)
class Report:
    """The findings of `prdsim converge` on the run identified by ``run_id`` and ``config_sha256``.

    The run ends at ``run_time`` and ``run_step`` and was judged at ``time`` and ``step``;
    ``accuracy`` is the relative change that was allowed, ``setting`` the run's own step size or
    tolerances in words.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    run_id: str
    config_sha256: str
    run_time: float
    run_step: int
    time: float
    step: int
    accuracy: float
    setting: str
    prdsim_version: str
    created: str
    replays: Annotated[tuple[ReplayRecord, ...], Field(min_length=2)]
    rows: tuple[JudgedNumber, ...]

    @cached_property
    def by_name(self) -> Mapping[str, JudgedNumber]:
        """The judged quantities by name."""
        return {row.name: row for row in self.rows}

    @property
    def headline(self) -> list[JudgedNumber]:
        """The rows that decide: the measures of `HEADLINE` that the run has, in that order."""
        return [self.by_name[name] for name in HEADLINE if name in self.by_name]

    @property
    def diverged(self) -> list[ReplayRecord]:
        """The replays that diverged."""
        return [replay for replay in self.replays if replay.diverged]

    @property
    def holds(self) -> bool:
        """Whether every headline measure holds, and no replay diverged."""
        return not self.diverged and all(row.holds for row in self.headline)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the run as a whole, from its headline measures."""
        if not self.holds:
            return Verdict.NOT_CONVERGED
        floor = any(row.verdict is Verdict.AT_THE_FLOOR for row in self.headline)
        return Verdict.AT_THE_FLOOR if floor else Verdict.CONVERGED

    @property
    def error(self) -> float | None:
        """The largest relative error of a headline measure; None if one is unknown."""
        errors = [row.error for row in self.headline if row.verdict is not Verdict.UNDEFINED]
        known = [error for error in errors if error is not None]
        return max(known, default=None) if len(known) == len(errors) else None

    def words(self) -> str:
        """Summarize the findings in half a line."""
        largest = "unbounded" if self.error is None else percent(self.error)
        return (
            f"{self.verdict} at accuracy {percent(self.accuracy)}, t = {self.time:.6g}; "
            f"largest error of a headline measure {largest}"
        )


@dataclass(frozen=True)
class FoundReport:
    """A report, or the reason why there is none: `NOT_ASSESSED`, or ``stale: ...``."""

    report: Report | None
    reason: str = ""


_CONTENT = TypeAdapter(Report)


def report_path(run: Path) -> Path:
    """Return the path of a run's report: RUN.converge.json next to RUN.h5."""
    return _sibling(run, ".converge.json")


def replay_folder(run: Path) -> Path:
    """Return the temporary folder of a run's replays: RUN.converge next to RUN.h5."""
    return _sibling(run, ".converge")


def _sibling(run: Path, ending: str) -> Path:
    stem = run.stem if run.suffix in (".h5", ".hdf5") else run.name
    return run.with_name(f"{stem}{ending}")


def write_report(report: Report, path: Path, *, force: bool = False) -> None:
    """Write a report, with the promises and errors of `whole_file`."""
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    content = {**head, **_CONTENT.dump_python(report, mode="json")}
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode(), force=force)


def read_report(path: Path) -> Report | None:
    """Read a report; None if there is no such file.

    Raises `ReportError` if it cannot be read, is damaged, or was written by a newer version.
    """
    try:
        with open_regular_file(path) as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise _damaged(path, "is larger than any report")
        content = read_json(text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from None
    except ForeignFileError as error:
        raise ReportError(str(error)) from None
    except ValueError:
        raise _damaged(path, "is not JSON") from None
    return _parsed(path, content)


def _parsed(path: Path, content: Any) -> Report:
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise _damaged(path, "is not a report of prdsim converge")
    version = content.pop("format_version", None)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ReportError(
            f"{path} has format version {version}, this prdsim reads {FORMAT_VERSION}: update "
            "prdsim, or replace the report with prdsim converge --force"
        )
    if version != FORMAT_VERSION:
        raise _damaged(path, f"has format version {shown_value(version)}")
    try:
        return _CONTENT.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise _damaged(path, f"is damaged: {shown(place)}: {shown(problem['msg'], 200)}") from None


def _damaged(path: Path, problem: str) -> ReportError:
    return ReportError(f"{path} {problem}; replace it with prdsim converge --force")


def look_up(trajectory: Trajectory) -> FoundReport:
    """Return the report of a trajectory in its current state, or the reason why there is none.

    A report of another run, of other settings, or of an earlier end of the run is stale.
    Raises `ReportError` for a report that cannot be read.
    """
    report = read_report(report_path(trajectory.path))
    if report is None:
        return FoundReport(None, NOT_ASSESSED)
    reason = _stale(report, trajectory)
    return FoundReport(None, f"stale: {reason}") if reason else FoundReport(report)


def _stale(report: Report, trajectory: Trajectory) -> str:
    if report.run_id != trajectory.attributes.get("run_id"):
        return "it was made for another run of this name"
    if not len(trajectory.time) or trajectory.time[-1] != report.run_time:
        return f"it was made when the run ended at t = {report.run_time:.6g}"
    if report.config_sha256 != trajectory.attributes.get("config_sha256"):
        return "it was made when the run had other settings"
    return ""


def error_text(name: str, sides: Sides, *, verdict: bool = True) -> str:
    """Describe how far a measure can be trusted: its largest relative error in runs of some labels.

    ``sides`` holds the reports of each label's runs. If a label has none, the measure is not
    assessed; if only some runs have one, the text gives their number. It also says whether the
    measure has not converged, unless ``verdict`` is False.
    """
    groups = [
        [None if report is None else report.by_name.get(name) for report in side] for side in sides
    ]
    known = [[row for row in group if row is not None] for group in groups]
    if not all(known) or not known:
        return NOT_ASSESSED
    rows = [row for group in known for row in group]
    total = sum(map(len, groups))
    holds = all(row.holds for row in rows)
    failed = [str(Verdict.NOT_CONVERGED)] if verdict and not holds else []
    counted = [f"{len(rows)} of {total} runs"] if len(rows) < total else []
    remarks = "; ".join([*failed, *counted])
    return f"{_worst(rows)} ({remarks})" if remarks else _worst(rows)


def _worst(rows: Sequence[JudgedNumber]) -> str:
    """Return the largest error as text, if there is one."""
    defined = [row for row in rows if row.verdict is not Verdict.UNDEFINED]
    if not defined:
        return str(Verdict.UNDEFINED)
    errors = [row.error for row in defined]
    known = [error for error in errors if error is not None]
    return percent(max(known)) if len(known) == len(errors) else "unbounded"


_QUOTED = ("distance_U_mean", "cv_U")  # by figures


def figure_text(sides: Sides) -> str:
    """Return the line below a figure: the errors of two measures, and those not converged."""
    groups = [list(side) for side in sides]
    texts = {name: error_text(name, groups, verdict=False) for name in _QUOTED}
    if NOT_ASSESSED in texts.values():
        return f"discretization {NOT_ASSESSED}"
    rows = [row for group in groups for report in group if report for row in report.headline]
    failed = {row.name for row in rows if not row.holds}
    quoted = ", ".join(f"{HEADLINE[name]} {text}" for name, text in texts.items())
    others = ", ".join(short for name, short in HEADLINE.items() if name in failed)
    more = f"; {Verdict.NOT_CONVERGED}: {others}" if failed else ""
    return f"discretization: {quoted}{more}"
