"""One flipped bit in each region of a file: what `inspect --check` and `repair` answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support_cli import assert_refused
from support_runs import assert_same_trajectory, make_interrupted, make_run

import prdsim
from prdsim.trajectory import open_trajectory


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished run: snapshots and scalars at 0, 5, ..., 20; restart states of 0 and 20."""
    return make_run(tmp_path_factory.mktemp("whole") / "run.h5", diffusion=True, chart="range")


def place(path: Path, name: str, row: int | str = 0, at: int = 3) -> int:
    """The position of a byte in a row of a dataset, or a position in the file."""
    if name == "file":
        return at
    with open_trajectory(path) as trajectory:
        extent, record = trajectory._map[name], trajectory._record
    newest = record.slot if name == "commit/record" else record.restart_slot
    number = {"newest": newest, "older": 1 - newest}.get(str(row), row)
    return extent.offset + int(number) * extent.row_bytes + at


def flip(path: Path, target: Path, *where: int) -> Path:
    content = bytearray(path.read_bytes())
    for position in where:
        content[position] ^= 4
    target.write_bytes(content)
    return target


TABLE = "the steps, times or checksums of the snapshots are damaged"
RECORD = (
    "one of the two commit records is damaged; the other one is used, so the last commit may be "
    "missing (resuming computes it again)"
)
LOST = "the states to continue from: none is whole with all rows before it; the run cannot be"
ALL = ["5 of 5 snapshots", "5 of 5 rows of scalars"]
STATES = "2 of 2 states to continue from, of step 20"


def restored(part: str) -> list[str]:
    return [*ALL, f"/{part}: it was damaged, and is restored", STATES]


def upto(row: int, array: str, step: int = 0) -> tuple[list[str], list[str]]:
    return (
        [f"{row} of 5 snapshots", ALL[1], f"1 of 2 states to continue from, of step {step}"],
        [f"snapshots from number {row} on: {array} of snapshot {row} is damaged"],
    )


# The changed bit; what --check finds; what repair keeps and drops.
REGIONS = [
    (("snapshots/U", 2), ["snapshot 2 (step 10) of U is damaged"], *upto(2, "U")),
    (("snapshots/a", 4), ["snapshot 4 (step 20) of a is damaged"], *upto(4, "a")),
    (
        ("snapshots/time", 3),
        [TABLE, *(f"snapshot 3 (step 15) of {name} is damaged" for name in "UVWa")],
        *upto(3, "U"),
    ),
    (
        ("snapshots/crc32", 1),
        [TABLE, "snapshot 1 (step 5) of U is damaged"],
        *upto(1, "U"),
    ),
    (
        ("scalars/loss_sup", 4),
        ["the scalars are damaged"],
        [ALL[0], "4 of 5 rows of scalars", "1 of 2 states to continue from, of step 0"],
        ["rows of scalars from number 4 on: their checksum fails"],
    ),
    (
        ("scalars/step", 1),
        ["the scalars are damaged"],
        [ALL[0], "0 of 5 rows of scalars"],
        [
            "rows of scalars from number 0 on: their checksum fails",
            "the states to continue from: a resume computes the run again from its start",
        ],
    ),
    (
        ("restart/U", "newest"),
        ["the restart state of step 20 is damaged; a resume starts from that of step 0"],
        [*ALL, "1 of 2 states to continue from, of step 0"],
        [],
    ),
    (
        ("restart/U", "older"),
        [
            "the older restart state is damaged, so there is none to fall back on; "
            "that of step 20 counts"
        ],
        [*ALL, "1 of 2 states to continue from, of step 20"],
        [],
    ),
    (("commit/record", "newest", 3000), [RECORD], [*ALL, STATES], []),
    (("commit/record", "older", 30), [RECORD], [*ALL, STATES], []),
    (("data/X",), ["/data/X is damaged"], restored("data/X"), []),
    (("data/Y",), ["/data/Y is damaged"], restored("data/Y"), []),
    (("initial/U",), ["/initial/U is damaged"], restored("initial/U"), []),
    (("chart/Q",), ["/chart/Q is damaged"], restored("chart/Q"), []),
    (("schedule/scalars",), ["/schedule/scalars is damaged"], restored("schedule/scalars"), []),
    (("neuron",), ["/neuron is damaged"], [*ALL, STATES], []),
    (
        ("file", 0, 65000),
        ["the file's structure or attributes are damaged, or another program changed them"],
        [*ALL, STATES],
        [],
    ),
]


def test_the_regions_are_those_of_a_file(whole):
    with open_trajectory(whole) as trajectory:
        groups = {name.partition("/")[0] for name in trajectory._map.extents}
    axes = {"input", "output", "critic_neuron", "sample", "rank", "array", "slot", "word"}
    axes |= {"session", "byte"}
    tested = {region[0][0].partition("/")[0] for region in REGIONS} | {"sessions"}
    assert {name for name in groups if not name.startswith("length_")} - axes == tested - {"file"}


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: "-".join(map(str, region[0])))
def test_one_flipped_bit(run, region, whole, tmp_path):
    change, problems, kept, dropped = region
    path = flip(whole, tmp_path / "bad.h5", place(whole, *change))
    before = path.read_bytes()
    answer = run("inspect", "--check", path.name)
    assert answer.code == 3
    lines = [line.strip() for line in answer.out.splitlines()]
    assert [x for x in lines if x.startswith("damaged: ")] == [f"damaged: {x}" for x in problems]
    assert lines[-1] == "save what is whole with: prdsim repair bad.h5 -o bad-repaired.h5"
    assert not any("harmless" in line or "all checksums" in line for line in lines)
    answer = run("repair", path.name, "-o", "good.h5")
    assert (answer.code, answer.err) == (0, "")
    expected = ["good.h5: what is whole in bad.h5"]
    expected += [f"  kept: {words}" for words in kept] + [
        f"  dropped: {words}" for words in dropped
    ]
    continued = "  continue with: prdsim resume good.h5"
    assert [line for line in answer.out.splitlines() if line != continued] == expected
    assert path.read_bytes() == before
    answer = run("inspect", "--check", "good.h5")
    assert answer.code == 0
    assert answer.out.endswith("  all checksums hold\n")
    with open_trajectory("good.h5") as trajectory:
        unfinished = trajectory.status != "finished"
    if unfinished:
        assert run("resume", "good.h5").code == 0
    assert_same_trajectory(Path("good.h5"), whole)


def test_a_flipped_bit_in_what_is_recorded_of_resumes(run, whole, tmp_path):
    """A power loss may tear it, and nothing depends on it."""
    path = flip(whole, tmp_path / "bad.h5", place(whole, "sessions/record"))
    answer = run("inspect", "--check", path.name)
    words = "harmless: what is recorded of a resume is not whole; nothing else depends on it"
    assert (answer.code, words in answer.out) == (0, True)
    assert "all checksums" not in answer.out
    assert run("repair", path.name, "-o", "good.h5").out.startswith("bad.h5 is not damaged")


@pytest.mark.parametrize("at", [0, 10, 30, 44, 300])
def test_without_its_structure_nothing_is_read(run, whole, tmp_path, at):
    path = flip(whole, tmp_path / "bad.h5", at)
    for command in (["inspect", "--check"], ["repair", "-o", "good.h5"]):
        assert_refused(run(*command, path.name), 3, "bad.h5 is ")
    assert not Path("good.h5").exists()


def test_both_commit_records(run, whole, tmp_path):
    places = [place(whole, "commit/record", row, 16) for row in (0, 1)]
    flip(whole, tmp_path / "bad.h5", *places)
    words = "both commit records of bad.h5 are damaged"
    assert_refused(run("inspect", "--check", "bad.h5"), 3, words, "prdsim repair")
    answer = run("repair", "bad.h5", "-o", "good.h5")
    assert answer.code == 0
    assert "  kept: 5 of 5 snapshots\n  kept: 0 of 5 rows of scalars\n" in answer.out
    assert "interrupted (repaired: kept 5 of 5 snapshots)" in run("inspect", "good.h5").out
    assert run("resume", "good.h5").code == 0
    assert_same_trajectory(Path("good.h5"), whole)


def test_a_truncated_file(run, whole, tmp_path):
    content = whole.read_bytes()
    cut = place(whole, "restart/V")
    (tmp_path / "bad.h5").write_bytes(content[:cut])
    assert_refused(run("inspect", "--check", "bad.h5"), 3, "bad.h5 is truncated", "prdsim repair")
    answer = run("repair", "bad.h5", "-o", "good.h5")
    assert answer.code == 0
    assert "  kept: 5 of 5 snapshots\n  kept: 5 of 5 rows of scalars\n" in answer.out
    assert LOST in answer.out
    assert "continue with" not in answer.out
    assert (tmp_path / "bad.h5").read_bytes() == content[:cut]
    text = run("inspect", "--check", "good.h5").out
    assert "interrupted (repaired: kept 5 of 5 snapshots) at step 20 of 20" in text
    assert "continue with" not in text
    assert run("analyze", "good.h5", "distances").code == 0
    assert_refused(run("resume", "good.h5"), 3, "no state to resume from", "repaired")


def test_what_a_kill_leaves_is_harmless(run, tmp_path):
    path = make_interrupted(tmp_path / "run.h5")
    record = place(path, "commit/record", "older", 0)
    newest = place(path, "commit/record", "newest", 0)
    content = bytearray(path.read_bytes())
    # The first sector of the next record; the rest is that of the one before.
    content[record : record + 512] = content[newest : newest + 512]
    content[record + 8] += 1
    path.write_bytes(content)
    answer = run("inspect", "--check", "run.h5")
    text = "a commit was cut short when the run was killed; the one before it counts"
    assert answer.code == 0
    assert answer.out.endswith(f"  harmless: {text}\n")
    report = json.loads(run("inspect", "--check", "--json", "run.h5").out)
    [problem] = report["problems"]
    assert (problem["severity"], problem["text"]) == ("harmless", text)
    answer = run("repair", "run.h5", "-o", "good.h5")
    assert (answer.code, answer.out) == (0, "run.h5 is not damaged; good.h5 was not written\n")
    assert not Path("good.h5").exists()
    assert prdsim.resume(path).stop_reason == "finished"


def test_what_repair_refuses(run, whole, tmp_path):
    flip(whole, tmp_path / "bad.h5", place(whole, "snapshots/U", 2))
    assert_refused(run("repair", "bad.h5"), 2, "--output")
    assert_refused(run("repair", "bad.h5", "-o", "bad.h5", "--force"), 2, "the damaged file itself")
    Path("good.h5").write_text("mine")
    assert_refused(run("repair", "bad.h5", "-o", "good.h5"), 2, "good.h5 exists; use --force")
    assert Path("good.h5").read_text() == "mine"
    assert run("repair", "bad.h5", "-o", "good.h5", "--force").code == 0
    assert_refused(run("repair", "bad.h5", "-o", "no/good.h5"), 3, "no is not a folder")
    assert_refused(run("repair", "none.h5", "-o", "a.h5"), 3, "cannot read none.h5")
    flip(
        Path("bad.h5"),
        tmp_path / "worse.h5",
        place(whole, "snapshots/U", 0),
        place(whole, "scalars/time", 0),
    )
    assert_refused(run("repair", "worse.h5", "-o", "a.h5"), 3, "nothing in worse.h5 can be saved")
    assert not Path("a.h5").exists()
