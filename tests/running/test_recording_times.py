"""Rows at times: looking changes no bit of a run, and a longer run begins with the shorter one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import BACKENDS, INTEGRATORS, same_bits, same_numbers
from support_runs import assert_same_points, restart_point, stop_at

import prdsim
from prdsim.errors import ConfigError
from prdsim.symbols import ARRAYS

END = 1.3
KEYS: dict[str, Any] = {
    "dataset": "digits",
    "samples": 12,
    "width": 12,
    "critic_width": 7,
    "diffusion": True,
    "step_size": 0.09,
    "end_time": END,
    "threads": 1,
    "backend": "numpy",
}

# Every method once, on the one backend or the other: rows between steps know neither.
METHODS = pytest.mark.parametrize(
    ("integrator", "backend"), list(zip(INTEGRATORS, 3 * BACKENDS, strict=False)), ids=str
)


def run(path: Path, **others: Any) -> prdsim.running.loop.Result:
    return prdsim.run(**{**KEYS, **others}, output=str(path))


def rows_by_time(path: Path) -> tuple[dict[float, bytes], dict[float, bytes]]:
    """The rows of scalars and the snapshots of a file, as bytes, by their times.

    Without lambda_max, which is that of the last snapshot: of the plan, not of the run.
    """
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        columns = [column for name, column in trajectory.scalars.items() if name != "lambda_max"]
        scalars = {
            float(time): b"".join(column[k].tobytes() for column in columns)
            for k, time in enumerate(trajectory.scalars["time"])
        }
        arrays = [getattr(trajectory, name)[:] for name in ARRAYS]
        snapshots = {
            float(time): b"".join([trajectory.step[k].tobytes(), *(x[k].tobytes() for x in arrays)])
            for k, time in enumerate(trajectory.time)
        }
    return scalars, snapshots


def assert_common_rows_are_equal(left: Path, right: Path, at_least: int) -> None:
    for a, b in zip(rows_by_time(left), rows_by_time(right), strict=True):
        common = sorted(a.keys() & b.keys())
        assert len(common) >= at_least
        assert [a[time] for time in common] == [b[time] for time in common]


# -- looking changes nothing -----------------------------------------------------------------------


@METHODS
def test_recording_times_change_no_bit_of_the_run(integrator, backend, tmp_path):
    recordings = [
        {"snapshots": "times:every:0.1", "scalars": "times:every:0.05"},
        {"snapshots": "times:every:0.05", "scalars": "times:every:0.1"},  # added, removed
        {"snapshots": "times:geometric:2", "scalars": "times:every:0.15"},  # the ends; moved
        {"snapshots": "every:1", "scalars": "every:3", "steps": 10_000},  # at steps
    ]
    paths = [tmp_path / f"{i}.h5" for i in range(len(recordings))]
    ends = [
        run(path, integrator=integrator, backend=backend, **recording)
        for path, recording in zip(paths, recordings, strict=True)
    ]
    first = ends[0]
    assert first.time == END
    for path, end in zip(paths, ends, strict=True):
        assert (end.step, end.time) == (first.step, first.time)
        assert same_numbers(end.last, first.last)
        assert same_bits(dict(end.state), dict(first.state))
        assert_same_points(path, paths[0])
    assert_common_rows_are_equal(paths[0], paths[1], at_least=14)
    for path in paths[2:]:
        assert_common_rows_are_equal(paths[0], path, at_least=2)
    assert restart_point(paths[0]).step >= 5


def test_the_default_rule_records_between_steps_and_at_the_end(tmp_path):
    path = run(tmp_path / "run.h5").path
    with prdsim.open_trajectory(path) as trajectory:
        assert np.array_equal(trajectory.time, trajectory.planned_snapshots)
        assert len(trajectory.time) == 40
        assert np.array_equal(trajectory.scalars["time"], [0.0, 0.5, 1.0, END])
        assert trajectory.time[-1] == END < trajectory.restart_time
        # The step of a row is the one that passed its time: several rows may have it.
        assert (np.diff(trajectory.step) >= 0).all()
        assert (np.diff(trajectory.step) == 0).any()
        assert trajectory.step[-1] == trajectory.restart_step


# -- longer runs -----------------------------------------------------------------------------------


@METHODS
def test_a_finished_run_goes_on_to_a_later_time(integrator, backend, tmp_path):
    """Bit for bit as a run straight to that time, at the end and at all rows of both."""
    keys = {
        "integrator": integrator,
        "backend": backend,
        "snapshots": "times:every:0.1",
        "scalars": "times:every:0.05",
    }
    path, straight = tmp_path / "run.h5", tmp_path / "straight.h5"
    run(path, **keys, end_time=0.62)
    before = rows_by_time(path)
    result = prdsim.resume(path, end_time=END)
    expected = run(straight, **keys)
    assert (result.stop_reason, result.step, result.time) == ("finished", expected.step, END)
    assert same_bits(dict(result.state), dict(expected.state))
    assert_same_points(path, straight)
    assert_common_rows_are_equal(path, straight, at_least=13)
    after = rows_by_time(path)
    for old, new in zip(before, after, strict=True):
        assert list(new.items())[: len(old)] == list(old.items())  # the end at 0.62 included
    # Nothing of the plan is missing but what lay between the old end and the step that passed it.
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.config["end_time"] == END
        assert np.array_equal(trajectory.planned_scalars, trajectory.scalars["time"])
        missing = rows_by_time(straight)[0].keys() - after[0].keys()
        steps_before_passing = trajectory.scalars["step"][trajectory.scalars["time"] <= 0.62][-1]
    with prdsim.open_trajectory(straight) as trajectory:
        steps = dict(zip(trajectory.scalars["time"], trajectory.scalars["step"], strict=True))
    assert all(time > 0.62 and steps[time] == steps_before_passing for time in missing)


@METHODS
def test_a_finished_run_goes_on_within_its_last_step(integrator, backend, tmp_path):
    """The end is reached, not passed, though it lies within a step that has been taken."""
    keys = {
        "integrator": integrator,
        "backend": backend,
        "snapshots": "times:every:0.5",
        "scalars": "times:every:0.01",
        "end_time": 0.62,
    }
    path, straight = tmp_path / "run.h5", tmp_path / "straight.h5"
    run(path, **keys)
    before = rows_by_time(path)
    with prdsim.open_trajectory(path) as trajectory:
        end = (0.62 + trajectory.restart_time) / 2
    result = prdsim.resume(path, end_time=end)
    expected = run(straight, **{**keys, "end_time": end})
    assert (result.stop_reason, result.step, result.time) == ("finished", expected.step, end)
    assert same_bits(dict(result.state), dict(expected.state))
    assert_same_points(path, straight)
    for old, new, whole in zip(before, rows_by_time(path), rows_by_time(straight), strict=True):
        assert list(new.items())[: len(old)] == list(old.items())
        assert whole.items() <= new.items()  # nothing between the ends is missing


def test_a_run_recorded_by_step_goes_on_to_a_later_time(tmp_path):
    keys = {"integrator": "rk4", "steps": 1000, "snapshots": "every:4", "scalars": "every:3"}
    path, straight = tmp_path / "run.h5", tmp_path / "straight.h5"
    run(path, **keys, end_time=0.62)
    prdsim.resume(path, end_time=END)
    run(straight, **keys)
    assert_same_points(path, straight)
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.step.tolist() == [0, 4, 7, 8, 12, 15]  # 7 passed 0.62, 15 passes 1.3
        assert trajectory.time[2] == 0.62
    assert_common_rows_are_equal(path, straight, at_least=5)


def test_an_interrupted_run_goes_on_to_a_later_time(tmp_path):
    path, straight = tmp_path / "run.h5", tmp_path / "straight.h5"
    keys = {"snapshots": "times:every:0.1", "scalars": "times:every:0.05", "integrator": "bs23"}
    result = prdsim.run(**{**KEYS, **keys, "end_time": 0.8}, output=str(path), progress=stop_at(3))
    assert result.stop_reason == "interrupted"
    prdsim.resume(path, end_time=END)
    run(straight, **keys)
    assert_same_points(path, straight)
    assert rows_by_time(path) == rows_by_time(straight)  # both plans have a row at 0.8


@pytest.mark.parametrize("integrator", ["gd", "dopri5"])
def test_a_run_that_reaches_its_steps_first_ends_with_a_row_and_goes_on(integrator, tmp_path):
    """Times beyond the last step stay planned, and are recorded once there are more steps."""
    keys = {"integrator": integrator, "scalars": "times:every:0.05"}
    path, straight = tmp_path / "run.h5", tmp_path / "straight.h5"
    result = run(path, **keys, steps=4)
    assert (result.stop_reason, result.step) == ("finished", 4)
    assert 0 < result.time < END
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert trajectory.time[-1] == trajectory.scalars["time"][-1] == result.time
        assert trajectory.step[-1] == trajectory.restart_step == 4
        assert trajectory.planned_snapshots[-1] == END
        for name in ARRAYS:
            assert np.array_equal(getattr(trajectory, name)[-1], result.state[name])
    ended = result.time
    result = prdsim.resume(path, steps=7)
    assert (result.stop_reason, result.step) == ("finished", 7)
    result = prdsim.resume(path, steps=10_000)
    assert (result.stop_reason, result.time) == ("finished", END)
    run(straight, **keys)
    assert_same_points(path, straight)
    for parts, whole in zip(rows_by_time(path), rows_by_time(straight), strict=True):
        assert ended in parts
        assert whole.items() <= parts.items()


# -- times that are the same but for rounding ------------------------------------------------------

# Three times 0.1 is above 0.3, the time of the first step: the row is that step's all the same.
ROUNDED: dict[str, Any] = {
    "integrator": "gd",
    "step_size": 0.3,
    "snapshots": "times:every:0.1",
    "scalars": "times:every:0.1",
}


def test_a_row_whose_time_is_a_steps_but_for_rounding_is_recorded_once(tmp_path):
    assert 3 * 0.1 > 0.3
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    run(whole, **ROUNDED)
    prdsim.run(**{**KEYS, **ROUNDED}, output=str(path), progress=stop_at(1))
    prdsim.resume(path)
    assert rows_by_time(path) == rows_by_time(whole)
    assert_same_points(path, whole)


def test_the_last_row_at_a_limit_of_steps_is_the_planned_one_but_for_rounding(tmp_path):
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    run(whole, **ROUNDED)
    run(path, **ROUNDED, steps=1)
    with prdsim.open_trajectory(path) as trajectory:
        assert trajectory.time.tolist() == [0.0, 0.1, 0.2, 3 * 0.1]
    prdsim.resume(path, steps=100)
    assert rows_by_time(path) == rows_by_time(whole)


def test_going_on_where_a_step_ended_at_a_planned_time_but_for_rounding(tmp_path):
    """The run to 1 ended with step 4, at 1.2: its row is over, and no step has it twice."""
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    assert 12 * 0.1 > 4 * 0.3
    run(path, **ROUNDED, end_time=1.0)
    prdsim.resume(path, end_time=2.0)
    run(whole, **ROUNDED, end_time=2.0)
    assert_same_points(path, whole)
    assert_common_rows_are_equal(path, whole, at_least=18)
    with prdsim.open_trajectory(path) as trajectory:
        assert np.diff(trajectory.time).min() > 0.09


# -- refusals --------------------------------------------------------------------------------------

BY_STEP = {"integrator": "rk4", "steps": 1000, "snapshots": "every:4"}
AGAIN = r"finished at time 1\.3; --end-time T with T > 1\.3 continues it"
PASSED = (
    r"finished at time 1\.3; --end-time T with T > 1\.35, the end of its last step, continues it"
)
REFUSED = [  # a finished run, how it is to go on, why not
    ({}, {"end_time": 1.2}, r"--end-time 1\.2: .*run\.h5 is planned for 1\.3; give a later end"),
    ({"integrator": "rk4"}, {"end_time": None}, AGAIN),
    ({"integrator": "rk4"}, {"end_time": END}, AGAIN),
    (BY_STEP, {"end_time": END}, PASSED),
    (BY_STEP, {"end_time": 1.33}, PASSED),
    ({"integrator": "rk4", "steps": 1000}, {"steps": 2000}, AGAIN),
    ({"steps": 3}, {"end_time": 2.0}, "finished at step 3; --steps N with N > 3 continues it"),
    (
        {"steps": 3, "end_time": None},
        {"end_time": 2.0},
        r"--end-time 2\.0: .*run\.h5 was planned by steps; give --steps",
    ),
]


@pytest.mark.parametrize(("keys", "longer", "message"), REFUSED)
def test_an_end_that_does_not_continue_the_run_is_refused(keys, longer, message, tmp_path):
    path = run(tmp_path / "run.h5", **keys).path
    content = path.read_bytes()
    with pytest.raises(ConfigError, match=message):
        prdsim.resume(path, **longer)
    assert path.read_bytes() == content
