"""``prdsim turing``: a table and a figure of a small test, and clear refusals."""

from __future__ import annotations

import pytest
from support_cli import assert_refused, caller

SMALL = {"samples": 4, "width": 32, "groups": 16, "critic_width": 4, "end_time": 1, "rtol": 0.01}
SET = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def test_the_table_the_file_and_the_figure(tmp_path, monkeypatch, capsys):
    run = caller(monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    answer = run(
        "turing", "--dataset", "digits", "--seeds", 2, *SET, "--figure", "t.png", "-o", "t.csv"
    )
    assert answer.code == 0, answer.err
    assert answer.out == ""
    header, none, adversary, *controls = (tmp_path / "t.csv").read_text().splitlines()
    assert header.startswith("condition,unstable,exponent,least,most,error,group_exponent,located")
    assert none.startswith("none,0,")
    assert adversary.startswith("adversary,2,")
    assert len(controls) == 5
    assert (tmp_path / "t.png").stat().st_size > 10_000
    again = run("turing", *SET, "--figure", "t.png")
    assert_refused(again, 2, "t.png exists", "--force")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("--set seed=1", 2, "seed cannot be set"),
        ("--figure t.png -o t.png --format csv", 2, "name two files"),
        ("--set coupling=0.1", 2, "coupling cannot be set"),
        ("--set groups=2 --set samples=12", 2, "groups = 2 do not reach the targets"),
        ("--set integrator=gd", 2, "gd has no tolerance"),
        ("--dataset no-such", 3, "no-such"),
        ("--figure t.txt", 2, "t.txt"),
        ("--seeds 0", 2, "--seeds"),
        ("-o t.xyz", 2, ".csv, .json or .txt"),
    ],
)
def test_what_cannot_be(arguments, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    answer = caller(monkeypatch, capsys)("turing", *SET, *arguments.split())
    assert answer.code == code
    assert said in answer.err
    assert list(tmp_path.iterdir()) == []
