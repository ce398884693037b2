"""Commands in this process and in others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support_cli import Program, Run, caller


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Run:
    """Run a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Program]]:
    """Start the program in that folder; whatever still runs at the end is killed."""
    programs: list[Program] = []

    def started(*arguments: object) -> Program:
        programs.append(Program(*arguments, cwd=tmp_path))
        return programs[-1]

    yield started
    for program in programs:
        program.kill()
        program.communicate()
