"""Repair keeps what checksums verify, says what it drops, and never touches the damaged file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import synthetic_run as run
from support import names, same_bits

from prdsim.errors import (
    ConfigError,
    DamagedTrajectoryError,
    NotATrajectoryError,
    OutputError,
    TrajectoryError,
    TrajectoryLockedError,
)
from prdsim.symbols import ARRAYS
from prdsim.trajectory import (
    Status,
    TrajectoryWriter,
    open_trajectory,
    repair_trajectory,
)
from prdsim.trajectory.truncated import read_map_of_rest

GOLDEN = Path(__file__).parents[1] / "golden"


def make(path, stop=13, plans=(run.SNAPSHOT_STEPS, run.SCALAR_STEPS), **layout):
    layout |= dict(zip(("snapshot_plan", "scalar_plan"), plans, strict=True))
    with TrajectoryWriter.create(path, run.layout(**layout)) as writer:
        run.continue_run(writer, *plans, stop=stop)
    return path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run stopped at step 13: 5 snapshots, 7 rows of scalars, restart states of 10 and 13.

    Its commit before the last one, at step 10, has one row of scalars less.
    """
    return make(tmp_path_factory.mktemp("stopped") / "run.h5")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("whole") / "run.h5", stop=None)


def place(path, name, row=0, at=3):
    """The position of a byte in a row of a dataset; a row can be "newest" or "older"."""
    with open_trajectory(path) as trajectory:
        extent, record = trajectory._map[name], trajectory._record
    newest = record.slot if name == "commit/record" else record.restart_slot
    row = {"newest": newest, "older": 1 - newest}.get(row, row)
    return extent.offset + row * extent.row_bytes + at


def damaged(source, target, *places):
    content = bytearray(source.read_bytes())
    for position in places:
        content[position] ^= 4
    target.write_bytes(content)
    return target


def gap(path):
    """A position among the structure's unused bytes."""
    with open_trajectory(path) as trajectory:
        start = min(extent.offset for extent in trajectory._map.extents.values())
    content = path.read_bytes()[:start]
    assert not any(content[-64:])
    return start - 32


def assert_is_part_of(path, source):
    """The rows of a file are the first ones of another, bit for bit."""
    with open_trajectory(path) as part, open_trajectory(source) as all_of_it:
        assert part.check() == []
        n, k = len(part.scalars["step"]), len(part.step)
        ours, theirs = dict(part.scalars), dict(all_of_it.scalars)
        assert same_bits(ours, {name: column[:n] for name, column in theirs.items()})
        assert np.array_equal(part.step, all_of_it.step[:k])
        assert np.array_equal(part.time, all_of_it.time[:k])
        for name in ARRAYS:
            assert np.array_equal(getattr(part, name)[:], getattr(all_of_it, name)[:k])
        return k, n, part.restart_step


def assert_continues(path, whole, plans=(run.SNAPSHOT_STEPS, run.SCALAR_STEPS)):
    """A repaired run ends as the undamaged one."""
    with TrajectoryWriter.open(path) as writer:
        run.continue_run(writer, *plans)
    with open_trajectory(path) as one, open_trajectory(whole) as other:
        assert one.status is Status.FINISHED
        assert len(one.step) == len(other.step)
        assert len(one.scalars["step"]) == len(other.scalars["step"])
    assert_is_part_of(path, whole)


NO_STATE = "the states to continue from: "
LOST = f"{NO_STATE}none is whole with all rows before it; the run cannot be continued"
AGAIN = f"{NO_STATE}a resume computes the run again from its start"
SCALARS = "rows of scalars from number {} on: their checksum fails"
RECORD = "commit/record"

# What is changed; what is kept: snapshots, rows of scalars, step of the restart state; what is
# said to be dropped; and whether the file keeps its status.
CASES: dict[str, tuple[list[tuple[Any, ...]], tuple[int, int, int], list[str], bool]] = {
    "snapshot": (
        [("snapshots/V", 2)],
        (2, 7, -1),
        ["snapshots from number 2 on: V of snapshot 2 is damaged", LOST],
        False,
    ),
    "last snapshot": (
        [("snapshots/a", 4)],
        (4, 7, -1),
        ["snapshots from number 4 on: a of snapshot 4 is damaged", LOST],
        False,
    ),
    "steps": (
        [("snapshots/step", 3)],
        (3, 7, -1),
        ["snapshots from number 3 on: U of snapshot 3 is damaged", LOST],
        False,
    ),
    "snapshot checksums": (
        [("snapshots/crc32", 1, 5)],
        (1, 7, -1),
        ["snapshots from number 1 on: V of snapshot 1 is damaged", LOST],
        False,
    ),
    "last scalars": ([("scalars/loss_sup", 6)], (5, 6, 10), [SCALARS.format(6)], False),
    "first scalars": ([("scalars/time", 0)], (5, 0, -1), [SCALARS.format(0), AGAIN], False),
    "newer restart": ([("restart/U", "newest")], (5, 7, 10), [], False),
    "older restart": ([("restart/time", "older")], (5, 7, 13), [], True),
    "restarts": ([("restart/W", 0), ("restart/crc32", 1)], (5, 7, -1), [LOST], False),
    "newest record": ([(RECORD, "newest", 3000)], (5, 7, 13), [], False),
    "its count": ([(RECORD, "newest", 16)], (5, 6, 10), [], False),
    "older record": ([(RECORD, "older", 16)], (5, 7, 13), [], True),
    "both records": ([(RECORD, 0, 90), (RECORD, 1, 4093)], (5, 7, 13), [], False),
    "both counts": (
        [(RECORD, 0, 16), (RECORD, 1, 16)],
        (5, 0, -1),
        [SCALARS.format(0), AGAIN],
        False,
    ),
    "samples": (
        [("data/X",)],
        (5, 7, 13),
        ["/data: its checksum fails; read from its source when needed"],
        True,
    ),
    "initial state": ([("initial/W",)], (5, 7, 13), [], True),
    "axis": ([("neuron",)], (5, 7, 13), [], True),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_kept_of_a_file_with_changed_bits(case, stopped, whole, tmp_path):
    changes, kept, dropped, same_status = CASES[case]
    path = damaged(stopped, tmp_path / "bad.h5", *(place(stopped, *change) for change in changes))
    before, good = path.read_bytes(), tmp_path / "good.h5"
    report = repair_trajectory(path, good)
    assert assert_is_part_of(good, stopped) == kept
    assert report.dropped == dropped
    assert report.kept[:2] == [
        f"{kept[0]} of 5 snapshots",
        f"{kept[1]} of {rows(case)} rows of scalars",
    ]
    assert report.can_be_continued == (kept[2] >= 0 or kept[1] == 0)
    with open_trajectory(good) as trajectory:
        assert trajectory.status is Status.INTERRUPTED
        words = "SIGTERM" if same_status else f"repaired: kept {kept[0]} of 5 snapshots"
        assert trajectory.stop_reason == words
        if kept[2] >= 0:
            with TrajectoryWriter.open(good) as writer:
                assert same_bits(writer.read_restart().arrays, list(run.states(13))[kept[2]])
    assert path.read_bytes() == before
    assert names(tmp_path) == ["bad.h5", "good.h5"]
    assert_continues(good, whole)


def rows(case):
    """The rows of scalars that the newest record left counts."""
    return 6 if case == "its count" else 7


def test_a_finished_run_is_kept_to_its_last_row(whole, tmp_path):
    path = damaged(whole, tmp_path / "bad.h5", place(whole, "initial/W"))
    repair_trajectory(path, tmp_path / "good.h5")
    plans = len(run.SNAPSHOT_STEPS), len(run.SCALAR_STEPS)
    assert assert_is_part_of(tmp_path / "good.h5", whole) == (*plans, 24)


def test_a_changed_structure_is_written_anew(stopped, tmp_path):
    path = damaged(stopped, tmp_path / "bad.h5", gap(stopped))
    with open_trajectory(path) as trajectory:
        assert [problem.where for problem in trajectory.check()] == ["structure"]
    assert repair_trajectory(path, tmp_path / "good.h5").dropped == []
    assert assert_is_part_of(tmp_path / "good.h5", stopped) == (5, 7, 13)


@pytest.mark.parametrize("group", ["snapshots", "scalars"])
def test_without_its_plan_a_run_is_kept_but_not_continued(group, stopped, tmp_path):
    path = damaged(stopped, tmp_path / "bad.h5", place(stopped, f"schedule/{group}"))
    report = repair_trajectory(path, tmp_path / "good.h5")
    assert report.dropped == [
        f"the plan of further {group}: its checksum fails",
        f"{NO_STATE}/schedule/{group} is lost; the run cannot be continued",
    ]
    assert not report.can_be_continued
    assert assert_is_part_of(tmp_path / "good.h5", stopped) == (5, 7, -1)
    good = tmp_path / "again.h5"
    plans = {"schedule/snapshots": run.SNAPSHOT_STEPS, "schedule/scalars": run.SCALAR_STEPS}
    report = repair_trajectory(path, good, again=lambda _: plans)
    assert report.kept[2] == f"/schedule/{group}: it was damaged, and is restored"
    assert assert_is_part_of(good, stopped) == (5, 7, 13)


def test_what_is_computed_again_is_used_only_if_its_checksum_is_that_of_the_file(stopped, tmp_path):
    path = damaged(stopped, tmp_path / "bad.h5", place(stopped, "data/X"))
    X = np.arange(10.0).reshape(5, 2)
    repair_trajectory(path, tmp_path / "good.h5", again=lambda _: {"data/X": X})
    with open_trajectory(tmp_path / "good.h5") as trajectory:
        assert np.array_equal(trajectory.data["X"], X)
    for name, other in (("value", X + 1e-9), ("shape", X.T)):
        report = repair_trajectory(
            path, tmp_path / f"{name}.h5", again=lambda _, other=other: {"data/X": other}
        )
        assert report.dropped[0].startswith("/data: ")
        with open_trajectory(tmp_path / f"{name}.h5") as trajectory:
            assert dict(trajectory.data) == {}


def test_a_rounded_initial_state_is_named_so(tmp_path):
    third = {name: np.full(run.SHAPES[name], 1 / 3) for name in ARRAYS}
    source = make(tmp_path / "run.h5", snapshot_precision="float32", initial=third)
    path = damaged(source, tmp_path / "bad.h5", place(source, "initial/V"))
    report = repair_trajectory(path, tmp_path / "good.h5")
    assert report.dropped == [
        "/initial/V: its checksum fails; snapshot 0, rounded, replaces it",
        f"{NO_STATE}/initial/V is lost; the run cannot be continued",
    ]
    assert not report.can_be_continued
    with open_trajectory(tmp_path / "good.h5") as trajectory:
        assert trajectory.initial["V"].dtype == "float64"
        assert np.array_equal(trajectory.initial["V"], trajectory.V[0])


@pytest.mark.parametrize("stop", [7, 13])
def test_a_run_recorded_by_times_goes_on_from_a_state_that_has_all_rows_before_it(tmp_path, stop):
    plans = (run.SNAPSHOT_TIMES, run.SCALAR_TIMES)
    source = make(tmp_path / "run.h5", stop=stop, plans=plans)
    whole = make(tmp_path / "whole.h5", stop=None, plans=plans)
    with open_trajectory(source) as trajectory:
        steps, last = trajectory.step, len(trajectory.step) - 1
    path = damaged(source, tmp_path / "bad.h5", place(source, "snapshots/U", last))
    repair_trajectory(path, tmp_path / "good.h5")
    k, _, restart = assert_is_part_of(tmp_path / "good.h5", source)
    assert k == last
    # States of 5 and 7, of 10 and 13: the last snapshots are of steps 6 and 12.
    assert steps[-1] == {7: 6, 13: 12}[stop]
    assert restart == {7: 5, 13: 10}[stop]
    assert_continues(tmp_path / "good.h5", whole, plans)


def test_a_file_of_an_older_version_gets_the_present_one(tmp_path):
    path = tmp_path / "bad.h5"
    path.write_bytes((GOLDEN / "trajectory-v1.h5").read_bytes())
    damaged(path, path, place(path, "restart/U", "newest"))
    carried = dict.fromkeys(run.RESTART_SCALARS[2:], 77.0)
    repair_trajectory(path, tmp_path / "good.h5", carried=carried)
    with TrajectoryWriter.open(tmp_path / "good.h5") as writer:
        point = writer.read_restart()
    assert point.step == 10
    assert tuple(point.scalars) == run.RESTART_SCALARS
    assert point.scalars["evaluations"] == 77.0
    with open_trajectory(tmp_path / "good.h5") as trajectory:
        assert trajectory.check() == []
        assert trajectory.format_version > 1
        assert np.isnan(trajectory.scalars["evaluations"]).all()


# Truncation


def test_an_interrupted_copy_is_saved_as_far_as_it_goes(stopped, tmp_path):
    """Every length: what is kept never grows as more is cut off, and is always right."""
    content, path, good = stopped.read_bytes(), tmp_path / "bad.h5", tmp_path / "good.h5"
    with open_trajectory(stopped) as trajectory:
        extents = trajectory._map.extents.values()
        starts = sorted({e.offset for e in extents} | {len(content) - 2})
    kept, refused = [], []
    for cut in starts[::-1][:36:3]:
        path.write_bytes(content[: cut + 1])
        try:
            repair_trajectory(path, good, force=True)
        except DamagedTrajectoryError as error:
            refused.append(str(error))
        else:
            kept.append(assert_is_part_of(good, stopped))
        assert path.read_bytes() == content[: cut + 1]
    assert kept[0][:2] == (5, 7)
    assert kept == sorted(kept, reverse=True)
    assert refused
    assert all("can be saved" in text for text in refused)


def test_a_file_cut_by_a_byte_is_whole_again(stopped, whole, tmp_path):
    path, good = tmp_path / "bad.h5", tmp_path / "good.h5"
    path.write_bytes(stopped.read_bytes()[:-1])
    report = repair_trajectory(path, good)
    assert_is_part_of(good, stopped)
    assert report.can_be_continued
    assert_continues(good, whole)


def test_the_map_of_a_file_without_its_end_is_that_of_the_whole(stopped, tmp_path):
    """And one with something added has its own size, as the check of the fixed part needs."""
    content, path = stopped.read_bytes(), tmp_path / "bad.h5"
    maps = []
    for variant in (content, content[:-1], content[: len(content) // 2], content + b"more"):
        path.write_bytes(variant)
        with path.open("rb", buffering=0) as file:
            maps.append(read_map_of_rest(path, file))
    assert maps[0].size == len(content)
    assert maps[0] == maps[1] == maps[2] == replace(maps[3], size=len(content))
    assert maps[3].size == len(content) + 4


@pytest.mark.parametrize("length", [8, 40, 2000, 20_000])
def test_a_file_without_its_structure_is_refused(stopped, tmp_path, length):
    path = tmp_path / "bad.h5"
    path.write_bytes(stopped.read_bytes()[:length])
    with pytest.raises(DamagedTrajectoryError, match="HDF5 cannot read its structure") as info:
        repair_trajectory(path, tmp_path / "good.h5")
    assert info.value.exit_code == 3
    assert names(tmp_path) == ["bad.h5"]


# What is refused


def test_a_whole_file_is_not_copied(stopped, tmp_path):
    assert repair_trajectory(stopped, tmp_path / "good.h5") is None
    uncounted = damaged(stopped, tmp_path / "bad.h5", place(stopped, "snapshots/U", 6))
    assert repair_trajectory(uncounted, tmp_path / "good.h5") is None
    assert names(tmp_path) == ["bad.h5"]


def test_nothing_to_save(stopped, tmp_path):
    places = [place(stopped, "snapshots/U", 0), place(stopped, "scalars/time", 0)]
    path = damaged(stopped, tmp_path / "bad.h5", *places)
    match = "no row of scalars and no snapshot is whole; restore it from a copy"
    with pytest.raises(DamagedTrajectoryError, match=match):
        repair_trajectory(path, tmp_path / "good.h5")
    places = [place(stopped, "snapshots/U", 0), place(stopped, "initial/U")]
    path = damaged(stopped, tmp_path / "bad.h5", *places)
    match = r"/initial/U is damaged, and no snapshot is whole \(U of snapshot 0 is damaged\)"
    with pytest.raises(DamagedTrajectoryError, match=match):
        repair_trajectory(path, tmp_path / "good.h5")
    assert names(tmp_path) == ["bad.h5"]


def test_the_damaged_file_is_never_the_output(stopped, tmp_path):
    path = damaged(stopped, tmp_path / "bad.h5", place(stopped, "snapshots/U", 2))
    before = path.read_bytes()
    os.link(path, tmp_path / "hard.h5")
    (tmp_path / "soft.h5").symlink_to(path)
    for name in ("bad.h5", "hard.h5", "soft.h5"):
        with pytest.raises(ConfigError, match=f"{name} is the damaged file itself; name another"):
            repair_trajectory(path, tmp_path / name, force=True)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["bad.h5", "hard.h5", "soft.h5"]


def test_an_output_is_replaced_only_by_force(stopped, tmp_path):
    path = damaged(stopped, tmp_path / "bad.h5", place(stopped, "snapshots/U", 2))
    good = tmp_path / "good.h5"
    good.write_text("mine")
    with pytest.raises(ConfigError, match=r"good\.h5 exists; use --force"):
        repair_trajectory(path, good)
    assert good.read_text() == "mine"
    repair_trajectory(path, good, force=True)
    assert assert_is_part_of(good, stopped) == (2, 7, -1)
    with pytest.raises(OutputError, match="is not a folder"):
        repair_trajectory(path, tmp_path / "no" / "good.h5")
    assert names(tmp_path) == ["bad.h5", "good.h5"]


def test_a_file_being_written_is_left_alone(stopped, tmp_path):
    path = damaged(stopped, tmp_path / "bad.h5", place(stopped, "snapshots/U", 2))
    refused = pytest.raises(TrajectoryLockedError, match="is being written; wait for it")
    with TrajectoryWriter.open(path), refused:
        repair_trajectory(path, tmp_path / "good.h5")
    with make_live(tmp_path / "good.h5") as _, pytest.raises(TrajectoryLockedError):
        repair_trajectory(path, tmp_path / "good.h5", force=True)


def make_live(path):
    return TrajectoryWriter.create(path, run.layout())


def test_what_is_no_trajectory(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(NotATrajectoryError, match="is not an HDF5 file"):
        repair_trajectory(tmp_path / "text.h5", tmp_path / "good.h5")
    with pytest.raises(TrajectoryError, match="cannot read"):
        repair_trajectory(tmp_path / "none.h5", tmp_path / "good.h5")
    assert names(tmp_path) == ["text.h5"]
