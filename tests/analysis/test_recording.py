"""What analysis reads: runs in any state but damaged, arrays that fit, one snapshot at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support_cli import Run, caller
from support_runs import (
    KEYS,
    arrays_of,
    damage,
    make_diverged,
    make_interrupted,
    make_killed,
    make_run,
)

from prdsim.analysis import GROUPS, history, neuron_table, open_recording, recording_of
from prdsim.config import RunConfig
from prdsim.errors import (
    ConfigError,
    DamagedTrajectoryError,
    NotATrajectoryError,
    ResumeMismatchError,
    TrajectoryError,
)
from prdsim.trajectory import TrajectoryWriter, open_trajectory


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("finished") / "run.h5", diffusion=True)


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    path = tmp_path / "run.h5"
    path.write_bytes(finished.read_bytes())
    return path


@pytest.fixture
def prdsim_command(monkeypatch, capsys, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


# -- one meaning, whatever it is read from ---------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
def test_a_file_and_its_arrays_give_the_same_history(finished, group):
    with open_trajectory(finished) as trajectory:
        config = RunConfig(**trajectory.config)
        from_trajectory = history(trajectory, [group])
    with open_recording(finished) as recording:
        from_file = history(recording, [group])
    from_arrays = history(recording_of(**arrays_of(finished), config=config), [group])
    for other in (from_file, from_arrays):
        assert list(other.values) == list(from_trajectory.values)
        assert other.time.tobytes() == from_trajectory.time.tobytes()
        for name, values in from_trajectory.values.items():
            assert other[name].tobytes() == values.tobytes(), name


def test_a_recording_knows_its_run(finished):
    with open_recording(finished) as recording:
        assert recording_of(recording) is recording
        assert (recording.name, recording.label) == ("run", "with diffusion")
        assert (recording.status, recording.complete) == ("finished at step 20", True)
        assert recording.setting == "digits, n = 10, m = 7, $d_{in}$ = 64"
        assert recording.pixels == (8, 8)
        assert [now.step for now in recording] == [0, 5, 10, 15, 20]
        assert recording.at(-1).step == 20
        assert recording.nearest(0.6) == 2
        assert not recording.at(0).change.any()


# -- arrays ----------------------------------------------------------------------------------------

K, m, d_in, d_out, n, m_c = 3, 4, 6, 2, 5, 3


def arrays(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Arrays that belong together, but for those whose shapes are given."""
    rng = np.random.default_rng(0)
    right = {"U": (K, m, d_in), "V": (K, d_out, m), "W": (K, m_c, d_out), "a": (K, m_c)}
    right |= {"X": (d_in, n), "Y": (d_out, n)}
    return {name: rng.standard_normal(shape) for name, shape in {**right, **shapes}.items()}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"U": (m, d_in)}, "U has shape .*4, 6"),
        ({"U": (0, m, d_in)}, "U has shape .* none of them 0"),
        ({"V": (K, d_out, m + 1)}, "V has shape .* with m = 4"),
        ({"V": (K - 1, d_out, m)}, "V has shape"),
        ({"W": (K, m_c)}, "W has shape"),
        ({"W": (K, m_c, d_out + 1)}, "W has shape .* with d_out = 2"),
        ({"a": (K + 1, m_c)}, "a has shape"),
        ({"a": (K, m_c + 1)}, "a has shape .* with m_c = 3"),
        ({"X": (d_in + 1, n)}, "X has shape .* with d_in = 6"),
        ({"X": (n,)}, r"X has shape \(5,\); it must be \(d_in, n\)"),
        ({"Y": (d_out + 1, n)}, "Y has shape .* with d_out = 2"),
        ({"Y": (d_out, n + 1)}, "Y has shape .* with n = 5"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(shapes, words):
    with pytest.raises(ConfigError, match=words):
        recording_of(**arrays(**shapes))


def test_times_grid_and_kind_of_numbers_must_fit_too():
    given = arrays()
    with pytest.raises(ConfigError, match=r"time has shape \(2,\), but U holds 3 snapshots"):
        recording_of(**given, time=[0, 1])
    with pytest.raises(ConfigError, match="a grid of 2 x 4 does not hold 6 inputs"):
        recording_of(**given, grid=(2, 4))
    with pytest.raises(ConfigError, match=r"arrays U \(K, m, d_in\) and V"):
        recording_of(given["U"])
    with pytest.raises(ConfigError, match=r"U .*complex128"):
        recording_of(given["U"] + 0j, given["V"])


def test_what_is_missing_is_said_and_the_rest_is_measured():
    given = arrays()
    bare = recording_of(given["U"], given["V"])
    found = history(bare)
    assert set(found.left_out) == {"order", "activity", "forces", "synchrony"}
    assert "declares no grid" in found.left_out["order"]
    assert "give X and Y" in found.left_out["activity"]
    assert "needs W and a" in found.left_out["forces"]
    for group in found.left_out:
        with pytest.raises(ConfigError):
            history(bare, [group])
    assert "reaction_U" not in neuron_table(bare).columns
    assert "morans_i" not in neuron_table(bare).columns
    assert bare.time.tolist() == [0, 1, 2]
    assert bare.label == bare.name == "arrays"


# -- states of a file ------------------------------------------------------------------------------


def status_of(path: Path) -> tuple[str, bool, list[int]]:
    with open_recording(path) as recording:
        assert np.isfinite(history(recording)["distance_U_max"]).all()
        return recording.status, recording.complete, recording.step.tolist()


def test_an_unfinished_run_is_analyzed_and_says_what_became_of_it(tmp_path):
    tail = "step 10 of 20", False, [0, 5, 10]
    interrupted = status_of(make_interrupted(tmp_path / "a.h5"))
    assert interrupted == ("interrupted at " + tail[0], *tail[1:])
    path = make_killed(tmp_path / "b.h5")
    assert status_of(path) == ("killed: shown up to " + tail[0], *tail[1:])
    with TrajectoryWriter.open(path):
        assert status_of(path) == ("being written: shown up to " + tail[0], *tail[1:])
    first = make_interrupted(tmp_path / "c.h5", step=1)
    assert status_of(first) == ("interrupted at step 1 of 20", False, [0])


def test_a_diverged_run_is_shown_up_to_its_last_good_snapshot(tmp_path):
    status, complete, steps = status_of(make_diverged(tmp_path / "a.h5"))
    assert status.startswith("diverged at step ")
    assert status.endswith(" of 20: shown up to the last good snapshot")
    assert not complete
    assert len(steps) >= 2
    assert steps == list(range(len(steps)))


def test_forces_that_overflow_before_a_run_diverges_are_no_error(tmp_path):
    with open_recording(make_diverged(tmp_path / "a.h5", step_size=1e60)) as recording:
        found = history(recording)
    assert found["distance_U_max"][-1] > 1e50
    assert found["reaction_U_max"][-1] == np.inf
    assert found.table("").rows[-1]["reaction_U_max"] is None


@pytest.mark.parametrize("command", ["analyze", "plot", "compare"])
def test_a_run_without_a_snapshot_is_an_error(tmp_path, prdsim_command, command):
    path = make_killed(tmp_path / "a.h5", step=-1)
    with (
        pytest.raises(TrajectoryError, match=r"no snapshot yet \(status: killed\)"),
        open_recording(path),
    ):
        pass
    rest = {"plot": ["distances"], "compare": [path]}.get(command, [])
    answer = prdsim_command(command, path, *rest)
    assert (answer.code, answer.out) == (3, "")
    assert "holds no snapshot yet" in answer.err


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["U", "V", "W", "a", "X", "scalars"])
def test_a_damaged_file_is_refused_by_every_command(copy, prdsim_command, tmp_path, part):
    damage(copy, part)
    with pytest.raises(DamagedTrajectoryError, match="nothing was analyzed"), open_recording(copy):
        pass
    for words in (
        ["analyze", copy, "-o", "table.csv"],
        ["plot", copy, "distances", "filters"],
        ["compare", copy, copy, "-o", "table.csv"],
    ):
        answer = prdsim_command(*words)
        assert (answer.code, answer.out) == (3, "")
        assert f"{copy} is damaged: " in answer.err
        assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


def test_several_damages_are_counted_and_a_file_of_another_program_is_told(copy, tmp_path):
    for part in ("U", "V", "scalars"):
        damage(copy, part)
    (tmp_path / "a.h5").write_text("hello")
    for path, error, words in (
        (copy, DamagedTrajectoryError, r"the scalars .*and 2 more"),
        (tmp_path / "a.h5", NotATrajectoryError, r"a\.h5"),
    ):
        with pytest.raises(error, match=words), open_recording(path):
            pass


def test_samples_that_were_not_stored_are_loaded_again(tmp_path, monkeypatch):
    """From their source, if it still holds the same."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((10, 6)), rng.standard_normal((10, 2))
    np.savez("own.npz", X=X, Y=Y)
    path = make_run(tmp_path / "a.h5", dataset="own.npz", store_data=False)
    with open_recording(path) as recording:
        assert recording.samples[0].shape == (6, 10)
        assert recording.grid is None
    np.savez("own.npz", X=X + 1, Y=Y)
    with open_recording(path) as recording:
        with pytest.raises(ResumeMismatchError, match="made from data other than"):
            _ = recording.samples
        found = history(recording)
        assert {"activity", "forces"} <= set(found.left_out)
        assert "made from data other than" in found.left_out["activity"]


# -- streaming and precision -----------------------------------------------------------------------


class Counted:
    """Snapshots that note which parts are read, and refuse to be read whole."""

    def __init__(self, array: np.ndarray, reads: list[object]) -> None:
        self.array, self.shape, self._reads = array, array.shape, reads

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: object) -> np.ndarray:
        assert isinstance(key, int | np.integer)
        self._reads.append(int(key))
        return self.array[key]


def test_a_history_reads_snapshots_one_by_one(finished):
    reads: dict[str, list[object]] = {name: [] for name in "UVWa"}
    with open_recording(finished) as recording:
        held = {name: Counted(np.asarray(getattr(recording, name)), reads[name]) for name in reads}
        counted = type(recording)(
            **{
                **{f: getattr(recording, f) for f in ("name", "step", "time", "grid", "config")},
                **held,
                "load_samples": recording.load_samples,
            }
        )
        history(counted, GROUPS)
    assert reads["U"] == reads["V"] == [0, 0, 1, 2, 3, 4]  # the initial one is kept
    assert reads["W"] == reads["a"] == [0, 1, 2, 3, 4]


def test_float32_snapshots_are_measured_in_float64(tmp_path):
    path = make_run(tmp_path / "a.h5", snapshot_precision="float32")
    with open_recording(path) as recording:
        assert recording.U.dtype == np.float32
        now = recording.at(-1)
        assert {a.dtype for a in (now.U, now.V, now.U_0, now.V_0, now.change)} == {np.dtype(float)}
        exact = np.linalg.norm(np.float64(recording.U[-1]) - np.float64(recording.U[0]), axis=1)
        assert history(recording, ["distances"])["distance_U_mean"][-1] == exact.mean()
    assert KEYS["steps"] == now.step
