"""Members of a study: their states, whoever works on them, and what stops nothing else."""

from __future__ import annotations

import json
import os
import signal

import pytest
from support_runs import Killed, kill_at
from support_study import study

import prdsim
from prdsim.config import RunConfig
from prdsim.errors import ConfigError, StudyError
from prdsim.files import lock
from prdsim.study import Plan, State, StudyFolder
from prdsim.study.table import look, study_table
from prdsim.study.worker import chosen, work


def states(folder: StudyFolder) -> list[str]:
    return [str(standing.state) for standing in look(folder).values()]


def test_members_are_run_once_and_their_table_follows_from_the_files(tmp_path):
    folder = study(tmp_path / "s", "seed=0:2", "diffusion=true,false")
    assert work(folder, folder.plan.members).members == 4
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "s/members").iterdir()}
    assert len(files) == 4
    assert work(folder, folder.plan.members).members == 0  # nothing is left
    assert {path: path.stat().st_mtime_ns for path in files} == files
    rows = study_table(folder).rows
    assert [(row["seed"], row["diffusion"]) for row in rows] == [
        (0, True), (0, False), (1, True), (1, False),
    ]  # fmt: skip
    with prdsim.open_trajectory(folder.trajectory(folder.plan.members[2])) as trajectory:
        assert rows[2]["loss_sup"] == trajectory.scalars["loss_sup"][-1]
        assert rows[2]["step"] == 4


def test_shares_are_the_whole_study_without_overlap(tmp_path):
    folder = study(tmp_path / "s", "seed=0:7")
    shares = [chosen(folder, f"{k}/3") for k in (1, 2, 3)]
    names = [member.name for share in shares for member in share]
    assert sorted(names) == sorted(member.name for member in folder.plan.members)
    assert [len(share) for share in shares] == [3, 2, 2]
    for wrong in ("0/3", "4/3", "a/b", "1/0", "-1/3"):
        with pytest.raises(ConfigError, match="must be K/N with K from 1 to N, or a name"):
            chosen(folder, wrong)
    with pytest.raises(ConfigError, match="the study has no such member"):
        chosen(folder, "0123456789ab")


def test_failures_stop_nothing_else_and_keep_their_reasons(tmp_path):
    vary, settings = (
        ("dataset=digits,gone.npz", "step_size=0.05,1e200"),
        ("normalize=none", "seed=2"),
    )
    folder = study(tmp_path / "s", *vary, settings=settings)
    work(folder, folder.plan.members)
    assert states(folder) == ["finished", "diverged", "failed", "failed"]
    reasons = [standing.reason for standing in look(folder).values()]
    assert "gone.npz" in reasons[2]
    assert reasons[1]
    assert work(folder, folder.plan.members).members == 0  # failures are left alone
    folder.forget_failure(folder.plan.members[2])
    assert states(folder)[2] == "planned"


def test_a_member_without_memory_is_a_failure_that_says_so(tmp_path):
    folder = study(tmp_path / "s", "width=3,2000000000")
    work(folder, folder.plan.members)
    assert states(folder) == ["finished", "failed"]
    assert "GB" in look(folder)[folder.plan.members[1].name].reason


def test_a_killed_member_is_resumed_bit_for_bit(tmp_path):
    folder, other = study(tmp_path / "a", "seed=0,1"), study(tmp_path / "b", "seed=0,1")
    member = folder.plan.members[1]
    with pytest.raises(Killed):
        prdsim.run(folder.config(member), progress=kill_at(2))
    assert folder.standing(member).state is State.BEGUN
    for each in (folder, other):
        work(each, each.plan.members)
    assert study_table(folder).to_csv() == study_table(other).to_csv()


def test_a_member_in_other_hands_is_left_alone(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1")
    first, second = folder.plan.members
    with folder.claimed(first) as mine:
        assert mine
        assert work(folder, [first]).members == 0
    fd = os.open(folder.path / "claims" / first.name, os.O_RDWR)
    assert lock.try_acquire(fd)  # the claim ended with its holder
    os.close(fd)
    assert work(folder, [first, second]).members == 2


def test_a_member_on_which_processes_die_is_a_failure_in_the_end(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1")
    member = folder.plan.members[0]
    (folder.path / "claims" / member.name).write_text("0\n" * 10)
    work(folder, folder.plan.members)
    assert states(folder) == ["failed", "finished"]
    assert "10 processes died at step 0 without a word" in look(folder)[member.name].reason


def test_a_damaged_file_is_put_aside_only_when_asked(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1")
    member = folder.plan.members[0]
    folder.trajectory(member).write_bytes(b"not HDF5")
    work(folder, folder.plan.members)
    assert states(folder) == ["failed", "finished"]
    folder.forget_failure(member)
    assert [p.read_bytes() for p in folder.path.glob("members/*.damaged")] == [b"not HDF5"]
    work(folder, folder.plan.members)
    assert states(folder) == ["finished", "finished"]


def test_another_run_under_a_members_name_is_not_taken_for_it(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1")
    first, second = folder.plan.members
    prdsim.run(folder.config(second).replace(output=str(folder.trajectory(first))))
    assert folder.standing(first).state is State.FAILED
    assert "holds another run" in folder.standing(first).reason


def test_a_file_of_a_version_with_fewer_keys_is_its_members(tmp_path, monkeypatch):
    folder = study(tmp_path / "s", "seed=0,1")
    first, second = folder.plan.members
    with monkeypatch.context() as earlier:
        earlier.setattr(RunConfig, "to_json", lambda config: fewer_keys(config, "coupling"))
        prdsim.run(folder.config(first))
        earlier.setattr(RunConfig, "to_json", lambda config: fewer_keys(config, "seed"))
        prdsim.run(folder.config(second))
    assert states(folder) == ["finished", "failed"]  # the default of the seed is another one


def fewer_keys(config: RunConfig, lacking: str) -> str:
    return json.dumps({k: v for k, v in config.model_dump().items() if k != lacking})


def test_new_members_have_one_thread_and_begun_ones_their_own(tmp_path):
    base = {"dataset": "digits", "samples": 6, "width": 3, "steps": 3, "backend": "numpy"}
    points = ({"seed": 0}, {"seed": 1, "threads": 2}, {"seed": 2}, {"seed": 3})
    folder = StudyFolder.create(tmp_path / "s", Plan(base, points))
    *_, begun, finished = folder.plan.members
    with pytest.raises(Killed):
        prdsim.run(folder.config(begun).replace(threads=4), progress=kill_at(2))
    prdsim.run(folder.config(finished).replace(threads=5))
    assert states(folder) == ["planned", "planned", "begun", "finished"]
    work(folder, folder.plan.members)
    threads = []
    for member in folder.plan.members:
        assert folder.damage(member) == ""  # with any threads it is the member's
        with prdsim.open_trajectory(folder.trajectory(member)) as trajectory:
            threads.append(trajectory.attributes["resolved"]["threads"])
    assert threads == [1, 2, 4, 5]


def test_a_stop_file_stops_between_steps_and_the_rest_goes_on(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1", settings=("steps=100000",))
    folder.stop_file.touch()
    done = work(folder, folder.plan.members)
    assert (done.stopped, done.signal) == (True, None)
    assert states(folder)[1] == "planned"
    assert folder.standing(folder.plan.members[0]).state in (State.BEGUN, State.PLANNED)


def test_a_signal_stops_and_is_told(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1")
    said = []

    def say(text: str) -> None:
        said.append(text)
        signal.raise_signal(signal.SIGTERM)

    done = work(folder, folder.plan.members, say=say)
    assert (done.stopped, done.signal) == (True, signal.SIGTERM)
    assert len(said) == 1


def test_settings_that_change_no_number_may_be_corrected(tmp_path):
    axis = ("seed=0,1",)
    mnist = ("dataset=mnist", "samples=2")
    folder = study(tmp_path / "s", *axis, settings=(*mnist, "data_dir=/nowhere"))
    work(folder, folder.plan.members)
    assert states(folder) == ["failed", "failed"]
    folder = study(tmp_path / "s", *axis, settings=(*mnist, f"data_dir={tmp_path}"))
    assert StudyFolder.open(folder.path).plan.base["data_dir"] == str(tmp_path)


def test_records_that_are_spoiled_are_said_and_stop_nothing(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1")
    first, second = folder.plan.members
    for content in (b"\xff\xfe", b"[" * 100_000):
        folder.failure(first).write_bytes(content)
        assert "is damaged" in folder.standing(first).reason
    folder.failure(first).unlink()
    os.mkfifo(folder.failure(first))
    assert "is damaged" in folder.standing(first).reason  # and nobody waits for it
    folder.failure(first).unlink()
    (folder.path / "claims" / second.name).write_bytes(b"\xff\xfe\n")
    work(folder, folder.plan.members)
    assert states(folder) == ["finished", "finished"]


def test_members_may_be_added_and_none_be_lost(tmp_path):
    folder = study(tmp_path / "s", "seed=0,1")
    work(folder, folder.plan.members)
    more = study(tmp_path / "s", "seed=0:3")
    assert states(more) == ["finished", "finished", "planned"]
    with pytest.raises(ConfigError, match="holds 1 members that are not in this study"):
        study(tmp_path / "s", "seed=1:3")
    assert len(StudyFolder.open(tmp_path / "s").plan.members) == 3
    assert states(study(tmp_path / "s", "seed=0:2")) == ["finished", "finished"]  # none had begun


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not the folder of a study"),
        ("{", "cannot be read"),
        ("[]", "it is not a plan of prdsim"),
        (json.dumps({"format": "prdsim-study", "format_version": 9}), "it has format version 9"),
        (json.dumps({"format": "prdsim-study", "format_version": 1}), "a base and members"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(StudyError, match=words):
        StudyFolder.open(tmp_path)
