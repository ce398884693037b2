"""The table of a study with measures: those of each member's file, missing where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from support_cli import caller
from support_study import study

import prdsim
from prdsim.analysis import GROUPS, history, open_recording
from prdsim.errors import ConfigError, DamagedTrajectoryError
from prdsim.study import StudyFolder
from prdsim.study.table import groups_of, study_table
from prdsim.study.worker import work
from prdsim.trajectory import SCALARS, open_trajectory
from prdsim.vocabulary import MEASURES


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> StudyFolder:
    """Members on images, on vectors, and without data."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    np.savez(folder / "vectors.npz", X=rng.normal(size=(9, 5)), Y=rng.normal(size=(9, 2)))
    data = f"dataset=digits,{folder}/vectors.npz,{folder}/gone.npz"
    found = study(folder / "s", data, "seed=0,1")
    work(found, found.plan.members)
    return found


def test_measures_are_those_of_the_last_snapshots(made):
    groups = ["spread", "distances", "rank"]
    table = study_table(made, groups=groups)
    member = made.plan.members[0]
    row = table.rows[0]
    with open_recording(made.trajectory(member)) as recording:
        measured = history(recording, groups)
        assert {recording.step[-1], recording.scalars["step"][-1]} == {row["step"]}
    assert measured["cv_U"][0] != measured["cv_U"][-1] == row["cv_U"]
    with open_trajectory(made.trajectory(member)) as trajectory:
        assert row["distance_U_mean"] == trajectory.scalars["distance_U_mean"][-1]
    np.testing.assert_allclose(row["distance_U_mean"], measured["distance_U_mean"][-1], rtol=1e-12)
    assert row["distance_U_sd"] == measured["distance_U_sd"][-1]
    assert table.notes == ()
    scalars = ["step", *(field.name for field in SCALARS)]
    more = [name for group in groups for name in MEASURES[group] if name not in scalars]
    assert list(table.columns) == [
        "member", "dataset", "seed", "state", *scalars, *more, "reason"
    ]  # fmt: skip
    assert study_table(made, groups=iter(groups)).to_csv() == table.to_csv()


def test_members_without_a_measure_lack_it_and_a_note_tells_why(made):
    table = study_table(made, groups="order")
    found = table.columns["morans_i_U"]
    assert np.isfinite(found).tolist() == [True, True, False, False, False, False]
    (note,) = table.notes
    assert note.startswith("order left out of 2 of the members, such as ")
    assert "its inputs are not images" in note
    assert set(study_table(made, groups="rank").columns["state"]) == {"finished", "failed"}


def test_an_unknown_group_is_refused(made):
    with pytest.raises(ConfigError, match="ranks: no such group of measures; did you mean rank"):
        study_table(made, groups=["ranks"])


def test_a_damaged_snapshot_is_an_error(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1")
    work(folder, folder.plan.members)
    path = folder.trajectory(folder.plan.members[1])
    with open_trajectory(path) as trajectory:
        last = trajectory.U[-1].tobytes()
    content = path.read_bytes()
    assert content.count(last) >= 1
    path.write_bytes(content.replace(last, bytes(len(last))))
    with pytest.raises(DamagedTrajectoryError, match=path.name):
        study_table(folder, groups="rank")


def test_names_belong_to_their_group():
    assert groups_of("loss_sup") == groups_of("distance_U_mean") == groups_of("time") == ()
    for group in GROUPS.values():
        assert groups_of(group.measures[-1].name) in ((group.name,), ())
    assert groups_of("distance_U_sd") == ("distances",)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("morans_i", "morans_i: no such measure; did you mean morans_i_U?"),
        ("los_sup", "did you mean loss_sup?"),
        ("xyz", "xyz: no such measure; prdsim analyze --help lists groups of measures"),
        ("rank", "rank is a group of measures; choose one: effective_rank, participation_ratio"),
    ],
)
def test_names_that_are_none_are_refused(name, words):
    with pytest.raises(ConfigError) as error:
        groups_of(name)
    assert words in str(error.value)


def test_the_command_adds_groups_and_tells_what_it_left_out(made, monkeypatch, capsys):
    run = caller(monkeypatch, capsys)
    told = run("sweep", "table", made.path, "--measures", "order", "--measures=rank", "--json")
    assert '"effective_rank": ' in told.out
    assert '"members_notes": [\n    "order left out of 2' in told.out
    assert (told.code, told.err) == (0, "")
    told = run("sweep", "table", made.path, "--measures", "order", "--format", "csv")
    assert told.out == study_table(made, groups="order").to_csv()
    assert told.err.startswith("order left out of 2 of the members")


def test_a_frame_has_the_columns_of_the_groups(made):
    pytest.importorskip("pandas")
    frame = prdsim.open_study(made.path).frame(groups=["spread"])
    table = study_table(made, groups=["spread"])
    assert list(frame.columns) == list(table.columns)[1:]
    np.testing.assert_array_equal(frame["gini_U"], table.columns["gini_U"])
