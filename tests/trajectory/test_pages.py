"""Commit records, resumes, and the order of rows, to the limits of what they may hold."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from prdsim.trajectory import Status
from prdsim.trajectory.commit import SLOT_BYTES, CommitRecord, claimed, newest, unpack, unpack_slots
from prdsim.trajectory.rows import ascend
from prdsim.trajectory.sessions import PAGE_BYTES, pack, page_of, torn
from prdsim.trajectory.sessions import unpack as sessions

RECORD = CommitRecord(7, 5, 4, 1, 3, 0.5, Status.FAILED, 13, "killed", 11, 12, 2**32 - 1)
ROOM = SLOT_BYTES - 92  # of a record's reason: its numbers take 88 bytes, the checksum 4


def sealed(page: bytes) -> bytes:
    """The page with the checksum that belongs to it."""
    return page[:-4] + struct.pack("<I", zlib.crc32(page[:-4]))


# -- commit records --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", Status)
def test_a_record_is_unpacked_as_it_was_packed(status):
    record = CommitRecord(7, 5, 4, 1, 3, 0.5, status, 13, "killed", 11, 12, 2**32 - 1)
    assert len(record.pack()) == SLOT_BYTES == 4096
    assert unpack(record.pack()) == claimed(record.pack()) == record


def test_the_bytes_of_a_record_are_those_of_the_format():
    numbers = struct.pack(
        "<8sQQQqqdqqIIII", b"PRDCMT1\n", 7, 5, 4, 1, 3, 0.5, 4, 13, 11, 12, 2**32 - 1, 6
    )
    assert RECORD.pack() == sealed((numbers + b"killed").ljust(SLOT_BYTES, b"\0"))


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_a_reason_is_cut_between_characters_where_the_page_ends(spare):
    reason = "a" * (ROOM - 2 - spare) + "é"
    kept = unpack(CommitRecord(stop_reason=reason).pack()).stop_reason
    assert kept == (reason if spare >= 0 else reason[:-1])


def test_pages_that_are_no_records_are_refused():
    page = RECORD.pack()
    assert unpack(page[:-1]) is unpack(page + b"\0") is None
    assert unpack(b"x" + page[1:]) is None
    for start, field, value in (
        (0, "8s", b"PRDCMT2\n"),
        (56, "q", 5),
        (56, "q", -1),
        (84, "I", ROOM + 1),
    ):
        changed = bytearray(page)
        struct.pack_into(f"<{field}", changed, start, value)
        assert unpack(sealed(bytes(changed))) is None
    longest = bytearray(page)
    struct.pack_into("<I", longest, 84, ROOM)
    assert len(unpack(sealed(bytes(longest))).stop_reason) == ROOM


def test_the_newest_record_in_its_own_slot_counts():
    old, new, later = (replace(RECORD, sequence=n) for n in (6, 7, 8))
    assert newest(old.pack() + new.pack()) == newest(bytes(SLOT_BYTES) + new.pack()) == new
    assert unpack_slots(new.pack() + old.pack()) == [None, None]
    assert newest(later.pack() + new.pack()) == later
    assert newest(bytes(2 * SLOT_BYTES)) is None


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("sequence", 0, 2**62),
        ("restart_slot", -1, 1),
        ("restart_step", -1, 2**62),
        ("stop_step", -1, 2**62),
    ],
)
def test_numbers_of_a_record_have_ranges(field, least, most):
    for value in (least, most):
        state = {"restart_step": 0, "restart_time": 0.0} if field == "restart_slot" else {}
        assert CommitRecord(**{field: value, **state}).out_of_range() == ""
    for value in (least - 1, most + 1):
        assert CommitRecord(**{field: value}).out_of_range() == f"{field} = {value}"


@pytest.mark.parametrize(
    ("step", "time", "fits"),
    [
        (0, 0.0, True),
        (-1, 0.0, False),
        (0, -1e-300, False),
        (0, math.inf, False),
        (0, math.nan, False),
    ],
)
def test_a_restart_state_has_a_step_and_a_time(step, time, fits):
    record = CommitRecord(restart_slot=0, restart_step=step, restart_time=time)
    assert record.out_of_range() == ("" if fits else f"restart_step, restart_time = {step}, {time}")
    assert CommitRecord(restart_step=step, restart_time=time).out_of_range() == ""


# -- steps and times -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "weakly", "strictly"),
    [
        ([], True, True),
        ([3.0], True, True),
        ([0.0, 1.0, 1.0], True, False),
        ([0.0, 1.0, 2.0], True, True),
        ([0.0, 2.0, 1.0], False, False),
        ([-1.0, 0.0], False, False),
        ([0.0, math.inf], False, False),
        ([0.0, math.nan], False, False),
    ],
)
def test_steps_and_times_ascend_from_zero_or_later_and_are_finite(values, weakly, strictly):
    assert ascend(np.array(values)) == weakly
    assert ascend(np.array(values), strictly=True) == strictly


# -- resumes ---------------------------------------------------------------------------------------


def test_the_first_resume_keeps_its_page_and_the_others_share_theirs():
    assert (PAGE_BYTES, len(pack(1, {}))) == (2048, 2048)
    assert [page_of(n) for n in (1, 2, 3, 16, 17, 31, 32)] == [0, 1, 2, 15, 1, 15, 1]


def test_resumes_are_read_in_the_order_of_their_numbers():
    pages = b"".join(pack(n, {"step": 10 * n}) for n in (1, 17, 3)) + bytes(PAGE_BYTES)
    assert sessions(pages) == [{"number": n, "step": 10 * n} for n in (1, 3, 17)]
    assert torn(pages) == []


def test_a_resume_whose_text_is_too_long_keeps_its_number():
    empty = len('{"at": ""}')
    fits = {"at": "a" * (PAGE_BYTES - 12 - empty)}
    assert sessions(pack(2, fits)) == [{"number": 2, **fits}]
    assert sessions(pack(2, {"at": fits["at"] + "a"})) == [{"number": 2}]


def test_pages_of_resumes_that_are_not_whole_are_left_out():
    good = pack(1, {"step": 3})
    assert torn(good + good[:-1] + b"x") == [1]
    assert torn(b"x" + good[1:]) == torn(good[:-1]) == [0]
    for bits in range(1, 9):  # whose checksums are smaller and larger
        assert sessions(good[:1000] + bytes([bits]) + good[1001:]) == []
    assert sessions(sealed(good[:-1])) == []
    assert sessions(good[:-1]) == sessions(bytes(PAGE_BYTES)) == []
    for text in (b"[1, 2]", b'{"a": ', b"\xff"):
        body = struct.pack("<II", 1, len(text)) + text
        assert sessions(sealed(body.ljust(PAGE_BYTES, b"\0"))) == []
    assert torn(pack(0, {})) == [0], "numbers begin with 1"
