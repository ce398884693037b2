"""What arguments and files hold never commands the terminal, nor fills it."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path

import pytest
from support import names
from support_cli import ROOT, assert_refused
from support_runs import make_run
from trajectory import forge

USAGE, DATA = 2, 3
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")
ESC, BELL, CSI, LINE, RIGHT, BYTE = "\x1b[31m", "\x07", "\x9b31m", "\u2028", "\u202e", "\udce9"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "run.h5")


@pytest.fixture
def path(made, tmp_path):
    return Path(shutil.copy(made, tmp_path / "run.h5"))


def assert_clean(answer):
    for text in (answer.out, answer.err):
        assert not CONTROL.search(text), ascii(text)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([ESC], USAGE, "No such command '"),
        (["a\nb\nc"], USAGE, r"No such command 'a\nb\nc'"),
        (["run", f"--{BELL}=1"], USAGE, "No such option"),
        (["run", "--set", f"{BELL}=0.1"], USAGE, r"\u0007: no such configuration key"),
        (["run", "--set", f"{LINE}a"], USAGE, r"--set \u2028a: must be key=value"),
        (["run", "--set", f"integrator={ESC}"], USAGE, r"integrator: must be one of"),
        (["run", "--scalars", f"every:{ESC}"], USAGE, "scalars: must be"),
        (["run", f"a\rb{CSI}"], USAGE, r"a\u000db\u009b31m: no such configuration file"),
        (["run", "--dataset", f"{RIGHT}a"], DATA, r'unknown data set "\u202ea"'),
        (["run", "--dataset", f"{BYTE}.npz"], DATA, r"no file \udce9.npz"),
        (["analyze", "run.h5", f"{CSI}"], USAGE, r"\u009b31m: no such measure or file"),
        (["plot", "run.h5", f"dist{BELL}ances"], USAGE, "did you mean distances?"),
        (["plot", "run.h5", "distances", "--times", f"1,{ESC}"], USAGE, r"--times 1,\u001b[31m"),
        (["plot", "run.h5", "distances", "--times", "2\n" * 999], USAGE, "(1998 characters): must"),
        (["inspect", f"{BYTE}{ESC}.h5"], DATA, r"\udce9\u001b[31m.h5"),
        (["analyze", "run.h5", "-o", f"{ESC}"], USAGE, r"\u001b[31m: end the name in .csv"),
    ],
)
@pytest.mark.usefixtures("path")
def test_of_arguments(run, tmp_path, arguments, code, words):
    before = names(tmp_path)
    answer = run(*arguments)
    assert_refused(answer, code, words)
    assert_clean(answer)
    assert names(tmp_path) == before


LONG = "a" * 9000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([LONG], USAGE, "No such command"),
        (["run", f"--{LONG}"], USAGE, "No such option"),
        (["run", "--set", "rtol\n" * 2000], USAGE, "(10000 characters): must be key=value"),
        (["run", "--set", f"{LONG}=1"], USAGE, "(9000 characters): no such configuration key"),
        (["run", "--set", f"rtol={LONG}"], USAGE, "rtol: must be a number, got 'aaaa"),
        (["run", "--scalars", LONG], USAGE, "such as every:100, got 'aaaa"),
        (["run", "c.toml"], USAGE, "(9000 characters): no such configuration key"),
        (["run", "--dataset", LONG], DATA, "File name too long"),
        (["run", "--dataset", "mnist", "--data-dir", LONG], DATA, "cannot be used: File name too"),
        (["run", "-o", LONG], DATA, "File name too long"),
        (["inspect", LONG], DATA, "File name too long"),
        (["analyze", LONG], DATA, "File name too long"),
    ],
)
def test_errors_are_short_whatever_they_are_about(run, tmp_path, arguments, code, words):
    (tmp_path / "c.toml").write_text(f"{LONG} = 1\n")
    answer = run(*arguments)
    assert answer.code == code
    assert words in answer.err
    assert len(answer.err) < 1100
    assert answer.err.count("\n") <= 4
    assert names(tmp_path) == ["c.toml"]


@pytest.mark.parametrize("name", ["created", "dataset", "prdsim_version", "precision"])
def test_of_attributes(run, path, name):
    forge.attribute(path, name, f"a{ESC}{BELL}{CSI}{LINE}{RIGHT}\r\n" + LONG)
    content = path.read_bytes()
    answer = run("inspect", "run.h5", "--check")
    assert answer.code == 0, answer.err
    assert_clean(answer)
    assert r"a\u001b[31m\u0007\u009b31m\u2028\u202e\u000d\n" in answer.out
    assert "characters)" in answer.out
    assert max(map(len, answer.out.splitlines())) < 300
    assert json.loads(run("inspect", "run.h5", "--json").out)["attributes"][name].endswith(LONG)
    assert path.read_bytes() == content


def test_of_the_record_and_of_json_in_attributes(run, path):
    forge.record(path, stop_reason=f"a{BELL}\r\n{ESC}\x00")
    resolved = json.loads(run("inspect", "run.h5", "--json").out)["attributes"]["resolved"]
    forge.attribute(path, "resolved", json.dumps({**resolved, "backend": f"{CSI}\n"}))
    answer = run("inspect", "run.h5")
    assert answer.code == 0, answer.err
    assert_clean(answer)
    assert r"finished (a\u0007\u000d\n\u001b[31m\u0000) at step 20" in answer.out
    assert r"\u009b31m\n, float64" in answer.out


def test_of_names_of_files(run, path, tmp_path):
    odd = path.rename(tmp_path / f"{BYTE}{ESC}.h5")
    for verb in (["inspect"], ["analyze"], ["analyze", "--format", "csv"]):
        answer = run(*verb, odd)
        assert answer.code == 0, answer.err
        assert_clean(answer)
    answer = run("analyze", odd, "-o", "t.txt")
    assert answer.code == 0, answer.err
    assert r"\udce9\u001b[31m" in (tmp_path / "t.txt").read_text()


def test_only_one_module_of_the_command_line_prints():
    for path in sorted((ROOT / "cli").glob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        if path.name != "terminal.py":
            assert not calls & {"click.echo", "click.secho", "print", "click.style"}, path.name
