"""A trajectory survives the end of its writer at any moment, and a reader at any moment."""

from __future__ import annotations

import resource
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from golden import synthetic_run as run
from golden.synthetic_run import create_trajectory
from support import names

from prdsim.errors import DamagedTrajectoryError, OutputError, TrajectoryLockedError
from prdsim.files import posix
from prdsim.symbols import ARRAYS
from prdsim.trajectory import (
    SCALARS,
    Status,
    TrajectoryWriter,
    open_trajectory,
)

SECTOR, PAGE = 512, 4096
TORN_COMMIT = "one of the two commit records is damaged"


class Reference:
    """The content of a run, computed and never stored."""

    def __init__(self, steps):
        self.states = list(run.states(steps))
        self.rows = [run.scalar_values(s, state) for s, state in enumerate(self.states)]

    def assert_holds(self, trajectory):
        """Every committed row is the run's, bit for bit."""
        steps = trajectory.step
        assert steps.tolist() == trajectory.planned_snapshots[: len(steps)].tolist()
        for name in ARRAYS:
            expected = [self.states[step][name] for step in steps]
            for got, wanted in zip(getattr(trajectory, name), expected, strict=True):
                assert np.array_equal(got, wanted)
        steps = trajectory.scalars["step"]
        assert steps.tolist() == trajectory.planned_scalars[: len(steps)].tolist()
        for field in SCALARS:
            expected = [self.rows[step][field.name] for step in steps]
            assert trajectory.scalars[field.name].tolist() == expected


def assert_continues(path):
    with TrajectoryWriter.open(path) as writer:
        run.continue_run(writer)
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert trajectory.status is Status.FINISHED
        assert trajectory.step.tolist() == list(run.SNAPSHOT_STEPS)
        REFERENCE.assert_holds(trajectory)


REFERENCE = Reference(run.STEPS)


def start_child(path, steps, every):
    """Continue the run in another process; it holds the lock when this returns."""
    child = subprocess.Popen(
        [sys.executable, run.__file__, str(path), str(steps), str(every)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "writing\n"
    return child


def test_a_file_is_read_at_any_moment_while_another_process_writes_it(tmp_path):
    steps, every = 1500, 3
    reference = Reference(steps)
    path = tmp_path / "run.h5"
    plan = {"snapshot_plan": range(0, steps + 1, every), "scalar_plan": range(steps + 1)}
    create_trajectory(path, run.layout(**plan))
    child = start_child(path, steps, every)
    counts, written = [], []
    with child.stdout, open_trajectory(path) as trajectory:
        while child.poll() is None:
            written.append(trajectory.is_being_written())
            trajectory.refresh()
            counts.append(len(trajectory.U))
            if counts[-1]:
                last = trajectory.U[-1]
                assert np.array_equal(last, reference.states[trajectory.step[-1]]["U"])
                assert len(trajectory.scalars["time"]) >= trajectory.step[-1]
            with open_trajectory(path) as again:  # opening anew works at any moment, too
                assert len(again.U) >= counts[-1]
        trajectory.refresh()
        assert child.returncode == 0
        assert trajectory.check() == []
        reference.assert_holds(trajectory)
    assert counts == sorted(counts)
    assert len(set(counts)) > 3
    assert written[0]


def test_a_second_writer_is_refused_and_the_first_undisturbed(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=4)
        with pytest.raises(TrajectoryLockedError, match=r"being written by process \d+;"):
            TrajectoryWriter.open(path)
        with pytest.raises(TrajectoryLockedError, match="is being written"):
            create_trajectory(path, run.layout(), force=True)
        with pytest.raises(TrajectoryLockedError, match="is being written"):
            run.extend(
                path,
                snapshot_plan=run.SNAPSHOT_STEPS,
                scalar_plan=run.SCALAR_STEPS,
                attributes={},
            )
        with open_trajectory(path) as trajectory:
            assert trajectory.is_being_written()
            assert trajectory.is_being_written()  # probing did not take the lock away
        run.continue_run(writer)
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        assert not trajectory.is_being_written()
        REFERENCE.assert_holds(trajectory)
    assert names(tmp_path) == ["run.h5"]


def test_the_lock_is_one_for_all_names_of_a_file(tmp_path):
    path, link = tmp_path / "run.h5", tmp_path / "link.h5"
    link.symlink_to(path)
    with TrajectoryWriter.create(path, run.layout()):
        with pytest.raises(TrajectoryLockedError):
            TrajectoryWriter.open(link)
        with open_trajectory(link) as trajectory:
            assert trajectory.is_being_written()


def test_force_replaces_and_open_readers_keep_what_they_read(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer)
    with open_trajectory(path) as trajectory:
        create_trajectory(path, run.layout(), force=True)
        REFERENCE.assert_holds(trajectory)
        assert len(trajectory.U) == 7
        trajectory.refresh()
        assert len(trajectory.U) == 0
        path.unlink()
        trajectory.refresh()
        assert trajectory.check() == []


def test_what_a_creation_killed_half_way_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".run.h5.0123abcd.tmp").write_bytes(b"half a file")
    (tmp_path / ".other.h5.0123abcd.tmp").write_bytes(b"another's")
    create_trajectory(tmp_path / "run.h5", run.layout())
    assert names(tmp_path) == [".other.h5.0123abcd.tmp", "run.h5"]


def test_a_second_name_that_a_killed_creation_left_is_removed_by_a_resume(tmp_path):
    path = tmp_path / "run.h5"
    create_trajectory(path, run.layout())
    (tmp_path / ".run.h5.0123abcd.tmp").hardlink_to(path)
    with TrajectoryWriter.open(path):
        assert names(tmp_path) == ["run.h5"]


def test_rows_that_were_never_committed_read_as_unwritten_after_a_resume(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=2)
        writer.snapshot(4, 1.0, run.initial())  # other values than the run's, never committed
    with open_trajectory(path) as trajectory:
        assert trajectory.step.tolist() == [0, 1, 2]
    with TrajectoryWriter.open(path) as writer:
        writer.commit(Status.INTERRUPTED, stop_step=2)
    with h5py.File(path, locking=False) as file:  # as any program sees them
        assert file["snapshots/step"][2:4].tolist() == [2, -1]
    assert_continues(path)


def test_a_disk_that_is_too_small_is_found_before_anything_is_made(tmp_path):
    n = 1 << 21
    zeros = np.zeros(1)
    shapes = {"U": (n, n), "V": (1, n), "W": (1, 1), "a": (1,)}
    layout = run.layout(
        shapes=shapes,
        restart_shapes=shapes,
        initial={name: np.broadcast_to(zeros, shape) for name, shape in shapes.items()},
        data={},
    )
    # 7 snapshots, 2 restart slots and the initial state of 2^42 elements of 8 bytes
    with pytest.raises(
        OutputError, match=r"would take 351,843\.91 GB, but only .* are free"
    ) as info:
        create_trajectory(tmp_path / "run.h5", layout)
    assert str(tmp_path / "run.h5") in str(info.value)
    assert names(tmp_path) == []


def test_the_last_byte_of_a_disk_may_be_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(posix.shutil, "disk_usage", lambda _: SimpleNamespace(free=5000))
    posix.require_space(tmp_path / "run.h5", 5000)
    with pytest.raises(OutputError, match=r"run\.h5 would take .*, but only .* are free"):
        posix.require_space(tmp_path / "run.h5", 5001)


def test_a_file_size_limit_is_found_before_anything_is_made(tmp_path, file_size_limit):
    file_size_limit(50_000)
    with pytest.raises(OutputError, match="more than one file may have here"):
        create_trajectory(tmp_path / "run.h5", run.layout())
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("flush failed (write failed: errno = 28, buf = 0x55)"), "No space left"),
        (OSError("Unable to create file"), "Input/output error"),
    ],
)
def test_a_disk_that_fails_hdf5_is_told_in_words(tmp_path, monkeypatch, error, words):
    def fail(*_arguments, **_keywords):
        raise error

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(OutputError, match=rf"cannot create .*run\.h5: {words}"):
        create_trajectory(tmp_path / "run.h5", run.layout())
    assert names(tmp_path) == []


def test_the_longest_name_is_a_name(tmp_path):
    path = tmp_path / f"{'a' * 252}.h5"
    create_trajectory(path, run.layout())
    assert names(tmp_path) == [path.name]
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []


def test_a_failing_write_keeps_what_was_committed(tmp_path, file_size_limit):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=2)
        file_size_limit(1000)
        with pytest.raises(OutputError, match=r"cannot write .*run\.h5: File too large; committed"):
            run.continue_run(writer)
        with pytest.raises(OutputError, match="open it again"):  # what is on disk is unknown
            writer.commit(Status.FAILED)
    with open_trajectory(path) as trajectory:
        assert (trajectory.status, trajectory.step.tolist()) == (Status.INTERRUPTED, [0, 1, 2])
        assert trajectory.check() == []
    file_size_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert_continues(path)


def test_an_interrupted_commit_is_not_trusted_by_its_writer(tmp_path, monkeypatch):
    def interrupted(_fd):
        raise KeyboardInterrupt

    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=2)
        with monkeypatch.context() as patch:
            patch.setattr(posix, "fdatasync", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.commit(Status.RUNNING)
        with pytest.raises(OutputError, match="open it again"):
            writer.commit(Status.RUNNING)
    assert_continues(path)


def damage(path, name, row=0, byte=3):
    """Flip one bit of a dataset's row."""
    import h5py

    with h5py.File(path) as file:
        dataset = file[name]
        offset = dataset.id.get_offset() + row * dataset.nbytes // len(dataset) + byte
    with path.open("r+b") as file:
        file.seek(offset)
        value = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([value ^ 4]))


@pytest.fixture
def interrupted(tmp_path):
    """A run stopped at step 13; restart states of 10 and 13, the newest committed."""
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=13)
        slot = writer.record.restart_slot
    return path, slot


def test_a_damaged_restart_state_gives_way_to_the_older_one(interrupted):
    path, slot = interrupted
    damage(path, "restart/velocity_U", row=slot)
    with open_trajectory(path) as trajectory:
        assert [*map(str, trajectory.check())] == [
            "the restart state of step 13 is damaged; a resume starts from that of step 10"
        ]
    with TrajectoryWriter.open(path) as writer:
        assert writer.read_restart().step == 10
        # The good one is not overwritten by the next, and a commit without a new one names it.
        writer.commit(Status.RUNNING)
        assert writer.record.restart_step == 10
        run.write_restart(writer, 10, list(run.states(10))[10])
        assert writer.read_restart().step == 10
    assert_continues(path)


def test_a_newer_restart_state_that_was_never_committed_is_not_used(interrupted):
    path, slot = interrupted
    with TrajectoryWriter.open(path) as writer:
        run.write_restart(writer, 15, list(run.states(15))[15])
    damage(path, "restart/U", row=slot)
    refused = pytest.raises(DamagedTrajectoryError, match="both restart states")
    with TrajectoryWriter.open(path) as writer, refused:
        writer.read_restart()


def test_a_damaged_newest_commit_gives_way_to_the_one_before(interrupted):
    path, _ = interrupted
    with TrajectoryWriter.open(path) as writer:
        slot = writer.record.slot
    damage(path, "commit/record", row=slot, byte=1000)
    with open_trajectory(path) as trajectory:
        assert trajectory.status is Status.RUNNING
        assert [str(p).split(";")[0] for p in trajectory.check()] == [TORN_COMMIT]
    assert_continues(path)


def test_extending_a_file_survives_what_resuming_survives(interrupted):
    path, slot = interrupted
    damage(path, "restart/V", row=slot)
    longer = (*run.SNAPSHOT_STEPS, 30), (*run.SCALAR_STEPS, 30)
    run.extend(path, snapshot_plan=longer[0], scalar_plan=longer[1], attributes={})
    with TrajectoryWriter.open(path) as writer:
        assert writer.read_restart().step == 10
        run.continue_run(writer, *longer)
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        Reference(30).assert_holds(trajectory)
