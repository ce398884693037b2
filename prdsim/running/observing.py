"""Looking at a run while it goes on, from Python: what an observer is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from prdsim.arguments import wrong
from prdsim.errors import ConfigError
from prdsim.running.simulation import Simulation

if TYPE_CHECKING:
    from prdsim.backends.arrays import HostArray


class Observation:
    """A recorded row of scalars, and the state that it describes.

    ``scalars`` are those of the file, by name; `U` (m, d_in), `V` (d_out, m), `W` (m_c, d_out) and
    `a` (m_c,) are read-only host arrays, copied when the first of them is asked for, which must be
    while the observer is called. Everything that was read may be kept.
    """

    def __init__(self, simulation: Simulation, scalars: Mapping[str, float]) -> None:
        self.step = simulation.step
        self.time = scalars["time"]
        self.scalars = dict(scalars)
        self._simulation: Simulation | None = simulation
        self._arrays: dict[str, HostArray] = {}

    @property
    def U(self) -> HostArray:
        """Hidden layer, (m, d_in)."""
        return self._array("U")

    @property
    def V(self) -> HostArray:
        """Top layer, (d_out, m)."""
        return self._array("V")

    @property
    def W(self) -> HostArray:
        """Critic's hidden layer, (m_c, d_out)."""
        return self._array("W")

    @property
    def a(self) -> HostArray:
        """Critic's top layer, (m_c,)."""
        return self._array("a")

    def _array(self, name: str) -> HostArray:
        if not self._arrays:
            if self._simulation is None:
                raise ConfigError(
                    f"the state at step {self.step} is gone: read U, V, W, a while the observer is "
                    "called"
                )
            with self._simulation.backend.active():
                self._arrays = self._simulation.weights(self.time)
            for array in self._arrays.values():
                array.flags.writeable = False
        return self._arrays[name]

    def close(self) -> None:
        """Let go of the run, which goes on: the state can no longer be read."""
        self._simulation = None

    def __repr__(self) -> str:
        loss = self.scalars["loss_sup"]
        return f"<Observation of step {self.step}, t = {self.time:.6g}: L_sup {loss:.6g}>"


Observer = Callable[[Observation], object]
"""A function that is called at every row of scalars."""


def observers_of(observe: Observer | Sequence[Observer]) -> tuple[Observer, ...]:
    """Return the observers of a run, one or several; raises `ConfigError` for anything else."""
    found = (observe,) if callable(observe) else observe
    if not isinstance(found, Sequence) or not all(map(callable, found)):
        raise wrong("observe", "a function of an Observation, or a sequence of them", observe)
    return tuple(found)
