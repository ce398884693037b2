"""The commit record: the one page that says which rows of a trajectory count.

Two 4 KiB slots alternate: record number s lives in slot s % 2, so that writing a record never
touches the one before it. A torn or damaged slot fails its CRC-32 and the other one counts.

All numbers little-endian: magic, sequence, scalar rows, snapshot rows, restart slot, restart
step, restart time, status, stop step, rolling CRC-32 of the scalars and of the snapshots' index,
CRC-32 of the file's fixed part, length of the stop reason, the stop reason (UTF-8), zeros, and
in the last four bytes the CRC-32 of the bytes before.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

SLOT_BYTES = 4096
SLOTS = 2

_MAGIC = b"PRDCMT1\n"
_HEADER = struct.Struct("<8sQQQqqdqqIIII")
_CRC = struct.Struct("<I")
_SECTOR = 512  # what a disk writes whole
_REASON_BYTES = SLOT_BYTES - _HEADER.size - _CRC.size


class Status(StrEnum):
    """The status of a run at its last commit; the positions are the numbers in the file."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"
    FAILED = "failed"  # append only


_CODES = tuple(Status)

_MOST = 2**62  # a count that never overflows when one is added
_RANGES = {
    "sequence": (0, _MOST),
    "restart_slot": (-1, SLOTS - 1),
    "restart_step": (-1, _MOST),
    "stop_step": (-1, _MOST),
}


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """The parts of the file that count, as of one commit.

    `restart_slot` is -1 before the first restart state is committed; `stop_step` is -1 while
    the run goes on; `fixed_crc` covers every byte that creation writes and no commit changes.
    """

    sequence: int = 0
    scalar_rows: int = 0
    snapshot_rows: int = 0
    restart_slot: int = -1
    restart_step: int = -1
    restart_time: float = math.nan
    status: Status = Status.RUNNING
    stop_step: int = -1
    stop_reason: str = ""
    scalars_crc: int = 0
    snapshots_crc: int = 0
    fixed_crc: int = 0

    @property
    def slot(self) -> int:
        """The slot of this record."""
        return self.sequence % SLOTS

    def out_of_range(self) -> str:
        """Name a number that no writer writes, with its value; "" if there is none."""
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                return f"{name} = {value}"
        step, time = self.restart_step, self.restart_time
        if self.restart_slot >= 0 and not (step >= 0 and 0 <= time < math.inf):
            return f"restart_step, restart_time = {step}, {time}"
        return ""

    def pack(self) -> bytes:
        """Return the slot's 4096 bytes; a stop reason too long for it is cut."""
        reason = self.stop_reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
        body = _HEADER.pack(
            _MAGIC,
            self.sequence,
            self.scalar_rows,
            self.snapshot_rows,
            self.restart_slot,
            self.restart_step,
            self.restart_time,
            _CODES.index(self.status),
            self.stop_step,
            self.scalars_crc,
            self.snapshots_crc,
            self.fixed_crc,
            len(reason),
        )
        body += reason.ljust(_REASON_BYTES, b"\0")
        return body + _CRC.pack(zlib.crc32(body))


def unpack(page: bytes) -> CommitRecord | None:
    """Return the record in a slot's 4096 bytes, or None if it is not whole."""
    body, tail = page[: -_CRC.size], page[-_CRC.size :]
    if len(page) != SLOT_BYTES or _CRC.unpack(tail) != (zlib.crc32(body),):
        return None
    return claimed(page)


def claimed(page: bytes) -> CommitRecord | None:
    """Return what a slot says, its checksum aside, or None if that is no record at all."""
    (magic, sequence, scalar_rows, snapshot_rows, slot, step, time, code, stop_step) = (
        fields := _HEADER.unpack_from(page)
    )[:9]
    *crcs, length = fields[9:]
    if magic != _MAGIC or not 0 <= code < len(_CODES) or length > _REASON_BYTES:
        return None
    reason = page[_HEADER.size : _HEADER.size + length].decode(errors="replace")
    return CommitRecord(
        sequence,
        scalar_rows,
        snapshot_rows,
        slot,
        step,
        time,
        _CODES[code],
        stop_step,
        reason,
        *crcs,
    )


def is_torn(page: bytes, newest: CommitRecord) -> bool:
    """Whether the other slot's bytes are those of a crash that came while it was written.

    Each of its sectors then belongs to the record before `newest` (zeros in a new file) or to the
    one after it. One bit from a whole record is no such mixture: the disk changed it later.
    """
    new = newest.sequence == 0
    found = claimed(page)
    if found is None:
        return new and not any(page[:_SECTOR])
    used = _HEADER.size + _HEADER.unpack_from(page)[-1]
    head, zeros, crc = page[:used], page[used : -_CRC.size], page[-_CRC.size :]
    return (
        found.sequence in (newest.sequence - 1, newest.sequence + 1)
        and not any(zeros)
        and (new or any(crc))
        and not any(unpack(changed + zeros + crc) for changed in one_bit_changed(head))
        and not any(unpack(head + zeros + changed) for changed in one_bit_changed(crc))
    )


def one_bit_changed(data: bytes) -> Iterator[bytes]:
    """Yield the data with each of its bits changed in turn."""
    changed = bytearray(data)
    for position in range(len(data)):
        for bit in range(8):
            changed[position] ^= 1 << bit
            yield bytes(changed)
            changed[position] ^= 1 << bit


def unpack_slots(pages: bytes) -> list[CommitRecord | None]:
    """Return the record of each slot, None if it is not whole or in the wrong slot."""
    records = [unpack(pages[k * SLOT_BYTES : (k + 1) * SLOT_BYTES]) for k in range(SLOTS)]
    return [record if record and record.slot == k else None for k, record in enumerate(records)]


def newest(pages: bytes) -> CommitRecord | None:
    """Return the newest whole record of the two slots, or None if both are damaged."""
    whole = [record for record in unpack_slots(pages) if record is not None]
    return max(whole, key=lambda record: record.sequence, default=None)
