"""``prdsim report``: the page as a file, its refusals, and the live page."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request

import pytest
from support_cli import PATIENCE, Program
from support_runs import damage, make_pair, make_run

import prdsim


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("runs"))


def test_a_page_is_written_and_not_overwritten(run, pair, tmp_path):
    target = tmp_path / "page.html"
    answer = run("report", *pair, "-o", target)
    assert (answer.code, answer.out) == (0, f"{target}\n")
    text = target.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    again = run("report", *pair, "-o", target)
    assert again.code == 2
    assert "--force" in again.err
    assert run("report", pair[0], "-o", target, "--force", "--count", "2").code == 0
    assert target.read_text(encoding="utf-8") != text


def test_the_default_name_is_report_html(run, pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("report", pair[0], "--snapshots", "2").out == "report.html\n"
    assert (tmp_path / "report.html").is_file()


def test_a_study_gives_its_finished_members(run, tmp_path):
    keys = [{"seed": seed, "diffusion": on} for seed in range(2) for on in (True, False)]
    common = {"dataset": "digits", "samples": 8, "width": 6, "steps": 3, "backend": "numpy"}
    prdsim.run_many([{**common, **each} for each in keys], folder=str(tmp_path / "study"))
    assert run("report", tmp_path / "study", "-o", tmp_path / "page.html").code == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "2 runs with diffusion" in text
    assert "members are shown" not in text


def test_a_study_says_which_members_are_missing(run, tmp_path):
    common = {"dataset": "digits", "samples": 8, "width": 6, "steps": 3, "backend": "numpy"}
    broken = {**common, "dataset": str(tmp_path / "none.npz")}
    prdsim.run_many([common, broken], folder=str(tmp_path / "study"))
    assert run("report", tmp_path / "study", "-o", tmp_path / "page.html").code == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.search(r"<p>1 of 2 members of .* are shown; 1 failed</p>", text)


def test_the_verdict_of_the_turing_test_is_on_the_page(run, pair, tmp_path):
    table = tmp_path / "turing.json"
    rows = [{"condition": "none", "kappa*": 0.0}]
    table.write_text(json.dumps({"turing": rows, "turing_notes": ["it is the adversary's own"]}))
    assert run("report", pair[0], table, "-o", tmp_path / "page.html").code == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "it is the adversary&#39;s own" in text


def test_refusals(run, pair, tmp_path):
    (tmp_path / "empty").mkdir()
    damaged = damage(make_run(tmp_path / "damaged.h5", diffusion=True), "U")
    table = tmp_path / "table.json"
    table.write_text("[]")
    for arguments, code, message in (
        ([], 2, "Missing argument"),
        ([table], 2, "name at least one run"),
        ([pair[0], table], 3, "holds no table"),
        ([tmp_path / "none.h5"], 3, "none.h5"),
        ([tmp_path / "empty"], 3, "not the folder of a study"),
        ([damaged], 3, "damaged"),
        ([pair[0], "-o", tmp_path / "page.pdf"], 2, "end the name in .html"),
        ([pair[0], "-o", pair[0]], 2, "end the name in .html"),
        ([pair[0], "-o", tmp_path / "no" / "page.html"], 3, "no"),
        ([pair[0], "--port", "8080"], 2, "--port is for --watch"),
        ([pair[0], "--watch", "--force"], 2, "leave out -o and --force"),
        ([pair[0], "--watch", "-o", tmp_path / "page.html"], 2, "leave out -o"),
    ):
        answer = run("report", *arguments)
        assert answer.code == code, (arguments, answer)
        assert message in answer.err, (arguments, answer)
    assert not list(tmp_path.glob("*.html"))


def test_watching_follows_a_run_and_ends_with_ctrl_c(tmp_path):
    path = make_run(tmp_path / "run.h5", diffusion=True, steps=5)
    with Program("report", "--watch", path, "--count", "4", cwd=tmp_path) as program:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)

        def read(name: str = "") -> str:
            with urllib.request.urlopen(address + name, timeout=PATIENCE) as answer:
                text: str = answer.read().decode()
            return text

        before, page = read("version"), read()
        assert f'"version": "{before}"' in page
        path.rename(tmp_path / "away.h5")  # for a while
        make_run(tmp_path / "other.h5", diffusion=True, steps=5, seed=1).replace(path)
        deadline = time.monotonic() + PATIENCE
        while read("version") == before and time.monotonic() < deadline:
            time.sleep(0.2)
        assert read("version") != before
        assert f'"version": "{read("version")}"' in read()
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 130
    assert sorted(each.name for each in tmp_path.iterdir()) == ["away.h5", "run.h5"]
