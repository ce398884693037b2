"""Explicit Runge-Kutta methods as data: coefficients, orders, interpolants, stability limits.

`TABLEAUX` lists the integrators other than ``gd``: configuration, verification, documentation and
tests take it from here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: stage i starts from y + h sum_j a[i][j] k_j.

    ``b`` weights the solution; ``error`` (b minus the embedded method's weights) the estimate,
    of order ``error_order``. If ``first_same_as_last``, the last stage is taken at the solution.
    ``stability_limit`` is that of a stepper. ``dense`` are the coefficients of the interpolant's
    weights, for each stage a polynomial in the fraction of the step without constant term, of order
    ``dense_order``; without them it is the cubic Hermite interpolant of both ends.
    ``solution_share`` is alpha if error - alpha b weights only the first and the last stage.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    stability_limit: float
    error: tuple[float, ...] = ()
    error_order: int = 0
    first_same_as_last: bool = False
    solution_share: float | None = None
    dense: tuple[tuple[float, ...], ...] = ()
    dense_order: int = 3

    @property
    def adaptive(self) -> bool:
        """Whether the method estimates its error and adapts its steps to it."""
        return bool(self.error)

    def interpolant(self, fraction: float) -> tuple[float, ...]:
        """Return weights b(x) of y(x) = y_0 + h sum_i b_i(x) k_i at a fraction x of the step.

        They are for the stages, then, unless first same as last, the velocity at the step's end.
        """
        x = fraction
        if self.dense:
            return tuple(sum(c * x ** (k + 1) for k, c in enumerate(row)) for row in self.dense)
        ends = (*self.b, *([] if self.first_same_as_last else [0.0]))
        weights = [b * x * x * (3.0 - 2.0 * x) for b in ends]
        weights[0] += x * (1.0 - x) ** 2
        weights[-1] -= x * x * (1.0 - x)
        return tuple(weights)


HEUN = Tableau("heun", 2, a=((), (1.0,)), b=(1 / 2, 1 / 2), stability_limit=2.0)

RK4 = Tableau(
    "rk4",
    4,
    a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    stability_limit=2.785,
)

BS23 = Tableau(  # Bogacki and Shampine (1989)
    "bs23",
    3,
    a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0.0),
    stability_limit=2.512,
    error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    error_order=2,
    first_same_as_last=True,
    solution_share=1 / 4,
)

_B5 = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_B4 = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)

DOPRI5 = Tableau(  # Dormand and Prince (1980)
    "dopri5",
    5,
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        _B5,
    ),
    b=(*_B5, 0.0),
    stability_limit=3.306,
    error=tuple(high - low for high, low in zip((*_B5, 0.0), _B4, strict=True)),
    error_order=4,
    first_same_as_last=True,
    dense=(  # Shampine (1986): order 4, optimal at the middle of the step
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    ),
    dense_order=4,
)

TABLEAUX = {tableau.name: tableau for tableau in (HEUN, RK4, BS23, DOPRI5)}
