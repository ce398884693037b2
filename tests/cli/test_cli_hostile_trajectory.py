"""Forged trajectories on the command line: one error, the right exit code, and no byte changed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import names
from support_cli import assert_refused
from support_runs import make_killed, make_run
from trajectory import forge

from prdsim.config import RunConfig, config_sha256

USAGE, DATA = 2, 3
COMMANDS = {
    "resume": ["resume", "run.h5", "--steps", "30"],
    "inspect": ["inspect", "run.h5"],
    "analyze": ["analyze", "run.h5"],
    "converge": ["converge", "run.h5"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished and a killed run; both step by bs23, whose restart states hold velocities."""
    folder = tmp_path_factory.mktemp("runs")
    keys = {"integrator": "bs23", "diffusion": True, "restart_seconds": 0.0}
    make_run(folder / "finished.h5", **keys)
    make_killed(folder / "killed.h5", step=12, **keys)
    return folder


@pytest.fixture
def path(made, tmp_path):
    return Path(shutil.copy(made / "finished.h5", tmp_path / "run.h5"))


def attributes(path: Path) -> dict[str, str]:
    with h5py.File(path, "r", locking=False) as file:
        return {
            name: np.asarray(value).item().decode()
            for name, value in file.attrs.items()
            if np.asarray(value).dtype.kind == "S"
        }


def resolved(**changes: object):
    def change(path: Path) -> None:
        values = {**json.loads(attributes(path)["resolved"]), **changes}
        kept = {name: value for name, value in values.items() if value != "left out"}
        forge.attribute(path, "resolved", json.dumps(kept))

    return change


def config(**changes: object):
    def change(path: Path) -> None:
        values = {**json.loads(attributes(path)["config"]), **changes}
        forge.attribute(path, "config", json.dumps(values))
        forge.attribute(path, "config_sha256", config_sha256(values))

    return change


FORGED = {
    "threads of 10^9": (resolved(threads=10**9), "'resolved', threads: ", "1000000000"),
    "threads of text": (resolved(threads="1"), "'resolved', threads: ", "'1'"),
    "no chart": (resolved(chart="left out"), "'resolved', chart: Field required"),
    "unknown chart": (resolved(chart="weights"), "'resolved', chart: ", "'weights'"),
    "another chart": (resolved(chart="range"), "its restart states are not in the range chart"),
    "step size 0": (resolved(step_size=0.0), "'resolved', step_size: ", "0.0"),
    "step size infinite": (resolved(step_size=float("inf")), "'resolved' is not a JSON object"),
    "ramp of 10^30": (resolved(ramp=10**30), "'resolved', ramp: "),
    "unknown field": (resolved(more=1), "'resolved', more: "),
    "config threads": (config(threads=10**9), "no run has its configuration: threads", "4096"),
    "config steps": (config(steps=10**30), "no run has its configuration: steps: must be at most"),
    "config critic steps": (config(critic_steps=10**9), "critic_steps: must be at most 10000"),
    "config width": (config(width=7000), "it has 7 neurons and 5 of the critic, not those of its"),
    "config precision": (config(precision="float32"), "its arrays are float64, not float32"),
    "config unknown key": (config(novel=1), "novel: no such configuration key"),
    "config schedule": (config(scalars="every:\x1b"), "no run has its configuration: scalars: "),
    "grid": (lambda path: forge.attribute(path, "grid", [5, 5]), "its grid is (5, 5), but its"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_attributes_that_no_run_writes(run, tmp_path, path, case):
    change, *words = FORGED[case]
    change(path)
    content = path.read_bytes()
    begun = time.monotonic()
    for arguments in COMMANDS.values():
        assert_refused(run(*arguments), DATA, "run.h5 is damaged: ", *words)
        assert path.read_bytes() == content
        assert names(tmp_path) == ["run.h5"]
    assert time.monotonic() - begun < 5


def test_velocities_that_a_resume_needs(run, path):
    with h5py.File(path, "r", locking=False) as file:
        arrays = file["restart"].attrs["arrays"].decode().split()
    assert "velocity_W" in arrays
    forge.attribute(path, "arrays", " ".join(arrays[:-2]), of="restart")
    forge.structure(path, lambda file: [file.__delitem__(f"restart/{n}") for n in arrays[-2:]])
    content = path.read_bytes()
    answer = run("resume", "run.h5", "--steps", "30")
    assert_refused(answer, DATA, "is damaged: its restart states lack velocity_W")
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["V", "velocity_U", "velocity_a"])
def test_shapes_of_restart_states(run, path, name):
    with h5py.File(path, "r", locking=False) as file:
        shape = file[f"restart/{name}"].shape
    forge.dataset(path, f"restart/{name}", np.ones((*shape[:-1], shape[-1] + 1)))
    content = path.read_bytes()
    answer = run("resume", "run.h5", "--steps", "30")
    assert_refused(answer, DATA, f"is damaged: /restart/{name} has the shape", "not fit the others")
    assert path.read_bytes() == content


def test_an_initial_state_with_which_no_run_begins(run, tmp_path, path):
    forge.dataset(path, "initial/U", np.full((7, 64), np.nan))
    content = path.read_bytes()
    for command in ("resume", "converge"):
        answer = run(*COMMANDS[command])
        assert_refused(answer, DATA, "run.h5 is damaged: its initial state is not finite")
        assert path.read_bytes() == content
        assert names(tmp_path) == ["run.h5"]


RECORDS = {
    "too few scalars": ({"scalar_rows": 1}, "its commit record counts 1 scalars, fewer than"),
    "too few snapshots": ({"snapshot_rows": 1}, "its commit record counts 1 snapshots, fewer"),
    "too late a restart": ({"restart_step": 10**6}, "counts 3 snapshots, fewer than were recorded"),
}


@pytest.mark.parametrize("longer", [[], ["--steps", "30"]], ids=["as planned", "longer"])
@pytest.mark.parametrize("case", RECORDS)
def test_records_whose_rows_do_not_belong_to_the_restart_state(run, tmp_path, made, case, longer):
    path = Path(shutil.copy(made / "killed.h5", tmp_path / "run.h5"))
    changes, words = RECORDS[case]
    forge_rows(path, **changes)
    content = path.read_bytes()
    answer = run("resume", "run.h5", *longer)
    assert_refused(answer, DATA, "run.h5 is damaged: ", words, "restore it from a copy")
    assert path.read_bytes() == content


def forge_rows(path: Path, **changes: int) -> None:
    """Change the numbers of rows, with the checksum of those that are left."""
    from prdsim.trajectory.container import read_map
    from prdsim.trajectory.rows import crc_of_rows

    with path.open("rb") as file:
        filemap = read_map(path, file.fileno())
        for group in ("scalars", "snapshots"):
            count = changes.get(f"{group.rstrip('s')}_rows")
            if count is not None:
                changes[f"{group}_crc"] = crc_of_rows(filemap, file.fileno(), group, count)
    forge.record(path, **changes)


def test_a_backend_that_does_not_exist_changes_nothing(run, tmp_path, path):
    resolved(backend="fortran")(path)
    content = path.read_bytes()
    for command in ("resume", "converge"):
        answer = run(*COMMANDS[command])
        assert_refused(answer, USAGE, "fortran", "no such backend")
        assert path.read_bytes() == content
        assert names(tmp_path) == ["run.h5"]


def test_what_was_forged_is_otherwise_whole(run, path):
    """The changes above are seen for what they are: none of them breaks a checksum."""
    config(seed=5)(path)
    resolved(device="cpu")(path)
    assert json.loads(run("inspect", "run.h5", "--json", "--check").out)["problems"] == []
    assert RunConfig(threads=4096).threads == 4096
