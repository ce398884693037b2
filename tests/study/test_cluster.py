"""Studies on Dask: workers of this machine, a scheduler by address, and what survives killing."""

from __future__ import annotations

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
from support_runs import assert_same_trajectory
from support_study import (
    LARGE,
    LONG,
    SMALL,
    Witness,
    assert_failures_are_told,
    at_work,
    complete,
    given,
    settled,
    start,
    study,
    undisturbed,
)

from prdsim.study import State, StudyFolder
from prdsim.study.table import look, study_table

pytestmark = pytest.mark.skipif(find_spec("distributed") is None, reason="needs distributed")


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
    def _start(*arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, **variables}
        return subprocess.Popen(command, env=environment, **quiet)

    def worker(self, *more: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start one more worker, of one thread, with more options and environment variables."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", *more)
        return self._start("worker", *options, "--scheduler-file", str(self.file), **variables)

    @property
    def where(self) -> tuple[str, Path]:
        """The words of a command line that choose it."""
        return "--scheduler-file", self.file

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


def by_array(folder: Path, elements: int, *more: str) -> None:
    """Do a study by the elements of a job array, all at the same time, and write its table."""
    start(folder, *more, "--plan-only", vary=LARGE).communicate()
    prdsim = [sys.executable, "-m", "prdsim", "sweep"]
    shares = [f"{number}/{elements}" for number in range(1, elements + 1)]
    commands = [[*prdsim, "run", str(folder), "--member", share] for share in shares]
    jobs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for command in commands]
    assert [job.wait() for job in jobs] == [0] * elements
    subprocess.run([*prdsim, "table", folder, "-o", folder / "table.csv"], cwd=ROOT, check=True)


@pytest.mark.slow
def test_all_engines_make_the_same_table_and_trajectories(tmp_path, large, monkeypatch):
    long, processes = given(LONG), {}

    def seen(name: str) -> Path:
        processes[name] = Witness(tmp_path / f"{name}-witness", monkeypatch)
        return tmp_path / name

    complete(seen("here"), *long, "--workers", 2, vary=LARGE)
    complete(seen("dask"), *long, "--dask", "--workers", 2, vary=LARGE)
    by_array(seen("array"), 4, *long)
    folder = seen("scheduler")
    with cluster(tmp_path) as started:
        complete(folder, *long, *started.where, vary=LARGE)
    table = (large.path / "table.csv").read_bytes()
    for name, count in {"here": 2, "dask": 2, "array": 4, "scheduler": 2}.items():
        made = StudyFolder.open(tmp_path / name)
        assert (made.path / "table.csv").read_bytes() == table
        for member in large.plan.members:
            assert_same_trajectory(large.trajectory(member), made.trajectory(member))
        processes[name].assert_each_once(made)
        assert len({told.process for told in processes[name].told}) == count
        assert settled(made.path) == []


@pytest.mark.slow
def test_killing_workers_scheduler_and_client_loses_nothing(tmp_path, large, witness):
    folder, rng, kept, long = tmp_path / "s", random.Random(1), [0], given(LONG)
    for number in range(12):
        place = tmp_path / str(number)
        place.mkdir()
        with cluster(place) as started:
            client = start(folder, *long, *started.where, vary=LARGE)
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
        table = complete(folder, *long, *started.where, vary=LARGE)
    assert table == (large.path / "table.csv").read_bytes()
    witness.assert_each_once(large)
    assert witness.interrupted >= 5  # so the moments were those of work


@pytest.fixture(params=["here", "dask", "scheduler"])
def engine(request, tmp_path) -> Iterator[tuple[object, ...]]:
    """The words that choose an engine of two workers."""
    if request.param == "scheduler":
        with cluster(tmp_path) as started:
            yield started.where
    else:
        yield *["--dask"] * (request.param == "dask"), "--workers", 2


@pytest.mark.slow
def test_members_that_cannot_be_are_told_on_all_engines(tmp_path, engine):
    assert_failures_are_told(tmp_path / "s", *engine)


@pytest.mark.slow
def test_members_on_cupy_are_one_a_device_which_they_see_alone(tmp_path, witness):
    folder, axis = tmp_path / "s", ("seed=0:8",)
    with cluster(tmp_path) as started:  # of two workers without a device
        for device in ("0", "1"):
            options = ("--nthreads", "4", "--resources", "GPU=1")
            started.workers.append(started.worker(*options, CUDA_VISIBLE_DEVICES=device))
        client = start(folder, "--set", "backend=cupy", *started.where, vary=axis)
        out, err = client.communicate(timeout=300)
    assert "8 members: 8 " in out, err  # failed, all of them, where there is no device
    told = [each for each in witness.told if each.word == "begins"]
    assert len({each.member for each in told}) == 8
    assert {each.device for each in told} <= {"0", "1"}
    assert len({each.process for each in told}) == len({each.device for each in told})


@pytest.fixture
def fatal(tmp_path, monkeypatch) -> StudyFolder:
    """A study whose first member gets its processes killed, as by a system without memory."""
    folder = study(tmp_path / "s", "seed=0:4")
    monkeypatch.setenv("FATAL", folder.plan.members[0].name)
    return folder


@pytest.mark.slow
def test_a_member_whose_processes_are_killed_stops_nothing_else(witness, fatal, engine):
    client = start(fatal.path, *engine, vary=("seed=0:4",))
    out, err = client.communicate(timeout=300)
    assert (client.returncode, "3 finished, 1 failed" in out) == (1, True), err
    assert "10 processes died at step 0 without a word; is memory short?" in out
    assert sum(told.member == fatal.plan.members[0].name for told in witness.told) == 10


@pytest.mark.slow
def test_cancelled_members_stop_within_ten_seconds_and_go_on(tmp_path, engine):
    folder, axis, long = tmp_path / "s", ("seed=0:3",), ("steps=30000", *LONG[1:])
    client = start(folder, *given(long), *engine, vary=axis)
    while not (folder / "study.json").exists() or _states(folder).count(State.RUNNING) < 2:
        assert client.poll() is None
        time.sleep(0.1)
    began = time.monotonic()
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert client.returncode == 130
    assert settled(folder, patience=1.0) == []
    assert _states(folder) == [State.BEGUN, State.BEGUN, State.PLANNED]
    table = complete(folder, *given(long), *engine, vary=axis)
    made = undisturbed(tmp_path / "undisturbed", axis, long)
    assert table == study_table(made).to_csv().encode()


@pytest.mark.slow
def test_cancelled_workers_that_are_only_starting_begin_nothing(tmp_path, engine):
    folder, axis, long = tmp_path / "s", ("seed=0:3",), ("steps=30000", *LONG[1:])
    client = start(folder, *given(long), *engine, vary=axis)
    while len(at_work(folder)) < 2:  # the client, and a worker that imports
        assert client.poll() is None
        time.sleep(0.01)
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=60)
    assert client.returncode == 130
    assert settled(folder, patience=1.0) == []


def _states(folder: Path) -> list[State]:
    return [standing.state for standing in look(StudyFolder.open(folder)).values()]
