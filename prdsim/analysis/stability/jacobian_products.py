"""Products of the flow's Jacobian with vectors on the host, for the solvers of SciPy and ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from prdsim.backends.arrays import Array, HostArray
from prdsim.physics.driven import Driven
from prdsim.physics.state import Shapes, State, entries
from prdsim.physics.tangent import Linearization


def unpack(vector: HostArray, shapes: Shapes) -> dict[str, HostArray]:
    """Return the arrays of the given shapes stored one after another in a flat vector."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


def by_parts(linear: Callable[[HostArray], HostArray], vector: HostArray) -> HostArray:
    """Return a real linear function of a complex vector; a real vector costs half as much."""
    image = linear(vector.real) + 0j
    if vector.imag.any():
        image += 1j * linear(vector.imag)
    return image


class JacobianProducts:
    """A linearization as a function of flat host vectors: the trainable ones of U, V, W, a.

    Products are of the backend's precision, ``dtype``.
    """

    def __init__(self, jacobian: Linearization) -> None:
        backend, self.shapes = jacobian.model.backend, jacobian.shapes
        self.jacobian = jacobian
        self.dtype = backend.dtype
        self.precision = float(np.finfo(backend.dtype).eps)
        self.size = entries(self.shapes)
        self.count = 0
        self.tangent = State.empty(backend, self.shapes, jacobian.moving)
        self._out = State.empty(backend, self.shapes, jacobian.moving)

    def __call__(self, vector: HostArray) -> HostArray:
        """Return the Jacobian times a real or complex vector."""
        if np.iscomplexobj(vector):
            return by_parts(self, vector)
        self.load(vector)
        self.jacobian.product(self.tangent, out=self._out)
        self.count += 1
        return self.pack(self._out)

    def load(self, vector: HostArray) -> None:
        """Make a vector the tangent."""
        _load(self.jacobian, vector, self.shapes, self.tangent)

    def pack(self, state: State) -> HostArray:
        """Return the trainable arrays of a state or velocity as one vector."""
        return _pack(self.jacobian, {name: getattr(state, name) for name in self.shapes})

    def dense(self) -> HostArray:
        """Return the whole Jacobian, column by column."""
        return np.stack([self(column) for column in np.eye(self.size)], axis=1)


class WholeOperator:
    """A linearization as a `krylov.Operator` on all coordinates."""

    euclidean = True

    def __init__(self, products: JacobianProducts, start: HostArray) -> None:
        self._products, self.first = products, start
        self.size, self.precision = products.size, products.precision

    def __call__(self, vector: HostArray) -> tuple[HostArray, HostArray]:
        """Return the Jacobian times a vector, and the vector."""
        return self._products(vector).astype(np.float64), vector

    def expanded(self, vector: HostArray) -> HostArray:
        """Return the coordinates (N,) of a vector: itself."""
        return vector


class DrivenOperator:
    """A linearization as a `krylov.Operator` on multiples of a start, and driven tangents.

    A vector (size,) holds a driven tangent, the present ones of e, v, V, W, a, and a multiple of
    ``start``, a tangent of all coordinates. The Krylov space of the start contains nothing else.
    For wide networks these are few numbers; they are not unique, so that they can fail where
    `WholeOperator` does not.
    """

    euclidean = False

    def __init__(self, products: JacobianProducts, start: HostArray) -> None:
        jacobian = products.jacobian
        backend, self._shapes = jacobian.model.backend, jacobian.driven_shapes
        self._products, self._jacobian, self._start = products, jacobian, start
        self.size = entries(self._shapes) + 1
        self.precision = products.precision
        self._driven, self._out, self._dual = (
            Driven.empty(backend, self._shapes) for _ in range(3)
        )
        products.load(start)
        jacobian.driven_response(products.tangent, out=self._out, dual=self._dual)
        self._image_of_start, self._dual_of_start = self._response()
        self._square_of_start = float(start @ start)

    @property
    def first(self) -> HostArray:
        """The start itself."""
        return np.append(np.zeros(self.size - 1), 1.0)

    def __call__(self, vector: HostArray) -> tuple[HostArray, HostArray]:
        """Return the Jacobian times a vector, and the vector's dual; see `krylov.Operator`."""
        driven, share = vector[:-1], vector[-1]
        _load(self._jacobian, driven, self._shapes, self._driven)
        self._jacobian.driven_product(self._driven, out=self._out, dual=self._dual)
        image, dual = self._response()
        image += share * self._image_of_start
        of_start = self._dual_of_start @ driven + share * self._square_of_start
        return np.append(image, 0.0), np.append(dual + share * self._dual_of_start, of_start)

    def expanded(self, vector: HostArray) -> HostArray:
        """Return the coordinates (N,) of a real or complex vector."""
        if np.iscomplexobj(vector):
            return by_parts(self.expanded, vector)
        _load(self._jacobian, vector[:-1], self._shapes, self._driven)
        self._jacobian.expand(self._driven, out=self._products.tangent)
        coordinates = self._products.pack(self._products.tangent)
        coordinates += vector[-1] * self._start
        return coordinates

    def _response(self) -> tuple[HostArray, HostArray]:
        """Return the results of the last product: the image, a driven tangent, and the dual."""
        self._products.count += 1
        return _pack(self._jacobian, dict(self._out)), _pack(self._jacobian, dict(self._dual))


def _load(
    jacobian: Linearization, vector: HostArray, shapes: Shapes, arrays: State | Driven
) -> None:
    """Copy the parts of a flat vector to the arrays of a tangent."""
    for name, part in unpack(vector, shapes).items():
        jacobian.model.backend.to_device(part, getattr(arrays, name))


def _pack(jacobian: Linearization, arrays: Mapping[str, Array]) -> HostArray:
    to_host = jacobian.model.backend.to_host
    return np.concatenate([to_host(array).ravel() for array in arrays.values()])
