"""A study on a Dask cluster, whose workers are places for processes that work on members.

A task carries a folder, and returns an exit code: what members computed is in their files. Dask's
cancelled tasks run on, so members are stopped by the study's stop file; a worker that is killed
closes the pipe that its child watches.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prdsim.errors import ConfigError, StudyError
from prdsim.study.folder import Standing, State, StudyFolder
from prdsim.study.pool import Children
from prdsim.study.table import look

_ANSWER = "10s"  # time in which a scheduler answers
_STOP_SECONDS = 10.0  # in which all members stop
_PAUSE = 0.2
_USELESS = 3  # workers in a row that end with an error


def work_there(folder: str) -> int:
    """Work on a study in a child of this process; return its exit code."""
    with Children(StudyFolder.open(Path(folder))) as children:
        children.start()
        while not (codes := children.ended()):
            time.sleep(_PAUSE)
        return codes[0]


class OnCluster:
    """The engine that works on a study through Dask: a scheduler, or workers of this machine.

    Every thread of a worker takes members as long as there are any; on cupy, every unit of the
    worker's resource GPU. Workers may come and go. ``address`` and ``scheduler_file`` name a
    running scheduler; ``workers`` processes are started here otherwise.
    """

    def __init__(
        self, *, address: str = "", scheduler_file: Path | None = None, workers: int = 1
    ) -> None:
        self._address, self._scheduler_file, self._workers = address, scheduler_file, workers

    def __call__(
        self, study: StudyFolder, stopped: Callable[[], bool], watch: Callable[[], bool]
    ) -> None:
        """Work until no member is left, or ``stopped()``.

        Raises `StudyError` if no scheduler answers, it is gone before the end, or a worker cannot
        do this.
        """
        tasks: dict[str, list[Any]] = {}
        self._useless = 0
        with self._client() as client:
            while (left := watch()) or any(tasks.values()):
                if stopped():
                    started = [task for each in tasks.values() for task in each]
                    _stop_members(study, started)
                    client.cancel(started)  # those that wait for a busy worker
                    return
                if client.status not in ("running", "connecting"):
                    raise StudyError(f"{self._where} is gone; the same command goes on")
                workers = client.scheduler_info(n_workers=-1)["workers"]
                tasks = {at: self._at_work(tasks.get(at, [])) for at in workers}
                for at, worker in workers.items():
                    for _ in range(_slots(study, worker) - len(tasks[at]) if left else 0):
                        tasks[at].append(_submitted(client, study, at))
                time.sleep(_PAUSE)

    def _at_work(self, tasks: list[Any]) -> list[Any]:
        """Return the tasks that are not done.

        Raises `StudyError` for what no worker can do, or if one after the other ends with an error.
        """
        for task in tasks:
            if task.status == "error":
                raise StudyError(f"a worker cannot work on the study: {task.exception()}")
            if task.status == "finished":
                self._useless = self._useless + 1 if task.result() > 0 else 0
        if self._useless > _USELESS:
            raise StudyError("workers end with errors: prdsim sweep run STUDY there tells why")
        return [task for task in tasks if not task.done()]

    @property
    def _where(self) -> str:
        return f"the scheduler at {self._address or self._scheduler_file or 'this machine'}"

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise ConfigError("Dask is not installed: pip install 'prdsim[sweep]'") from None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is said here
        if self._address or self._scheduler_file:
            where = {"address": self._address or None, "scheduler_file": self._scheduler_file}
            try:
                if self._scheduler_file is not None:
                    self._scheduler_file.open("rb").close()  # Dask would wait for it
                client = Client(**_text(where), timeout=_ANSWER)
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise StudyError(f"{self._where} does not answer: {error}") from None
            with client:
                yield client
            return
        options = {"n_workers": self._workers, "threads_per_worker": 1, "dashboard_address": None}
        with (
            LocalCluster(**options, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster) as client,
        ):
            yield client


def _text(where: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in where.items() if value}


def _on_devices(study: StudyFolder) -> bool:
    return any(member.config.backend.startswith("cupy") for member in study.plan.members)


def _slots(study: StudyFolder, worker: dict[str, Any]) -> int:
    """Return how many members a worker takes at a time."""
    if _on_devices(study):
        return int(worker.get("resources", {}).get("GPU", 0))
    return int(worker["nthreads"])


def _submitted(client: Any, study: StudyFolder, worker: str) -> Any:
    return client.submit(
        work_there,
        str(study.path.absolute()),
        key=f"prdsim-{secrets.token_hex(8)}",
        pure=False,
        workers=[worker],
        retries=0,
        resources={"GPU": 1} if _on_devices(study) else None,
    )


def _stop_members(study: StudyFolder, tasks: list[Any]) -> None:
    """Stop what runs, here and elsewhere, and wait for it, and for tasks that are only starting.

    The stop file stays if they do not end in time.
    """
    mine = not study.stop_file.exists()
    study.stop_file.touch()
    standings: dict[str, Standing] = {}
    end = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < end:
        standings = look(study, standings)
        at_work = any(standing.state is State.RUNNING for standing in standings.values())
        if not at_work and all(task.done() for task in tasks):
            if mine:
                study.stop_file.unlink(missing_ok=True)
            return
        time.sleep(_PAUSE)
