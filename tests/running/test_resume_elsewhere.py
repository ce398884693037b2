"""A run that goes on with other versions, threads or bits; a refused one, which changes nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from golden.synthetic_run import extend
from support_cli import caller
from support_runs import KEYS, Killed, kill_at, stop_at

import prdsim
from prdsim.errors import (
    BackendUnavailableError,
    OutputError,
    ResumeMismatchError,
    TrajectoryLockedError,
)
from prdsim.trajectory import Status, TrajectoryWriter


@pytest.fixture
def stopped(tmp_path):
    return prdsim.run(**KEYS, output=str(tmp_path / "run.h5"), progress=stop_at(13)).path


def with_versions(path, **versions):
    """Make a file one that was written with other versions."""
    with prdsim.open_trajectory(path) as trajectory:
        plans = trajectory.planned_snapshots, trajectory.planned_scalars
        changed = json.dumps({**trajectory.attributes["versions"], **versions})
    extend(path, snapshot_plan=plans[0], scalar_plan=plans[1], attributes={"versions": changed})


def test_every_resume_is_recorded_with_its_environment(stopped):
    prdsim.resume(stopped, progress=stop_at(17))
    prdsim.resume(stopped)
    prdsim.resume(stopped, 30)
    with prdsim.open_trajectory(stopped) as trajectory:
        sessions, versions = trajectory.sessions, trajectory.attributes["versions"]
        assert trajectory.check() == []
    assert [s["number"] for s in sessions] == [1, 2, 3]
    assert [s["step"] for s in sessions] == [13, 17, 20]
    assert all(s["lock"] is True and s["versions"] == versions for s in sessions)


def test_the_first_and_the_latest_resumes_are_kept(tmp_path):
    path = prdsim.run(**KEYS, output=str(tmp_path / "run.h5")).path
    for number in range(1, 19):
        with TrajectoryWriter.open(path) as writer:
            writer.session({"step": number})
            writer.commit(Status.INTERRUPTED)
    with prdsim.open_trajectory(path) as trajectory:
        assert [s["number"] for s in trajectory.sessions] == [1, *range(4, 19)]
        assert all(s["step"] == s["number"] for s in trajectory.sessions)
        assert trajectory.check() == []


def test_other_versions_and_threads_are_said(stopped):
    with_versions(stopped, numpy="1.0", threads=64, blas=["fastblas 7 (Ancient)"])
    with pytest.warns(UserWarning, match="resumed with threads 1 .before: 64.; numpy .*1.0.; blas"):
        prdsim.resume(stopped, progress=stop_at(17))
    prdsim.resume(stopped)  # compared with the resume before, which was the same


def test_the_command_line_says_it_too_and_inspect_shows_it(stopped, monkeypatch, capsys):
    with_versions(stopped, numpy="1.0")
    call = caller(monkeypatch, capsys)
    answer = call("resume", stopped)
    assert answer.code == 0
    assert "resumed with numpy" in answer.err
    assert "(before: 1.0): the last bits may differ" in answer.err
    assert "resumed once, last at step 13 on 20" in call("inspect", stopped).out
    assert json.loads(call("inspect", stopped, "--json").out)["sessions"][0]["step"] == 13


@pytest.fixture
def other_bits(tmp_path):
    """A killed run whose rows after the restart state another machine computes otherwise."""
    path = tmp_path / "run.h5"
    with pytest.raises(Killed):
        prdsim.run(**KEYS, chart="weight", output=str(path), progress=kill_at(18))
    with TrajectoryWriter.open(path) as writer:
        point = writer.read_restart()
        assert (point.step, writer.record.snapshot_rows, writer.record.scalar_rows) == (0, 4, 4)
        U = np.nextafter(point.arrays["U"], np.inf)
        writer.restart(point.step, point.time, {**point.arrays, "U": U}, point.scalars)
        writer.commit(Status.RUNNING)
    return path


def test_new_bits_are_refused_unless_they_are_accepted(other_bits, monkeypatch, capsys):
    before = other_bits.read_bytes()
    with pytest.raises(ResumeMismatchError, match="--accept-new-bits") as caught:
        prdsim.resume(other_bits)
    assert "The file is unchanged" in str(caught.value)
    assert other_bits.read_bytes() == before
    with prdsim.open_trajectory(other_bits) as trajectory:
        old = trajectory.U[:]
    result = prdsim.resume(other_bits, accept_new_bits=True)
    assert (result.stop_reason, result.step) == ("finished", 20)
    with prdsim.open_trajectory(other_bits) as trajectory:
        assert trajectory.check() == []
        assert trajectory.step.tolist() == [0, 5, 10, 15, 20]
        assert np.array_equal(trajectory.U[0], old[0])
        assert not np.array_equal(trajectory.U[2], old[2])
        assert np.allclose(trajectory.U[2], old[2], rtol=0, atol=1e-12)
        (session,) = trajectory.sessions
        assert session["accepted_new_bits"] == {"scalars": 3, "snapshots": 3}
    shown = caller(monkeypatch, capsys)("inspect", other_bits).out
    assert "new bits accepted at step 0: 3 of scalars and 3 of snapshots computed anew" in shown


def test_accepted_new_bits_survive_a_kill(other_bits):
    with pytest.raises(Killed):
        prdsim.resume(other_bits, accept_new_bits=True, progress=kill_at(12))
    prdsim.resume(other_bits)
    with prdsim.open_trajectory(other_bits) as trajectory:
        assert trajectory.check() == []
        assert ["accepted_new_bits" in s for s in trajectory.sessions] == [True, False]


def raising(error):
    def call(*arguments, **keywords):  # noqa: ARG001
        raise error

    return call


def refused_for_permission(path, monkeypatch):  # noqa: ARG001
    denied = raising(PermissionError(13, "Permission denied"))
    monkeypatch.setattr("prdsim.trajectory.writer.open_for_writing", denied)
    return OutputError


def refused_without_backend(path, monkeypatch):  # noqa: ARG001
    unavailable = raising(BackendUnavailableError("backend numpy: not here"))
    monkeypatch.setattr("prdsim.running.resolve.get_backend", unavailable)
    return BackendUnavailableError


def refused_by_a_writer(path, monkeypatch):
    writer = TrajectoryWriter.open(path)
    monkeypatch.setattr(writer, "path", path)  # alive until the test ends
    return TrajectoryLockedError


@pytest.mark.parametrize(
    "refused", [refused_for_permission, refused_without_backend, refused_by_a_writer]
)
def test_a_refused_resume_has_changed_nothing(refused, stopped, monkeypatch):
    before, identity = stopped.read_bytes(), stopped.stat().st_ino
    error = refused(stopped, monkeypatch)
    with pytest.raises(error):
        prdsim.resume(stopped, 40)
    assert stopped.read_bytes() == before
    assert stopped.stat().st_ino == identity
    assert [file.name for file in stopped.parent.iterdir()] == ["run.h5"]


def test_a_run_without_a_lock_goes_on_without_one(tmp_path, monkeypatch, capsys):
    path = prdsim.run(
        **KEYS, output=str(tmp_path / "run.h5"), lock=False, progress=stop_at(13)
    ).path
    prdsim.resume(path, progress=stop_at(17))
    call = caller(monkeypatch, capsys)
    assert call("resume", path, "--no-lock").code == 0
    with prdsim.open_trajectory(path) as trajectory:
        assert [s["lock"] for s in trajectory.sessions] == [False, False]
