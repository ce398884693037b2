"""Many runs at once from Python: a study whose members are the configurations that are given."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.arguments import each, file_path, flag, integer, wrong
from prdsim.config import RunConfig
from prdsim.config.files import config_of
from prdsim.datasets import Dataset
from prdsim.datasets.configured import load_data
from prdsim.errors import ConfigError, PrdsimError, StudyError
from prdsim.files.small import folder_for_output
from prdsim.files.whole import write_whole
from prdsim.progress import announce, silent
from prdsim.recorded import Recorded
from prdsim.running.loop import Result
from prdsim.running.resuming import first_and_last_row
from prdsim.running.runner import default_name
from prdsim.running.stopping import Condition, StopRequest
from prdsim.study.folder import Standing, State, StudyFolder, summary
from prdsim.study.forecast import at_once
from prdsim.study.plan import Member, Plan, from_anywhere, in_words
from prdsim.study.sweep import local, sweep
from prdsim.symbols import ARRAYS
from prdsim.trajectory import open_trajectory
from prdsim.words import shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def run_many(
    configs: Iterable[RunConfig | Mapping[str, Any] | str | Path],
    *,
    folder: str | os.PathLike[str] | None = None,
    data: tuple[ArrayLike, ArrayLike] | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    progress: bool = False,
    stop: Condition | None = None,
    **keys: Any,
) -> list[Result | PrdsimError]:
    """Run several simulations at once, in processes, as members of a study.

    A member has the bits of its run alone by `prdsim.run` with the same number of ``threads``:
    those of its configuration, or one.

    Args:
        configs: Configurations as `prdsim.run` takes them; keywords ``keys`` replace keys in all.
        folder: The study's folder (default: a new one, prdsim-TIME-ID). It is that of
            `prdsim sweep`: the same call with it keeps what is finished, and continues the rest.
            It holds the trajectories of those whose configuration has no ``output``.
        data: (X, Y) in place of ``dataset`` for all members, as in `prdsim.run`; kept in the
            folder.
        workers: Members at a time; by default as many as cores and memory allow.
        retry_failed: Whether to try members again that failed before.
        progress: Whether to show on stderr how many members are in which state.
        stop: As in `prdsim.run`; once it says so, all members stop as by Ctrl-C.

    Returns:
        How each run ended, in order; or the error that tells why it did not finish
        (diverged, failed, interrupted), which stops no other. ``state`` has the precision of the
        file's snapshots; times of computing are unknown, NaN.

    Raises:
        ConfigError: an argument is invalid, two configurations are the same run or have the same
            output, or the folder holds other runs or data.
        DataError: the arrays of ``data`` cannot be used.
        OutputError: the folder cannot be written.
        StudyError: what is in the folder is not a study, or cannot be read.
        What ``stop`` raises: members have stopped as by Ctrl-C.
    """
    if isinstance(configs, RunConfig | Mapping):
        raise wrong("configs", "a sequence of configurations", configs)
    request, given = StopRequest(stop), each("configs", configs, "configurations")
    members = [config_of(config).replace(**keys) for config in given]
    path = Path(default_name()).with_suffix("") if folder is None else file_path("folder", folder)
    dataset = None if data is None else _checked(members[0], data)
    kept = path.absolute() / "data.npz"
    if dataset is not None:
        samples = dataset.X.shape[1]
        members = [one.replace(dataset=str(kept), samples=samples) for one in members]
    plan = _plan(members)
    count = at_once(plan, dataset) if workers is None else integer("workers", workers, least=1)
    flag("retry_failed", retry_failed)
    say = announce if flag("progress", progress) else silent
    with folder_for_output(path):
        study = StudyFolder.create(path, plan)
        if data is not None:
            _keep(kept, data)
        standings = sweep(
            study,
            local(count),
            retry_failed=retry_failed,
            say=say,
            progress=progress,
            request=request,
        ).standings
    say(f"{path}: {summary(standings)}")
    return [_outcome(study, member, standings[member.name]) for member in plan.members]


def _checked(config: RunConfig, data: object) -> Dataset:
    """Return the data set of (X, Y); raises `ConfigError` for what is no pair, and `DataError`."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise wrong("data", "a pair (X, Y) of arrays, one sample a row", data)
    return load_data(config, (data[0], data[1]))


def _plan(configs: Sequence[RunConfig]) -> Plan:
    """Return the plan of configurations: what all have in common, and what each has besides."""
    for config in configs:
        if config.force:
            raise ConfigError("force: members are kept or continued; name another folder or output")
    outputs = [config.output for config in configs if config.output is not None]
    for output in outputs:
        if outputs.count(output) > 1:
            raise ConfigError(f"output: two configurations name {shown(output)}")
    given = [
        from_anywhere({key: value for key, value in config if key in config.model_fields_set})
        for config in configs
    ]
    missing = object()
    base = {
        key: value
        for key, value in given[0].items()
        if all(other.get(key, missing) == value for other in given)
    }
    return Plan(base, tuple({k: v for k, v in one.items() if k not in base} for one in given))


def _keep(path: Path, data: tuple[ArrayLike, ArrayLike]) -> None:
    """Write samples as a user's file; raises `ConfigError` if other ones are there."""
    content, (X, Y) = io.BytesIO(), data
    arrays: dict[str, Any] = {"X": X} if Y is None else {"X": X, "Y": Y}
    np.savez(content, **arrays)
    if not path.exists():
        write_whole(path, content.getvalue(), force=False)
    elif path.read_bytes() != content.getvalue():
        raise ConfigError(f"{path} holds other samples; name another folder")


def _outcome(study: StudyFolder, member: Member, standing: Standing) -> Result | PrdsimError:
    """Return how a member ended, or why it did not."""
    path = study.trajectory(member)
    if standing.state is State.FINISHED:
        return _result(path)
    return study.error_of(member, standing) or StudyError(
        f"{path} ({in_words(member.settings)}) was interrupted at step {standing.step}; "
        f"prdsim.run_many with folder={str(study.path)!r} goes on"
    )


def _result(path: Path) -> Result:
    """Return how a finished run ended, as its file tells it."""
    with open_trajectory(path) as trajectory:
        recorded = Recorded(trajectory)
        first, last = first_and_last_row(trajectory)
        return Result(
            path=path,
            stop_reason=str(trajectory.status),
            step=trajectory.stop_step,
            time=float(trajectory.time[-1]),
            config=recorded.config,
            state={name: np.asarray(getattr(trajectory, name)[-1]) for name in ARRAYS},
            first=first,
            last=last,
            resolved=recorded.resolved,
            seconds=nan,
            step_seconds=nan,
        )
