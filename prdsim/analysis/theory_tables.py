"""Theorems, growth rates and stability of a run, as tables: what commands print."""

from __future__ import annotations

from typing import Any

import numpy as np

from prdsim.analysis.recording import Recording
from prdsim.analysis.stability.growth import CouplingHistory, replay_couplings
from prdsim.analysis.stability.instability import Stability, assess_stability, find_equilibrium
from prdsim.analysis.table import Table
from prdsim.analysis.theory.bernoulli import fit_bernoulli, plateau
from prdsim.analysis.theory.verdicts import theorem_report
from prdsim.config import RunConfig
from prdsim.errors import ConfigError, DataError
from prdsim.progress import Progress, Say, silent

_HEADS = {
    "distance": "largest ||u_j(t) - u_j(0)||",
    "neuron": "neuron j",
    "theorem_1": "bound of Theorem 1",
    "theorem_2": "bound of Theorem 2",
    "lambda_min": "lambda_min(H(t))",
    "lambda_max": "lambda_max(H(t))",
    "mask_flips": "share of masks flipped",
    "integrated_rate": "integral of sigma_1(C_j)",
    "span_share": "share of the change in the span",
    "real": "Re lambda",
    "imaginary": "Im lambda",
    "rescaling": "rescaling share",
}


def theorem_table(recording: Recording) -> Table:
    """Return a row per snapshot of Theorems 1 and 2; verdicts and the Bernoulli fit as notes.

    Raises:
        ConfigError: the run is not of the theorems' set-up, or no trajectory.
        DataError: lambda_0 is 0 to rounding.

    """
    trajectory = require_trajectory(recording)
    report = theorem_report(trajectory)
    constants = report.constants
    notes = [
        *report.lines(),
        f"Bernoulli equation of ||z - y||^2, in theory: r = {constants.growth_rate:.4g}, "
        f"K = {constants.capacity:.4g}",
        *_residual_notes(recording),
    ]
    return Table("Theorems 1 and 2", report.columns(), _HEADS, wide=True, notes=tuple(notes))


def _residual_notes(recording: Recording) -> list[str]:
    """Say what r and K the recorded residual has, and where it comes to rest."""
    assert recording.scalars is not None
    time, rho = recording.scalars["time"], recording.scalars["residual_norm"]
    try:
        fit, rest = fit_bernoulli(time, rho**2), plateau(time, rho)
    except DataError as error:
        return [f"fitted: {error}"]
    return [
        f"fitted: r = {fit.r:.4g} +- {fit.r_error:.2g}, K = {fit.K:.4g} +- {fit.K_error:.2g}",
        f"residual at the end {rest.level:.4g}, {'settled' if rest.settled else 'not settled'}",
    ]


def require_trajectory(recording: Recording) -> Any:
    """Return the trajectory of a recording; raises `ConfigError` for one made of arrays."""
    if recording.trajectory is None:
        raise ConfigError(f"{recording.name}: this measure needs the trajectory file of a run")
    return recording.trajectory


# -- couplings -------------------------------------------------------------------------------------


def coupling_history(recording: Recording, progress: Progress | None = None) -> CouplingHistory:
    """Run a recording's trajectory again and integrate C_j over it; see `replay_couplings`."""
    return replay_couplings(require_trajectory(recording), progress=progress)


def coupling_table(history: CouplingHistory) -> Table:
    """Return a row per neuron: its integrated leading rate, its distance, the share in the span."""
    columns = {
        "neuron": np.arange(len(history.leading)),
        "integrated_rate": history.leading,
        "distance": history.distances,
        "span_share": np.where(history.distances > 0, history.span_shares, np.nan),
    }
    moved = history.span_shares[history.distances > 0]
    quartiles = np.quantile(moved, (0.05, 0.5)) if len(moved) else (np.nan, np.nan)
    same = "bit for bit" if history.difference == 0 else f"to {history.difference:.1e}"
    notes = (
        f"integrals by the trapezoidal rule over {len(history.times)} rows of scalars, from a "
        f"replay that equals the snapshots {same}",
        f"rank correlation of the integrated rate with the distance: "
        f"{history.rank_correlation:.3f} (Spearman)",
        f"share of ||u_j(t) - u_j(0)||^2 in the span of the integral of C_j: median "
        f"{quartiles[1]:.4f}, 5 % of the neurons below {quartiles[0]:.4f}",
    )
    heads = {**_HEADS, "distance": "||u_j(t) - u_j(0)||"}
    return Table("growth of the neurons over the run", columns, heads, notes=notes)


# -- stability -------------------------------------------------------------------------------------


def with_critic(config: RunConfig) -> RunConfig:
    """Return the configuration with diffusion: what the flow would be if it were switched on."""
    return config if config.adversary else config.replace(diffusion=True)


def stability_of(
    recording: Recording, *, equilibrium: bool = False, say: Say = silent
) -> Stability:
    """Return the leading modes at a recording's last snapshot, without and with diffusion.

    A run without diffusion is asked what its critic, as it is, would do. ``equilibrium`` first
    carries U and V on to where the reaction rests, by Newton's method; meant for small problems.
    ``say`` takes a text now and then: how far it is.

    Raises:
        ConfigError: it lacks W, a or the configuration, or the memory does not suffice.

    """
    weights = recording.weights(-1)
    config = recording.settings.replace(precision="float64")
    X, Y = recording.samples
    if equilibrium:
        rest = find_equilibrium(config.replace(steps=1), X, Y, initial=weights, say=say)
        weights = dict(rest.weights)
    return assess_stability(with_critic(config), X, Y, weights, say=say)


def stability_table(stability: Stability) -> Table:
    """Return a row per leading mode of each flow; the verdict, or why there is none, as notes."""
    rows: list[dict[str, Any]] = []
    for flow, modes in stability.modes.items():
        for k, value in enumerate(modes.eigenvalues):
            row = {
                "flow": flow,
                "mode": k + 1,
                "real": float(value.real),
                "imaginary": float(value.imag),
                "residual": float(modes.residuals[k]),
                "rescaling": float(modes.rescaling_shares[k]),
            }
            rows.append(row)
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {"flow": []}
    counted = (
        f"null directions: {stability.rescaling_nulls} of rescaling, at least "
        f"{stability.interpolation_nulls} of interpolation at Z = Y",
    )
    notes = (*stability.verdict.splitlines(), *counted)
    return Table("leading modes of the Jacobian", columns, _HEADS, notes=notes)
