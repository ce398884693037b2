"""Small problems for the tests, and the ways to put them on a backend."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import isnan
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prdsim.backends import get_backend
from prdsim.config import INTEGRATORS as INTEGRATORS
from prdsim.config import RunConfig
from prdsim.physics.charts import make_chart
from prdsim.physics.model import Model, build_model
from prdsim.physics.state import State
from prdsim.running.simulation import Simulation
from prdsim.running.tableaux import TABLEAUX

BACKENDS = ("numpy", "numba")
ADAPTIVE = tuple(name for name, tableau in TABLEAUX.items() if tableau.adaptive)
PAPER = {"integrator": "gd", "critic_step_size": 0.01, "penalty_points": "random"}
"""The paper's algorithm: alternating steps, penalty points drawn anew for every critic update."""


EPS = np.finfo(np.float64).eps


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers, the same for the same seed."""
    return np.random.default_rng(seed).standard_normal(shape)


def in_pairs(**dimensions: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrize so that any two values of two dimensions are met together in some test.

    For dimensions that the code under test treats one after another, such as backend, method and
    chart: what goes wrong there goes wrong for one of them or between two. The rows are the same
    in every process, as pytest-xdist needs.
    """
    choices = list(dimensions.values())
    rows = list(product(*(range(len(values)) for values in choices)))
    pairs = {row: set(combinations(enumerate(row), 2)) for row in rows}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        chosen.append(max(rows, key=lambda row: len(pairs[row] & missing)))
        missing -= pairs[chosen[-1]]
    cases = [tuple(map(getitem, choices, row)) for row in chosen]
    return pytest.mark.parametrize(tuple(dimensions), cases, ids=str)


class Terminal(io.StringIO):
    """Progress is a bar on it."""

    def isatty(self) -> bool:
        return True


def names(folder: Path) -> list[str]:
    """What is in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Permissions do not stop the superuser: be somebody else meanwhile.

    Skips the test if somebody else cannot import modules from where they are.
    """
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        try:
            Path(__file__).open("rb").close()
        except PermissionError:
            pytest.skip("other users cannot read the folder of the tests")
        yield
    finally:
        os.seteuid(user)


@dataclass(frozen=True)
class Problem:
    """Data X (d_in, n), Y (d_out, n) and the arrays at t = 0, float64."""

    X: np.ndarray
    Y: np.ndarray
    initial: dict[str, np.ndarray]

    @property
    def lists(self) -> dict[str, Any]:
        """The same as the oracle takes it: nested lists, samples as rows."""
        arrays = {name: array.tolist() for name, array in self.initial.items()}
        return {**arrays, "X": self.X.T.tolist(), "Y": self.Y.T.tolist()}

    def config(self, **keys: Any) -> RunConfig:
        """A configuration of the problem's sizes; with the adversary unless told otherwise.

        gd draws its penalty points, so that what depends on the number of a step is part of it.
        """
        points = {"penalty_points": "random"} if keys.get("integrator") == "gd" else {}
        sizes = {
            "samples": self.X.shape[1],
            "width": self.initial["U"].shape[0],
            "critic_width": self.initial["W"].shape[0],
        }
        return RunConfig(**{"diffusion": True, "step_size": 0.02, **points, **sizes, **keys})

    def model(self, backend: str = "numpy", **keys: Any) -> tuple[Model, State]:
        """The model and its state at t = 0."""
        config = self.config(**keys)
        k = get_backend(backend, precision=config.precision, threads=1)
        chart = "weight" if config.chart == "auto" else config.chart
        built = make_chart(chart, k, self.X, self.initial["U"])
        model = build_model(config, k, built, self.X, self.Y)
        return model, model.start(self.initial)

    def simulation(
        self, backend: str = "numpy", *, panel: int | None = None, **keys: Any
    ) -> Simulation:
        """A run of the problem, on one thread unless told otherwise; its samples in panels."""
        config = self.config(**{"backend": backend, "threads": 1, **keys})
        run = Simulation(config, self.X, self.Y, initial=self.initial)
        if panel is None:
            return run
        chart = run.resolved.chart if config.chart == "auto" else config.chart
        resolved = replace(run.resolved, chart=chart, panel=panel)
        return Simulation(config, self.X, self.Y, initial=self.initial, resolved=resolved)


def random_problem(
    seed: int = 0, *, d_in: int = 7, d_out: int = 3, n: int = 6, m: int = 8, m_c: int = 5
) -> Problem:
    """Everything normal: masks of all kinds."""
    rng = np.random.default_rng(seed)
    initial = {
        "U": rng.standard_normal((m, d_in)),
        "V": rng.standard_normal((d_out, m)),
        "W": rng.standard_normal((m_c, d_out)),
        "a": rng.standard_normal(m_c),
    }
    return Problem(rng.standard_normal((d_in, n)), rng.standard_normal((d_out, n)), initial)


def smooth_problem(seed: int = 0) -> Problem:
    """Pre-activations far from zero, so that no mask changes while much else does.

    All data are positive; each u_j and w_r has one sign throughout, most of them positive.
    """
    rng = np.random.default_rng(seed)
    d_in, d_out, n, m, m_c = 4, 2, 3, 5, 4

    def positive(*shape: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, shape)

    initial = {
        "U": 0.5 * positive(m, d_in) * np.array([1, 1, -1, 1, 1])[:, None],
        "V": 0.5 * positive(d_out, m),
        "W": 0.5 * positive(m_c, d_out) * np.array([1, -1, 1, 1])[:, None],
        "a": 0.5 * positive(m_c) * np.array([1, 1, -1, 1]),
    }
    return Problem(positive(d_in, n), 3.0 * positive(d_out, n), initial)


def relative_error(computed: Any, expected: Any) -> float:
    """||computed - expected||_F / ||expected||_F; the norm of the difference if expected is 0."""
    computed, expected = np.asarray(computed, float), np.asarray(expected, float)
    assert computed.shape == expected.shape
    return float(np.linalg.norm(computed - expected) / (np.linalg.norm(expected) or 1.0))


def same_numbers(left: Mapping[str, float], right: Mapping[str, float]) -> bool:
    """Whether two sets of numbers are equal, NaN, which stands for what was not measured, too."""
    return left.keys() == right.keys() and all(
        left[name] == right[name] or (isnan(left[name]) and isnan(right[name])) for name in left
    )


def differing(
    problem: Problem,
    computed: Mapping[str, float],
    expected: Mapping[str, float],
    *,
    rel: float,
    absolute: float = 1e-12,
) -> list[str]:
    """The names of scalars of two rows that do not agree, relatively or absolutely.

    A drift is the difference of balances, good to so much of 1 + max_j |b_j(0)|. `invariant_error`
    divides it by the mean squared distance, which is as small as one likes at the start of a run.
    """
    assert computed.keys() == expected.keys()
    U, V = problem.initial["U"], problem.initial["V"]
    balance = 1.0 + np.abs((U**2).sum(axis=1) - (V**2).sum(axis=0)).max()
    squares = expected["distance_U_mean"] ** 2 + expected["distance_V_mean"] ** 2

    def agrees(name: str) -> bool:
        allowed = max(rel * abs(expected[name]), absolute)
        if name == "invariant_error" and squares > 0.0:
            allowed += absolute * balance / squares
        both_missing = isnan(computed[name]) and isnan(expected[name])
        return both_missing or abs(computed[name] - expected[name]) <= allowed

    return [name for name in expected if not agrees(name)]


def same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    """Whether two sets of arrays are equal to the last bit."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and left[name].tobytes() == right[name].tobytes()
        for name in left
    )
