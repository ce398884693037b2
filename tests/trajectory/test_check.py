"""What a killed writer leaves is told from damage, and nothing that counts goes unnoticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from golden import synthetic_run as run

from prdsim.files import posix
from prdsim.trajectory import Problem, Status, TrajectoryWriter, open_trajectory
from prdsim.trajectory.commit import SLOT_BYTES, CommitRecord, is_torn

PAGE = CommitRecord(sequence=7, scalar_rows=5, snapshot_rows=5, stop_reason="SIGTERM").pack()
NEWEST = CommitRecord(sequence=6, scalar_rows=4, snapshot_rows=4)
BEFORE = CommitRecord(sequence=5, scalar_rows=3, snapshot_rows=3).pack()
ZEROS = bytes(SLOT_BYTES)


def sectors(*pages):
    """A page of which each sector is that of one of some pages in turn."""
    return b"".join(pages[k % len(pages)][512 * k : 512 * (k + 1)] for k in range(8))


def changed(page, position, bit=4):
    return page[:position] + bytes([page[position] ^ bit]) + page[position + 1 :]


@pytest.mark.parametrize("length", range(512, SLOT_BYTES, 512))
def test_a_record_cut_short_at_any_sector_is_torn(length):
    assert is_torn(PAGE[:length] + BEFORE[length:], NEWEST)
    first = CommitRecord(sequence=1).pack()
    assert is_torn(first[:length] + ZEROS[length:], CommitRecord())
    assert is_torn(ZEROS[:length] + first[length:], CommitRecord())


def test_a_record_of_mixed_sectors_is_torn():
    assert is_torn(sectors(PAGE, BEFORE), NEWEST)
    assert is_torn(sectors(BEFORE, PAGE), NEWEST)


@pytest.mark.parametrize("page", [PAGE, BEFORE])
@pytest.mark.parametrize("position", [0, 8, 20, 60, 90, 511, 512, 3000, 4091, 4092, 4095])
def test_a_record_with_one_changed_bit_is_damaged(page, position):
    assert not is_torn(changed(page, position), NEWEST)


@pytest.mark.parametrize(
    "page",
    [
        ZEROS,
        b"\xff" * SLOT_BYTES,
        PAGE[:512] + b"\xff" * (SLOT_BYTES - 512),
        PAGE[:-512] + bytes(512),  # the last sector, and the checksum in it, is lost
        CommitRecord(sequence=9).pack()[:512] + PAGE[512:],
    ],
)
def test_what_no_crash_leaves_in_a_record_is_damage(page):
    assert not is_torn(page, NEWEST)


# In a file


@pytest.fixture
def path(tmp_path):
    """A run stopped at step 13; restart states of 10 and 13, the newest committed."""
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=13)
    return path


def record_of(path):
    with open_trajectory(path) as trajectory:
        return trajectory._record


def write(path, name, row, data, at=0):
    """Write bytes into a row of a dataset."""
    with open_trajectory(path) as trajectory:
        extent = trajectory._map[name]
    with path.open("r+b") as file:
        file.seek(extent.offset + row * extent.row_bytes + at)
        file.write(data)


def flip(path, name, row, at=3):
    with open_trajectory(path) as trajectory:
        extent = trajectory._map[name]
    place = extent.offset + row * extent.row_bytes + at
    write(path, name, row, bytes([path.read_bytes()[place] ^ 4]), at)


def found(path):
    """Severity, place and text of all that is wrong."""
    with open_trajectory(path) as trajectory:
        problems = trajectory.check()
        assert all(isinstance(problem, Problem) for problem in problems)
        return [(str(problem.severity), problem.where, str(problem)) for problem in problems]


def set_status(path, status):
    """Let the newest record have another status."""
    record = replace(record_of(path), status=status)
    write(path, "commit/record", record.slot, record.pack())


OLDER = "the older restart state "


@pytest.mark.parametrize("name", ["step", "time", "evaluations", "U", "velocity_U", "crc32"])
def test_a_damaged_older_restart_state_is_reported(path, name):
    record = record_of(path)
    flip(path, f"restart/{name}", 1 - record.restart_slot)
    text = "is damaged, so there is none to fall back on; that of step 13 counts"
    where = f"restart[{1 - record.restart_slot}]"
    assert found(path) == [("damage", where, OLDER + text)]
    set_status(path, Status.RUNNING)  # a kill or a power loss may have left it
    text = "is not whole, as after a kill or a power loss while it was replaced"
    assert found(path) == [("harmless", where, f"{OLDER}{text}; that of step 13 counts")]


@pytest.mark.parametrize("step", [13, 15])
def test_a_restart_state_that_a_killed_resume_was_writing_is_harmless(path, step, monkeypatch):
    class Cut(BaseException):
        pass

    written = []

    def cut(fd, data, offset, real=posix.pwrite):
        if len(written) == 5:
            raise Cut
        written.append(offset)
        real(fd, data, offset)

    with TrajectoryWriter.open(path) as writer, monkeypatch.context() as patch:
        patch.setattr(posix, "pwrite", cut)
        with pytest.raises(Cut):
            run.write_restart(writer, step, list(run.states(step))[step])
    slot = 1 - record_of(path).restart_slot
    text = "is not whole, as after a kill or a power loss while it was replaced"
    words = f"{OLDER}{text}; that of step 13 counts"
    assert found(path) == [("harmless", f"restart[{slot}]", words)]


def test_a_restart_state_beyond_the_commit_is_nothing_to_mention(path):
    with TrajectoryWriter.open(path) as writer:
        run.write_restart(writer, 15, list(run.states(15))[15])
    assert found(path) == []


def test_the_newest_restart_state_is_told_from_the_older(path):
    slot = record_of(path).restart_slot
    flip(path, "restart/V", slot)
    text = "the restart state of step 13 is damaged; a resume starts from that of step 10"
    assert found(path) == [("damage", f"restart[{slot}]", text)]
    flip(path, "restart/V", 1 - slot)
    severities = [(severity, text) for severity, _, text in found(path)]
    assert severities == [
        ("damage", "the restart state of step 13 is damaged; the run cannot be continued"),
        ("damage", f"{OLDER}is damaged, so there is none to fall back on; that of step 13 counts"),
    ]


def test_one_restart_state_alone_is_whole(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        assert found(path) == []
        run.continue_run(writer, stop=0)
    assert record_of(path).restart_slot == 0
    assert found(path) == []
    flip(path, "restart/U", 1)  # never written
    assert found(path) == []


def test_a_commit_cut_short_is_harmless_and_an_old_record_changed_is_damage(path):
    record = record_of(path)
    slot = 1 - record.slot
    page = replace(record, sequence=record.sequence + 1).pack()
    write(path, "commit/record", slot, page[:512])
    text = "a commit was cut short when the run was killed; the one before it counts"
    assert found(path) == [("harmless", f"commit/record[{slot}]", text)]
    write(path, "commit/record", slot, page)
    assert found(path) == []
    flip(path, "commit/record", slot, at=100)
    [(severity, where, text)] = found(path)
    assert (severity, where) == ("damage", f"commit/record[{slot}]")
    assert text.startswith("one of the two commit records is damaged; ")


def test_a_record_is_missing_only_before_the_first_commit(path, tmp_path):
    new = tmp_path / "new.h5"
    TrajectoryWriter.create(new, run.layout()).close()
    assert found(new) == []
    slot = 1 - record_of(path).slot
    write(path, "commit/record", slot, ZEROS)
    assert [(severity, where) for severity, where, _ in found(path)] == [
        ("damage", f"commit/record[{slot}]")
    ]


def test_a_live_file_has_no_false_alarm(path):
    """While a writer is at work, what does not count may be half written at any moment."""
    record = record_of(path)
    with TrajectoryWriter.open(path):
        flip(path, "restart/U", 1 - record.restart_slot)
        write(path, "commit/record", 1 - record.slot, b"half")
        assert found(path) == []
        flip(path, "restart/U", record.restart_slot)
        assert [severity for severity, _, _ in found(path)] == ["damage"]


def test_rows_beyond_the_commit_do_not_matter(path):
    flip(path, "snapshots/U", 5)
    flip(path, "scalars/loss_sup", 11)
    assert found(path) == []
