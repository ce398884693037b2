"""Driven tangents: dU is given by a drive, in far fewer numbers than it has entries.

The dU of a Jacobian product is determined by dE and dV, which on wide networks have far fewer
entries than dU. Tangents of this form are called driven here:

    dU = s [(V^T e + v^T E) * 1{A >= 0}] X^T,       e (d_out, n), v (d_out, m)

The Jacobian maps every tangent to a driven one, with e' = dE and v' = dV; so all vectors of a
Krylov space after the first are driven, whatever tangent it starts from. Inner products in weight
space come with each Jacobian product, since for any tangent dU~

    <dU, dU~> = <e, s V dH~> + <v, s E dH~^T>,      dH~ = 1{A >= 0} * (dU~ X)

(e, v) is not unique, and its redundant part may grow from product to product;
`prdsim.analysis.stability.krylov` watches that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from prdsim.physics.state import Dimensions, Shapes

if TYPE_CHECKING:
    from prdsim.backends.arrays import Array
    from prdsim.backends.base import Backend


@dataclass(slots=True)
class Driven:
    """A driven tangent on a backend: e, v in place of dU, and dV, dW, da; None for absent ones."""

    e: Array
    v: Array
    V: Array
    W: Array
    a: Array

    def __iter__(self) -> Iterator[tuple[str, Array]]:
        """Yield the arrays that are present, by name, in the order of the fields."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ((name, array) for name, array in pairs if array is not None)

    @classmethod
    def empty(cls, backend: Backend, shapes: Shapes) -> Driven:
        """Return uninitialized arrays of the given shapes; None for those without one."""
        names = (field.name for field in fields(cls))
        return cls(*(backend.empty(shapes[n]) if n in shapes else None for n in names))


def driven_shapes(sizes: Dimensions, shapes: Shapes) -> Shapes:
    """Shapes of a driven tangent, given the shapes of the arrays that move.

    Without U there is neither e nor v, without V no v.
    """
    driven: dict[str, tuple[int, ...]] = {}
    if "U" in shapes:
        driven["e"] = (sizes.d_out, sizes.n)
        if "V" in shapes:
            driven["v"] = (sizes.d_out, sizes.m)
    return driven | {name: shape for name, shape in shapes.items() if name != "U"}
