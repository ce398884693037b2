"""The state of a run: the sizes of its arrays, the arrays, and the point to restart from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from prdsim.symbols import ARRAYS

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array, HostArray
    from prdsim.backends.base import Backend

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Dimensions:
    """Sizes of a run: inputs d_in, outputs d_out, samples n, generator m, critic m_c."""

    d_in: int
    d_out: int
    n: int
    m: int
    m_c: int

    @property
    def state_shapes(self) -> Shapes:
        """Shapes of U, V, W, a in the paper's coordinates."""
        return {
            "U": (self.m, self.d_in),
            "V": (self.d_out, self.m),
            "W": (self.m_c, self.d_out),
            "a": (self.m_c,),
        }

    def size(self, name: str) -> int:
        """Return the number of entries of U, V, W or a."""
        return prod(self.state_shapes[name])

    def workspace_shapes(self, panel: int) -> Shapes:
        """Shapes of the intermediate arrays of a step with panels of a size; see `Workspace`."""
        samples = dict.fromkeys(("Z", "E", "G", "Y_hat", "Q"), (self.d_out, self.n))
        return {
            **dict.fromkeys(("A", "B"), (self.m, panel)),
            **samples,
            "aW": (self.m_c, self.d_out),
            "N": (self.m_c, self.d_out),
            "critic_W": (self.m_c, self.d_out),
            "critic_a": (self.m_c,),
            "e": (self.n,),
            "c": (self.n,),
            "squared_norms": (self.n,),
        }


@dataclass(slots=True)
class State:
    """U, V, W, a on a backend, or velocities of their shapes; U in the coordinates of a chart."""

    U: Array
    V: Array
    W: Array
    a: Array

    def __iter__(self) -> Iterator[tuple[str, Array]]:
        return ((name, getattr(self, name)) for name in ARRAYS)

    @classmethod
    def empty(cls, backend: Backend, shapes: Shapes, names: tuple[str, ...] = ARRAYS) -> State:
        """Return uninitialized arrays of the given shapes; None for those not named."""
        return cls(*(backend.empty(shapes[name]) if name in names else None for name in ARRAYS))


def entries(*groups: Shapes) -> int:
    """Return the number of entries of all arrays of the given shapes."""
    return sum(prod(shape) for shapes in groups for shape in shapes.values())


@dataclass(frozen=True)
class RestartPoint:
    """The exact state of a run after `step` accepted steps, as its stepper carries it."""

    step: int
    time: float
    arrays: dict[str, HostArray]
    scalars: dict[str, float]
