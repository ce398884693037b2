"""Panels: blocks of samples that are taken one after the other, in memory for one of them.

An array with a column for each sample lies panel by panel, each panel's columns as a contiguous
array of their own. So the array of a panel is a view, and operations that treat all entries alike
take the array as a whole, whatever the order of its entries. One panel is the ordinary array.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend


@dataclass(frozen=True)
class Panels:
    """n samples in panels of ``size``, in order; the last may be smaller."""

    n: int
    size: int

    @classmethod
    def of(cls, n: int, size: int | None) -> Panels:
        """Return panels of a size, None or more than n: one of all."""
        return cls(n, n if size is None else min(size, n))

    @property
    def one(self) -> bool:
        """Whether all samples are one panel."""
        return self.size >= self.n

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The first sample of each panel, and the one after its last."""
        return [(p, min(p + self.size, self.n)) for p in range(0, self.n, self.size)]

    def split(self, array: Array) -> list[Array]:
        """Return the panels of an array (rows, n), or (n,)."""
        if self.one:
            return [array]
        rows = array.shape[:-1]
        count, entries = prod(rows), array.reshape(-1)
        return [entries[count * p : count * q].reshape((*rows, q - p)) for p, q in self.bounds]

    def fill(self, backend: Backend, source: HostArray, out: Array) -> None:
        """out = a host array (rows, n) or (n,) with its samples in order."""
        for (p, q), panel in zip(self.bounds, self.split(out), strict=True):
            backend.to_device(source[..., p:q], panel)

    def load(self, backend: Backend, source: HostArray) -> Array:
        """Return a copy of a host array (rows, n) on the device."""
        out = backend.empty(source.shape)
        self.fill(backend, source, out)
        return out

    def to_host(self, backend: Backend, array: Array) -> HostArray:
        """Return a copy of an array (rows, n) on the host, its samples in order."""
        return np.concatenate([backend.to_host(panel) for panel in self.split(array)], axis=-1)

    def positions(self, rows: int) -> HostArray:
        """Return where the entries of an array (rows, n) lie in its memory, int64."""
        parts = [rows * p + np.arange(rows * (q - p)).reshape(rows, q - p) for p, q in self.bounds]
        return np.concatenate(parts, axis=-1)
