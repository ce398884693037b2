"""Studies on Dask: workers of this machine, a scheduler by address, and what survives killing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from support_cli import ROOT
from support_study import LARGE, SMALL, complete, settled, start

from prdsim.study import State, StudyFolder
from prdsim.study.table import look

pytestmark = pytest.mark.skipif(find_spec("distributed") is None, reason="needs distributed")

PYTHON = {**os.environ, "PYTHONPATH": str(ROOT)}


class Cluster:
    """A scheduler and two workers, processes of their own on the loopback address."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file)
        )
        while not self.file.exists():
            time.sleep(0.05)
        self.workers = [self.worker() for _ in range(2)]

    @staticmethod
    def _start(*arguments: str) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1"]
        return subprocess.Popen(command, env=PYTHON, **quiet)

    def worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker, of one thread."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
        return self._start("worker", *options, "--scheduler-file", str(self.file))

    def end(self) -> None:
        """Kill whatever is left."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    started = Cluster(folder)
    try:
        yield started
    finally:
        started.end()


def test_workers_of_this_machine_make_the_same_table(tmp_path, whole):
    assert complete(tmp_path / "s", "--dask", "--workers", 2, vary=SMALL) == whole
    assert settled(tmp_path / "s") == []


@pytest.mark.slow
def test_a_scheduler_with_two_workers_makes_the_same_table(tmp_path, whole_of_large):
    with cluster(tmp_path) as started:
        where = ("--scheduler-file", started.file)
        assert complete(tmp_path / "s", *where, vary=LARGE) == whole_of_large
    assert settled(tmp_path / "s") == []


@pytest.mark.slow
def test_killing_workers_scheduler_and_client_loses_nothing(tmp_path, whole_of_large):
    folder, rng, kept = tmp_path / "s", random.Random(1), [0]
    for number in range(12):
        place = tmp_path / str(number)
        place.mkdir()
        with cluster(place) as started:
            client = start(folder, "--scheduler-file", started.file, vary=LARGE)
            time.sleep(rng.uniform(2.0, 9.0))
            victim = (started.workers[0], started.scheduler, client)[number % 3]
            victim.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
            time.sleep(rng.uniform(0.0, 2.0))
            client.kill()
            client.communicate()
        assert settled(folder) == []  # no orphan is left
        states = look(StudyFolder.open(folder)).values() if (folder / "study.json").exists() else ()
        kept.append(sum(standing.state is State.FINISHED for standing in states))
        assert kept[-1] >= kept[-2]
    assert kept[-1] > 0
    with cluster(tmp_path) as started:
        where = ("--scheduler-file", started.file)
        assert complete(folder, *where, vary=LARGE) == whole_of_large


@pytest.mark.slow
def test_cancelled_members_stop_within_ten_seconds(tmp_path):
    folder = tmp_path / "s"
    with cluster(tmp_path) as started:
        long = ["steps=4000000", "scalars=every:100000", "snapshots=every:4000000"]
        more = [word for setting in long for word in ("--set", setting)]
        client = start(folder, *more, "--scheduler-file", started.file)
        study = None
        while study is None or not _running(study):
            time.sleep(0.2)
            if (folder / "study.json").exists():
                study = StudyFolder.open(folder)
        began = time.monotonic()
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=60)
        assert client.returncode == 130
        assert not _running(study)
        assert time.monotonic() - began < 10
        states = {standing.state for standing in look(study).values()}
        assert states == {State.BEGUN, State.PLANNED}
    assert json.loads((folder / "study.json").read_text())["format"] == "prdsim-study"


def _running(study: StudyFolder) -> bool:
    return any(standing.state is State.RUNNING for standing in look(study).values())
