"""Lets every process that works on a study tell which member it is at, from beginning to end.

Python imports this at the start of whatever is started with this folder on PYTHONPATH. The lock is
none of prdsim's: each member is a byte of one file, which the system frees when a process ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path

if " sweep run " in f"{' '.join(sys.orig_argv)} " and "WITNESS" in os.environ:
    from prdsim.study import worker

    _FOLDER = Path(os.environ["WITNESS"])
    _LOCKS = (_FOLDER / "locks").open("wb")  # before any file of prdsim, so it is freed before them
    _run, _resume = worker.run, worker.resume

    def _tell(word, member):
        with (_FOLDER / "log").open("a", buffering=1) as log:
            device = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
            log.write(f"{word} {member} {os.getpid()} {device}\n")

    def _witnessed(function, argument, path, keys):
        member = Path(path).stem
        try:
            fcntl.lockf(_LOCKS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(member, 16))
        except OSError:
            _tell("TWICE", member)
            return function(argument, **keys)
        try:
            _tell("begins", member)
            if member == os.environ.get("FATAL"):  # as the system kills what has too much memory
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(argument, **keys)
            _tell("stops" if result.signal else "ends", member)
            return result
        finally:
            fcntl.lockf(_LOCKS, fcntl.LOCK_UN, 1, int(member, 16))

    worker.run = lambda config, **keys: _witnessed(_run, config, config.output, keys)
    worker.resume = lambda path, **keys: _witnessed(_resume, path, path, keys)
