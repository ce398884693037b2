"""The file that a writer has open: its lock, its whereabouts, its commit record."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from prdsim.errors import OutputError, TrajectoryLockedError
from prdsim.files import posix
from prdsim.progress import Say
from prdsim.trajectory.commit import CommitRecord, Status, newest
from prdsim.trajectory.container import FileMap, read_map, read_record
from prdsim.trajectory.sessions import SESSIONS, Session, pack, page_of, unpack
from prdsim.trajectory.whereabouts import Whereabouts, follow, names


class WritableFile(ABC):
    """An open, locked trajectory file with its map and its last commit; a context manager."""

    def __init__(
        self, path: Path, fd: int, *, locked: bool, say: Say, filemap: FileMap | None = None
    ) -> None:
        """Take over the descriptor of a locked file, whose map may be known; closed with it."""
        self.path = path
        self._target = Path(os.path.realpath(path))
        self._locked, self._say = locked, say
        self._broken = False
        self._session: Session | None = None
        self._adopt(fd, filemap)

    def _adopt(self, fd: int, filemap: FileMap | None = None) -> None:
        """Write to the file at `fd` from now on; it is closed if that cannot be."""
        self._fd = fd
        try:
            # HDF5's own lock: programs that would open the file for writing are refused.
            if self._locked and not posix.try_share_with_hdf5(fd):
                raise TrajectoryLockedError(
                    f"{self.path} is open for writing in another program; close it there"
                )
            self._map: FileMap = filemap or read_map(self.path, fd)
            self._record = read_record(self._map, fd)
            self._untouched = True
            self._found: CommitRecord | None = None  # on the disk, before the last first write
            self._read_state()
        except BaseException:
            self._fd = -1
            os.close(fd)
            raise

    @abstractmethod
    def _read_state(self) -> None:
        """Read what the last commit counts."""

    @abstractmethod
    def _clear_uncommitted(self) -> None:
        """Mark rows that a killed writer left beyond its last commit as not yet written."""

    @property
    def record(self) -> CommitRecord:
        """The last commit."""
        return self._record

    @property
    def locked(self) -> bool:
        """Whether the file is locked against other writers."""
        return self._locked

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn a failed write into an OutputError and refuse all later ones.

        It is then unknown which bytes reached the disk (a failed fdatasync may drop data
        silently), so only a new writer, which reads the file again, may go on.
        """
        if self._broken:
            raise OutputError(f"{self.path} could not be written earlier; open it again")
        try:
            if self._record is not self._found:  # the first write after a commit
                self._check_record()
                self._found = self._record
            if self._untouched:
                self._untouched = False
                self._begin()
            yield
        except OSError as error:
            self._broken = True
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}; committed rows are "
                "safe, and the run can be resumed from them"
            ) from error
        except BaseException:
            self._broken = True
            raise

    def _begin(self) -> None:
        """Commit that the run goes on: what is torn from now on is known to be its doing."""
        if self._record.status is not Status.RUNNING:
            self._write_record(status=Status.RUNNING, stop_step=-1, stop_reason="")
        self._clear_uncommitted()

    def _write_row(self, name: str, row: int, array: np.ndarray) -> None:
        extent = self._map[name]
        posix.pwrite(self._fd, posix.as_bytes(array), extent.offset + row * extent.row_bytes)

    def _write_record(self, **changes: Any) -> None:
        """Make what was written durable, then the next record, with `changes`."""
        with self._writing():
            record = replace(self._record, sequence=self._record.sequence + 1, **changes)
            page = record.pack()
            self._write_session()
            posix.fdatasync(self._fd)
            place = self._map["commit/record"].offset + record.slot * len(page)
            posix.pwrite(self._fd, page, place)
            posix.fdatasync(self._fd)
        self._record = record

    def _follow(self) -> Whereabouts:
        """Go on with the file wherever it is now."""
        if names(self.path, self._fd):
            return Whereabouts(self._fd, self.path)
        found = follow(self._fd, self._target, locked=self._locked)
        if found.fd != self._fd:
            os.close(self._fd)
            self._fd = found.fd
            posix.try_share_with_hdf5(found.fd)
        note = found.note or f"{self.path} leads elsewhere now; the run goes on as {found.path}"
        self.path = self._target = found.path
        return replace(found, note=note)

    def _check_record(self) -> None:
        """Raise `TrajectoryLockedError` unless the file ends with the commit made here."""
        found = newest(self._map.read(self._fd, "commit/record").tobytes())
        if found is None or found.pack() != self._record.pack():
            raise TrajectoryLockedError(
                f"{self.path} was changed by another program while it was written; this run "
                "stops, and leaves the file as it is: check it with prdsim inspect --check"
            )

    def session(self, session: Session) -> None:
        """Record who continues the run, with the next commit; older formats lack the place."""
        self._session = session

    def _write_session(self) -> None:
        extent = self._map.extents.get(SESSIONS)
        if self._session is None or extent is None:
            return
        held = unpack(self._map.read(self._fd, SESSIONS).tobytes())
        number = 1 + max((int(earlier["number"]) for earlier in held), default=0)
        page = pack(number, self._session)
        posix.pwrite(self._fd, page, extent.offset + page_of(number) * extent.row_bytes)
        self._session = None

    def replace_file(self, fd: int) -> None:
        """Go on with the file at `fd`, which has taken this one's name, under its own lock."""
        old = self._fd
        try:
            self._adopt(fd)
        finally:
            os.close(old)

    def close(self) -> None:
        """Release the file and its lock; uncommitted rows are dropped."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._broken = True
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
