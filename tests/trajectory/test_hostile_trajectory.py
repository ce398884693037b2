"""Trajectory files that were made to deceive: one clear error, at once, and nothing else read."""

from __future__ import annotations

import os
import time

import h5py
import numpy as np
import pytest
from golden import synthetic_run as run
from trajectory import forge

from prdsim.errors import DamagedTrajectoryError, NotATrajectoryError
from prdsim.trajectory import TrajectoryWriter, open_trajectory
from prdsim.trajectory.structure import Extent


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a finished run."""
    path = tmp_path_factory.mktemp("run") / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, content):
    path = tmp_path / "run.h5"
    path.write_bytes(content)
    return path


def assert_damaged(path, match):
    """Reader and writer refuse it with the same words, and the file is not touched."""
    before = path.read_bytes()
    for use in (open_trajectory, TrajectoryWriter.open):
        with pytest.raises(DamagedTrajectoryError, match=match) as info:
            use(path)
        assert str(info.value).startswith(f"{path} is damaged: ")
        assert str(info.value).endswith("; restore it from a copy")
        assert info.value.exit_code == 3
    assert path.read_bytes() == before


def test_forging_nothing_leaves_a_good_file(path):
    forge.dataset(path, "initial/V")
    forge.attribute(path, "note", "mine")
    forge.record(path, stop_reason="because")
    forge.rows(path, "scalars/loss_sup", 7.0)
    forge.rows(path, "snapshots/time", np.arange(7.0))
    forge.restart(path, step=24, time=6.0)
    with open_trajectory(path) as trajectory:
        problems = trajectory.check()
        assert (trajectory.scalars["loss_sup"] == 7).all()
        assert trajectory.stop_reason == "because"
    # whose own checksums hold the time
    assert all("snapshot" in problem.text for problem in problems)


# -- links and storage -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["initial/U", "snapshots/V", "restart", "mine"])
def test_links_to_elsewhere_are_not_followed(tmp_path, path, name):
    (tmp_path / "secret.h5").symlink_to("/dev/zero")
    for link in (h5py.SoftLink("/data/X"), h5py.ExternalLink("secret.h5", "/U")):
        forge.link(path, name, link)
        assert_damaged(path, f"/{name} is a link to elsewhere, not a dataset")


def test_hard_links_to_another_dataset_must_fit_like_any_other(path):
    forge.link(path, "initial/U", "initial/V")
    assert_damaged(path, r"/initial/V has the shape \(3, 6\), which does not fit the others")


@pytest.mark.parametrize("name", ["data/X", "scalars/loss_sup", "mine"])
def test_external_storage_is_never_opened(tmp_path, path, name):
    os.mkfifo(tmp_path / "pipe")  # whoever opened it would wait forever
    forge.structure(path, lambda file: file.__delitem__(name) if name in file else None)
    forge.dataset(
        path, name, None, shape=(2, 8), dtype="f8", external=[(tmp_path / "pipe", 0, 128)]
    )
    assert_damaged(path, f"/{name} takes its data from other files")


@pytest.mark.parametrize("name", ["data/X", "commit/record", "mine"])
def test_virtual_datasets_are_never_opened(tmp_path, path, name):
    os.mkfifo(tmp_path / "pipe.h5")

    def make(file):
        if name in file:
            del file[name]
        layout = h5py.VirtualLayout(shape=(4, 5), dtype="f8", maxshape=(None, 5))
        layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(
            tmp_path / "pipe.h5", "X", shape=(4, 5), maxshape=(None, 5)
        )[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset(name, layout)

    forge.structure(path, make)
    assert_damaged(path, f"/{name} takes its data from other files")


@pytest.mark.parametrize(
    ("creation", "words"),
    [
        ({"chunks": True}, "is not stored in one piece"),
        ({"compression": "gzip"}, "is not stored in one piece"),
        ({"dtype": ">f8"}, "holds numbers of another machine"),
        ({"dtype": "f4"}, "holds float32, which does not fit the others"),
        ({"dtype": "f2"}, "holds float16, which does not fit the others"),
        ({"dtype": "i8"}, "holds int64, which does not fit the others"),
        ({"data": np.ones((3, 6), "c16")}, "does not hold numbers"),
        ({"data": np.full((3, 6), b"x")}, "does not hold numbers"),
        ({"data": "text"}, "does not hold numbers"),
        ({"data": 1.0}, "has no data"),
        ({"data": h5py.Empty("f8")}, "has no data"),
        ({"data": np.empty((0, 6))}, "has no data"),
        ({"data": np.ones((3, 7))}, r"has the shape \(3, 7\), which does not fit the others"),
        ({"data": np.ones(18)}, r"has the shape \(18,\), which does not fit the others"),
    ],
    ids=str,
)
def test_datasets_are_plain_arrays_of_the_declared_kind(path, creation, words):
    forge.dataset(path, "initial/V", **creation)
    assert_damaged(path, f"/initial/V {words}|/snapshots/V {words}")


def test_enormous_shapes_are_outside_the_file(path):
    def make(file):
        del file["data/X"]
        space = h5py.h5s.create_simple((2**31, 2**31))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        kind = h5py.h5t.NATIVE_INT8
        h5py.h5d.create(file.id, b"data/X", kind, space, plist)

    forge.structure(path, make)
    assert_damaged(path, "/data/X has no data")


def test_sizes_do_not_overflow():
    extent = Extent(0, (2**62, 2**62, 2), np.dtype("f8"), None)
    assert (extent.nbytes, extent.row_bytes) == (2**128, 2**66)


def test_circles_and_crowds_of_groups_are_not_walked(path):
    def circle(file):
        file["mine/self"] = file.create_group("mine")
        file["snapshots/root"] = file["/"]

    forge.structure(path, circle)
    with open_trajectory(path) as trajectory:
        assert trajectory.check() == []

    def crowd(file):
        for number in range(5000):
            file["data"].create_group(str(number))

    forge.structure(path, crowd)
    begun = time.monotonic()
    assert_damaged(path, "/data/ has 500. members, more than any trajectory")
    assert time.monotonic() - begun < 2


def test_a_pipe_that_takes_the_files_name_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "run.h5")
    with pytest.raises(NotATrajectoryError, match="is a device or a pipe"):
        open_trajectory(tmp_path / "run.h5")


# -- attributes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("config", 5, "'config' is not text"),
        ("config", [1, 2], "'config' is not text"),
        ("run_id", 1.5, "'run_id' is not text"),
        ("dataset", np.bytes_(b"\xff\xfe"), "'dataset' is not Unicode text"),
        ("grid", "28", "'grid' is not a pair of positive numbers"),
        ("grid", [28], "'grid' is not a pair of positive numbers"),
        ("grid", [0, -5], "'grid' is not a pair of positive numbers"),
        ("grid", [2.0, 3.0], "'grid' is not a pair of positive numbers"),
        ("config", "[1]", "attribute 'config' is not a JSON object"),
        ("resolved", "{" * 1000, "attribute 'resolved' is not a JSON object"),
        ("versions", '{"a": ' + "9" * 5000 + "}", "attribute 'versions' is not a JSON object"),
        ("format_version", 2.5, "its format_version is 2.5"),
        ("format_version", -1, "its format_version is -1"),
        ("format_version", 2**40, "its format_version|has format version"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_attributes_of_the_wrong_kind(path, name, value, words):
    forge.attribute(path, name, value)
    with pytest.raises((DamagedTrajectoryError, NotATrajectoryError), match=words):
        open_trajectory(path)


def test_deeply_nested_attributes_do_not_exhaust_the_stack(path):
    deep = '{"a":' + "[" * 20_000 + "]" * 20_000 + "}"  # an attribute has at most 64 KB
    forge.attribute(path, "config", deep)
    with pytest.raises(DamagedTrajectoryError, match="'config' is not a JSON object"):
        open_trajectory(path)


def test_attributes_of_other_kinds_are_not_read(path):
    forge.attribute(path, "mine", np.zeros(5000))
    forge.attribute(path, "yours", np.array(["a", "b"], dtype=h5py.string_dtype()))
    forge.attribute(path, "theirs", h5py.Empty("f8"))
    with open_trajectory(path) as trajectory:
        assert not {"mine", "yours", "theirs"} & set(trajectory.attributes)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("scalars", "step_size step_size", "name a dataset twice"),
        ("scalars", "step", "name a dataset twice"),
        ("scalars", "../data/X", "it lacks /restart/../data/X"),
        ("scalars", "velocity_U", "name a dataset twice"),
        ("arrays", "U V W a step_size", "name a dataset twice"),
        ("arrays", "lambda_max", "name a dataset twice"),
    ],
)
def test_what_a_restart_state_is_said_to_hold(path, name, value, words):
    forge.attribute(path, name, value, of="restart")
    assert_damaged(path, words)


def test_restart_states_have_the_shapes_of_their_kind(path, content):
    for name, data, words in (
        ("step_size", np.ones((2, 1)), "/restart/step_size is not one number a slot"),
        ("step_size", np.ones(1), "/restart/step_size is not one number a slot"),
        ("step_size", np.ones(2, "f4"), "/restart/step_size is not one number a slot"),
        ("velocity_U", np.ones((3, 6, 5)), "/restart/velocity_U is not an array of the run a slot"),
        ("velocity_U", np.ones((1, 6, 5)), "/restart/velocity_U is not an array of the run a slot"),
        ("velocity_U", np.ones((2, 6, 5), "f4"), "/restart/velocity_U is not an array of the run"),
        ("velocity_U", np.ones(2), "/restart/velocity_U is not an array of the run a slot"),
    ):
        path.write_bytes(content)
        forge.dataset(path, f"restart/{name}", data)
        assert_damaged(path, words)


@pytest.mark.parametrize("name", ["data/X", "scalars/time", "schedule/scalars", "restart/time"])
def test_missing_datasets(path, name):
    forge.structure(path, lambda file: file.__delitem__(name))
    assert_damaged(path, f"it lacks /{name}|it lacks one of /data/X and /data/Y")


@pytest.mark.parametrize("first", [[1, 2], [0, 0], [2, 1]], ids=str)
def test_plans_ascend_from_the_start(path, first):
    with open_trajectory(path) as trajectory:
        plan = trajectory.planned_scalars
    plan[:2] = first
    forge.dataset(path, "schedule/scalars", plan)
    with (
        open_trajectory(path) as trajectory,
        pytest.raises(DamagedTrajectoryError, match="/schedule/scalars does not ascend from 0"),
    ):
        trajectory.planned_scalars  # noqa: B018


# -- the commit record -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 511), (1, 512), (3, 512)], ids=str)
def test_commit_records_have_their_size(path, shape):
    forge.dataset(path, "commit/record", np.zeros(shape, np.uint64))
    assert_damaged(path, "/commit/record has the shape")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scalar_rows": 14}, "its commit record counts more rows than it has"),
        ({"snapshot_rows": 2**63}, "its commit record counts more rows than it has"),
        ({"restart_slot": 2}, "its commit record holds restart_slot = 2"),
        ({"restart_slot": -2}, "its commit record holds restart_slot = -2"),
        ({"restart_step": -1}, "its commit record holds restart_step, restart_time = -1, 6.0"),
        ({"restart_time": np.nan}, "holds restart_step, restart_time = 24, nan"),
        ({"restart_time": np.inf}, "holds restart_step, restart_time = 24, inf"),
        ({"stop_step": -2}, "its commit record holds stop_step = -2"),
        ({"sequence": 2**64 - 2}, "its commit record holds sequence = 18446744073709551614"),
    ],
    ids=str,
)
def test_numbers_that_no_commit_record_holds(path, changes, words):
    forge.record(path, **changes)
    assert_damaged(path, words)
