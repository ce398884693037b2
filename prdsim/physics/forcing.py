"""Forcings: what stands in the place of the critic's score field G, as controls of its effect.

The field F (d_out, n) enters the drive E = (Y - Z) + D F where the adversary's own is G, eq. 17:

* ``adversary``: F = G, and no `Forcing`;
* ``static``: one random unit vector a sample, for ever;
* ``common``: one random unit vector for all samples;
* ``shuffled``: the columns of G, permuted over the samples;
* ``white``: random unit vectors, drawn anew;
* ``slow``: the directions of an Ornstein-Uhlenbeck process.

Column p is then scaled to a norm c_p. Fields are held for a period of time and change at its
multiples, whatever the steps: the controls have a limit of small steps, as the flow has. They are
pure functions of seed, sample and time, drawn on the host in float64, the same for every backend.
"""

from __future__ import annotations

from math import ceil, exp, floor, inf, sqrt
from typing import TYPE_CHECKING

import numpy as np

from prdsim.physics.charts import load
from prdsim.physics.panels import Panels
from prdsim.physics.randomness import Stream, permutation, unit_normals

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend
    from prdsim.physics.state import Dimensions
    from prdsim.symbols import ForcingKind

_SLOW_PERIODS = 16  # of ``slow`` in its correlation time
_ROUNDING = 1e-9  # of a period: times so close to its end are at the end


class Forcing:
    """The field F (d_out, n) of a control, on a backend; `load` it before its use.

    ``time`` is the period of ``white`` and ``shuffled``, the correlation time of ``slow``.
    ``norms`` are the c_p, one number or (n,); None: 1, and of ``shuffled`` those of G's columns.
    The samples lie in ``panels``, one unless it is given.
    """

    def __init__(
        self,
        kind: ForcingKind,
        backend: Backend,
        sizes: Dimensions,
        panels: Panels | None = None,
        *,
        seed: int,
        time: float,
        norms: HostArray | float | None,
    ) -> None:
        self.kind, self._seed, self._backend, self._sizes = kind, seed, backend, sizes
        self._panels = panels = panels or Panels.of(sizes.n, None)
        periods = {"static": inf, "common": inf, "slow": time / _SLOW_PERIODS}
        self.period = periods.get(kind, time)
        self.prescribed = kind != "shuffled"
        self.field = backend.empty((sizes.d_out, sizes.n))
        self._norms = norms if norms is None else np.broadcast_to(norms, sizes.n)
        self._order: Array | None = None
        self.norms: Array | None = None
        if not self.prescribed:
            shape = (sizes.n,) if panels.one else (sizes.d_out, sizes.n)
            self._order = backend.empty(shape, "int64")
            if self._norms is not None:
                self.norms = load(backend, self._norms)
        self._interval = -1
        self._walked = -1
        self._walk: HostArray = np.zeros(())

    # -- time ----------------------------------------------------------------------------------

    def interval(self, time: float) -> int:
        """Return the number of the interval, from 0, in which a step from ``time`` lies."""
        return floor(time / self.period + _ROUNDING)

    def interval_before(self, time: float) -> int:
        """Return the number of the interval in which a step up to ``time`` lies."""
        return max(0, ceil(time / self.period - _ROUNDING) - 1)

    def end(self, interval: int) -> float:
        """Return the time at which an interval ends."""
        return (interval + 1) * self.period

    # -- the field -----------------------------------------------------------------------------

    def load(self, interval: int) -> bool:
        """Make the field that of an interval; return whether it has changed."""
        if interval == self._interval:
            return False
        self._interval = interval
        if self.prescribed:
            self._panels.fill(self._backend, self._columns(interval), out=self.field)
        else:
            drawn = permutation(self._seed, Stream.SHUFFLED_SAMPLES, interval, self._sizes.n)
            # Samples of other panels: their columns are not contiguous, every entry has its place.
            places = (
                drawn if self._panels.one else self._panels.positions(self._sizes.d_out)[:, drawn]
            )
            self._panels.fill(self._backend, places, out=self._order)
        return True

    def shuffle(self, G: Array) -> None:
        """Make the field that of the critic, G (d_out, n), permuted over the samples."""
        assert self._order is not None
        shape = G.shape if self._panels.one else (1, -1)
        order, out = self._order.reshape(-1), self.field.reshape(shape)
        self._backend.take_columns(G.reshape(shape), order, out=out)

    def _columns(self, interval: int) -> HostArray:
        """Return the prescribed field of an interval, float64."""
        vectors = self._walk_to(interval) if self.kind == "slow" else self._drawn(interval)
        lengths = np.sqrt(np.sum(vectors**2, axis=0))
        units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        norms = np.ones(self._sizes.n) if self._norms is None else self._norms
        columns: HostArray = units * norms
        return columns

    def _drawn(self, interval: int) -> HostArray:
        """Return independent normal entries, (d_out, n), or (d_out, 1) for all samples."""
        count = 1 if self.kind == "common" else self._sizes.n
        return unit_normals(self._seed, Stream.FORCING, interval, self._sizes.d_out, count)

    def _walk_to(self, interval: int) -> HostArray:
        """Return the stationary Ornstein-Uhlenbeck process at the beginning of an interval.

        It is sampled without error, from its beginning, so that the way there changes no bit.
        """
        if interval < self._walked:
            self._walked = -1
        kept = exp(-1 / _SLOW_PERIODS)
        while self._walked < interval:
            self._walked += 1
            drawn = self._drawn(self._walked)
            self._walk = (
                drawn if self._walked == 0 else kept * self._walk + sqrt(1 - kept**2) * drawn
            )
        return self._walk
