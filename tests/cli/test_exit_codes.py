"""One table of exit codes: the same bad file, or name of an output, is the same to every verb."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from support import names, ordinary_user
from support_cli import ROOT, TINY, Run, assert_refused
from support_runs import damage, make_run

from prdsim.cli import _VERBS, _program
from prdsim.cli.shared_options import FILE_NAME
from prdsim.errors import EXIT_CODES

USAGE, FILE = 2, 3

READING = (
    "run FILE.toml",
    "run --dataset FILE.npz",
    "resume FILE.h5",
    "inspect FILE.h5",
    "repair FILE.h5 -o new.h5",
    "analyze FILE.h5",
    "plot FILE.h5 distances",
    "compare FILE.h5",
    "report FILE.h5 -o new.html",
    "report a.h5 FILE.json -o new.html",
    "converge FILE.h5",
    "sweep FILE.toml -o s",
    "verify FILE.toml",
    "bench FILE.toml",
    "data check mnist --data-dir FILE",
    "list FILE",
    "sweep status FILE",
    "sweep run FILE",
    "sweep stop FILE",
    "sweep table FILE",
    "analyze FILE loss_sup --over width",
    "plot FILE loss_sup --over width -o new.png",
)
OF_FILES = READING[:-8]
"""The others are about a folder."""
WRITING = (
    "run -o FILE.h5",
    "repair damaged.h5 -o FILE.h5",
    "analyze a.h5 distances -o FILE.csv",
    "compare a.h5 b.h5 distances -o FILE.csv",
    "plot a.h5 distances -o FILE.png",
    "report a.h5 --snapshots 2 -o FILE.html",
    "turing --seeds 1 --set samples=2 --set width=16 --set groups=8 --set end_time=0.1 -o FILE.csv",
)
WRITING_FOLDERS = (
    "plot a.h5 distances -o FILE",
    "reproduce --dataset digits -o FILE",
    "sweep --vary seed=0:2 --set width=3 -o FILE",
    "data fetch mnist --data-dir FILE",
    "controls --dataset digits -o FILE",
)
WITHOUT_FILES = ("backends", "completion bash")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "a.h5", diffusion=True)


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A run, and a damaged copy."""
    for name in ("a.h5", "b.h5", "damaged.h5"):
        shutil.copy(made, tmp_path / name)
    damage(tmp_path / "damaged.h5", "U")
    return tmp_path


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Unlike tmp_path, within reach of other users."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


def filled(line: str, place: Path | str = "bad") -> list[str]:
    """The words of a command about FILE, here or elsewhere."""
    words = line.replace("FILE", str(place)).split()
    return [*words, *TINY] if line.startswith("run") else words


def named(line: str) -> str:
    """FILE and its suffix, as a command names it."""
    return re.findall(r"FILE[.\w]*", line)[0].replace("FILE", "bad")


def test_every_verb_is_in_the_lists():
    lines = (*READING, *WRITING, *WRITING_FOLDERS, *WITHOUT_FILES)
    assert {line.split()[0] for line in lines} == set(_VERBS), "a new verb gets its line above"


def test_the_table_is_that_of_the_help_and_of_the_documentation(run: Run):
    shown = " ".join(run("--help").out.split())
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in shown
        assert f"| {code} | {meaning}" in page


# -- files to read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("line", READING)
def test_a_file_that_cannot_be_read(run, tmp_path, line):
    path = Path(named(line))
    assert_refused(run(*filled(line)), FILE, str(path))
    if line in OF_FILES:
        path.mkdir()
        assert_refused(run(*filled(line)), FILE, str(path))
        path.rmdir()
    path.write_text("seed = 1\n")
    if path.suffix != ".toml":
        assert_refused(run(*filled(line)), FILE, str(path))
        assert path.read_text() == "seed = 1\n"
    assert names(tmp_path) == [path.name]


def test_a_file_that_may_not_be_read(run, monkeypatch, shared_folder):
    """In our words, where click would tell the usage."""
    monkeypatch.chdir(shared_folder)
    for line in OF_FILES:
        Path(named(line)).touch(0o000)
    with ordinary_user():
        for line in OF_FILES:
            answer = run(*filled(line))
            assert_refused(answer, FILE, named(line), "Permission denied")
            assert "Usage" not in answer.err


# -- outputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", WRITING)
def test_an_output_that_exists(run, folder, line):
    path = Path(named(line))
    path.write_text("mine")
    assert_refused(run(*filled(line)), USAGE, f"{path} exists", "--force")
    assert path.read_text() == "mine"
    path.unlink()
    if path.suffix != ".png":  # which would go into the folder
        path.mkdir()
        assert_refused(run(*filled(line)), USAGE, f"{path} is a folder")
        path.rmdir()
    assert_refused(run(*filled(line, "no/bad")), FILE, "no", "not")
    assert names(folder) == ["a.h5", "b.h5", "damaged.h5"]


@pytest.mark.parametrize("line", WRITING_FOLDERS)
def test_a_folder_that_cannot_be_made(run, folder, line):
    (folder / "bad").write_text("mine")
    code = FILE if "data-dir" in line else USAGE  # where a folder in it is to be made
    assert_refused(run(*filled(line)), code, "bad")
    assert (folder / "bad").read_text() == "mine"
    (folder / "bad").unlink()
    assert_refused(run(*filled(line, "a.h5/bad")), FILE, "cannot create the folder a.h5/bad")
    assert names(folder) == ["a.h5", "b.h5", "damaged.h5"]


def test_a_read_only_folder_is_named(run, monkeypatch, folder, shared_folder):
    """Not a lock that failed, nor a file that is there already."""
    inner = shared_folder / "read-only"
    for path in folder.iterdir():
        shutil.copy(path, shared_folder)
        (shared_folder / path.name).chmod(0o666)
    inner.mkdir(0o555)
    monkeypatch.chdir(shared_folder)
    lines = [filled(line, "read-only/bad") for line in (*WRITING, *WRITING_FOLDERS)]
    lines += [["converge", "a.h5"], ["resume", "a.h5", "--steps", "40"]]
    shared_folder.chmod(0o555)
    with ordinary_user():
        for line in lines:
            answer = run(*line)
            assert (answer.code, answer.out) == (FILE, "")
            assert "Permission denied" in answer.err, answer.err
            assert "lock" not in answer.err, answer.err
    assert names(shared_folder) == ["a.h5", "b.h5", "damaged.h5", "read-only"]
    assert names(inner) == []


def test_what_a_failed_command_has_made_of_folders_goes_again(run, folder):
    refused = ("fetch", "mnist", "--mirror", "http://127.0.0.1:9/", "--data-dir", "new/data")
    assert run("data", *refused).code == FILE
    damage(folder / "a.h5", "U")
    assert run("plot", "a.h5", "distances", "-o", "new/figures").code == FILE
    settings = ("--dataset", "digits", "--quick", "--set", "step_size=nan")
    assert run("reproduce", "-o", "new/page", *settings).code == USAGE
    wrong = ("--set", "backend=numpy", "--set", "precision=tf32", "--set", "end_time=1")
    assert run("reproduce", "-o", "new/page", "--dataset", "digits", *wrong).code == 4
    assert names(folder) == ["a.h5", "b.h5", "damaged.h5"]


# -- memory, and names -----------------------------------------------------------------------------


def commands() -> Iterator[tuple[list[str], click.Command]]:
    """Every command, with the words that call it."""
    for verb in _VERBS:
        command = _program.get_command(click.Context(_program), verb)
        if isinstance(command, click.Group):
            yield from (([verb, name], each) for name, each in command.commands.items())
        else:
            yield [verb], command


COMMANDS = {" ".join(words): command for words, command in commands()}


@pytest.mark.parametrize("words", COMMANDS)
def test_memory_that_does_not_suffice(run, monkeypatch, words):
    """The command's own work runs out of it, wherever."""

    def too_large(*_: object, **__: object) -> None:
        np.empty(1 << 60, np.uint8)

    monkeypatch.setattr(COMMANDS[words], "callback", too_large)
    lines = (*READING, *WRITING, *WRITING_FOLDERS, *WITHOUT_FILES)
    line = next((filled(line) for line in lines if line.startswith(words)), words.split())
    assert_refused(run(*line), USAGE, "out of memory")


@pytest.mark.parametrize("words", COMMANDS)
def test_no_file_is_refused_in_the_words_of_the_option_parser(words):
    """`FILE_NAME` leaves that to whoever opens the file."""
    for parameter in COMMANDS[words].params:
        assert not isinstance(parameter.type, click.Path) or parameter.type is FILE_NAME, parameter


@pytest.mark.parametrize("verb", ["run", "verify", "bench", "inspect", "resume", "converge"])
def test_an_empty_name_is_called_so(run, tmp_path, verb):
    assert_refused(run(verb, ""), USAGE, "the name is empty")
    assert names(tmp_path) == []
