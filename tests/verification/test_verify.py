"""`prdsim verify`: honest backends pass, and every planted fault fails at its rung."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import pytest
from support import BACKENDS

from prdsim.backends import backend_status
from prdsim.backends.base import Backend
from prdsim.backends.numpy import NumpyBackend
from prdsim.cli import main
from prdsim.config import INTEGRATORS, RunConfig
from prdsim.errors import BackendUnavailableError, ConfigError
from prdsim.physics.charts import CHARTS
from prdsim.running.simulation import Simulation
from prdsim.verification import verify as verification
from prdsim.verification.experiments import SPREAD_REASON
from prdsim.verification.ladder import RUNGS, Candidate
from prdsim.verification.operands import SHAPES, Finding
from prdsim.verification.operations import OPERATIONS
from prdsim.verification.rounding import ROUNDING, SPREAD, PerturbedBackend, gamma
from prdsim.verification.separation import Separation, compare_separations
from prdsim.verification.verify import DEFAULTS, LadderCheck, LadderReport, candidates, verify

# -- planted faults --------------------------------------------------------------------------------


class OpenOnlyAbove(NumpyBackend):
    """1{x > 0}."""

    def gate(self, B: Any, A: Any, out: Any) -> None:
        np.multiply(B, A > 0.0, out=out)


class LosesBeta(NumpyBackend):
    def gemm(self, A: Any, B: Any, out: Any, *, alpha: float = 1.0, beta: float = 0.0) -> None:
        super().gemm(A, B, out, alpha=alpha, beta=0.0 * beta)


class SingleSums(NumpyBackend):
    """Products in float32, whatever the precision."""

    def gemm(self, A: Any, B: Any, out: Any, *, alpha: float = 1.0, beta: float = 0.0) -> None:
        product = alpha * (A.astype("float32") @ B.astype("float32"))
        out[...] = product if beta == 0.0 else product + beta * out


class HidesWhatIsNotFinite(NumpyBackend):
    def gemm(self, A: Any, B: Any, out: Any, *, alpha: float = 1.0, beta: float = 0.0) -> None:
        super().gemm(A, B, out, alpha=alpha, beta=beta)
        np.nan_to_num(out, copy=False)


class CopiesLate(NumpyBackend):
    def start_copy(self, source: Any) -> Any:
        return source.copy


class SlightNoise(NumpyBackend):
    def combine(self, terms: Any, out: Any) -> None:
        super().combine(terms, out)
        out *= 1.0 + 1e-9 * np.random.default_rng().uniform(-1.0, 1.0, out.shape)


class SharesItsMemory(NumpyBackend):
    def to_host(self, source: Any) -> Any:
        return source


class ForgetsTheStep(NumpyBackend):
    def uniforms(self, seed: int, stream: int, step: Any, update: int, out: Any) -> None:
        super().uniforms(seed, stream, 0 * step, update, out)


class SpoilsAnOperand(NumpyBackend):
    def scale_columns(self, c: Any, A: Any, out: Any) -> None:
        super().scale_columns(c, A, out)
        c *= 1.0 + 1e-12


class SingleTotals(NumpyBackend):
    """The sums of a float32 run, in float32."""

    def dot(self, A: Any, B: Any) -> float:
        return float(np.sum(A * B, dtype="float32"))


def cut(factor: Any) -> Any:
    """A float32 factor of a product as tensor cores see it: 10 bits after the point."""
    return (np.ascontiguousarray(factor).view("u4") & 0xFFFFE000).view("f4")


class TensorCores(NumpyBackend):
    """tf32 on the host: honest as tf32, not as float32."""

    def gemm(self, A: Any, B: Any, out: Any, *, alpha: float = 1.0, beta: float = 0.0) -> None:
        super().gemm(cut(A), cut(B), out, alpha=alpha, beta=beta)


class Breaks(NumpyBackend):
    def synchronize(self) -> None:
        raise RuntimeError("out of registers\nand more")


class PacksOnce(NumpyBackend):
    """Packs a left factor the first time it comes, though it changes."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.packed: dict[int, Any] = {}

    def gemm(self, A: Any, B: Any, out: Any, **factors: Any) -> None:
        if A.flags.c_contiguous:
            A = self.packed.setdefault(id(A), (A, A.copy()))[1]
        super().gemm(A, B, out, **factors)


class TransposesOnce(PacksOnce):
    """The same for transposes: within one velocity, none is taken again after a change."""

    def gemm(self, A: Any, B: Any, out: Any, **factors: Any) -> None:
        if not A.flags.c_contiguous:
            A = self.packed.setdefault(id(A.base), (A.base, A.copy()))[1]
        NumpyBackend.gemm(self, A, B, out, **factors)


class LastBits(NumpyBackend):
    """Sums in an order that is never the same."""

    def column_dots(self, A: Any, B: Any, out: Any) -> None:
        super().column_dots(A, B, out)
        if A.shape[0] > 4:
            out *= 1.0 - 1.2e-16 * np.random.default_rng().integers(0, 2, out.shape)


class OneTooFew(NumpyBackend):
    """Says that it has done in a row what it has done less often."""

    def replay(self, *recurring: Any, at_most: int, **_: Any) -> int:
        recurring[-1]()
        return at_most


class SameNumber(NumpyBackend):
    """Repeats operations with the number of the first time."""

    def replay(self, *recurring: Any, at_most: int, **_: Any) -> int:
        for _ in range(at_most):
            recurring[-1]()
        return at_most


class LongSteps(Simulation):
    def _take(self, at_most: int, size: float) -> int:
        return super()._take(at_most, size * (1.0 + 1e-9))


class SamePenaltyPoints(Simulation):
    """Every step draws the first step's penalty points."""

    def _take(self, at_most: int, size: float) -> int:  # noqa: ARG002
        step, self.step = self.step, 0
        super()._take(1, size)
        self.step += step
        self.time = self._fixed.time(self.step)
        return 1


class LosesTheCarry(Simulation):
    def restore(self, point: Any) -> None:
        arrays = {
            name: np.zeros_like(array) if name.startswith("velocity") else array
            for name, array in point.arrays.items()
        }
        super().restore(replace(point, arrays=arrays))


SMALL: dict[str, Any] = {
    "dataset": "digits",
    "samples": 12,
    "width": 16,
    "critic_width": 8,
    "threads": 1,
}

PLANTED = {  # the fault, the rung that must name it, and a part of the item
    "open only above 0": (Candidate(OpenOnlyAbove()), "primitive", "gate"),
    "beta lost": (Candidate(LosesBeta()), "primitive", "gemm"),
    "sums in float32": (Candidate(SingleSums()), "primitive", "gemm"),
    "infinities hidden": (Candidate(HidesWhatIsNotFinite()), "primitive", "gemm"),
    "late copies": (Candidate(CopiesLate()), "primitive", "start_copy"),
    "noise of 1e-9": (Candidate(SlightNoise()), "primitive", "combine"),
    "no copy to the host": (Candidate(SharesItsMemory()), "primitive", "to_host"),
    "step forgotten": (Candidate(ForgetsTheStep()), "primitive", "uniforms"),
    "operand spoiled": (Candidate(SpoilsAnOperand()), "primitive", "operands left alone"),
    "totals in float32": (Candidate(SingleTotals("float32")), "primitive", "dot"),
    "secretly tf32": (Candidate(TensorCores("float32")), "primitive", "integers"),
    "an exception": (Candidate(Breaks()), "primitive", "RuntimeError: out of registers"),
    "packed once": (Candidate(PacksOnce()), "primitive", "critic_moments"),
    "transposed once": (Candidate(TransposesOnce()), "step", ": "),
    "a step too few": (Candidate(OneTooFew()), "primitive", "replay"),
    "same number": (Candidate(SameNumber()), "primitive", "replay"),
    "long steps": (Candidate(NumpyBackend(), LongSteps), "step", "gd: U"),
    "same points": (Candidate(NumpyBackend(), SamePenaltyPoints), "trajectory", "gd: "),
    "last bits": (Candidate(LastBits()), "determinism", "large operations"),
    "carry lost": (Candidate(NumpyBackend(), LosesTheCarry), "resume", "bs23"),
}
for name, (candidate, _, _) in PLANTED.items():
    candidate.backend.name, candidate.backend.threads = name, 1

TENSOR_CORES = TensorCores("float32")
TENSOR_CORES.precision = "tf32"


@pytest.fixture(scope="module")
def honest() -> list[LadderCheck]:
    """The ladder, climbed by honest backends on one problem: its references are made once."""
    found, _ = candidates(BACKENDS, threads=1)
    return verify([*found, Candidate(TENSOR_CORES)], RunConfig(**DEFAULTS, threads=1))


@pytest.fixture(scope="module")
def tampered() -> list[LadderCheck]:
    """The ladder, climbed by backends with a planted fault as far as it holds.

    Operations on smaller arrays than elsewhere: all are NumPy's, which has no parallel loops.
    """
    found = [candidate for candidate, _, _ in PLANTED.values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prdsim.verification.operands.SHAPES", (*SHAPES[:-1], (61, 57)))
        return verify(found, RunConfig(**SMALL), past_failures=False)


def of(checks: list[LadderCheck], backend: str, precision: str | None = None) -> list[LadderCheck]:
    return [c for c in checks if c.backend == backend and precision in (None, c.precision)]


# -- honest backends -------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", BACKENDS)
def test_honest_backends_hold_on_every_rung(honest, name, precision):
    ours = of(honest, name, precision)
    assert list(dict.fromkeys(check.rung for check in ours)) == list(RUNGS)
    assert [check for check in ours if not check.holds] == []
    assert LadderReport(ours).failures == []


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", BACKENDS)
def test_allowances_are_neither_exhausted_nor_idle(honest, name, precision):
    """Honest errors lie below one rms of the imitated ones; allowances near the precision."""
    unit = ROUNDING[precision].unit
    compared = [c for c in of(honest, name, precision) if c.reason == SPREAD_REASON]
    assert len(compared) > 30
    for check in compared:
        assert check.measured <= check.allowed / SPREAD, check
        assert 5 * unit < check.allowed < 2000 * unit, check


def test_tf32_holds_to_its_own_allowances(honest):
    ours = of(honest, TENSOR_CORES.name, "tf32")
    assert [check for check in ours if not check.holds] == []
    velocities = [check.measured for check in ours if check.rung == "velocity"]
    assert max(velocities) > 100 * ROUNDING["float32"].unit, "the stand-in must differ from float32"


def test_the_ladder_covers_every_operation_chart_integrator_and_array(honest):
    operations = {name for name, _ in inspect.getmembers(Backend, inspect.isfunction)}
    assert {name for name in operations if not name.startswith("_")} == set(OPERATIONS)
    items = {(check.rung, check.item) for check in of(honest, "numba", "float64")}
    assert {item.split()[0] for rung, item in items if rung == "primitive"} == {
        *OPERATIONS,
        "operands",
    }
    for chart in CHARTS:
        for array in "UVWa":
            assert ("velocity", f"{chart}, minimax: d{array}/dt") in items
            assert any(item.startswith(f"{chart}, gd: {array} after") for _, item in items)
            for integrator in INTEGRATORS:
                assert ("step", f"{chart}, {integrator}: {array}") in items
        for integrator in INTEGRATORS:
            assert ("resume", f"{chart}, {integrator}: restored at step 3") in items
            assert ("determinism", f"{chart}, {integrator}: 6 steps twice") in items
    assert ("resume", "gd: file resumed at step 3") in items


# -- tampered backends -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PLANTED)
def test_every_planted_fault_fails_and_its_rung_is_named(tampered, fault):
    _, rung, item = PLANTED[fault]
    failures = LadderReport(of(tampered, fault)).failures
    assert failures, "not found"
    assert failures[0].rung == rung, failures[0]
    assert any(item in failure.item for failure in failures if failure.rung == rung), failures
    assert all(failure.measured > failure.allowed for failure in failures)


def test_a_gate_that_differs_ends_the_comparison_of_trajectories():
    """And |A| there must be within its own allowance of 0."""
    separation = Separation(
        errors=[{"U": 1e-9}, {"U": 2e-9}, {"U": 0.5}, {"U": 0.6}],
        flips=[0, 0, 2, 3],
        flipped=[0.0, 0.0, 1e-7, 0.1],
        drift=[1e-9, 1e-8, 1e-8, 0.1],
    )
    drifts = [replace(separation, drift=[1e-9, 1e-8, drift, 0.1]) for drift in (1e-8, 1e-10)]
    results = [list(compare_separations("weight", separation, [other] * 8)) for other in drifts]
    for result in results:
        assert [finding.item for finding in result] == [
            "weight, gd: U after step 2",
            "weight, gd: |A| at 2 gates that differ in step 3",
        ]
    assert [finding.holds for finding in results[0]] == [True, True]
    assert [finding.holds for finding in results[1]] == [True, False]


def test_what_is_not_a_number_does_not_hold():
    for measured in (float("nan"), float("inf")):
        finding = Finding("x", measured, 1.0, "")
        assert not finding.holds
        assert finding.severity == float("inf")


# -- imitated rounding -----------------------------------------------------------------------------


def test_gamma_is_infinite_where_nothing_is_left():
    assert gamma(1, 2.0**-53) == pytest.approx(2.0**-53, rel=1e-15)
    assert gamma(2**24, 2.0**-24) == float("inf")


@pytest.mark.parametrize("signs", ["both", "one"])
@pytest.mark.parametrize("inner", [1, 10, 1000])
def test_imitated_products_err_at_least_as_much_as_a_running_sum(inner, signs):
    """Summed one by one in float32, the least accurate order anybody uses."""
    random = np.random.default_rng(0)
    A, B = (random.standard_normal(shape).astype("float32") for shape in ((30, inner), (inner, 30)))
    if signs == "one":
        A, B = abs(A), abs(B)
    running = np.zeros((30, 30), "float32")
    for column, row in zip(A.T, B, strict=True):
        running += np.multiply.outer(column, row)
    exact = A.astype(float) @ B.astype(float)
    imitated = np.empty((30, 30))
    PerturbedBackend("float32", 0).gemm(A.astype(float), B.astype(float), imitated)
    actual, expected = (np.linalg.norm(x - exact) for x in (running, imitated))
    assert actual <= expected <= 40 * actual


# -- choosing --------------------------------------------------------------------------------------


def test_what_is_verified():
    found, unavailable = candidates(["numpy"])
    assert [c.backend.precision for c in found] == ["float64", "float32"]
    assert unavailable == {}
    found, _ = candidates(["numba", "numpy"], ["float32"], threads=1)
    assert [(c.backend.name, c.backend.threads) for c in found] == [("numba", 1), ("numpy", 1)]
    with pytest.raises(BackendUnavailableError, match="tf32 exists only on the cupy backend"):
        candidates(["numpy"], ["tf32"])
    with pytest.raises(ConfigError, match="did you mean numpy"):
        candidates(["nunpy"])


def test_sizes_of_one_hold():
    found, _ = candidates(["numba"], ["float64"])
    config = RunConfig(
        dataset="digits", samples=1, width=1, critic_width=1, target="scalar", seed=1
    )
    assert [check for check in verify(found, config) if not check.holds] == []


# -- the command -----------------------------------------------------------------------------------


def prdsim(monkeypatch: Any, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prdsim", *words])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_the_command_prints_a_table_that_fits_and_exits_with_0(monkeypatch, capsys, tmp_path):
    # What is printed of few ways to step is printed of all.
    monkeypatch.setattr("prdsim.verification.ladder._METHODS", [("weight", "gd"), ("gram", "bs23")])
    toml = tmp_path / "config.toml"
    toml.write_text('dataset = "digits"\nsamples = 5\nwidth = 7\nbackend = "numba"\n')
    words = ["--set", "threads=1", "--backend", "numpy", "--precision", "float32"]
    assert prdsim(monkeypatch, "verify", str(toml), *words) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1].startswith("all ")
    assert lines[-1].endswith(" checks hold")
    assert "numpy float32" in lines
    for rung in RUNGS:
        assert any(line.startswith(f"  {rung} ") and "/" in line for line in lines)
        assert f"numpy float32: {rung}" in printed.err
    assert not list(tmp_path.glob("*.h5"))


def test_json_holds_every_check(honest, monkeypatch, capsys):
    climbed = of(honest, "numpy", "float64")
    monkeypatch.setattr(verification, "verify", lambda *_, **__: climbed)
    words = ["--backend", "numpy", "--precision", "float64", "--json"]
    assert prdsim(monkeypatch, "verify", *words) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"holds", "look_at_first", "rungs", "checks", "unavailable"}
    assert (report["holds"], report["look_at_first"], report["unavailable"]) == (True, None, {})
    assert report["rungs"] == list(RUNGS)
    assert len(report["checks"]) == len(climbed)
    for check in report["checks"]:
        assert set(check) == set(LadderCheck.__annotations__)
        assert check["holds"] is True
        assert (check["backend"], check["precision"]) == ("numpy", "float64")
        assert isfinite(check["measured"])
        assert 0.0 <= check["measured"] <= check["allowed"]
        assert check["reason"]
    assert {check["rung"] for check in report["checks"]} == set(RUNGS)


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_failed_check_exits_with_1_and_names_backend_rung_and_item(monkeypatch, capsys, form):
    tampered = [Candidate(LosesBeta())]
    monkeypatch.setattr(verification, "candidates", lambda *_, **__: (tampered, {"x": "why"}))
    monkeypatch.setattr(verification, "verify", partial(verify, past_failures=False))
    words = ["--set", "samples=4", *(["--json"] if form == "json" else [])]
    assert prdsim(monkeypatch, "verify", *words) == 1
    out = capsys.readouterr().out
    if form == "json":
        report = json.loads(out)
        assert (report["holds"], report["look_at_first"]) == (False, "primitive")
        assert report["unavailable"] == {"x": "why"}
        return
    assert "x is not verified: why" in out
    assert "look at rung primitive first: numpy float64, gemm " in out.splitlines()[-1]
    assert " > " in out.splitlines()[-1]
    assert "FAILS" in out


def test_a_named_backend_that_is_unavailable_exits_with_4(monkeypatch, capsys):
    if backend_status("cupy").available:
        pytest.skip("CuPy works here")
    assert prdsim(monkeypatch, "verify", "--backend", "cupy") == 4
    assert "backend cupy: " in capsys.readouterr().err


def test_a_backend_that_is_none_exits_with_2(monkeypatch, capsys):
    assert prdsim(monkeypatch, "verify", "--backend", "nunpy") == 2
    assert "did you mean numpy?" in capsys.readouterr().err
