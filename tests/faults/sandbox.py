"""One command line in a forked child: limits of memory, time and file size, all it left recorded.

The child comes from a process that has imported everything (`warm`), so that a case costs
milliseconds. A child that crashes, hangs or fills memory harms nothing else.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

CPU_SECONDS = 5
WALL_SECONDS = 20  # for a child that waits; the machine may be busy
MEMORY = 1 << 30
_LARGEST_FILE = 64 << 20
PIPE = b"a pipe, not a file"
READ = "@read"  # in place of a verb: read every array by `open_trajectory`


@dataclass(frozen=True)
class Outcome:
    """What a child left. `code` is negative for a signal; `files` are those in its folder."""

    code: int
    out: str
    err: str
    cpu: float
    wall: float
    resident: int
    files: Mapping[str, bytes]


def warm() -> None:
    """Import what any command needs; make the caches that first calls make."""
    os.environ["MPLBACKEND"] = "Agg"
    import prdsim.cli

    for name in prdsim.cli._VERBS:
        importlib.import_module(f"prdsim.cli.{name}")
    for name in (
        "h5py",
        "prdsim.analysis",
        "prdsim.analysis.comparison",
        "prdsim.analysis.run_tables",
        "prdsim.convergence.assess",
        "prdsim.datasets.fetch",
        "prdsim.figures",
        "prdsim.running.resuming",
        "prdsim.running.runner",
        "prdsim.trajectory",
        "prdsim.backends.numba",
        "prdsim.backends.numpy",
        "prdsim.cli.summary",
        "prdsim.cli.output",
        "matplotlib.pyplot",
        "scipy.linalg",
        "lzma",
        "bz2",
    ):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that children need not copy what they only count


def folder() -> Path:
    """Return a fresh folder, in memory where there is such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="prdsim-", dir=memory if memory.is_dir() else None))


def apart(content: bytes, work: Callable[[Path], None]) -> bytes | None:
    """Let ``work`` change a file in a child, which may crash; None if it fails."""
    place = folder()
    path = place / "file"
    try:
        path.write_bytes(content)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _limit()
                work(path)
                code = 0
            except Exception:
                code = 1
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        return path.read_bytes() if status == 0 or path.stat().st_size else None
    finally:
        shutil.rmtree(place)


def call(
    files: Mapping[str, bytes], arguments: tuple[str, ...], *, limited: bool = True
) -> Outcome:
    """Run one command line in a fresh folder that holds the files."""
    place = folder()
    try:
        for name, content in files.items():
            if content == PIPE:
                os.mkfifo(place / name)
            else:
                (place / name).write_bytes(content)
        return _call(place, arguments, limited)
    finally:
        shutil.rmtree(place)


def _call(place: Path, arguments: tuple[str, ...], limited: bool) -> Outcome:
    out, err = (os.memfd_create(name) for name in ("out", "err"))
    sys.stdout.flush()
    sys.stderr.flush()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(place, arguments, out, err, limited)
    _, status, usage = os.wait4(child, 0)
    texts = []
    for fd in (out, err):
        with os.fdopen(fd, "rb") as file:
            file.seek(0)
            texts.append(file.read().decode(errors="surrogateescape"))
    return Outcome(
        os.waitstatus_to_exitcode(status),
        *texts,
        usage.ru_utime + usage.ru_stime,
        time.monotonic() - begun,
        usage.ru_maxrss * 1024,
        _contents(place),
    )


def _contents(place: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(place.rglob("*")):
        if not path.is_dir():
            name = str(path.relative_to(place))
            found[name] = path.read_bytes() if path.is_file() else PIPE
    return found


def _become(place: Path, arguments: tuple[str, ...], out: int, err: int, limited: bool) -> NoReturn:
    """Be the command; never return."""
    code = 99
    try:
        os.chdir(place)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        if limited:
            _limit()
        code = _main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # not by way of main: a fault of the suite
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _limit() -> None:
    size, resident = (int(n) * resource.getpagesize() for n in _statm()[:2])
    space = size + max(MEMORY - resident, 1 << 28)
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(WALL_SECONDS)


def _statm() -> list[str]:
    return Path("/proc/self/statm").read_text().split()


def _main(arguments: tuple[str, ...]) -> int:
    from prdsim.cli import main, report

    if arguments[0] == READ:
        try:
            print(json.dumps(read_all(Path(arguments[1]))))
        except Exception as error:
            return report(error)
        return 0
    sys.argv = ["prdsim", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def read_all(path: Path) -> dict[str, Any]:
    """Read every array of a trajectory: its rows' checksums, or the error in one word each."""
    from prdsim.errors import TrajectoryError
    from prdsim.trajectory import open_trajectory

    found: dict[str, Any] = {}

    def keep(name: str, read: Any) -> None:
        try:
            array = np.asarray(read())
        except TrajectoryError:
            found[name] = None
        else:
            found[name] = [zlib.crc32(row.tobytes()) for row in np.atleast_1d(array)]

    with open_trajectory(path) as run:
        for name in ("step", "time", "planned_snapshots", "planned_scalars"):
            keep(name, lambda name=name: getattr(run, name))
        for name in "UVWa":
            for row in range(len(getattr(run, name))):
                keep(f"{name}[{row}]", lambda name=name, row=row: getattr(run, name)[row])
        for group in ("initial", "chart", "data", "scalars"):
            for name in getattr(run, group):
                keep(f"{group}/{name}", lambda g=group, name=name: getattr(run, g)[name])
        found["check"] = run.check()
        found["status"] = str(run.status)
    return found
