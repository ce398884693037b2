"""Tables of a run other than its history: by neuron, direction, mode; scaling; the theorems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from prdsim.analysis.patterns.neurons import hidden_distances, top_distances
from prdsim.analysis.patterns.order import morans_i
from prdsim.analysis.patterns.subspace import trajectory_shares
from prdsim.analysis.recording import Recording, recording_of
from prdsim.analysis.stability.coupling_history import CouplingHistory, replay_couplings
from prdsim.analysis.stability.equilibrium import find_equilibrium
from prdsim.analysis.stability.lyapunov import TangentGrowth, replay_tangent
from prdsim.analysis.stability.turing import Stability, assess_stability
from prdsim.analysis.theory.bernoulli import plateau
from prdsim.analysis.theory.forces import FORCES, SYMBOLS, forces_of
from prdsim.analysis.theory.scaling import Scaling, measure_scaling
from prdsim.analysis.theory.theorem_report import recorded_residual, theorem_report
from prdsim.errors import DataError, PrdsimError
from prdsim.progress import Say, Told, silent
from prdsim.table import Table
from prdsim.trajectory import Trajectory

_HEADS = {
    "neuron": "neuron j",
    "distance_U": "||u_j(t) - u_j(0)||",
    "distance_V": "||v_j(t) - v_j(0)||",
    "morans_i": "Moran's I of u_j",
    **SYMBOLS,
    "directions": "directions k",
    "share": "share of the k-th",
    "cumulative": "share of the first k",
    "exponent_error": "+-",
    "predicted_exponent": "predicted",
    "independent_exponent": "if independent",
    "coherent_exponent": "if coherent",
    "bound_exponent": "paper's bound",
    "bound_ratio_min": "bound / measured, least",
    "bound_ratio_max": "largest",
    "distance": "||u_j(t) - u_j(0)||",
    "theorem_1": "bound of Theorem 1",
    "theorem_2": "bound of Theorem 2",
    "lambda_min": "lambda_min(H(t))",
    "lambda_max": "lambda_max(H(t))",
    "mask_flips": "share of gates flipped",
    "integrated_rate": "integral of sigma_1(C_j)",
    "span_share": "share of the change in the span",
    "real": "Re lambda",
    "imaginary": "Im lambda",
    "rescaling": "rescaling share",
}


_MOMENTS = 10  # of a run, at which exponents are shown


# -- patterns --------------------------------------------------------------------------------------


def neuron_table(source: Trajectory | Recording, index: int = -1) -> Table:
    """Return a row per neuron at a snapshot: distances, order, reaction and diffusion.

    Moran's I is omitted without a grid, reaction and diffusion if they cannot be computed. Raises
    `ConfigError` if there is no such snapshot, and as `recording_of`.
    """
    recording = recording_of(source)
    now = recording.at(index)
    columns: dict[str, Any] = {
        "neuron": np.arange(len(now.U)),
        "distance_U": hidden_distances(now.U, now.U_0),
        "distance_V": top_distances(now.V, now.V_0),
    }
    if recording.grid is not None:
        columns["morans_i"] = morans_i(now.U, recording.grid)
    columns |= _force_columns(recording, index)
    return Table(f"neurons at step {now.step}, t = {now.time:.6g}", columns, _HEADS)


def _force_columns(recording: Recording, index: int) -> dict[str, Any]:
    try:
        time = float(recording.time[index])
        norms = forces_of(recording).norms(**recording.weights(index), time=time)
    except PrdsimError:
        return {}
    return {name: getattr(norms, name) for name in FORCES}


def subspace_table(source: Trajectory | Recording) -> Table:
    """Return the shares of the trajectory's variance in its principal directions, descending.

    Raises as `recording_of`.
    """
    shares = trajectory_shares(recording_of(source).U)
    columns = {
        "directions": np.arange(1, len(shares) + 1),
        "share": shares,
        "cumulative": np.cumsum(shares),
    }
    return Table("principal directions of the path U(t)", columns, _HEADS)


# -- scaling ---------------------------------------------------------------------------------------


def scaling_like(source: Trajectory | Recording | None) -> Scaling:
    """Measure how reaction and diffusion scale at initial draws like a run's, if one is given.

    It gives ``init_scale`` and ``output_init``; sizes and inputs are those of `measure_scaling`.
    Raises as `recording_of`.
    """
    config = None if source is None else recording_of(source).config
    if config is None:
        return measure_scaling()
    return measure_scaling(init_scale=config.init_scale, output_init=config.output_init)


def scaling_table(scaling: Scaling) -> Table:
    """Return a row per norm and size: exponents measured, predicted, and of the paper's bound."""
    names = ("quantity", "varied", "exponent", "exponent_error", "predicted_exponent")
    ends = ("independent_exponent", "coherent_exponent", "bound_exponent")
    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in scaling.rows] for name in (*names, *ends)
    }
    columns["bound_ratio_min"] = [min(row.bound_ratio) for row in scaling.rows]
    columns["bound_ratio_max"] = [max(row.bound_ratio) for row in scaling.rows]
    base = ", ".join(f"{name} = {size}" for name, size in scaling.base._asdict().items())
    title = f"exponents at the initial draw, about {base}, {scaling.draws} draws"
    return Table(title, columns, _HEADS)


# -- theorems --------------------------------------------------------------------------------------


def theorem_table(source: Trajectory | Recording) -> Table:
    """Return a row per snapshot of Theorems 1 and 2; verdicts and the Bernoulli fit as notes.

    Raises `ConfigError` unless the run has the theorems' set-up, `DataError` if lambda_0 is 0.
    """
    recording = recording_of(source)
    report = theorem_report(recording.file)
    constants = report.constants
    notes = (
        *report.lines(),
        f"Bernoulli equation of ||z - y||^2, in theory: r = {constants.growth_rate:.4g}, "
        f"K = {constants.capacity:.4g}",
        *_residual_notes(recording),
    )
    heads = {**_HEADS, "distance": "largest ||u_j(t) - u_j(0)||"}
    return Table("Theorems 1 and 2", report.columns(), heads, wide=True, notes=notes)


def _residual_notes(recording: Recording) -> list[str]:
    """Describe r and K fitted to the recorded residual, and its final level."""
    residual = recorded_residual(recording.file)
    try:
        fit = residual.fit()
        notes = [
            f"fitted: r = {fit.r:.4g} +- {fit.r_error:.2g}, K = {fit.K:.4g} +- {fit.K_error:.2g}"
        ]
    except DataError as error:
        notes = [f"fitted: {error}"]
    if residual.ends is not None:
        limit = f"{residual.resolution:.2g}, what tolerance and rounding resolve"
        return [*notes, f"residual from t = {residual.ends:.4g} on: below {limit}; not fitted"]
    try:
        rest = plateau(residual.time, residual.norm)
    except DataError as error:
        return [*notes, str(error)]
    settled = "settled" if rest.settled else "not settled"
    return [*notes, f"residual at the end {rest.level:.4g}, {settled}"]


# -- couplings -------------------------------------------------------------------------------------


def coupling_table(history: CouplingHistory, kappa: float = 0.0) -> Table:
    """Return a row per neuron: its integrated leading rate, its distance, the share in the span.

    ``kappa`` is the coupling of a run whose neurons are coupled.
    """
    columns = {
        "neuron": np.arange(len(history.leading)),
        "integrated_rate": history.leading,
        "distance": history.distances,
        "span_share": np.where(history.distances > 0, history.span_shares, np.nan),
    }
    moved = history.span_shares[history.distances > 0]
    quartiles = np.quantile(moved, (0.05, 0.5)) if len(moved) else (np.nan, np.nan)
    same = "bit for bit" if history.difference == 0 else f"to {history.difference:.1e}"
    notes: tuple[str, ...] = (
        f"integrals by the trapezoidal rule over {len(history.times)} rows of scalars, from a "
        f"replay that equals the snapshots {same}",
        f"rank correlation of the integrated rate with the distance: "
        f"{history.rank_correlation:.3f} (Spearman)",
        f"share of ||u_j(t) - u_j(0)||^2 in the span of the integral of C_j: median "
        f"{quartiles[1]:.4f}, 5 % of the neurons below {quartiles[0]:.4f}",
    )
    if kappa:
        notes += (f"rates are those of C_j alone: deviations within groups have {kappa:g} less",)
    return Table("growth of the neurons over the run", columns, _HEADS, notes=notes)


# -- predictability --------------------------------------------------------------------------------


def lyapunov_table(growth: TangentGrowth) -> Table:
    """Return finite-time Lyapunov exponents at evenly spaced times."""
    moments = np.linspace(0.0, growth.times[-1], _MOMENTS + 1)[1:]
    places = np.unique(np.searchsorted(growth.times, moments).clip(max=len(growth.times) - 1))
    columns = {
        "time": growth.times[places],
        "growth": np.exp(growth.logs[places]),
        "exponent": growth.exponents[places],
    }
    notes = (
        "of a random difference of all arrays, by tangents of the method: gates are the run's",
        "differences that change a gate in another step jump there: prdsim converge has twins",
    )
    heads = {"exponent": "log(growth) / t"}
    return Table("growth of a small difference between kinks", columns, heads, notes=notes)


# -- stability -------------------------------------------------------------------------------------


def stability_of(
    source: Trajectory | Recording, *, equilibrium: bool = False, say: Say = silent
) -> Stability:
    """Return the leading modes at a recording's last snapshot, without and with diffusion.

    For a run without diffusion, this shows the effect that its untrained critic would have.
    ``equilibrium`` first moves U and V to a reaction equilibrium by Newton's method, for small
    problems. ``say`` is called with a progress text now and then.
    Raises `ConfigError` if it lacks W, a or the configuration, or the memory does not suffice.
    """
    recording = recording_of(source)
    weights = recording.weights(-1)
    config = recording.settings.replace(precision="float64")
    X, Y = recording.samples
    if equilibrium:
        rest = find_equilibrium(config.replace(steps=1), X, Y, initial=weights, say=say)
        weights = dict(rest.weights)
    flow = config if config.diffuses else config.replace(diffusion=True)
    time, norms = float(recording.time[-1]), recording.forcing_norms
    return assess_stability(flow, X, Y, weights, time=time, forcing_norms=norms, say=say)


def stability_table(stability: Stability) -> Table:
    """Return a row per leading mode of each flow; notes give the verdict, or why there is none."""
    rows: list[dict[str, Any]] = [
        {
            "flow": flow,
            "mode": k + 1,
            "real": float(value.real),
            "imaginary": float(value.imag),
            "residual": float(modes.residuals[k]),
            "rescaling": float(modes.rescaling_shares[k]),
        }
        for flow, modes in stability.modes.items()
        for k, value in enumerate(modes.eigenvalues)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {"flow": []}
    counted = (
        f"null directions: {stability.rescaling_nulls} of rescaling, at least "
        f"{stability.interpolation_nulls} of interpolation at Z = Y",
    )
    notes = (*stability.verdict.splitlines(), *counted)
    return Table("leading modes of the Jacobian", columns, _HEADS, notes=notes)


# -- all of them -----------------------------------------------------------------------------------


RUN_TABLES: dict[str, Callable[[Recording, Say], Table]] = {
    "subspace": lambda run, _: subspace_table(run),
    "neurons": lambda run, _: neuron_table(run),
    "theorems": lambda run, _: theorem_table(run),
    "couplings": lambda run, say: coupling_table(
        replay_couplings(run.file, progress=Told(say, f"{run.name} again")),
        run.settings.coupling if run.settings.coupled else 0.0,
    ),
    "lyapunov": lambda run, say: lyapunov_table(
        replay_tangent(run.file, progress=Told(say, f"{run.name} again"))
    ),
    "stability": lambda run, say: stability_table(stability_of(run, say=say)),
    "equilibrium": lambda run, say: stability_table(stability_of(run, equilibrium=True, say=say)),
    "scaling": lambda run, _: scaling_table(scaling_like(run)),
}
"""The tables of `prdsim.vocabulary`: made from a recording, and a function that takes progress."""
