"""Runs that prdsim 0.1.0 began, in files of format version 1: read, continued, extended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import same_bits
from support_cli import caller
from support_runs import Killed, kill_at, restart_point, stop_at

import prdsim
from prdsim.config import config_sha256
from prdsim.errors import ConfigError, ResumeMismatchError
from prdsim.recorded import Recorded
from prdsim.symbols import ARRAYS
from prdsim.trajectory import SCALARS, Status, TrajectoryWriter, open_trajectory

GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = pytest.mark.filterwarnings("ignore:resumed with prdsim")
NEW = [field.name for field in SCALARS if field.since > 1]


@pytest.fixture
def run_v1(tmp_path) -> Path:
    """A copy of a run of gd, its critic warmed up, stopped at step 13 of 24."""
    path = tmp_path / "run.h5"
    path.write_bytes((GOLDEN / "run-v1.h5").read_bytes())
    return path


@pytest.fixture(scope="module")
def end() -> Mapping[str, np.ndarray]:
    """The end of the same run as prdsim 0.1.0 had it without a stop, and all its scalars."""
    with np.load(GOLDEN / "run-v1-end.npz") as arrays:
        return dict(arrays)


def assert_is_the_same(computed: Any, expected: np.ndarray) -> None:
    """Equal as far as machines agree.

    The same NumPy on the machine that made the file gives the same bits. Another BLAS sums in
    another order: each of 24 steps then moves numbers by a few times 1e-16, and at these smooth
    losses nothing amplifies it to more than 1e-12.
    """
    np.testing.assert_allclose(computed, expected, rtol=1e-12, atol=1e-12)


def test_a_run_of_version_1_is_continued_as_it_would_have_been(run_v1, end):
    with open_trajectory(run_v1) as trajectory:
        assert trajectory.format_version == 1
        assert trajectory.check() == []
        assert (trajectory.status, trajectory.stop_step) == (Status.INTERRUPTED, 13)
        rows = dict(trajectory.scalars)
    result = prdsim.resume(run_v1)
    assert (result.stop_reason, result.step) == ("finished", 24)
    for name in ARRAYS:
        assert_is_the_same(result.state[name], end[name])
    with open_trajectory(run_v1) as trajectory:
        assert trajectory.format_version == 1
        assert trajectory.check() == []
        assert trajectory.step.tolist() == [0, 6, 12, 18, 24]
        assert trajectory.scalars["step"].tolist() == [0, 4, 8, 12, 16, 20, 24]
        assert not set(NEW) & set(trajectory.scalars)
        for name, column in trajectory.scalars.items():
            assert column[:4].tobytes() == rows[name].tobytes()
            assert_is_the_same(column, end[f"scalars_{name}"])
    assert result.last["evaluations"] == 11  # counted from where it was continued
    assert np.isnan(result.first["evaluations"])


def test_the_configuration_of_version_1_is_told_in_todays_words(run_v1):
    with open_trajectory(run_v1) as trajectory:
        old, config = trajectory.config, Recorded(trajectory).config
    assert (old["scalars_every"], config.scalars) == (4, "every:4")
    assert (old["penalty_points"], config.penalty_points) == ("auto", "random")
    assert (old["critic_warmup"], config.critic_warmup) == (7, 7 * 0.02)  # updates, now a time
    assert (config.critic_step_size, config.end_time, config.steps) == (0.02, None, 24)


def test_a_finished_run_of_version_1_goes_on_in_a_file_of_the_present_version(run_v1, end):
    prdsim.resume(run_v1)
    with open_trajectory(run_v1) as trajectory:
        old = dict(trajectory.scalars)
    result = prdsim.resume(run_v1, 40)
    assert (result.stop_reason, result.step) == ("finished", 40)
    with open_trajectory(run_v1) as trajectory:
        assert trajectory.format_version == 3
        assert trajectory.check() == []
        assert trajectory.step.tolist() == [0, 6, 12, 18, 24, 30, 36, 40]
        assert Recorded(trajectory).config.steps == 40
        assert "scalars_every" not in trajectory.config
        for name in ARRAYS:
            assert_is_the_same(getattr(trajectory, name)[4], end[name])
        for name, column in trajectory.scalars.items():
            if name in NEW:
                assert np.isnan(column[:7]).all()
            else:
                assert column[:7].tobytes() == old[name].tobytes()
        assert trajectory.scalars["evaluations"][7:].tolist() == [4, 8, 12, 16]
    result = prdsim.resume(run_v1, 48)
    assert result.step == 48
    with open_trajectory(run_v1) as trajectory:
        assert trajectory.check() == []
        assert np.isnan(trajectory.scalars["evaluations"][:7]).all()


def test_a_stopped_run_of_version_1_is_extended_too(run_v1, tmp_path):
    parts, whole = run_v1, tmp_path / "whole.h5"
    whole.write_bytes(run_v1.read_bytes())
    prdsim.resume(parts, 36)
    prdsim.resume(whole)
    prdsim.resume(whole, 36)
    with open_trajectory(parts) as a, open_trajectory(whole) as b:
        assert a.check() == b.check() == []
        assert a.format_version == b.format_version == 3
        assert np.array_equal(a.step, b.step)
        for name in ARRAYS:
            assert np.array_equal(getattr(a, name)[:], getattr(b, name)[:])
    assert same_bits(restart_point(parts).arrays, restart_point(whole).arrays)


def test_extended_it_survives_a_kill_like_any_other_run(run_v1, tmp_path):
    """What it counts from the extension on is carried, and the same when computed again."""
    whole = tmp_path / "whole.h5"
    whole.write_bytes(run_v1.read_bytes())
    prdsim.resume(whole, 40)
    prdsim.resume(run_v1, 40, progress=stop_at(22))
    with pytest.raises(Killed):
        prdsim.resume(run_v1, progress=kill_at(38))
    with open_trajectory(run_v1) as trajectory:
        assert (trajectory.restart_step, trajectory.step[-1]) == (22, 36)
    prdsim.resume(run_v1)
    with open_trajectory(run_v1) as a, open_trajectory(whole) as b:
        assert a.check() == b.check() == []
        for name, column in a.scalars.items():
            assert column.tobytes() == b.scalars[name].tobytes()
        assert a.scalars["evaluations"][4:].tolist() == [3, 7, 11, 15, 19, 23, 27]


def test_one_damaged_restart_state_is_extended_as_it_is(run_v1):
    with TrajectoryWriter.open(run_v1) as writer:
        point = writer.read_restart()
        slot = writer.record.restart_slot
        extent = writer._map["restart/U"]
        writer.restart(point.step, point.time, point.arrays, point.scalars)
        writer.commit(Status.INTERRUPTED, stop_step=13)
    content = bytearray(run_v1.read_bytes())
    content[extent.offset + slot * extent.row_bytes + 5] ^= 1  # the older of the two
    run_v1.write_bytes(content)
    assert prdsim.resume(run_v1, 40).stop_reason == "finished"
    with open_trajectory(run_v1) as trajectory:
        assert trajectory.check() == []


@pytest.mark.parametrize("longer", [[], ["--steps", 30]])
def test_its_summary_leaves_open_what_the_file_does_not_say(longer, run_v1, monkeypatch, capsys):
    """A stop before the next row: the last row known is one of version 1."""
    command = caller(monkeypatch, capsys)
    monkeypatch.setattr("prdsim.running.runner.automatic_progress", lambda: stop_at(13))
    answer = command("resume", run_v1, *longer)
    assert answer.code == 143
    assert answer.out.startswith("interrupted at step 13, t = 0.65 (gd, ")
    assert "? velocities" in answer.out
    answer = command("inspect", run_v1, "--check")
    assert answer.code == 0
    assert "all checksums hold" in answer.out


def test_it_has_no_end_time_to_move(run_v1):
    with pytest.raises(ConfigError, match=r"--end-time 5\.0: .* planned by steps; give --steps"):
        prdsim.resume(run_v1, end_time=5.0)


def test_a_run_of_version_1_that_had_not_warmed_its_critic_up_is_refused(run_v1):
    """Its warm-up belonged to the first step; now the first row comes after it."""
    with TrajectoryWriter.open(run_v1) as writer:
        point = writer.read_restart()
        for _ in range(2):
            writer.restart(0, 0.0, point.arrays, point.scalars)
            writer.commit(Status.RUNNING)
    content = run_v1.read_bytes()
    for longer in (None, 40):
        with pytest.raises(ResumeMismatchError, match=r"prdsim 0\.1\.0 warmed the critic up"):
            prdsim.resume(run_v1, longer)
    assert run_v1.read_bytes() == content


def test_the_checksum_of_its_configuration_still_binds(run_v1):
    with open_trajectory(run_v1) as trajectory:
        values = trajectory.config
    assert config_sha256(values) == trajectory.attributes["config_sha256"]
    assert config_sha256({**values, "scalars_every": 9}) == config_sha256(values)
    assert config_sha256({**values, "critic_step_size": 0.03}) != config_sha256(values)
