"""Charts: exact coordinates in which U may be carried.

U(t) - U(0) always lies in the row space of X^T. A chart chooses coordinates for it, linear in the
velocity, so that every integrator gives the same trajectory in exact arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prdsim.backends.base import Array, Backend, HostArray


class Chart(Protocol):
    """What integrators, gradients and files need to know of the coordinates of U.

    "U" below means the carried array, in the chart's coordinates.
    """

    name: str
    X: Array

    def shape(self, m: int) -> tuple[int, int]:
        """Return the shape of the carried array for m neurons."""

    def start(self, U_0: HostArray) -> HostArray:
        """Return the carried array at t = 0 for the initial weights U_0, on the host."""

    def pre_activations(self, U: Array, out: Array) -> None:
        """out = A, the pre-activations of the weights that the carried array stands for."""

    def pull_back(self, B: Array, out: Array, *, alpha: float, beta: float = 0.0) -> None:
        """out = alpha B X^T + beta out, in the chart's coordinates."""

    def weights(self, U: Array) -> Array:
        """Return the weights U (m, d_in) on the device; valid until the next call."""

    def squared_norm(self, U: Array) -> float:
        """Return the squared Frobenius norm, in weight space, of a difference of two U."""

    def arrays(self) -> dict[str, HostArray]:
        """Return what the trajectory file must keep to read the coordinates again."""


class WeightChart:
    """U itself: A = U X and dU/dt = s B X^T; 4 m d_in n operations a step."""

    name = "weight"

    def __init__(self, backend: Backend, X: HostArray) -> None:
        self._backend = backend
        self.X = backend.empty(X.shape)
        backend.to_device(X, self.X)

    def shape(self, m: int) -> tuple[int, int]:
        return (m, self.X.shape[0])

    def start(self, U_0: HostArray) -> HostArray:
        return U_0

    def pre_activations(self, U: Array, out: Array) -> None:
        self._backend.gemm(U, self.X, out)

    def pull_back(self, B: Array, out: Array, *, alpha: float, beta: float = 0.0) -> None:
        self._backend.gemm(B, self.X.T, out, alpha=alpha, beta=beta)

    def weights(self, U: Array) -> Array:
        return U

    def squared_norm(self, U: Array) -> float:
        return self._backend.dot(U, U)

    def arrays(self) -> dict[str, HostArray]:
        return {}


CHARTS = {"weight": WeightChart}


def resolve_chart(name: str) -> str:
    """Return the chart that ``auto`` means."""
    return "weight" if name == "auto" else name
