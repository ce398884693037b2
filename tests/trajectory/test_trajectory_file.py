"""What a trajectory holds when nothing goes wrong: writing, reading, resuming, extending."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from golden import synthetic_run as run
from golden.synthetic_run import create_trajectory
from support import names, same_bits

from prdsim.errors import OutputError, PrdsimError, ResumeMismatchError
from prdsim.files import posix
from prdsim.symbols import ARRAYS
from prdsim.trajectory import (
    SCALARS,
    Status,
    TrajectoryWriter,
    extend,
    markdown_table,
    open_trajectory,
    rows,
)

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def finished(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer)
    return path


def assert_holds_run(
    path, snapshot_plan=run.SNAPSHOT_STEPS, scalar_plan=run.SCALAR_STEPS, *, version=3, old_rows=0
):
    """Everything committed is the run's, bit for bit, and no checksum fails.

    The first `old_rows` rows of scalars were written in format version 1.
    """
    snapshots = [run.step_of(entry) for entry in snapshot_plan]
    scalars = [run.step_of(entry) for entry in scalar_plan]
    states = list(run.states(max(snapshots[-1], scalars[-1])))
    with open_trajectory(path) as trajectory:
        assert trajectory.format_version == version
        assert trajectory.check() == []
        assert trajectory.step.tolist() == snapshots
        assert trajectory.time.tolist() == [run.time_of(entry) for entry in snapshot_plan]
        for name in ARRAYS:
            array = getattr(trajectory, name)
            for k, step in enumerate(snapshots):
                assert np.array_equal(array[k], states[step][name])
        assert trajectory.scalars["step"].tolist() == scalars
        rows = [
            run.scalar_values(step, states[step], run.time_of(entry))
            for step, entry in zip(scalars, scalar_plan, strict=True)
        ]
        for field in SCALARS:
            if field.since > version:
                assert field.name not in trajectory.scalars
                continue
            column = trajectory.scalars[field.name]
            known = old_rows if field.since > 1 else 0
            assert np.isnan(column[:known]).all()
            assert column[known:].tolist() == [row[field.name] for row in rows[known:]]


def test_a_finished_run_reads_back_bit_for_bit(finished):
    assert_holds_run(finished)
    with open_trajectory(finished) as trajectory:
        assert trajectory.status is Status.FINISHED
        assert (trajectory.stop_step, trajectory.stop_reason) == (24, "all steps done")
        assert (trajectory.restart_step, trajectory.restart_time) == (24, 6.0)
        assert trajectory.planned_snapshots.tolist() == list(run.SNAPSHOT_STEPS)
        assert trajectory.planned_scalars.tolist() == list(run.SCALAR_STEPS)
        assert trajectory.format_version == 3
        assert not trajectory.is_being_written()


def test_attributes_initial_state_and_data_read_back(finished):
    layout = run.layout()
    with open_trajectory(finished) as trajectory:
        assert trajectory.config == {"dataset": "synthetic", "width": 6}
        assert trajectory.attributes["resolved"] == {"backend": "numpy", "device": "größer"}
        assert trajectory.attributes["comment"] == ""
        assert trajectory.attributes["rate"] == 0.5
        assert trajectory.grid == (28, 28)
        assert sorted(trajectory.initial) == sorted(ARRAYS)
        for name in ARRAYS:
            assert np.array_equal(trajectory.initial[name], layout.initial[name])
        for name in ("X", "Y"):
            assert np.array_equal(trajectory.data[name], layout.data[name])
            assert trajectory.data[name].dtype == layout.data[name].dtype
        assert dict(trajectory.chart) == {}
        with pytest.raises(KeyError):
            trajectory.data["Z"]


def test_data_may_be_left_out_and_a_chart_stored(tmp_path):
    Q = np.eye(5)[:, :2]
    layout = run.layout(data={}, chart={"Q": Q, "R": np.ones((2, 3))}, attributes={})
    create_trajectory(tmp_path / "run.h5", layout)
    with open_trajectory(tmp_path / "run.h5") as trajectory:
        assert len(trajectory.data) == 0
        assert np.array_equal(trajectory.chart["Q"], Q)
        assert (trajectory.config, trajectory.grid) == ({}, None)


def test_a_new_file_holds_no_rows_and_says_so(tmp_path):
    create_trajectory(tmp_path / "run.h5", run.layout())
    with open_trajectory(tmp_path / "run.h5") as trajectory:
        assert trajectory.check() == []
        assert (len(trajectory.U), len(trajectory.step), trajectory.restart_step) == (0, 0, -1)
        assert trajectory.U[:].shape == (0, 6, 5)
        assert trajectory.scalars["loss_sup"].shape == (0,)
        assert trajectory.status is Status.RUNNING
    assert names(tmp_path) == ["run.h5"]
    with h5py.File(tmp_path / "run.h5", locking=False) as file:  # as any program sees them
        for name in ("scalars/step", "snapshots/step", "restart/step"):
            assert (file[name][:] == -1).all()


def test_the_same_run_makes_the_same_bytes(tmp_path):
    for name in ("one.h5", "two.h5"):
        with TrajectoryWriter.create(tmp_path / name, run.layout()) as writer:
            run.continue_run(writer)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_weight_arrays_index_like_numpy(finished):
    with open_trajectory(finished) as trajectory:
        U = trajectory.U
        full = np.asarray(U)
        assert (len(U), U.shape, U.dtype, U.ndim) == (7, (7, 6, 5), np.float64, 3)
        keys = [np.s_[-1], np.s_[3], np.s_[2:5], np.s_[::-2], np.s_[:], np.s_[:, 5, :]]
        for key in [*keys, np.s_[-1, 2], np.s_[..., 0], np.s_[[0, -1], 1]]:
            assert np.array_equal(U[key], full[key])
            assert not np.shares_memory(U[key], U[key])
        assert np.array_equal(U[[0, -1]], full[[0, -1]])
        assert np.array_equal(U[full[:, 0, 0] > 0.3], full[full[:, 0, 0] > 0.3])
        assert [x.shape for x in U] == [(6, 5)] * 7
        for bad in (7, -8, (7, 0)):
            with pytest.raises(IndexError):
                U[bad]
        part = U[:, 5, :]
    assert np.array_equal(part, full[:, 5, :])  # still there when the file is closed


def test_snapshots_may_be_stored_at_half_the_precision(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout(snapshot_precision="float32")) as writer:
        run.continue_run(writer, stop=16)
        assert writer.read_restart().arrays["U"].dtype == np.float64
    with open_trajectory(path) as trajectory:
        assert trajectory.U.dtype == np.float32
        state = list(run.states(16))[16]
        assert np.array_equal(trajectory.U[-1], state["U"].astype(np.float32))
    with TrajectoryWriter.open(path) as writer:
        run.continue_run(writer)


def test_restart_states_are_exact_and_the_last_committed_one_is_read(tmp_path):
    path = tmp_path / "run.h5"
    states = list(run.states(3))
    with TrajectoryWriter.create(path, run.layout()) as writer:
        for step in range(3):
            run.write_restart(writer, step, states[step])
            writer.commit(Status.RUNNING)
        run.write_restart(writer, 3, states[3])  # never committed
    with TrajectoryWriter.open(path) as writer:
        point = writer.read_restart()
    assert (point.step, point.time) == (2, 0.5)
    assert point.scalars == {
        "step_size": 0.25,
        "previous_error": 1 / 3,
        "evaluations": 6,
        "rejected_steps": 0,
        "lambda_max": 0.2,
    }
    assert point.arrays.keys() == states[2].keys()
    assert all(np.array_equal(point.arrays[name], states[2][name]) for name in states[2])


@pytest.mark.parametrize("stop", [0, 5, 13])
def test_an_interrupted_run_continues_to_the_same_content(tmp_path, stop):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=stop)
    with open_trajectory(path) as trajectory:
        assert (trajectory.status, trajectory.stop_step) == (Status.INTERRUPTED, stop)
    with TrajectoryWriter.open(path) as writer:
        run.continue_run(writer)
    assert_holds_run(path)


def rewind(path, step):
    """Commit an older restart state, as a killed run's file has it: rows lie beyond it."""
    with TrajectoryWriter.open(path) as writer:
        run.write_restart(writer, step, list(run.states(step))[step])
        writer.commit(Status.RUNNING)


def test_rows_computed_again_are_compared_and_not_rewritten(finished, monkeypatch):
    rewind(finished, 3)
    with h5py.File(finished) as file:
        rows = [x for group in ("snapshots", "scalars") for x in file[group].values()]
        places = {x.id.get_offset() + k for x in rows for k in range(x.nbytes)}
    real, written = posix.pwrite, set()

    def recording(fd, data, offset):
        written.update(range(offset, offset + len(data)))
        real(fd, data, offset)

    monkeypatch.setattr(posix, "pwrite", recording)
    with TrajectoryWriter.open(finished) as writer:
        run.continue_run(writer)
        assert (writer.record.snapshot_rows, writer.record.scalar_rows) == (7, 13)
    assert written
    assert not written & places
    assert_holds_run(finished)


def test_a_snapshot_that_differs_in_one_bit_ends_the_resume(finished):
    state = list(run.states(4))[4]
    state["W"][1, 2] = np.nextafter(state["W"][1, 2], 1.0)
    before = finished.read_bytes()
    with TrajectoryWriter.open(finished) as writer:
        with pytest.raises(ResumeMismatchError, match=r"array W at step 4.*in 1 elements") as info:
            writer.snapshot(4, 1.0, state)
        state["W"][0, 0] = np.nextafter(state["W"][0, 0], -9.0)
        with pytest.raises(ResumeMismatchError, match="in 2 elements"):
            writer.snapshot(4, 1.0, state)
        with pytest.raises(ResumeMismatchError, match="snapshot time at step 4"):
            writer.snapshot(4, 1.5, list(run.states(4))[4])
    assert str(finished) in str(info.value)
    assert finished.read_bytes() == before


def test_a_scalar_that_differs_in_one_bit_ends_the_resume(finished):
    values = run.scalar_values(6, list(run.states(6))[6])
    with TrajectoryWriter.open(finished) as writer:
        writer.scalars(6, values)
        values["loss_aug"] = np.nextafter(values["loss_aug"], 1.0)
        with pytest.raises(ResumeMismatchError, match="scalar loss_aug at step 6"):
            writer.scalars(6, values)
        with pytest.raises(ResumeMismatchError, match=r"scalars at step 7.*reaches step 24"):
            writer.scalars(7, values)


def test_not_a_number_equals_itself_when_computed_again(tmp_path):
    values = {field.name: np.nan for field in SCALARS}
    with TrajectoryWriter.create(tmp_path / "run.h5", run.layout()) as writer:
        writer.scalars(0, values)
        writer.commit(Status.RUNNING)
        writer.scalars(0, values)
        with pytest.raises(ResumeMismatchError, match="scalar time"):
            writer.scalars(0, values | {"time": 0.0})


def test_rows_out_of_the_plan_are_the_callers_fault(tmp_path):
    state = run.initial()
    with TrajectoryWriter.create(tmp_path / "run.h5", run.layout()) as writer:
        with pytest.raises(PrdsimError, match="out of the planned order"):
            writer.snapshot(1, 0.25, state)
        writer.snapshot(0, 0.0, state)
        with pytest.raises(PrdsimError, match="out of the planned order"):
            writer.snapshot(0, 0.0, state)
        with pytest.raises(PrdsimError, match="missing or unknown"):
            writer.scalars(0, {"loss_sup": 1.0})
        with pytest.raises(PrdsimError, match=r"float64 \(6, 5\), not float32"):
            writer.restart(
                0,
                0.0,
                {name: x.astype(np.float32) for name, x in state.items()},
                dict.fromkeys(run.RESTART_SCALARS, 1.0),
            )
        with pytest.raises(PrdsimError, match="a restart state takes"):
            writer.restart(0, 0.0, {}, {})


def test_a_run_that_ends_early_writes_its_last_row_at_an_unplanned_step(tmp_path):
    path = tmp_path / "run.h5"
    states = list(run.states(40))
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=4)
        writer.snapshot(5, 1.25, states[5])
        writer.scalars(5, run.scalar_values(5, states[5]))
        run.write_restart(writer, 5, states[5])
        writer.commit(Status.FINISHED, stop_step=5, stop_reason="end_time reached")
    assert_holds_run(path, (0, 1, 2, 4, 5), (0, 2, 4, 5))
    longer = (0, 1, 2, 4, 5, 20, 40), (0, 2, 4, 5, 10, 40)
    run.extend(path, snapshot_plan=longer[0], scalar_plan=longer[1], attributes={})
    with TrajectoryWriter.open(path) as writer:
        run.continue_run(writer, *longer)
    assert_holds_run(path, *longer)


def test_extending_keeps_everything_and_makes_room(finished):
    snapshot_plan, scalar_plan = (*run.SNAPSHOT_STEPS, 32, 48), tuple(range(0, 49, 2))
    config = json.dumps({"dataset": "synthetic", "width": 6, "steps": 48})
    finished.chmod(0o640)
    with open_trajectory(finished) as watching:
        run.extend(
            finished,
            snapshot_plan=snapshot_plan,
            scalar_plan=scalar_plan,
            attributes={"config": config, "extended": 1},
        )
        assert watching.check() == []  # the replaced file stays readable
        assert watching.config["width"] == 6
        kept = {**watching.initial, **watching.chart, **watching.data}
        watching.refresh()
        assert same_bits({**watching.initial, **watching.chart, **watching.data}, kept)
        assert {"U", "X", "Y"} <= set(kept)
        assert watching.config["steps"] == 48
        assert watching.status is Status.INTERRUPTED
        assert watching.attributes["extended"] == 1
        assert watching.attributes["run_id"] == "golden"
        assert watching.planned_snapshots.tolist() == list(snapshot_plan)
    assert_holds_run(finished)
    assert names(finished.parent) == ["run.h5"]
    assert finished.stat().st_mode & 0o777 == 0o640
    with TrajectoryWriter.open(finished) as writer:
        assert writer.read_restart().step == 24
        run.continue_run(writer, snapshot_plan, scalar_plan)
    assert_holds_run(finished, snapshot_plan, scalar_plan)


def test_a_copy_that_is_damaged_on_the_way_is_not_taken(finished, monkeypatch):
    before = finished.read_bytes()

    def spoil(source, source_fd, target, fd, rows, copy=extend.copy_rows):
        copy(source, source_fd, target, fd, rows)
        posix.pwrite(fd, b"spoiled", target["snapshots/V"].offset)

    monkeypatch.setattr(extend, "copy_rows", spoil)
    with pytest.raises(OutputError, match=r"the copy of .*run\.h5 failed: snapshot 0 .* of V"):
        run.extend(
            finished, snapshot_plan=run.SNAPSHOT_STEPS, scalar_plan=run.SCALAR_STEPS, attributes={}
        )
    assert finished.read_bytes() == before
    assert names(finished.parent) == ["run.h5"]


def test_the_writer_keeps_no_rows_in_memory(tmp_path):
    """A row of scalars has 25 numbers; of those that are committed only the keys are kept."""
    rows = 20_000
    state = run.initial()
    values = run.scalar_values(0, state)
    with TrajectoryWriter.create(
        tmp_path / "run.h5", run.layout(scalar_plan=range(rows))
    ) as writer:
        tracemalloc.start()
        for step in range(rows):
            writer.scalars(step, values | {"time": float(step)})
            if step % 500 == 499:
                writer.commit(Status.RUNNING)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 10 * rows
    with TrajectoryWriter.open(tmp_path / "run.h5") as writer:
        assert writer.record.scalar_rows == rows
        writer.scalars(777, values | {"time": 777.0})  # compared with the file's
        with pytest.raises(ResumeMismatchError, match="scalar time at step 778"):
            writer.scalars(778, values | {"time": 777.0})


def test_long_attributes_are_kept(tmp_path):
    config = {"comment": "ß" * 100_000}
    layout = run.layout(attributes={"config": json.dumps(config, ensure_ascii=False)})
    create_trajectory(tmp_path / "run.h5", layout)
    with open_trajectory(tmp_path / "run.h5") as trajectory:
        assert trajectory.config == config


def test_a_reader_shows_what_was_committed_since_when_it_is_refreshed(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=4)
        with open_trajectory(path) as trajectory:
            assert trajectory.step[-1] == trajectory.scalars["step"][-1] == 4
            run.continue_run(writer)
            assert trajectory.step[-1] == trajectory.scalars["step"][-1] == 4
            trajectory.refresh()
            assert trajectory.step.tolist() == list(run.SNAPSHOT_STEPS)
            assert trajectory.scalars["step"].tolist() == list(run.SCALAR_STEPS)


def test_a_running_file_has_reached_its_last_row(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        for step, state in enumerate(run.states(2)):
            writer.snapshot(step, run.time_of(step), state)
        writer.commit(Status.RUNNING)
        with open_trajectory(path) as trajectory:
            assert (trajectory.reached_step, trajectory.stop_step) == (2, -1)
            assert trajectory.restart_step == -1


def test_extending_refuses_a_schedule_that_drops_rows(finished):
    before = finished.read_bytes()
    with pytest.raises(PrdsimError, match="plan of snapshots does not begin"):
        run.extend(finished, snapshot_plan=(0, 1, 3, 48), scalar_plan=range(49), attributes={})
    assert finished.read_bytes() == before


def test_predicted_size_is_near_the_real_one(tmp_path):
    layouts = {
        "small.h5": run.layout(),
        "long.h5": run.layout(snapshot_plan=range(2000), scalar_plan=range(20_000)),
    }
    for name, layout in layouts.items():
        create_trajectory(tmp_path / name, layout)
        size = (tmp_path / name).stat().st_size
        # Metadata is estimated: 60 datasets of 1 to 2 KiB.
        assert abs(size - layout.nbytes()) < 60_000


def test_a_file_has_its_space_from_the_start(tmp_path):
    create_trajectory(tmp_path / "run.h5", run.layout(snapshot_plan=range(2000)))
    state = (tmp_path / "run.h5").stat()
    assert state.st_blocks * 512 >= state.st_size


BAD_LAYOUTS = [
    {"snapshot_plan": (1, 2)},
    {"scalar_plan": (0, 2, 2)},
    {"precision": "float16"},
    {"shapes": {**run.SHAPES, "a": (5,)}},
    {"restart_scalars": ("time",)},
    {"restart_shapes": {"empty": (0,)}},
    {"attributes": {"format": "x"}},
    {"initial": {name: np.zeros((2, 2)) for name in ARRAYS}},
]


@pytest.mark.parametrize("changes", BAD_LAYOUTS, ids=lambda changes: next(iter(changes)))
def test_contradicting_layouts_are_refused(changes):
    with pytest.raises(PrdsimError, match="trajectory layout"):
        run.layout(**changes)


def test_xarray_opens_every_group_with_labels_while_it_is_written(tmp_path):
    path = tmp_path / "run.h5"
    with TrajectoryWriter.create(path, run.layout()) as writer:
        run.continue_run(writer, stop=5)
        with xarray.open_dataset(path, engine="h5netcdf", group="snapshots") as snapshots:
            assert snapshots.U.dims == ("step", "neuron", "input")
            assert snapshots.V.dims == ("step", "output", "neuron")
            assert snapshots.W.dims == ("step", "critic_neuron", "output")
            assert set(snapshots.U.coords) == {"step", "time"}
            assert snapshots.step.dtype == np.int64
            done = snapshots.isel(step=snapshots.step >= 0)
            assert done.step.values.tolist() == [0, 1, 2, 4]
            assert np.array_equal(done.U.sel(step=4), list(run.states(4))[4]["U"])
        with xarray.open_dataset(path, engine="h5netcdf", group="scalars") as scalars:
            assert scalars.loss_sup.dims == ("step",)
            assert set(scalars.loss_sup.coords) == {"step", "time"}
            assert float(scalars.loss_sup.sel(step=4).time) == 1.0
            assert all("units" in v.attrs and "long_name" in v.attrs for v in scalars.values())
        with xarray.open_datatree(path, engine="h5netcdf") as tree:
            assert tree["snapshots"].U.neuron.values.tolist() == list(range(6))
        with h5py.File(path) as file:  # any other reader
            assert file["snapshots/step"][:5].tolist() == [0, 1, 2, 4, -1]
        run.continue_run(writer)
    assert_holds_run(path)


def test_xarray_opens_every_group_of_a_file_recorded_by_time(tmp_path):
    path = tmp_path / "run.h5"
    plans = run.SNAPSHOT_TIMES, run.SCALAR_TIMES
    layout = run.layout(snapshot_plan=plans[0], scalar_plan=plans[1])
    with TrajectoryWriter.create(path, layout) as writer:
        run.continue_run(writer, *plans, stop=5)
        with xarray.open_dataset(path, engine="h5netcdf", group="snapshots") as snapshots:
            done = snapshots.isel(step=snapshots.step >= 0)
            assert done.step.values.tolist() == [0, 1, 2, 2]  # two rows within one step
            assert done.time.values.tolist() == [0.0, 0.1, 0.4, 0.45]
            by_time = done.swap_dims(step="time")
            assert np.array_equal(by_time.U.sel(time=0.45), list(run.states(2))[2]["U"])
        with xarray.open_dataset(path, engine="h5netcdf", group="scalars") as scalars:
            assert scalars.loss_sup.dims == ("step",)
            assert set(scalars.loss_sup.coords) == {"step", "time"}
            done = scalars.isel(step=scalars.step >= 0).swap_dims(step="time")
            assert done.time.values.tolist() == [0.0, 0.375, 0.75, 1.125]
            assert float(done.loss_sup.sel(time=0.75)) == list(run.states(3))[3]["U"].flat[2]
        with xarray.open_datatree(path, engine="h5netcdf") as tree:
            assert tree["schedule"].snapshots.values.tolist() == list(plans[0])
            assert tree["schedule"].scalars.values.tolist() == list(plans[1])
    with TrajectoryWriter.open(path) as writer:
        run.continue_run(writer, *plans)
    assert_holds_run(path, *plans)


def test_every_dataset_has_units_a_long_name_and_named_axes(finished):
    def look(name, item):
        if isinstance(item, h5py.Dataset):
            assert item.attrs["units"], name
            assert item.attrs["long_name"], name
            assert item.is_scale or all(len(axis) == 1 for axis in item.dims), name

    with h5py.File(finished) as file:
        file.visititems(look)


def test_the_documented_table_names_every_dataset(finished):
    table = markdown_table()
    with h5py.File(finished) as file:
        names = []
        file.visit(lambda n: names.append(n) if isinstance(file[n], h5py.Dataset) else None)
    carried = {f"restart/{n}" for n in (*run.RESTART_SHAPES, *run.RESTART_SCALARS)}
    for name in set(names) - carried:
        if not name.startswith("length_"):
            assert f"| /{name} |" in table


def test_importing_prdsim_does_not_import_h5py():
    code = "import sys, prdsim, prdsim.trajectory; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PLANS = {
    "trajectory-v1.h5": (run.SNAPSHOT_STEPS, run.SCALAR_STEPS),
    "trajectory-v2.h5": (run.SNAPSHOT_STEPS, run.SCALAR_STEPS),
    "trajectory-v2-times.h5": (run.SNAPSHOT_TIMES, run.SCALAR_TIMES),
    "trajectory-v3.h5": (run.SNAPSHOT_STEPS, run.SCALAR_STEPS),
    "trajectory-v3-times.h5": (run.SNAPSHOT_TIMES, run.SCALAR_TIMES),
}
golden_files = pytest.mark.parametrize("name", PLANS)


def recorded(plan):
    """The part of a plan that a run stopped at step 13 has recorded."""
    return tuple(entry for entry in plan if run.step_of(entry) <= 13)


@pytest.fixture
def golden(tmp_path, name):
    """A copy of a golden file."""
    path = tmp_path / "copy.h5"
    path.write_bytes((GOLDEN / name).read_bytes())
    return path


@golden_files
def test_a_golden_file_still_reads_and_continues(name, golden):
    plans, version = PLANS[name], int(name.removeprefix("trajectory-v")[0])
    assert_holds_run(golden, *map(recorded, plans), version=version)
    with open_trajectory(golden) as trajectory:
        assert (trajectory.status, trajectory.stop_step) == (Status.INTERRUPTED, 13)
        assert trajectory.stop_reason == "SIGTERM"
        assert trajectory.config == {"dataset": "synthetic", "width": 6}
        planned = trajectory.planned_snapshots, trajectory.planned_scalars
        assert all(array.tolist() == list(plan) for array, plan in zip(planned, plans, strict=True))
        done = trajectory.recorded_snapshots, trajectory.recorded_scalars
        for array, plan in zip(done, plans, strict=True):
            assert tuple(array.tolist()) == recorded(plan)
        kind = np.float64 if "times" in name else np.int64
        assert {array.dtype.type for array in (*planned, *done)} == {kind}
    with TrajectoryWriter.open(golden) as writer:
        run.continue_run(writer, *plans)
    assert_holds_run(golden, *plans, version=version)


@golden_files
def test_a_golden_file_is_extended_to_the_present_version(name, golden):
    """Scalars that its version did not have are NaN in its rows, and known in those after."""
    longer = tuple((*plan, type(plan[-1])(plan[-1] * 2)) for plan in PLANS[name])
    with open_trajectory(golden) as trajectory:
        before = len(trajectory.scalars["step"])
    old_rows = before if name == "trajectory-v1.h5" else 0
    run.extend(golden, snapshot_plan=longer[0], scalar_plan=longer[1], attributes={})
    assert_holds_run(golden, *map(recorded, longer), old_rows=old_rows)
    with TrajectoryWriter.open(golden) as writer:
        assert writer.read_restart().step == 13
        run.continue_run(writer, *longer)
    assert_holds_run(golden, *longer, old_rows=old_rows)
    run.extend(golden, snapshot_plan=(*longer[0], 60), scalar_plan=(*longer[1], 60), attributes={})
    assert_holds_run(golden, *longer, old_rows=old_rows)


@golden_files
def test_restart_states_of_a_golden_file_get_the_numbers_they_lack(name, golden):
    """And keep their own; both slots hold, and a later run carries them on."""
    with TrajectoryWriter.open(golden) as writer:
        before = writer.read_restart()
    carried = dict.fromkeys(run.RESTART_SCALARS[2:], 77.0)
    plans = dict(zip(("snapshot_plan", "scalar_plan"), PLANS[name], strict=True))
    run.extend(golden, **plans, attributes={}, carried=carried)
    with open_trajectory(golden) as trajectory:
        assert trajectory.check() == []
        points = [rows.read_restart_slot(trajectory._map, trajectory._fd, k) for k in (0, 1)]
    assert sorted(point.step for point in points) == [10, 13]
    for point in points:
        assert tuple(point.scalars) == run.RESTART_SCALARS
        assert (point.scalars["evaluations"] == 77.0) == (name == "trajectory-v1.h5")
    after = max(points, key=lambda point: point.step)
    assert before.scalars.items() <= after.scalars.items()
    assert all(np.array_equal(after.arrays[n], x) for n, x in before.arrays.items())


@golden_files
def test_the_rows_of_a_golden_file_are_compared_when_computed_again(name, golden):
    rewind(golden, 9)  # before the last rows
    with TrajectoryWriter.open(golden) as writer:
        run.continue_run(writer, *PLANS[name])
    version = int(name.removeprefix("trajectory-v")[0])
    assert_holds_run(golden, *PLANS[name], version=version)


@pytest.mark.parametrize("name", ["trajectory-v3.h5", "trajectory-v3-times.h5"])
def test_the_format_is_that_of_the_golden_file(name, tmp_path):
    """A file with other datasets or types needs a new format version and golden file."""

    def datasets(path):
        found = {}

        def look(name, item):
            if isinstance(item, h5py.Dataset):
                scales = [list(axis) for axis in item.dims]
                found[name] = (item.shape, item.dtype, item.attrs["units"], scales)

        with h5py.File(path) as file:
            file.visititems(look)
        return found

    layout = run.layout(snapshot_plan=PLANS[name][0], scalar_plan=PLANS[name][1])
    create_trajectory(tmp_path / "run.h5", layout)
    assert datasets(tmp_path / "run.h5") == datasets(GOLDEN / name)
