"""The memory that is free, within the limits of the machine, the container and the process."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from prdsim.files import memory


@pytest.fixture
def group(tmp_path, monkeypatch) -> Path:
    """A control group with 700 of 1000 bytes in use."""
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    return tmp_path


def test_a_container_has_its_limit_less_its_use(group):
    assert memory.available_bytes() == 300
    (group / "memory.current").write_text("1700\n")
    assert memory.available_bytes() == 0


def test_files_that_are_only_cached_do_not_count(group):
    (group / "memory.stat").write_text("anon 100\nfile 600\ninactive_file 500\nactive_file 100\n")
    assert memory.available_bytes() == 800


def test_a_container_without_a_limit_has_the_memory_of_the_machine(group):
    (group / "memory.max").write_text("max\n")
    assert memory.available_bytes() > 10**6


def test_a_process_has_its_limit_less_its_address_space():
    before = resource.getrlimit(resource.RLIMIT_AS)
    page = resource.getpagesize()
    used = page * int(Path("/proc/self/statm").read_text().split()[0])
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, before[1]))
        assert 40_000_000 < memory.available_bytes() <= 51_000_000
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
