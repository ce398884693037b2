"""Power loss: what a life wrote is recorded, and cut off at any moment by the rules of a disk.

Between two syncs of a file each of its sectors written since may be on the disk or not; between
two syncs of the folder each change of its entries may, one by one, a rename as a whole. The files
and the folder are looked at before and after every call that concerns them, so that the writes of
HDF5's own, between two such calls, are seen as well.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from faults.child import Child, Hook, Line, Work, call, share
from faults.places import fresh_folder
from faults.report import Broken, Report
from faults.tables import TABLES, Table
from faults.world import (
    LIVES,
    NOTHING,
    Life,
    Promise,
    held_by,
    patched,
    promising,
    reading,
    world,
)

CALLS = ("open", "pwrite", "write", "ftruncate", "posix_fallocate", "link", "rename", "replace")
CALLS += ("unlink", "fsync", "fdatasync")
SYNCS = ("fsync", "fdatasync")
SECTOR, PAGE = 512, 4096
_BATCH = 20  # images that one child judges
_COMPLETED = 0.05  # so many go on to the end
_AGAIN = 0.1  # so many are images of runs that go on from an image,
_EACH = 10  # of each so many

# -- recording -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrote:
    """A file's new size, and the sectors that changed."""

    file: int
    size: int
    sectors: dict[int, bytes]


@dataclass(frozen=True)
class Named:
    """Entries of the folder that changed together: name -> file, or None."""

    entries: dict[str, int | None]


@dataclass(frozen=True)
class Synced:
    """A file, or the folder (None), is on the disk as it is."""

    file: int | None


@dataclass(frozen=True)
class Told:
    """What the child told: a promise, or the end."""

    what: dict[str, Any]


Event = Wrote | Named | Synced | Told


@dataclass(frozen=True)
class Log:
    """All events; so many of them describe the folder as it was, safely on the disk."""

    events: list[Event]
    begun: int


class Recorder:
    """Looks at a folder, and notes what changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.events: list[Event] = []
        self._files: dict[int, int] = {}  # inode -> number of the file
        self._count = 0
        self._contents: dict[int, bytes] = {}
        self._entries: dict[str, int | None] = {}
        self.look()
        self.events += [Synced(number) for number in (*self._contents, None)]
        self.begun = len(self.events)

    def look(self) -> None:
        """Note what changed since the last look."""
        named = {entry.name: entry.inode() for entry in os.scandir(self._folder)}
        paths = {**_open_files(self._folder), **{inode: name for name, inode in named.items()}}
        self._files = {inode: number for inode, number in self._files.items() if inode in paths}
        for inode, path in paths.items():
            if inode not in self._files:
                self._files[inode] = self._count
                self._count += 1
            self._look_into(self._files[inode], (self._folder / path).read_bytes())
        entries: dict[str, int | None] = {name: self._files[i] for name, i in named.items()}
        changed = {name: n for name, n in entries.items() if self._entries.get(name) != n}
        changed |= dict.fromkeys(self._entries.keys() - entries.keys())
        if changed:
            self.events.append(Named(changed))
        self._entries = entries

    def _look_into(self, number: int, content: bytes) -> None:
        old = self._contents.get(number, b"")
        if number in self._contents and content == old:
            return
        sectors = {
            start // SECTOR: content[start : start + SECTOR]
            for start in range(0, len(content), SECTOR)
            if content[start : start + SECTOR] != old[start : start + SECTOR]
        }
        self._contents[number] = content
        self.events.append(Wrote(number, len(content), sectors))

    def synced(self, fd: int) -> None:
        """Note that a file or the folder was synced."""
        status = os.fstat(fd)
        if os.path.samestat(status, self._folder.stat()):
            self.events.append(Synced(None))
        elif status.st_ino in self._files:
            self.events.append(Synced(self._files[status.st_ino]))


def _open_files(folder: Path) -> dict[int, str]:
    """The folder's files that this process has open, unnamed ones included: inode -> path."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            target, inode = str(link.readlink()), link.stat().st_ino
        except OSError:
            continue  # the one that listed them
        if target.startswith(f"{folder}/"):
            found[inode] = str(link)
    return found


def recording(folder: Path, log: Path) -> Hook:
    """A hook that writes the events of a life to a file beside its folder."""

    @contextmanager
    def hook(line: Line) -> Iterator[None]:
        recorder = Recorder(folder)

        def watched(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def function(*arguments: Any, **keys: Any) -> Any:
                recorder.look()
                try:
                    result = real(*arguments, **keys)
                finally:
                    recorder.look()
                if name in SYNCS:
                    recorder.synced(arguments[0])
                return result

            return function

        class Note(Line):
            def tell(self, **what: Any) -> None:
                recorder.events.append(Told(what))

        note = Note(0, 0)
        with ExitStack() as stack:
            for name in CALLS:
                stack.enter_context(patched(os, name, watched(name)))
            stack.enter_context(promising(note))
            yield
        recorder.look()
        note.tell(finished=True)
        log.write_bytes(pickle.dumps(Log(recorder.events, recorder.begun)))
        line.tell(events=len(recorder.events))

    return hook


# -- the disk --------------------------------------------------------------------------------------


@dataclass
class File:
    """A file as it is on the disk, as programs see it, and the sectors in which these differ."""

    durable: bytes = b""
    current: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)

    def write(self, event: Wrote) -> None:
        self.current = self.current[: event.size].ljust(event.size, b"\0")
        for sector, data in event.sectors.items():
            self.current[sector * SECTOR : sector * SECTOR + len(data)] = data
        self.dirty |= event.sectors.keys()

    def sync(self) -> None:
        self.durable, self.dirty = bytes(self.current), set()

    def lost(self, random: Random, share: float, unit: int) -> bytes:
        """The content after a crash: each unit, and the size, on the disk or not."""
        size = len(self.current if random.random() < share else self.durable)
        content = bytearray(self.durable[:size].ljust(size, b"\0"))
        per_unit = unit // SECTOR
        for first in sorted({sector // per_unit * per_unit for sector in self.dirty}):
            if random.random() < share:
                here = slice(first * SECTOR, min((first + per_unit) * SECTOR, size))
                piece = self.current[here]
                content[here.start : here.start + len(piece)] = piece
        return bytes(content)


class Disk:
    """The folder on a disk, event by event."""

    def __init__(self) -> None:
        self._files: dict[int, File] = {}
        self._entries: dict[str, int] = {}
        self._pending: list[dict[str, int | None]] = []
        self.told: list[dict[str, Any]] = []

    def apply(self, event: Event) -> None:
        match event:
            case Wrote(number):
                self._files.setdefault(number, File()).write(event)
            case Named(entries):
                self._pending.append(entries)
            case Synced(None):
                self._entries = self._after(self._pending)
                self._pending = []
            case Synced(int(number)):
                self._files[number].sync()
            case Told(what):
                self.told.append(what)

    def _after(self, changes: list[dict[str, int | None]]) -> dict[str, int]:
        entries: dict[str, int | None] = dict(self._entries)
        for change in changes:
            entries |= change
        return {name: number for name, number in entries.items() if number is not None}

    def crash(self, random: Random) -> dict[str, bytes]:
        """The files after a crash; share 1: after a kill, which loses nothing."""
        share, unit = random.choice((0.0, 0.5, 0.9, 1.0)), random.choice((SECTOR, PAGE))
        entries = self._after([change for change in self._pending if random.random() < share])
        return {
            name: self._files[number].lost(random, share, unit) for name, number in entries.items()
        }


# -- images ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """What a crash left, and what must be in it."""

    life: Life | Table
    moment: str
    files: dict[str, bytes]
    accepted: tuple[Any, ...]


def record(folder: Path, *command: object) -> Log:
    """What a command does in its folder."""
    log = folder.with_suffix(".log")
    ended = call(folder, *command, hook=recording(folder, log))
    if ended.code != 0:
        raise Broken("lost", f"{command[0]} gave {ended.code}: {ended.err}")
    found: Log = pickle.loads(log.read_bytes())
    return found


def images(
    life: Life | Table, log: Log, count: int, random: Random, before: tuple[Any, ...] = ()
) -> Iterator[Image]:
    """So many images of a life, half of them at a sync, where most is at stake."""
    moments = range(log.begun, len(log.events) + 1)
    syncs = [k for k in moments[:-1] if isinstance(log.events[k], Synced)]
    chosen = Counter(random.choices(syncs or moments, k=count // 2))
    chosen += Counter(random.choices(moments, k=count - count // 2))
    disk = Disk()
    for k, event in enumerate([*log.events, None]):
        for _ in range(chosen[k]):
            accepted = life.accepts(disk.told, before)
            yield Image(life, f"{k} of {len(log.events)}", disk.crash(random), accepted)
        if event is not None:
            disk.apply(event)


def images_again(image: Image, count: int, random: Random, folder: Path) -> list[Image]:
    """So many images of crashes while a run goes on from an image."""
    assert isinstance(image.life, Life)
    path = _lay(image, folder)
    command = image.life.what_is_left(path)
    if not command:
        return []
    before: tuple[Promise | None, ...] = (NOTHING,) if command[0] == "run" else ()
    if path.exists():
        with reading(path) as trajectory:
            before += (held_by(trajectory),)
    else:
        before += (None,)
    return list(images(image.life, record(folder, *command), count, random, before))


def _lay(image: Image, folder: Path) -> Path:
    """Make the folder as it is after the crash; return the file that matters."""
    path = image.life.begin(folder)
    for each in folder.iterdir():
        each.unlink()
    for name, content in image.files.items():
        (folder / name).write_bytes(content)
    return path


def _judging(batch: list[Image], folder: Path, random: Random) -> Work:
    """The work of a child: say of every image what is broken."""

    def work(line: Line) -> int:
        share()
        for image in batch:
            broken = []
            try:
                path = _lay(image, folder)
                image.life.judge(path, image.accepted)
                if random.random() < _COMPLETED:
                    image.life.complete(folder)
            except Broken as found:
                broken = [found.kind, found.text]
            line.tell(broken=broken)
        return 0

    return work


def _judge_all(report: Report, made: list[Image], folder: Path, random: Random) -> None:
    for start in range(0, len(made), _BATCH):
        _judge(report, made[start : start + _BATCH], folder, random)


def _judge(report: Report, batch: list[Image], folder: Path, random: Random) -> None:
    """Judge images in one child, which a damaged file may kill."""
    child = Child(_judging(batch, folder, random), folder.parent)
    for image in batch:
        label = f"{image.life.name} crashed at event {image.moment}"
        with report.case(label):
            told = child.hear()
            if told is None:
                raise Broken("traceback", "the reader died")
            report.took_effect[image.life.name] += 1
            if told["broken"]:
                raise Broken(*told["broken"])
    child.end()


def campaign(count: int, seed: int) -> Report:
    """Crash every life at random moments, and some of those resumed from a crash again."""
    report, random, folder = Report("crash images"), Random(seed), fresh_folder() / "case"
    lives = (*LIVES, *TABLES)
    with report.timed():
        world()  # here, not in every child that judges
        made: list[Image] = []
        for life in lives:
            life.begin(folder)
            log = record(folder, *life.arguments)
            of_life = list(images(life, log, round((1 - _AGAIN) * count / len(lives)), random))
            _judge_all(report, of_life, folder, random)
            made += of_life
        first = [image for image in made if isinstance(image.life, Life)]
        again: list[Image] = []
        while len(made) + len(again) < count:
            image = random.choice(first)
            with report.guard(f"{image.life.name} crashed at event {image.moment}, and again"):
                again += images_again(image, _EACH, random, folder)
        del again[count - len(made) :]
        report.took_effect["crashes of a crash"] = len(again)
        _judge_all(report, again, folder, random)
    return report
