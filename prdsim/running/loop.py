"""The loop of a run: advance, record what is due, commit, until the end or a stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from prdsim.config import Resolved, RunConfig
from prdsim.errors import DivergedError, PrdsimError
from prdsim.notebook import html_table
from prdsim.progress import LOG, Progress
from prdsim.running.accuracy import remedy, warnings_of
from prdsim.running.blame import to_blame, with_blame
from prdsim.running.observing import Observation, Observer
from prdsim.running.ordered_calls import OrderedCalls
from prdsim.running.pace import Pace
from prdsim.running.simulation import Simulation
from prdsim.running.stopping import StopRequest
from prdsim.schedule import Agenda
from prdsim.trajectory import Status, TrajectoryWriter

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray

_FINITE = {
    "loss_sup": "the supervised loss L_sup",
    "loss_adv": "the adversarial loss L_adv",
    "loss_critic": "the critic's loss",
    "distance_U_max": "the distance of a neuron's u_j",  # of weights whose squares overflow
    "distance_V_max": "the distance of a neuron's v_j",
}
_MOST_STEPS = 1 << 20  # between two looks at what is due
_COMMIT_SECONDS = 1.0  # between commits of scalars alone, so that readers see progress
_UNASSESSED = "not assessed"  # but by `prdsim.convergence`, later


@dataclass(frozen=True, repr=False)
class Result:
    """How a run ended.

    ``state`` holds U (m, d_in), V (d_out, m), W (m_c, d_out), a (m_c,) at ``time``, the end time or
    that of the last step; ``first`` and ``last`` the scalars of the initial and the last recorded
    state, by the names of the file format. ``resolved`` is what automatic settings became.
    ``stop_reason`` is "finished" or "interrupted"; ``signal`` is the one that interrupted the run,
    if any; ``stop`` leaves it None. ``seconds`` is the wall-clock time of this call, and
    ``step_seconds`` that of a step after its first, NaN without a second.
    """

    path: Path
    stop_reason: str
    step: int
    time: float
    config: RunConfig
    state: Mapping[str, HostArray]
    first: Mapping[str, float]
    last: Mapping[str, float]
    resolved: Resolved
    signal: signal.Signals | None = None
    seconds: float = 0.0
    step_seconds: float = nan

    @property
    def warnings(self) -> list[str]:
        """Signs that the run is inaccurate, with remedies."""
        return warnings_of(self.config, self.resolved.step_size, self.last)

    def __repr__(self) -> str:
        end = f"<Result: {self._end}; L_sup {self._losses}; "
        return f"{end}discretization error {_UNASSESSED}; {self.path}>"

    def _repr_html_(self) -> str:
        facts: dict[str, object] = {"end": self._end, "supervised loss L_sup": self._losses}
        facts |= {"discretization error": _UNASSESSED, "file": self.path}
        return html_table("Result", facts)

    @property
    def _end(self) -> str:
        return f"{self.stop_reason} at t = {self.time:.6g}, step {self.step}"

    @property
    def _losses(self) -> str:
        return f"{self.first['loss_sup']:.6g} -> {self.last['loss_sup']:.6g}"


class Loop:
    """Advances a run, records what is due, commits, until the end or a stop.

    If the backend is asynchronous, a background thread writes the file, in the same order; else
    the loop does, since another thread would slow down the products.
    """

    def __init__(
        self,
        simulation: Simulation,
        writer: TrajectoryWriter,
        snapshots: Sequence[float],
        scalars: Sequence[float],
        recorded: Sequence[Mapping[str, float]] = (),
        observers: Sequence[Observer] = (),
    ) -> None:
        self._simulation, self._writer = simulation, writer
        begun = (simulation.step, simulation.time) if recorded else ()
        self._snapshots, self._scalars = Agenda(snapshots, *begun), Agenda(scalars, *begun)
        self._first, self._last = recorded or ({}, {})
        self._observers = observers
        self._unseen: list[Mapping[str, float]] = []
        self._committed = self._restarted = time.monotonic()
        self._later = OrderedCalls(behind=simulation.backend.asynchronous)
        self._pace = Pace()

    def go(self, progress: Progress, stop: StopRequest) -> Result:
        """Run until the end or a stop; raises the errors that `prdsim.run` lists.

        An error of the caller's code is raised once the file is in order.
        """
        simulation = self._simulation
        LOG.info("%s: %s", self._writer.path, simulation.describe())
        for text in simulation.backend.notes:
            progress.note(text)
        progress.start(*simulation.progress)
        try:
            if not self._first:
                self._record(restart=True)
            self._show(stop)
            while not simulation.finished and not stop.due():
                steps = self._advance(progress.every_step or stop.conditional)
                self._record()
                loss = self._last.get("loss_sup", float("nan"))
                progress.update(simulation.progress[0], simulation.step, loss)
                self._pace.steps(steps)
                self._show(stop)
            result = self._end(stop)
        except DivergedError as error:
            reason = str(error).splitlines()[0].removeprefix("diverged: ")
            self._commit_end(Status.DIVERGED, reason)
            raise
        except PrdsimError:
            raise
        except Exception as error:
            self._commit_end(Status.FAILED, repr(error))
            raise
        finally:
            self._later.close()
            progress.close()
        for text in result.warnings:
            LOG.warning("%s: %s", result.path, text)
        if stop.failure is not None:
            stop.failure.add_note(_left(result))
            raise stop.failure
        return result

    def _show(self, stop: StopRequest) -> None:
        """Show the observers the rows recorded since the last call."""
        rows, self._unseen = self._unseen, []
        if not rows or not self._observers:
            return
        with self._simulation.paused():
            for row in rows:
                observation = Observation(self._simulation, row)
                for observer in self._observers:
                    stop.call(observer, observation)
                observation.close()

    def _advance(self, one: bool) -> int:
        """Take one step, or some up to the next record; return how many."""
        simulation, plans = self._simulation, (self._snapshots, self._scalars)
        left = min(plan.next_step for plan in plans) - simulation.step
        at_most = 1 if one else int(min(left, _MOST_STEPS))
        next_view = min(plan.next_time for plan in plans)
        try:
            return simulation.advance_some(at_most, next_view=next_view)
        except DivergedError as error:  # adaptive steps shrank away
            self._diverge(str(error).splitlines()[0].removeprefix("diverged: "))

    def _record(self, *, restart: bool = False) -> None:
        """Write the rows due after the last step, and commit if it is time."""
        simulation, writer, now = self._simulation, self._writer, time.monotonic()
        scalars, snapshots = simulation.due(self._scalars), simulation.due(self._snapshots)
        restart |= now - self._restarted >= simulation.config.restart_seconds
        if not (scalars or snapshots or restart):
            return
        for moment in sorted({*scalars, *snapshots, simulation.time}):
            self._require_finite(moment)
            if moment in snapshots:
                simulation.measure_stability(moment)
            if moment in scalars:
                self._record_scalars(moment)
            if moment in snapshots:
                self._later.wait()  # at most one snapshot is in flight
                copies = simulation.start_weights(moment)
                self._later(self._write_snapshot, simulation.step, moment, copies)
        if simulation.finished:
            return
        if restart:
            self._write_restart(now)
        overdue = now - self._committed >= _COMMIT_SECONDS and self._later.idle
        if snapshots or restart or overdue:
            self._later(writer.commit, Status.RUNNING)
            self._committed = now

    def _record_scalars(self, moment: float) -> None:
        row = self._simulation.observe(moment)
        for name, words in _FINITE.items():
            if not isfinite(row[name]):
                self._diverge(f"{words} is not finite at step {self._simulation.step}")
        self._last = row
        self._unseen.append(row)
        self._first = self._first or self._last
        self._later(self._writer.scalars, self._simulation.step, self._last)

    def _write_snapshot(
        self, step: int, time: float, copies: dict[str, Callable[[], HostArray]]
    ) -> None:
        # Each copy is dropped on arrival, which frees the device's memory before the next one.
        arrays = {name: copies.pop(name)() for name in tuple(copies)}
        self._writer.snapshot(step, time, arrays)

    def _write_restart(self, now: float) -> None:
        point = self._simulation.restart_point()
        self._later(self._writer.restart, point.step, point.time, point.arrays, point.scalars)
        self._restarted = now

    def _commit_end(self, status: Status, reason: str) -> None:
        """Commit all rows, and how the run ended."""
        step = self._simulation.step
        self._later(self._writer.commit, status, stop_step=step, stop_reason=reason)
        self._later.wait()
        because = f" ({reason})" if reason else ""
        LOG.info("%s: %s at step %d%s", self._writer.path, status, step, because)

    def _end(self, stop: StopRequest) -> Result:
        """Leave a file from which the run can be continued; return how it ended."""
        simulation = self._simulation
        self._require_finite()
        self._write_restart(time.monotonic())
        status = Status.FINISHED if simulation.finished else Status.INTERRUPTED
        reason = stop.reason if status is Status.INTERRUPTED else ""
        self._commit_end(status, reason)
        return Result(
            path=self._writer.path,
            stop_reason=str(status),
            step=simulation.step,
            time=simulation.shown_time,
            config=simulation.config,
            state=simulation.weights(simulation.shown_time),
            first=self._first,
            last=self._last,
            resolved=simulation.resolved,
            signal=stop.signal if status is Status.INTERRUPTED else None,
            seconds=self._pace.seconds,
            step_seconds=self._pace.step_seconds,
        )

    def _require_finite(self, moment: float | None = None) -> None:
        """Raise `DivergedError`, with the step and the array, unless a state is finite."""
        simulation, reached = self._simulation, self._simulation.step
        name = simulation.non_finite_array(moment)
        if name is None:
            return
        if reached > 0:
            self._later.wait()
            simulation.restore(self._writer.read_restart())
            while (name := simulation.non_finite_array()) is None and simulation.step < reached:
                simulation.advance()
        self._diverge(f"{name or 'the state'} is not finite from step {simulation.step} on")

    def _diverge(self, reason: str) -> NoReturn:
        simulation = self._simulation
        reason = with_blame(reason, to_blame(simulation, self._first))
        advice = remedy(simulation.config, simulation.resolved.step_size, reason, self._first)
        raise DivergedError(
            f"diverged: {reason}\n{self._writer.path} holds the run up to there; try {advice}"
        )


def _left(result: Result) -> str:
    """Say what a run whose caller's code failed has left."""
    if result.stop_reason == Status.FINISHED:
        return f"the run was finished: {result.path} holds it"
    return (
        f"the run was interrupted at step {result.step}; "
        f"prdsim.resume({str(result.path)!r}) continues it"
    )
