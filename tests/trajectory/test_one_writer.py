"""One writer per file, whatever its names; and what becomes of a file whose name is taken away."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from golden import synthetic_run as run
from golden.synthetic_run import create_trajectory
from support import names

from prdsim.errors import ConfigError, OutputError, TrajectoryLockedError
from prdsim.files import lock, posix
from prdsim.trajectory import Status, TrajectoryWriter, open_trajectory
from prdsim.trajectory.create import new_temporary
from prdsim.trajectory.extend import extend_trajectory


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.h5"


def hard_link(path):
    other = path.with_name("other.h5")
    other.hardlink_to(path)
    return other


def renamed(path):
    return path.rename(path.with_name("other.h5"))


def symlink(path):
    other = path.with_name("other.h5")
    other.symlink_to(path)
    return other


def without_sidecar(path):
    path.with_name("run.h5.lock").unlink(missing_ok=True)
    return path


@pytest.mark.parametrize("disguise", [hard_link, renamed, symlink, without_sidecar])
def test_no_name_leads_around_the_lock(disguise, path):
    told = []
    with TrajectoryWriter.create(path, run.layout(), say=told.append) as writer:
        run.continue_run(writer, stop=4)
        writer.commit(Status.RUNNING)
        other = disguise(path)
        before = other.read_bytes()
        by_us = f"being written by process {os.getpid()};"
        with pytest.raises(TrajectoryLockedError, match=by_us):
            TrajectoryWriter.open(other)
        with pytest.raises(TrajectoryLockedError, match=by_us):
            create_trajectory(other, run.layout(), force=True)
        assert other.read_bytes() == before
        with open_trajectory(other) as trajectory:
            assert trajectory.live_status() == "running"
        run.continue_run(writer)
    with open_trajectory(other) as trajectory:
        assert trajectory.live_status() == "finished"
        assert trajectory.step.tolist() == list(run.SNAPSHOT_STEPS)
        assert trajectory.check() == []
    with TrajectoryWriter.open(other):  # the lock ended with its writer
        pass
    assert len(told) == (disguise is renamed)


def test_a_file_is_locked_before_it_has_its_name(path, monkeypatch):
    held = []
    rename_new = posix.rename_new

    def watched(temporary, target):
        with temporary.open("rb") as file:  # as another process would
            held.append(lock.is_held(file.fileno()))
        return rename_new(temporary, target)

    monkeypatch.setattr(posix, "rename_new", watched)
    create_trajectory(path, run.layout())
    assert held == [True]


def test_a_temporary_file_of_a_living_process_is_no_stray(path):
    living, fd = new_temporary(path, locked=True)
    dead = path.with_name(".run.h5.00000000.tmp")
    dead.write_bytes(b"left by a killed process")
    create_trajectory(path, run.layout())
    assert names(path.parent) == sorted([living.name, "run.h5"])
    os.close(fd)
    with TrajectoryWriter.open(path):
        assert names(path.parent) == ["run.h5"]


def test_a_record_by_someone_else_stops_the_writer(path):
    """Where locks fail, a second writer is noticed at the next commit, and nothing overwritten."""
    with TrajectoryWriter.create(path, run.layout(), locked=False) as writer:
        run.continue_run(writer, stop=4)
        with TrajectoryWriter.open(path, locked=False) as other:
            run.continue_run(other, stop=9)
        content = path.read_bytes()
        with pytest.raises(TrajectoryLockedError, match=r"run\.h5 was changed by another program"):
            writer.commit(Status.INTERRUPTED, stop_step=4)
        with pytest.raises(OutputError, match="written earlier"):
            writer.commit(Status.FAILED)
    assert path.read_bytes() == content
    with TrajectoryWriter.open(path) as writer:
        run.continue_run(writer)


def test_a_file_overwritten_in_place_is_left_as_it_is(path):
    """As by `cp other.h5 run.h5`: noticed before the first byte is written."""
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=4)
        other = path.with_name("other.h5")
        run.create_trajectory(other, run.layout())
        content = other.read_bytes()
        path.write_bytes(content)
        (*_, state) = run.states(5)
        with pytest.raises(TrajectoryLockedError, match=r"run\.h5 was changed by another program"):
            run.write_restart(writer, 5, state)
        assert path.read_bytes() == content


def no_locks(*arguments):  # noqa: ARG001
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_file_system_without_locks(path, monkeypatch):
    monkeypatch.setattr(lock.fcntl, "fcntl", no_locks)
    with pytest.raises(OutputError, match=r"run\.h5 has no locks .*; if nothing .* --no-lock"):
        create_trajectory(path, run.layout())
    assert names(path.parent) == []
    with TrajectoryWriter.create(path, run.layout(), locked=False) as writer:
        run.continue_run(writer, stop=4)
    with pytest.raises(OutputError, match="--no-lock"):
        TrajectoryWriter.open(path)
    with TrajectoryWriter.open(path, locked=False) as writer:
        plans = {"snapshot_plan": run.SNAPSHOT_STEPS, "scalar_plan": run.SCALAR_STEPS}
        extend_trajectory(writer, **plans, attributes={})
    with open_trajectory(path) as trajectory:  # archives are read on such file systems too
        assert trajectory.is_being_written() is None
        assert trajectory.check() == []


def test_a_run_without_a_lock_says_that_its_end_is_unknown(path):
    config = '{"dataset": "synthetic", "width": 6, "lock": false}'
    layout = run.layout(attributes={**run.layout().attributes, "config": config})
    with TrajectoryWriter.create(path, layout, locked=False) as writer:
        run.continue_run(writer, stop=4)
        writer.commit(Status.RUNNING)
    with open_trajectory(path) as trajectory:
        assert trajectory.live_status() == "running or killed"
    with TrajectoryWriter.open(path) as writer:
        writer.session({"lock": True})
        writer.commit(Status.RUNNING)
        with open_trajectory(path) as trajectory:
            assert trajectory.live_status() == "running"
    with open_trajectory(path) as trajectory:
        assert trajectory.live_status() == "killed"


# -- the name is taken away ----------------------------------------------------------------------


def assert_whole(path):
    with open_trajectory(path) as trajectory:
        assert trajectory.step.tolist() == list(run.SNAPSHOT_STEPS)
        assert trajectory.check() == []
        assert trajectory.status is Status.FINISHED


def interfere(path, action):
    """Do something to the file in mid-run; return where it ended and what was told."""
    told = []
    with TrajectoryWriter.create(path, run.layout(), say=told.append) as writer:
        run.continue_run(writer, stop=4)
        action()
        run.continue_run(writer)
        with open_trajectory(writer.path) as trajectory:
            assert trajectory.is_being_written()  # the lock went with it
        return writer.path, told


def test_a_deleted_file_is_put_back(path):
    found, told = interfere(path, path.unlink)
    assert found == path
    assert told == [f"{path} was deleted while it was written; the run goes on as {path}"]
    assert names(path.parent) == ["run.h5"]
    assert_whole(path)


def test_a_renamed_file_is_followed(path):
    other = path.with_name("a b.h5")
    found, told = interfere(path, lambda: path.rename(other))
    assert found == other
    assert told == [f"{path} was renamed while it was written; the run goes on as {other}"]
    assert names(path.parent) == ["a b.h5"]
    assert_whole(other)


def test_a_renamed_folder_is_followed(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    found, told = interfere(folder / "run.h5", lambda: folder.rename(tmp_path / "b"))
    assert found == tmp_path / "b" / "run.h5"
    assert len(told) == 1
    assert_whole(found)


@pytest.mark.parametrize("replace", [Path.touch, Path.mkdir])
def test_a_replaced_file_goes_on_under_another_name(replace, path):
    def action():
        path.unlink()
        replace(path)

    found, told = interfere(path, action)
    assert found.parent == path.parent
    assert found.name.startswith("run-")
    assert told == [f"{path} was replaced while it was written; the run goes on as {found}"]
    assert names(path.parent) == sorted([found.name, "run.h5"])
    assert path.is_dir() or path.read_bytes() == b""
    assert_whole(found)


def test_a_name_that_is_left_is_used_to_link_the_file_back(path):
    other = path.parent / "elsewhere.h5"

    def action():
        other.hardlink_to(path)
        path.unlink()

    found, told = interfere(path, action)
    assert found == path
    assert path.samefile(other)
    assert len(told) == 1
    assert_whole(other)


def test_a_symlink_that_leads_elsewhere(path, tmp_path):
    target = tmp_path / "target.h5"
    create_trajectory(target, run.layout())
    path.symlink_to(target)
    told = []
    with TrajectoryWriter.open(path, say=told.append) as writer:
        path.unlink()
        path.write_bytes(b"a thesis")
        run.continue_run(writer)
        assert writer.path == target
    assert told == [f"{path} leads elsewhere now; the run goes on as {target}"]
    assert path.read_bytes() == b"a thesis"
    assert_whole(target)


def test_a_removed_folder_stops_the_run_with_what_was_saved(tmp_path, monkeypatch):
    folder, refuge = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    refuge.mkdir()
    monkeypatch.chdir(refuge)
    with TrajectoryWriter.create(folder / "run.h5", run.layout()) as writer:
        run.continue_run(writer, stop=4)
        shutil.rmtree(folder)
        with pytest.raises(OutputError, match=r"deleted .* takes no other .* resume") as info:
            run.continue_run(writer, stop=9)
        with pytest.raises(OutputError, match="written earlier"):
            writer.commit(Status.FAILED)
    (saved,) = refuge.iterdir()
    assert str(saved) in str(info.value)
    with TrajectoryWriter.open(saved) as writer:
        assert writer.read_restart().step <= 9
        run.continue_run(writer)
    assert_whole(saved)


def test_without_any_place_the_run_stops_and_says_so(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(folder))
    with TrajectoryWriter.create(folder / "run.h5", run.layout()) as writer:
        run.continue_run(writer, stop=4)
        shutil.rmtree(folder)
        with pytest.raises(OutputError, match=r"deleted .*no copy could be saved: No such"):
            run.continue_run(writer)


def test_a_copy_that_fails_leaves_nothing_behind(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(path.parent))
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=4)
        path.unlink()

        def full(*_):
            raise OutputError("the disk is full")

        monkeypatch.setattr(posix, "allocate", full)
        with pytest.raises(OutputError, match="no copy could be saved: the disk is full"):
            run.continue_run(writer)
    assert names(path.parent) == []


def test_an_output_that_appears_while_its_run_is_built_is_kept(path, monkeypatch):
    fsync = os.fsync

    def appears(fd):
        with suppress(FileExistsError):
            path.touch(exist_ok=False)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", appears)
    for force in (False, True):  # it was not there when the replacement was asked for
        with pytest.raises(ConfigError, match="exists"):
            create_trajectory(path, run.layout(), force=force)
        assert path.read_bytes() == b""
        assert names(path.parent) == ["run.h5"]
        path.unlink()
