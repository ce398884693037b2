"""What prdsim promises of its speed and memory, held against a report of benchmarks/suite.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

OURS = "prdsim"
RIVALS = ("numpy", "torch", "torch.compile", "jax")
LIBRARIES = RIVALS[1:]  # plain NumPy is there to compare with, and no promise counts it

FASTER_THAN_RIVALS = {100: 2.5, 500: 2.5, 1000: 1.7, 4000: 1.05}
"""By n, at m = 4096, d_out = 10, without critic."""

FASTER_WITH_CRITIC = {"float64": 3.3, "float32": 2.9}
FASTER_AUTOENCODER = 1.3
OVER_PRODUCTS = ((500, 1500, 1.3), (4000, float("inf"), 1.15))
"""(n from, n to, factor) over the time of the bare products, from m = 1024 on."""

MEMORY_FACTOR, MEMORY_MB = 1.25, 150.0
SMALL_MB, SMALL_RUN_MB = 50.0, 190.0
"""A run predicted to take less may take that much more than its arrays: imports alone are 180."""

SNAPSHOTS_FACTOR = 1.05

FASTER_THAN_DIFFRAX = 3.0
"""The README's job from its beginning to its end, with compiled code on both sides."""

FIRST_RUN_SECONDS = 30.0
"""The README's job with nothing compiled."""


@dataclass(frozen=True)
class Promise:
    """One promise: what was measured (None if it was not) and what is required."""

    what: str
    case: str
    measured: float | None
    required: float
    at_least: bool
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the promise is kept; None where nothing was measured."""
        if self.measured is None:
            return None
        if self.at_least:
            return self.measured >= self.required
        return self.measured <= self.required


def promises(report: dict[str, Any]) -> list[Promise]:
    """Hold a report against everything promised."""
    found = [promise for case in report["cases"] for promise in _of_case(case)]
    for row in report.get("memory", []):
        beside = SMALL_RUN_MB if row["predicted_mb"] < SMALL_MB else MEMORY_MB
        allowed = MEMORY_FACTOR * row["predicted_mb"] + beside
        what = "peak memory of a run, MB"
        found.append(Promise(what, row["name"], row["measured_mb"], allowed, at_least=False))
    snapshots = report.get("snapshots")
    if snapshots:
        what = "time of a run with 40 snapshots over one with 2"
        found.append(
            Promise(what, snapshots["name"], snapshots["ratio"], SNAPSHOTS_FACTOR, at_least=False)
        )
    return found


def promises_of_whole_runs(whole: dict[str, Any]) -> list[Promise]:
    """Hold a report of benchmarks/converged.py against what is promised of the README's job."""
    found = []
    for job in whole["jobs"]:
        rows = {row["label"]: row for row in job["contenders"]}
        if job["name"] != "readme" or OURS not in rows:
            continue
        ours, theirs, ratio = rows[OURS], rows.get("diffrax"), None
        if theirs is not None:
            ratio = theirs["warm_seconds"] / ours["warm_seconds"]
        what = "times faster than diffrax, whole run, warm"
        found.append(Promise(what, "README's job", ratio, FASTER_THAN_DIFFRAX, at_least=True))
        what, cold = "seconds of a first run, nothing compiled", ours["cold_seconds"]
        found.append(Promise(what, "README's job", cold, FIRST_RUN_SECONDS, at_least=False))
    return found


def _of_case(case: dict[str, Any]) -> Iterator[Promise]:
    required = _faster(case)
    if required is not None:
        measured, note = _against_rivals(case)
        what = "times faster than the fastest rival"
        yield Promise(what, case["name"], measured, required, at_least=True, note=note)
    allowed = _over_products(case)
    if allowed is not None:
        what = "time over that of the bare products"
        measured, note = _against_products(case)
        yield Promise(what, case["name"], measured, allowed, at_least=False, note=note)


def _faster(case: dict[str, Any]) -> float | None:
    if case["group"] == "steps":
        return FASTER_THAN_RIVALS.get(case["sizes"]["n"])
    if case["group"] == "critic":
        return FASTER_WITH_CRITIC[case["precision"]]
    return FASTER_AUTOENCODER if case["group"] == "autoencoder" else None


def _over_products(case: dict[str, Any]) -> float | None:
    sizes = case["sizes"]
    if case["group"] not in ("steps", "products") or sizes["m"] < 1024:
        return None
    limits = (factor for low, high, factor in OVER_PRODUCTS if low <= sizes["n"] <= high)
    return next(limits, None)


def timed(case: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the contenders of a case that were timed, by label."""
    return {row["label"]: row for row in case["contenders"] if "ms" in row}


def _against_rivals(case: dict[str, Any]) -> tuple[float | None, str]:
    rows = timed(case)
    rivals = [rows[name] for name in LIBRARIES if name in rows]
    if OURS not in rows or not rivals:
        return None, "not measured"
    fastest = min(rivals, key=lambda row: float(row["ms"]))
    ours = rows[OURS]
    note = f"{fastest['label']}; chart {ours['chart']}; by rounds {_by_rounds(fastest, ours):.3g}"
    return fastest["ms"] / ours["ms"], note


def _against_products(case: dict[str, Any]) -> tuple[float | None, str]:
    rows = timed(case)
    chart = rows.get(OURS, {}).get("chart")
    bare = rows.get(f"products {chart}")
    if bare is None:
        return None, "not measured"
    ours = rows[OURS]
    return ours["ms"] / bare["ms"], f"chart {chart}; by rounds {_by_rounds(ours, bare):.3g}"


def _by_rounds(above: dict[str, Any], below: dict[str, Any]) -> float:
    """The median over rounds of the ratio, beside the ratio of the medians."""
    pairs = zip(above["rounds_ms"], below["rounds_ms"], strict=True)
    return float(median(one / other for one, other in pairs))
