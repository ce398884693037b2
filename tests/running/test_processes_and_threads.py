"""Runs in other processes and threads than the first: the same bits, and nothing dies.

What forks or may be aborted does so in a process of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from support import same_bits
from threadpoolctl import threadpool_info

import prdsim
from prdsim.backends import get_backend

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "dataset": "digits", "samples": 8, "width": 6, "steps": 3, "backend": "numpy", "threads": 1,
}  # fmt: skip

SCRIPT = """
import asyncio, itertools, multiprocessing, os, sys
import numba, prdsim

numbers = itertools.count()

def final(backend):
    "A run large enough for parallel kernels or products: all bits of its end."
    path = f"{backend}-{os.getpid()}-{next(numbers)}.h5"
    size = {"numba": 260, "numpy": 100}[backend]
    result = prdsim.run(dataset="digits", samples=size, width=size, integrator="rk4",
                        step_size=0.01, steps=1, store_data=False, threads=2, backend=backend,
                        output=path)
    return {name: array.tobytes() for name, array in result.state.items()}

async def two_at_once():
    return await asyncio.gather(*(asyncio.to_thread(final, "numba") for _ in range(2)))

if __name__ == "__main__":
    expected = {backend: final(backend) for backend in sys.argv[1:]}
    assert numba.threading_layer() == os.environ["NUMBA_THREADING_LAYER"]
    assert asyncio.run(two_at_once()) == [expected["numba"]] * 2, "other bits in a thread"
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for backend in expected:
            assert pool.apply_async(final, [backend]).get(timeout=60) == expected[backend], backend
"""


@pytest.mark.parametrize(
    ("layer", "backends"), [("omp", ["numba", "numpy"]), ("workqueue", ["numba"])]
)
def test_in_two_threads_and_after_a_fork_runs_have_their_bits(layer, backends, tmp_path):
    """Numba itself ends a process whose threads share its workqueue, a child that uses OpenMP."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT, *backends],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_THREADING_LAYER": layer},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def final(output: Path) -> dict[str, Any]:
    return dict(prdsim.run(**SMALL, output=str(output)).state)


def test_runs_in_a_spawned_process_and_off_the_main_thread_have_their_bits(tmp_path):
    expected = final(tmp_path / "here.h5")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(prdsim.run, (), {**SMALL, "output": str(tmp_path / "there.h5")})
    assert same_bits(dict(there.state), expected)

    async def two_at_once() -> list[dict[str, Any]]:
        paths = [tmp_path / f"thread{number}.h5" for number in range(2)]
        return await asyncio.gather(*(asyncio.to_thread(final, path) for path in paths))

    for state in asyncio.run(two_at_once()):
        assert same_bits(state, expected)


def test_runs_by_joblib_have_their_bits(tmp_path):
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    paths = [tmp_path / f"{number}.h5" for number in range(2)]
    call = joblib.delayed(prdsim.run)
    results = joblib.Parallel(n_jobs=2)(call(**SMALL, output=str(path)) for path in paths)
    expected = final(tmp_path / "here.h5")
    assert all(same_bits(dict(result.state), expected) for result in results)


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.usefixtures("two_threads")
def test_runs_at_once_leave_each_other_the_threads_of_blas():
    """A process has one number: the first to end must not give the other one more than it took."""
    before = blas_threads()
    first, second = get_backend("numba", threads=2).active(), get_backend("numba").active()
    with first:
        second.__enter__()
    assert blas_threads() == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


@pytest.mark.usefixtures("two_threads")
def test_any_thread_may_limit_blas():
    """threadpoolctl lets only the first thread that did; the others would compute other bits."""
    with get_backend("numba").active():
        assert blas_threads() == {1}
    found = []

    def other() -> None:
        with get_backend("numpy", threads=1).active():
            found.append(blas_threads())

    thread = Thread(target=other)
    thread.start()
    thread.join()
    assert found == [{1}]
