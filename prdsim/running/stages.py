"""A simulation that shows the states at which its last step took velocities.

Tangents of the method itself need them: where neurons slide along a kink, gates differ from stage
to stage, and only a mean that is weighted as the method weights its stages is that of the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prdsim.errors import ConfigError
from prdsim.physics.state import State
from prdsim.running.runge_kutta import RungeKutta
from prdsim.running.simulation import Simulation

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray


class StagedSimulation(Simulation):
    """A `Simulation` to an end time by a Runge-Kutta method; raises `ConfigError` for others.

    Fixed steps must be taken one at a time, with ``next_view`` at their beginning.
    """

    @property
    def method(self) -> RungeKutta:
        """The method of the steps."""
        if not isinstance(self.stepper, RungeKutta):
            raise ConfigError(f"integrator: the steps of {self.config.integrator} have no tangents")
        if self._view is None:
            raise ConfigError("end_time: only runs to an end time are followed by tangents")
        return self.stepper

    @property
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """For each state of `stages`, the weights of the velocities before that lead to it."""
        tableau = self.method.tableau
        return tableau.a if tableau.first_same_as_last else (*tableau.a, tableau.b)

    def weights_until(self, time: float) -> tuple[float, ...]:
        """Return the weights of the velocities of `stages` that lead to a time in the last step.

        With the size of the step, `taken`.
        """
        begun = self.time - self._taken
        return self.method.tableau.interpolant(min(1.0, (time - begun) / self._taken))

    @property
    def taken(self) -> float:
        """The size of the last step."""
        return self._taken

    def stages(self) -> Iterator[State]:
        """Yield the states of the last step's stages and its end, each valid until the next."""
        assert self._view is not None
        method = self.method
        for index in range(len(method.tableau.a)):
            self._viewed = (-1, 0.0)
            method.stage(
                self.model,
                self.state,
                self._memory,
                index=index,
                step_size=self._taken,
                out=self._view,
            )
            yield self._view
        if not method.tableau.first_same_as_last:
            yield self.state


def carried(
    start: HostArray,
    size: float,
    rows: Iterable[Sequence[float]],
    weights: Sequence[float],
    derivatives: Iterable[Callable[[HostArray], HostArray]],
) -> HostArray:
    """Return where a step of a size carries a tangent, given the linear derivative at each stage.

    ``rows`` and ``weights`` are those of a `StagedSimulation`.
    """
    slopes: list[HostArray] = []

    def moved(shares: Sequence[float]) -> HostArray:
        end = start.copy()
        for share, slope in zip(shares, slopes, strict=False):
            end += size * share * slope
        return end

    for derivative, row in zip(derivatives, rows, strict=True):
        slopes.append(derivative(moved(row)))
    return moved(weights)
