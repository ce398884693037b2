"""A shell completes commands, options, values and files; nothing heavy is loaded for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support_cli import ROOT, assert_refused
from support_study import study

from prdsim import vocabulary
from prdsim.analysis import GROUPS
from prdsim.backends import backend_names
from prdsim.cli import _VERBS
from prdsim.cli.choices import values
from prdsim.config import RunConfig
from prdsim.config.files import load_config
from prdsim.config.messages import literals
from prdsim.datasets import idx, user_files
from prdsim.figures import FIGURES
from prdsim.trajectory import SCALARS

USAGE = 2
HEAVY = {"numpy", "scipy", "h5py", "numba", "matplotlib"}


@pytest.fixture
def choices(run, monkeypatch):
    """What a shell is told for a command line, of which the last word is not finished."""

    def ask(line: str, shell: str = "fish") -> list[str]:
        *_, last = line.split(" ")
        monkeypatch.setenv("_PRDSIM_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", f"prdsim {line}".rstrip())
        place = last if shell == "fish" else str(len(line.split(" ")))
        monkeypatch.setenv("COMP_CWORD", place)
        answer = run()
        assert (answer.code, answer.err) == (0, "")
        words = [line.partition(",")[2].partition("\t")[0] for line in answer.out.splitlines()]
        return [word for word in words if word]

    return ask


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("a.h5", "my run.h5", "notes.txt", "c.toml", "d.csv", "runs/b=1:2.h5", ".hid.h5"):
        (tmp_path / name).touch()
    (tmp_path / os.fsdecode(b"\xff\x1b.h5")).touch()


def test_verbs_and_options_are_completed(choices):
    assert choices("") == list(_VERBS)
    assert choices("re") == ["resume", "repair", "report", "reproduce"]
    assert choices("run --samp") == ["--samples"]
    assert choices("data ") == ["check", "fetch", "list"]
    assert choices("nothing ") == list(_VERBS)  # an unknown verb is no error yet


def test_every_key_is_completed_with_all_its_choices(choices):
    assert choices("run --set ") == [f"{key}=" for key in RunConfig.model_fields]
    for key, field in RunConfig.model_fields.items():
        named = literals(field.annotation)
        assert set(named) <= set(values(key, "")), key
        if field.annotation is bool:
            assert choices(f"run --set {key}=") == [f"{key}=true", f"{key}=false"]
    for line in ("run --integrator ", "run --integrator="):
        words = choices(line)
        assert [word.removeprefix("--integrator=") for word in words] == values("integrator", "")
    assert choices("run --set integrator=d") == ["integrator=dopri5"]
    assert choices("run --backend ") == ["auto", *backend_names()]
    assert choices("run --preset ") == ["poster", "theory"]
    assert choices("run --trainable V,") == ["V,U", "V,W", "V,a"]
    assert choices("reproduce --set width") == ["width="]


def test_what_is_offered_is_accepted(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    base = ("integrator=gd", "steps=9", "end_time=2")  # which some values need
    for key in RunConfig.model_fields:
        for value in values(key, ""):
            whole = f"{value}3" if value.endswith(":") else value
            load_config(settings=[*base, f"{key}={whole}"])


@pytest.mark.usefixtures("folder")
def test_files_are_those_that_the_argument_takes(choices):
    assert choices("inspect ") == ["a.h5", "my run.h5", "runs/"]
    assert choices("inspect runs/") == ["runs/b=1:2.h5"]
    assert choices("inspect nowhere/") == []
    assert choices("run ") == ["c.toml", "runs/"]
    assert choices("run --dataset d") == ["digits", "d.csv"]
    assert choices("list ") == ["runs/"]
    assert choices("plot a.h5 di") == ["distances", "dispersion"]
    assert choices("analyze a.h5 st") == ["stability"]


@pytest.mark.usefixtures("folder")
def test_of_a_study_its_keys_and_measures_are_completed(choices, tmp_path):
    study(tmp_path / "s", "width=2,3", "seed=0:2")
    for verb in ("analyze", "plot"):
        assert choices(f"{verb} s distance_U_m") == ["distance_U_mean", "distance_U_max"]
        assert choices(f"{verb} s cv_U --over ") == ["width", "seed"]
        assert choices(f"{verb} s cv_U --by wi") == ["width"]
        assert choices(f"{verb} --over=") == []
    assert choices("plot s cv_U --against s") == ["seed"]
    assert choices("plot s mor") == ["morans_i_U", "morans_i_change"]
    assert choices("sweep --vary integr") == ["integrator="]
    assert choices("sweep --vary integrator=rk4,d") == ["integrator=rk4,dopri5"]
    assert choices("sweep table s --measures ra") == ["rank"]
    (tmp_path / "s" / "study.json").write_text('{"members": 3}')
    assert choices("analyze s cv_U --over ") == []


@pytest.mark.usefixtures("folder")
def test_bash_is_told_what_follows_the_signs_at_which_it_splits(choices):
    """Its own words: --set precision=float6 comes in four."""
    assert choices("run --set precision = float6", "bash") == ["float64"]
    assert choices("run --precision = float6", "bash") == ["float64"]
    assert choices("run --set = precision = float6", "bash") == ["float64"]
    assert choices("run --set precision =", "bash") == ["float64", "float32", "tf32"]
    assert choices("run --set precision=float6", "bash") == ["precision=float64"]  # it need not
    assert choices("run --scalars times : g", "bash") == ["geometric:"]
    assert choices("inspect runs/b = 1 : 2", "bash") == ["2.h5"]
    assert choices("inspect m", "bash") == ["'my run.h5'"]


def test_zsh_and_fish_are_told_whole_words(choices):
    assert choices("run --precision=float6") == ["--precision=float64"]
    assert choices("run --set=precision=float6") == ["--set=precision=float64"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_that_is_printed_installs_it(run, monkeypatch, shell):
    place, line = run("completion", shell).out.splitlines()
    assert place.startswith("# in ~/.")
    assert f"_PRDSIM_COMPLETE={shell}_source prdsim" in line
    monkeypatch.setenv("_PRDSIM_COMPLETE", f"{shell}_source")
    script = run().out
    assert f"_PRDSIM_COMPLETE={shell}_complete" in script
    if shell != "fish":  # which knows by itself that no space follows =
        assert "*[=:/] ]] &&" in script


def test_a_shell_that_is_none_gets_an_error(run, monkeypatch):
    assert_refused(run("completion", "tcsh"), USAGE, "'tcsh' is not one of 'bash', 'zsh', 'fish'")
    for instruction in ("tcsh_source", "bash_complete", "1"):
        monkeypatch.setenv("_PRDSIM_COMPLETE", instruction)
        assert_refused(run("--help"), USAGE, "_PRDSIM_COMPLETE is set by the completion of a shell")


def test_bash_itself_completes_and_nothing_heavy_is_imported(tmp_path):
    """The script in a real shell; the program there reports what it has imported."""
    program = tmp_path / "prdsim"
    program.write_text(
        f"#!{sys.executable}\n"
        "import atexit, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "heavy = lambda: {name.partition('.')[0] for name in sys.modules}\n"
        f"atexit.register(lambda: print('heavy', *heavy() & {HEAVY!r}, file=sys.stderr))\n"
        "from prdsim.__main__ import main\n"
        "main()\n"
    )
    program.chmod(0o755)
    script = """
        eval "$(_PRDSIM_COMPLETE=bash_source prdsim)"
        compopt() { echo "option $2"; }
        COMP_WORDS=(prdsim run --set prec) COMP_CWORD=3
        _prdsim_completion prdsim
        echo "${COMPREPLY[@]}"
    """
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "option nospace\nprecision=\n"
    assert set(done.stderr.split()) == {"heavy"}


def test_names_for_completion_are_those_of_the_program():
    assert list(FIGURES) == list(vocabulary.FIGURES)
    declared = {name: tuple(m.name for m in group.measures) for name, group in GROUPS.items()}
    assert declared == vocabulary.MEASURES
    assert ("step", *(field.name for field in SCALARS)) == vocabulary.SCALARS
    assert tuple(idx.manifest()) == vocabulary.DOWNLOADED
    assert tuple(user_files.SUFFIXES) == vocabulary.DATA_SUFFIXES
