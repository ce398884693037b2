"""New runs: data, simulation, trajectory file."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim import __version__
from prdsim.arguments import wrong
from prdsim.backends import listening
from prdsim.config import Resolved, RunConfig
from prdsim.config.effects import SAMPLE_KEYS, without_effect
from prdsim.config.files import config_of
from prdsim.datasets import Dataset
from prdsim.datasets.configured import files_of, load_data
from prdsim.files.whole import refuse_inputs
from prdsim.progress import Progress, announce, automatic_progress, noted
from prdsim.running.adversary_norms import norms_for
from prdsim.running.loop import Loop, Result
from prdsim.running.observing import Observer, observers_of
from prdsim.running.simulation import RESTART_SCALARS, Simulation
from prdsim.running.stopping import Condition, StopRequest
from prdsim.schedule import Plan, Rule
from prdsim.trajectory import Layout, TrajectoryWriter
from prdsim.trajectory.create import check_target

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from prdsim.backends.arrays import HostArray


def run(
    config: RunConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    data: tuple[ArrayLike, ArrayLike] | Dataset | None = None,
    initial: Mapping[str, HostArray] | None = None,
    resolved: Resolved | None = None,
    stored_chart: Mapping[str, HostArray] | None = None,
    forcing_norms: HostArray | None = None,
    progress: Progress | bool = False,
    stop: Condition | None = None,
    observe: Observer | Sequence[Observer] = (),
    remarks: bool = True,
    **keys: Any,
) -> Result:
    """Run a simulation and write its trajectory file.

    Args:
        config: The configuration, a mapping of its keys, or the path of a TOML file; keywords
            ``keys`` replace some of them.
        data: (X, Y) in place of ``dataset``, one sample a row: X (n, d_in), Y (n, d_out) or
            integer labels (n,). All samples are used; ``samples`` is ignored. A `Dataset` is used
            unchanged.
        initial: U (m, d_in), V (d_out, m), W (m_c, d_out), a (m_c,) at t = 0, in place of those
            that the seed draws.
        resolved: The resolved settings of an earlier run, to be used again, with the arrays of its
            chart, ``stored_chart``.
        forcing_norms: Norms (n,) of a control's field by sample, in place of those of the file
            that ``forcing_norm`` names.
        progress: True shows on stderr a description of the run with its predicted memory, then a
            bar on a terminal or in a notebook, lines elsewhere; or your own `Progress`.
        stop: An event (`threading.Event`), or a function without arguments: once it is set, or
            returns what counts as true, the run ends as by Ctrl-C. It is asked after every step.
        observe: A function, or several, called with an `Observation` at every row of scalars. It
            cannot change the run.
        remarks: Whether to tell of keys that were given and have no effect, and of classes without
            samples: on the display, or in the log ``prdsim``.

    Returns:
        How the run ended; an interrupted run (SIGINT, SIGTERM, SIGHUP, ``stop``) can be resumed
        from ``path``.

    Raises:
        ConfigError: a key or value is invalid, the output exists or is the data's own file, or the
            memory does not suffice.
        DataError: the data cannot be used.
        BackendUnavailableError: the backend cannot work here.
        OutputError: the file cannot be written.
        TrajectoryError: the file that ``forcing_norm`` names cannot be read.
        DivergedError: numbers became infinite or NaN; the file holds the run up to there.
        What ``stop`` or an observer raises: the run has ended as by Ctrl-C.
    """
    display, stopping, observers = shown(progress), StopRequest(stop), observers_of(observe)
    inputs = [Path(config)] if isinstance(config, str | Path) else []
    config = config_of(config).replace(**keys)
    path = Path(config.output or default_name())
    check_target(path, force=config.force)
    for text in without_effect(config, _replaced(data)) if remarks else ():
        display.remark(text)
    plans = plans_of(config)  # too many rows are refused before any work
    dataset = load_data(config, data)
    for text in dataset.notes if remarks else ():
        display.remark(text)
    if data is None:
        inputs += files_of(config)
    else:
        config = config.replace(dataset=dataset.name, samples=dataset.X.shape[1])
    refuse_inputs([path], inputs)
    with (
        listening(display.busy),
        Simulation(
            config,
            dataset.X,
            dataset.Y,
            initial=initial,
            resolved=resolved,
            stored_chart=stored_chart,
            forcing_norms=norms_for(config, dataset) if forcing_norms is None else forcing_norms,
        ) as simulation,
    ):
        layout = layout_of(simulation, dataset, plans)
        with (
            stopping,
            TrajectoryWriter.create(
                path, layout, force=config.force, locked=config.lock, say=noted(display.note)
            ) as writer,
        ):
            if progress is True:
                announce(simulation.describe())
            loop = Loop(simulation, writer, *plans, observers=observers)
            return loop.go(display, stopping)


def _replaced(data: tuple[ArrayLike, ArrayLike] | Dataset | None) -> tuple[str, ...]:
    """Return the keys in whose place data are given: a `Dataset` is used unchanged."""
    if data is None:
        return ()
    return (*SAMPLE_KEYS, "normalize", "target") if isinstance(data, Dataset) else SAMPLE_KEYS


def default_name() -> str:
    """Return a unique file name: prdsim-<time>-<id>.h5."""
    return f"prdsim-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}.h5"


def shown(progress: Progress | bool) -> Progress:
    """Return the progress display: the caller's, one that suits stderr, or none.

    Raises `ConfigError` for anything else.
    """
    if isinstance(progress, bool):
        return automatic_progress() if progress else Progress()
    if not isinstance(progress, Progress):
        raise wrong("progress", "true, false, or a prdsim.progress.Progress", progress)
    return progress


def layout_of(simulation: Simulation, dataset: Dataset, plans: tuple[Plan, Plan]) -> Layout:
    """Return the layout of a new run's file; `plans` are those of snapshots and scalars."""
    config, model = simulation.config, simulation.model
    precision = config.array_precision
    data = {"X": dataset.X.astype(precision), "Y": dataset.Y.astype(precision)}
    norms = simulation.forcing_norms
    return Layout(
        shapes=simulation.dimensions.state_shapes,
        restart_shapes=simulation.restart_shapes,
        restart_scalars=RESTART_SCALARS,
        precision=precision,
        snapshot_precision=config.snapshot_precision or precision,
        snapshot_plan=plans[0],
        scalar_plan=plans[1],
        attributes={
            "run_id": secrets.token_hex(8),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "resolved": json.dumps(simulation.resolved.to_dict()),
            "precision": config.precision,
            "versions": json.dumps(environment(simulation)),
            "dataset": dataset.name,
            "dataset_sha256": dataset.fingerprint,
            **({"grid": dataset.grid} if dataset.grid else {}),
            **config_attributes(config),
        },
        initial=simulation.initial,
        chart=model.chart.arrays(),
        forcing={} if norms is None else {"norm": norms.astype(np.float64)},
        data=data if config.store_data else {},
    )


def plans_of(config: RunConfig) -> tuple[Plan, Plan]:
    """Return the planned snapshots and scalars of a new run."""
    return plan_of(config, config.snapshot_rule), plan_of(config, config.scalar_rule)


def plan_of(config: RunConfig, rule: Rule) -> Plan:
    """Return the planned rows of a run: steps, or times."""
    return rule.plan(steps=config.step_limit, end_time=config.end_time)


def config_attributes(config: RunConfig) -> dict[str, str]:
    """Return the attributes that hold a configuration in a file."""
    return {"config": config.to_json(), "config_sha256": config.sha256()}


def environment(simulation: Simulation) -> dict[str, Any]:
    """Return what may decide the last bits of a run: versions, libraries, threads, machine."""
    import platform

    import h5py

    return {
        **simulation.backend.describe(),
        "prdsim": __version__,
        "python": platform.python_version(),
        "h5py": h5py.__version__,
        "machine": platform.machine(),
    }
