"""`prdsim list`: the runs of a folder, told apart, and files that cannot be read."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest
from support import names
from support_cli import assert_refused
from support_runs import KEYS, make_killed, make_run
from trajectory import forge

from prdsim.listing import ListedRun, listed
from prdsim.trajectory import TrajectoryWriter, open_trajectory

USAGE, DATA = 2, 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs that differ in three keys, and one that was killed."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "a.h5")
    make_run(folder / "b.h5", diffusion=True, seed=7, width=5)
    make_killed(folder / "killed.h5", 12)
    return folder


@pytest.fixture
def folder(runs, tmp_path):
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_table_shows_status_losses_and_what_differs(run, folder):
    answer = run("list", folder)
    assert (answer.code, answer.err) == (0, "")
    title, heads, first, second, third = answer.out.splitlines()
    assert title == f"{folder}: 3 runs"
    shown = ["run", "status", "step", "t", "L_sup", "L_adv", "critic", "width", "seed", "diffusion"]
    assert heads.split() == shown
    with open_trajectory(folder / "b.h5") as b:
        last = [f"{b.scalars[name][-1]:.5g}" for name in ("loss_sup", "loss_adv", "loss_critic")]
    assert second.split() == ["b.h5", "finished", "20", "1", *last, "5", "7", "true"]
    assert first.split()[:4] == ["a.h5", "finished", "20", "1"]
    assert first.split()[-3:] == ["7", "0", "false"]
    assert third.split()[:4] == ["killed.h5", "killed", "10", "0.5"]


def test_json_holds_every_setting(run, folder):
    (folder / "c.h5").write_bytes(b"")
    found = json.loads(run("list", folder, "--json").out)
    assert found["differing"] == ["width", "seed", "diffusion"]
    a, _, killed, c = found["runs"]
    assert a["path"] == str(folder / "a.h5")
    assert (a["status"], a["step"], a["time"]) == ("finished", 20, 1.0)
    assert a["config"]["integrator"] == KEYS["integrator"]
    assert killed["status"] == "killed"
    reason = f"{folder / 'c.h5'} is empty, so it is not a prdsim trajectory"
    assert c == {"path": str(folder / "c.h5"), "status": "unreadable", "reason": reason}


def test_what_cannot_be_read_is_listed_with_the_reason(run, folder):
    content = (folder / "a.h5").read_bytes()
    (folder / "half.h5").write_bytes(content[: len(content) // 2])
    (folder / "text.h5").write_text("not HDF5")
    os.mkfifo(folder / "pipe.h5")
    (folder / "folder.h5").mkdir()
    (folder / "gone.h5").symlink_to("nowhere")
    forge.attribute(folder / "b.h5", "config", "{}")
    before = names(folder)
    answer = run("list", folder)
    assert (answer.code, answer.err) == (0, "")
    assert f"{folder}: 2 runs" in answer.out
    lines = dict(
        line.removeprefix("unreadable: ").replace(f"{folder}/", "").split(maxsplit=1)
        for line in answer.out.splitlines()
        if line.startswith("unreadable: ") and "cannot read" not in line
    )
    assert lines["half.h5"].startswith("is truncated")
    assert lines["text.h5"] == "is not an HDF5 file, so it is not a prdsim trajectory"
    assert lines["pipe.h5"] == "is a device or a pipe, not a trajectory"
    assert lines["b.h5:"].startswith("the configuration does not match its checksum")
    assert f"cannot read {folder}/folder.h5: Is a directory" in answer.out
    assert f"cannot read {folder}/gone.h5: No such file" in answer.out
    assert names(folder) == before


def test_damaged_numbers_are_not_shown(run, folder):
    path = folder / "a.h5"
    with open_trajectory(path) as trajectory:
        place = trajectory._map["scalars/loss_sup"].offset
    content = bytearray(path.read_bytes())
    content[place + 3] ^= 1
    path.write_bytes(content)
    answer = run("list", folder)
    assert f"unreadable: the scalars in {path} are damaged" in answer.out
    assert f"{folder}: 2 runs" in answer.out


def test_a_living_run_is_running(run, folder):
    with TrajectoryWriter.open(folder / "killed.h5"):
        assert re.search(r"killed\.h5 +running +10 ", run("list", folder).out)


def test_an_old_file_is_listed(request):
    found = listed(request.path.parents[1] / "golden" / "run-v1.h5")
    assert isinstance(found, ListedRun)
    with open_trajectory(found.path) as trajectory:
        assert found.seen.last["loss_sup"] == trajectory.scalars["loss_sup"][-1]


def test_folders_that_hold_nothing_and_those_that_cannot_be_listed(run, tmp_path):
    answer = run("list")
    assert (answer.code, answer.out) == (0, ".: no runs\n")
    assert json.loads(run("list", "--json").out) == {"differing": [], "runs": []}
    assert_refused(run("list", "nowhere"), DATA, "cannot list nowhere: No such file or directory")
    (tmp_path / "a.h5").touch()
    assert_refused(run("list", "a.h5"), DATA, "cannot list a.h5: Not a directory")
