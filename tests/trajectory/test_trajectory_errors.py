"""Each way a trajectory can be unusable has one clear error."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from golden import synthetic_run as run
from golden.synthetic_run import create_trajectory
from support import names, ordinary_user

from prdsim import __version__
from prdsim.errors import (
    ConfigError,
    DamagedTrajectoryError,
    NotATrajectoryError,
    OutputError,
    PrdsimError,
    TrajectoryError,
    TrajectoryLockedError,
)
from prdsim.trajectory import (
    TrajectoryWriter,
    open_trajectory,
)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a finished run."""
    path = tmp_path_factory.mktemp("run") / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, content):
    path = tmp_path / "run.h5"
    path.write_bytes(content)
    return path


def assert_refused(path, error, match):
    """Reader, writer and extension say the same, in one or two lines, and leave nothing."""
    files = names(path.parent) if path.parent.is_dir() else []
    for use in (
        open_trajectory,
        TrajectoryWriter.open,
        lambda p: run.extend(p, snapshot_plan=(0,), scalar_plan=(0,), attributes={}),
    ):
        with pytest.raises(error, match=match) as info:
            use(path)
        assert info.type is error
        assert str(path) in str(info.value)
        assert str(info.value).count("\n") <= 1
        assert info.value.exit_code == 3
    assert files == (names(path.parent) if files else [])


def extent(path, name):
    with h5py.File(path, locking=False) as file:
        return file[name].id.get_offset(), file[name].nbytes


def flip(path, position, bit=4):
    with path.open("r+b") as file:
        file.seek(position)
        value = file.read(1)[0]
        file.seek(position)
        file.write(bytes([value ^ bit]))


def test_what_cannot_be_read(tmp_path):
    for path in (tmp_path / "no.h5", tmp_path / "no" / "run.h5"):
        assert_refused(path, TrajectoryError, "cannot read .*: No such file")
    assert_refused(tmp_path, TrajectoryError, "cannot read .*: Is a directory")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b"step,loss\n0,1\n", "is not an HDF5 file"),
        (b"\x89HDF", "is not an HDF5 file"),
        (b"\xff" * 99, "is not an HDF5 file"),
    ],
)
def test_other_files(tmp_path, data, match):
    (tmp_path / "run.h5").write_bytes(data)
    assert_refused(tmp_path / "run.h5", NotATrajectoryError, match)


def test_hdf5_of_another_program(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["U"] = np.zeros(3)
    assert_refused(tmp_path / "other.h5", NotATrajectoryError, "an HDF5 file but not a prdsim")


@pytest.mark.parametrize("left", [1, 95, 4096, 40_000, -4096, -100, -1])
def test_truncated_by_any_amount(path, content, left):
    path.write_bytes(content[:left])
    error = NotATrajectoryError if left == 1 else DamagedTrajectoryError
    assert_refused(path, error, "is not an HDF5 file" if left == 1 else "is truncated|is damaged")
    if left < 0:
        assert_refused(path, error, f"is truncated .it has {len(content) + left} bytes")


def test_newer_format_version(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 4
        file.attrs["prdsim_version"] = "9.1.0"
    assert_refused(
        path,
        NotATrajectoryError,
        f"format version 4, of prdsim 9.1.0; this is prdsim {__version__}, which reads up to 3: "
        'pip install --upgrade "prdsim>=9.1.0"',
    )


def test_senseless_format_version(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = "one"
    assert_refused(path, DamagedTrajectoryError, "its format_version is 'one'")


@pytest.mark.parametrize("name", ["scalars/loss_sup", "snapshots/step", "restart", "commit/record"])
def test_missing_parts(path, name):
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(DamagedTrajectoryError, match=f"lacks /{name}"):
        TrajectoryWriter.open(path)


def test_both_commit_records_damaged(path):
    offset, _ = extent(path, "commit/record")
    flip(path, offset + 20)
    with open_trajectory(path) as trajectory:  # the other one serves
        assert len(trajectory.check()) == 1
    flip(path, offset + 4096 + 20)
    assert_refused(path, DamagedTrajectoryError, "both commit records of .* are damaged")


def test_swapped_commit_records_are_not_records(path):
    offset, size = extent(path, "commit/record")
    data = bytearray(path.read_bytes())
    one, other = data[offset : offset + size // 2], data[offset + size // 2 : offset + size]
    data[offset : offset + size] = other + one
    path.write_bytes(data)
    assert_refused(path, DamagedTrajectoryError, "both commit records")


@pytest.mark.parametrize("name", ["U", "V", "W", "a"])
def test_flipped_bit_in_a_snapshot_names_it(path, name):
    offset, size = extent(path, f"snapshots/{name}")
    flip(path, offset + 3 * size // 7)
    with open_trajectory(path) as trajectory:
        array = getattr(trajectory, name)
        with pytest.raises(DamagedTrajectoryError, match=rf"snapshot 3 \(step 4\) of {name} in"):
            array[3]
        with pytest.raises(DamagedTrajectoryError, match="read the others"):
            array[:]
        assert np.array_equal(array[4], list(run.states(8))[8][name])
        array[:, 0]  # parts are not verified
        assert [*map(str, trajectory.check())] == [f"snapshot 3 (step 4) of {name} is damaged"]
    with pytest.raises(DamagedTrajectoryError, match="cannot be extended: snapshot 3"):
        run.extend(path, snapshot_plan=range(99), scalar_plan=range(99), attributes={})
    with TrajectoryWriter.open(path) as writer:
        state = list(run.states(4))[4]
        with pytest.raises(DamagedTrajectoryError, match=f"{name} of the snapshot at step 4"):
            writer.snapshot(4, 1.0, state)


@pytest.mark.parametrize("name", ["step", "time", "crc32"])
def test_flipped_bit_in_the_snapshots_index(path, name):
    offset, size = extent(path, f"snapshots/{name}")
    flip(path, offset + 2 * size // 7)
    with open_trajectory(path) as trajectory:
        with pytest.raises(DamagedTrajectoryError, match="steps and times of the snapshots"):
            _ = trajectory.time
        with pytest.raises(DamagedTrajectoryError, match="snapshot 2 "):
            trajectory.U[2]
        assert trajectory.U[1].shape == (6, 5)
        problems = [*map(str, trajectory.check())]
    assert "the steps, times or checksums of the snapshots are damaged" in problems
    with pytest.raises(DamagedTrajectoryError, match=r"committed snapshots in .* are damaged"):
        TrajectoryWriter.open(path)


@pytest.mark.parametrize("name", ["step", "loss_sup", "mask_flips"])
def test_flipped_bit_in_the_scalars(path, name):
    offset, size = extent(path, f"scalars/{name}")
    flip(path, offset + size - 2)
    with open_trajectory(path) as trajectory:
        with pytest.raises(DamagedTrajectoryError, match=r"scalars in .* are damaged"):
            trajectory.scalars["loss_sup"]
        assert trajectory.U[-1].shape == (6, 5)
        assert [*map(str, trajectory.check())] == ["the scalars are damaged"]
    with pytest.raises(DamagedTrajectoryError, match="the run cannot be continued"):
        TrajectoryWriter.open(path)


WRITTEN_ONCE = {
    "initial/W": lambda trajectory: trajectory.initial["W"],
    "data/X": lambda trajectory: trajectory.data["X"],
    "schedule/snapshots": lambda trajectory: trajectory.planned_snapshots,
}


@pytest.mark.parametrize(("name", "read"), WRITTEN_ONCE.items())
def test_flipped_bit_in_what_is_written_once(path, name, read):
    offset, _ = extent(path, name)
    flip(path, offset + 9)
    with open_trajectory(path) as trajectory:
        with pytest.raises(DamagedTrajectoryError, match=f"/{name} in .* is damaged"):
            read(trajectory)
        assert [*map(str, trajectory.check())] == [f"/{name} is damaged"]


def test_flipped_bit_in_the_configuration(path, content):
    position = content.index(b'"dataset"')
    flip(path, position + 3)
    assert_refused(path, DamagedTrajectoryError, "HDF5 cannot read its structure")


def test_configuration_that_is_no_json(path):
    with h5py.File(path, "r+") as file:
        file.attrs["config"] = "{"
    with pytest.raises(DamagedTrajectoryError, match="attribute 'config' is not a JSON object"):
        open_trajectory(path)


def test_flipped_bits_anywhere_are_found_or_harmless(path, content):
    """No flip crashes the reader, and none in committed bytes goes unnoticed."""
    changing = [
        (offset, offset + size)
        for offset, size in (extent(path, f"restart/{n}") for n in ["step", *run.RESTART_SHAPES])
    ]
    generator = np.random.default_rng(3)
    unnoticed = []
    for position in generator.integers(0, len(content), 75).tolist():
        data = bytearray(content)
        data[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(data)
        try:
            with open_trajectory(path) as trajectory:
                if not trajectory.check():
                    unnoticed.append(position)
        except (DamagedTrajectoryError, NotATrajectoryError):
            continue
    # The restart slot that the last commit does not name may hold anything.
    assert all(any(a <= p < b for a, b in changing) for p in unnoticed)
    assert len(unnoticed) < 5


def test_a_change_by_another_program_is_reported_and_the_file_still_read(path):
    with h5py.File(path, "r+") as file:
        file["snapshots"].attrs["note"] = "looks like stripes"
        file["notes"] = 1.0
    with open_trajectory(path) as trajectory:
        assert [*map(str, trajectory.check())] == [
            "the file's structure or attributes are damaged, or another program changed them"
        ]
        assert len(trajectory.U) == 7


def test_both_restart_states_damaged(path):
    offset, size = extent(path, "restart/a")
    flip(path, offset)
    flip(path, offset + size // 2)
    refused = pytest.raises(DamagedTrajectoryError, match=r"both restart .* can still be read")
    with TrajectoryWriter.open(path) as writer, refused:
        writer.read_restart()


def test_a_run_without_any_commit_cannot_be_resumed(tmp_path):
    refused = pytest.raises(TrajectoryError, match=r"no state to resume from.*--force")
    with TrajectoryWriter.create(tmp_path / "run.h5", run.layout()) as writer, refused:
        writer.read_restart()


def test_truncation_under_an_open_reader(path):
    with open_trajectory(path) as trajectory:
        os.truncate(path, 5000)
        for read in (
            lambda: trajectory.U[0],
            lambda: trajectory.U[:, 0],
            lambda: trajectory.scalars["time"],
            trajectory.refresh,
        ):
            with pytest.raises(DamagedTrajectoryError, match=r"run\.h5"):
                read()


def test_closed_reader_and_writer(path):
    trajectory = open_trajectory(path)
    trajectory.close()
    with pytest.raises(TrajectoryError, match="is closed; open it again"):
        trajectory.U[0]
    writer = TrajectoryWriter.open(path)
    writer.close()
    writer.close()
    with pytest.raises(OutputError, match="open it again"):
        writer.commit("running")


# Creation


def test_an_existing_file_is_never_overwritten(path, content):
    with pytest.raises(ConfigError, match=r"exists; use --force .* another --output") as info:
        create_trajectory(path, run.layout())
    assert info.value.exit_code == 2
    link = path.with_name("link.h5")
    link.symlink_to(path)
    with pytest.raises(ConfigError, match=r"link\.h5 exists"):
        create_trajectory(link, run.layout())
    assert path.read_bytes() == content
    assert names(path.parent) == ["link.h5", "run.h5"]


@pytest.mark.parametrize("force", [False, True])
def test_outputs_that_cannot_be(tmp_path, force):
    for target, match, code in (
        (tmp_path / "no" / "run.h5", ".*/no is not a folder, or does not exist; make it first", 3),
        (tmp_path, "is a folder; give the output a file name", 2),
        (tmp_path / ("x" * 300), "File name too long", 3),
    ):
        with pytest.raises(PrdsimError, match=match) as info:
            create_trajectory(target, run.layout(), force=force)
        assert info.value.exit_code == code
    assert names(tmp_path) == []


def test_without_permission(content):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "run.h5"
        path.write_bytes(content)
        path.chmod(0o444)
        folder.chmod(0o555)
        with ordinary_user():
            with open_trajectory(path) as trajectory:
                assert trajectory.check() == []
            with pytest.raises(OutputError, match=r"cannot write .*run\.h5: Permission"):
                TrajectoryWriter.open(path)
            with pytest.raises(OutputError, match="Permission denied"):
                create_trajectory(folder / "new.h5", run.layout())
        folder.chmod(0o777)
        with ordinary_user(), pytest.raises(OutputError, match=r"cannot write .*: Permission"):
            TrajectoryWriter.open(path)
        path.chmod(0o000)
        with ordinary_user():
            assert_refused(path, TrajectoryError, "cannot read .*: Permission denied")
        folder.chmod(0o000)
        with ordinary_user():
            with pytest.raises(TrajectoryError, match=r"cannot read .*: Permission denied"):
                open_trajectory(path)
            with pytest.raises(OutputError, match=r"cannot write .*: Permission denied"):
                create_trajectory(path, run.layout())
        folder.chmod(0o755)


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
def test_open_elsewhere_in_this_process(path, locking):
    with h5py.File(path, "r", locking=locking), open_trajectory(path) as trajectory:
        assert trajectory.check() == []
        with TrajectoryWriter.open(path) as writer:
            run.write_restart(writer, 24, list(run.states(24))[24])
            writer.commit("finished")
        trajectory.refresh()
        assert trajectory.check() == []


def test_open_for_writing_in_another_program(path):
    with h5py.File(path, "r+"):
        with pytest.raises(TrajectoryLockedError, match="open for writing in another program"):
            TrajectoryWriter.open(path)
        with open_trajectory(path) as trajectory:  # readers do not mind
            assert len(trajectory.U) == 7
    with TrajectoryWriter.open(path):
        with pytest.raises(BlockingIOError):
            h5py.File(path, "r+")
        h5py.File(path, "r").close()


@pytest.mark.parametrize("call", ["posix_fallocate", "fdatasync", "pwrite"])
def test_systems_that_lack_a_call_are_refused(tmp_path, monkeypatch, call):
    monkeypatch.delattr(os, call)
    with pytest.raises(OutputError, match=f"it lacks {call}; run prdsim on Linux"):
        create_trajectory(tmp_path / "run.h5", run.layout())
    assert names(tmp_path) == []


@pytest.mark.parametrize("force", [False, True])
def test_file_systems_without_hard_links_do(tmp_path, monkeypatch, force):
    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "run.h5"
    create_trajectory(path, run.layout(), force=force)
    with pytest.raises(ConfigError, match="exists; use --force"):
        create_trajectory(path, run.layout())
    assert names(tmp_path) == ["run.h5"]


@pytest.mark.parametrize(
    ("call", "code", "match"),
    [
        ("posix_fallocate", errno.EOPNOTSUPP, "cannot write in|cannot reserve space"),
        ("posix_fallocate", errno.ENOSPC, "would take .* are free in"),
        ("fsync", errno.EIO, r"cannot create .*run\.h5: Input/output error"),
    ],
)
def test_file_systems_that_refuse_leave_nothing_behind(tmp_path, monkeypatch, call, code, match):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OutputError, match=match):
        create_trajectory(tmp_path / "run.h5", run.layout())
    assert names(tmp_path) == []
