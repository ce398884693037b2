"""`prdsim sweep`: engines that give the same table, and what survives killing them."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from support_cli import caller
from support_study import (
    BASE,
    LARGE,
    LONG,
    SMALL,
    assert_failures_are_told,
    at_work,
    complete,
    given,
    settled,
    start,
    study,
    words,
)

import prdsim
from prdsim.datasets.configured import load_data
from prdsim.errors import ConfigError
from prdsim.progress import silent
from prdsim.study import StudyFolder, load_plan
from prdsim.study.forecast import at_once, forecast
from prdsim.study.table import study_table
from prdsim.study.worker import in_this_process


@pytest.fixture
def run(monkeypatch, capsys):
    return caller(monkeypatch, capsys)


def test_elements_of_a_job_array_make_the_same_table(tmp_path, run, whole):
    folder = study(tmp_path / "s", *SMALL)
    told = run(*words(folder.path, "--plan-only"))
    assert (told.code, told.out.startswith("8 members; prdsim sweep run ")) == (0, True)
    for number in (3, 1, 4, 2):
        assert run("sweep", "run", folder.path, "--member", f"{number}/4").code == 0
    assert study_table(folder).to_csv().encode() == whole
    told = run("sweep", "table", folder.path, "--format", "csv")
    assert told.out.encode() == whole


def disturbed(folder: Path, times: int, longest: float, *more: str, vary: tuple[str, ...]) -> bytes:
    """Kill workers and their parent at random moments; return the table of the completed study."""
    rng = random.Random(0)
    for number in range(times):
        parent = start(folder, *more, "--workers", 2, vary=vary)
        time.sleep(rng.uniform(0.3, longest))
        workers = [pid for pid in at_work(folder) if pid != parent.pid]
        if number % 2 and workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
            time.sleep(0.2)
        parent.kill()
        parent.communicate()
        assert settled(folder) == []  # no orphan is left
    return complete(folder, *more, "--workers", 2, vary=vary)


def test_killing_workers_and_their_parent_loses_nothing(tmp_path, whole, witness):
    assert disturbed(tmp_path / "s", 2, 2.5, vary=SMALL) == whole
    witness.assert_each_once(StudyFolder.open(tmp_path / "s"))


@pytest.mark.slow
def test_killing_them_ten_times_loses_nothing(tmp_path, large, witness):
    table = disturbed(tmp_path / "s", 10, 6.0, *given(LONG), vary=LARGE)
    assert table == (large.path / "table.csv").read_bytes()
    witness.assert_each_once(large)
    assert witness.interrupted >= 5  # so the moments were those of work


def test_ctrl_c_stops_all_workers(tmp_path):
    folder = tmp_path / "s"
    long = ("--set", "steps=400000", "--set", "restart_seconds=0.1", "--workers", 2)
    parent = start(folder, *long, vary=("seed=0:3",))
    while len(list(folder.glob("members/*.h5"))) < 2:
        time.sleep(0.05)
    began = time.monotonic()
    parent.send_signal(signal.SIGINT)
    _, err = parent.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert parent.returncode == 130
    assert "stopped; the same command goes on" in err
    assert settled(folder) == []
    with prdsim.open_trajectory(next(folder.glob("members/*.h5"))) as trajectory:
        assert trajectory.live_status() == "interrupted"


def test_members_that_cannot_be_are_told_and_stop_nothing_else(tmp_path):
    assert_failures_are_told(tmp_path / "s", "--workers", 1)


def test_a_study_with_failures_names_them_and_tries_again_when_asked(tmp_path, run):
    folder = study(tmp_path / "s", "dataset=digits,gone.npz")
    command = words(folder.path, "--workers", 1, vary=("dataset=digits,gone.npz",))
    told = run("sweep", "run", folder.path)
    assert (told.code, "gone.npz" in told.out) == (1, True)
    told = run(*command)  # nothing is left to do
    assert told.code == 1
    assert "2 members: 1 finished, 1 failed" in told.out
    assert "gone.npz" in told.out
    told = run("sweep", "status", folder.path, "--json")
    assert [row["state"] for row in json.loads(told.out)["members"]] == ["finished", "failed"]
    told = run(*command, "--retry-failed")
    assert "tried again after:" in told.out
    assert told.code == 1


def test_damage_is_found_when_a_study_goes_on(tmp_path, run):
    folder = study(tmp_path / "s", "seed=0,1")
    run("sweep", "run", folder.path)
    path = folder.trajectory(folder.plan.members[1])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    told = run(*words(folder.path, vary=("seed=0,1",)))
    assert (told.code, "1 finished, 1 failed" in told.out) == (1, True)
    told = run(*words(folder.path, "--retry-failed", vary=("seed=0,1",)))
    assert (told.code, "2 finished" in told.out) == (0, True)
    assert [p.read_bytes() for p in path.parent.glob("*.damaged")] == [bytes(content)]


def test_a_finished_study_is_read_alone(tmp_path, run):
    folder = study(tmp_path / "s", "seed=0,1")
    command = words(folder.path, vary=("seed=0,1",))
    run("sweep", "run", folder.path)
    assert run(*command).code == 0  # its table is written

    def files() -> dict[Path, tuple[int, int]]:
        """The inode and the last change of every file and folder."""
        found = [folder.path, *folder.path.rglob("*")]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}

    before = files()
    assert len(before) == 1 + 3 + 2 + 2 + 2  # folders; plan and table; members, their claims
    assert run(*command).code == 0  # on a disk that cannot be written, too
    assert files() == before


def test_a_stopped_study_waits_until_it_is_started_again(tmp_path, run):
    folder = study(tmp_path / "s", "seed=0,1")
    assert "stops all members" in run("sweep", "stop", folder.path).out
    told = run("sweep", "run", folder.path)
    assert (told.code, "the study is stopped: remove" in told.err) == (3, True)
    assert "2 planned; stopped" in run("sweep", "status", folder.path).out
    assert run(*words(folder.path, "--workers", 1, vary=("seed=0,1",))).code == 0
    assert "2 finished" in run("sweep", "status", folder.path).out


def test_workers_that_get_nothing_done_are_not_started_for_ever(tmp_path, run):
    folder = study(tmp_path / "s", "seed=0,1")
    for member in folder.plan.members:
        (folder.path / "claims" / member.name).mkdir()
    told = run(*words(folder.path, "--workers", 1, vary=("seed=0,1",)))
    assert (told.code, "no worker gets anything done" in told.err) == (3, True)


def test_workers_import_nothing_of_the_present_folder(tmp_path, run, monkeypatch):
    (tmp_path / "h5py.py").write_text("raise SystemExit('not h5py')")
    monkeypatch.chdir(tmp_path)
    told = run(*words(tmp_path / "s", "--workers", 1, vary=("seed=0,1",)))
    assert (told.code, "2 finished" in told.out) == (0, True)


def test_detached_work_goes_on_by_itself(tmp_path, run, monkeypatch):
    folder = study(tmp_path / "s", "seed=0,1")
    run("sweep", "run", folder.path)
    monkeypatch.setattr(sys, "argv", ["prdsim"])
    told = run(*words(folder.path, "--detach", vary=("seed=0,1",)))
    assert (told.code, "prdsim sweep status" in told.out) == (0, True)
    log = folder.path / "sweep.log"
    while "2 finished" not in log.read_text():
        time.sleep(0.05)
    assert settled(folder.path) == []


def test_a_dry_run_shows_the_plan_and_makes_nothing(tmp_path, run):
    told = run(*words(tmp_path / "s", "--dry-run", vary=LARGE))
    assert told.code == 0
    assert told.out.splitlines()[-1].startswith("40 members; up to ")
    assert list(tmp_path.iterdir()) == []


def test_the_forecast_of_disk_is_what_the_files_take(tmp_path, run):
    vary = ("width=100,300", "chart=weight,gram")
    plan = load_plan(None, vary=vary, settings=[*BASE, "samples=200"])
    folder = study(tmp_path / "s", *vary, settings=("samples=200",))
    run("sweep", "run", folder.path)
    taken = sum(path.stat().st_size for path in folder.path.glob("members/*.h5"))
    assert 0.8 < forecast(plan).disk / taken < 1.25
    assert forecast(plan).memory > 300 * 200 * 8  # A of the largest member


@pytest.mark.parametrize(
    ("threads", "cores", "gigabytes", "expected"),
    [
        (1, 2, 8.0, 2),
        (1, 64, 8.0, 4),
        (2, 7, 8.0, 3),
        (8, 4, 8.0, 1),
        (1, 64, 0.6, 2),
        (1, 9, 0, 1),
    ],
)
def test_as_many_members_run_at_once_as_cores_and_memory_allow(
    monkeypatch, threads, cores, gigabytes, expected
):
    vary = ("seed=0,1", "width=3,2000000000")  # the latter fail by themselves
    plan = load_plan(None, vary=vary, settings=[*BASE, f"threads={threads}"])
    module = import_module("prdsim.study.forecast")
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    monkeypatch.setattr(module, "available_bytes", lambda: int(gigabytes * 1e9))
    assert at_once(plan) == expected


def test_samples_that_are_loaded_are_not_loaded_again(monkeypatch):
    plan = load_plan(None, vary=("seed=0,1",), settings=BASE)
    before, members = forecast(plan), at_once(plan)
    data = load_data(plan.members[0].config)
    monkeypatch.delattr(import_module("prdsim.study.forecast"), "load_data")
    assert (forecast(plan, data), at_once(plan, data)) == (before, members)


def test_workers_are_as_many_as_members_at_once(tmp_path, run, monkeypatch):
    asked = []

    def engine(workers: int) -> object:
        asked.append(workers)
        return in_this_process(silent, progress=False)

    monkeypatch.setattr(import_module("prdsim.study.sweep"), "local", engine)
    monkeypatch.setattr(import_module("prdsim.study.forecast"), "at_once", lambda _: 3)
    assert run(*words(tmp_path / "s", vary=("seed=0,1",))).code == 0
    assert run(*words(tmp_path / "s", "--workers", 5, vary=("seed=0,1",))).code == 0
    assert asked == [3, 5]


def test_a_study_is_a_frame_and_its_trajectories(tmp_path, run):
    pandas = pytest.importorskip("pandas")
    folder = study(tmp_path / "s", "seed=0,1", "dataset=digits,gone.npz")
    run("sweep", "run", folder.path)
    found = prdsim.open_study(folder.path)
    assert len(found) == 2
    assert repr(found).endswith("2 of 4 members finished>")
    (name,) = found.where(seed=1)
    frame = found.frame()
    assert isinstance(frame, pandas.DataFrame)
    with found[name] as trajectory:
        assert frame.loc[name, "loss_sup"] == trajectory.scalars["loss_sup"][-1]
    assert sorted(frame["state"]) == ["failed", "failed", "finished", "finished"]
    with pytest.raises(ConfigError, match="sed: no such configuration key"):
        found.where(sed=1)
    with pytest.raises(KeyError):
        found["0123456789ab"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("sweep",), 2, "nothing varies"),
        (("sweep", "--vary", "seed=0:2"), 2, "name the folder of the study"),
        (("sweep", "gone.toml", "-o", "s"), 3, "gone.toml: no such configuration file"),
        (("sweep", "status", "gone"), 3, "gone is not the folder of a study"),
        (("sweep", "stat", "gone"), 2, "No such command 'stat'"),
        (("sweep", "--set", "self=1", "--vary", "seed=0:2", "-o", "s"), 2, "self: no such"),
        (("sweep", "run", "gone"), 3, "gone is not the folder of a study"),
        (("sweep", "-o", "s", "--vary", "seed=0:2", "--scheduler", "x"), 3, "does not answer"),
        (("sweep", "-o", "s", "--vary", "seed=0:2", "--scheduler-file", "x"), 3, "No such file"),
    ],
)
def test_bad_input_is_an_error_in_words(tmp_path, monkeypatch, run, arguments, code, text):
    if "--scheduler" in " ".join(arguments):
        pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    told = run(*arguments)
    assert (told.code, text in told.err) == (code, True), told.err
