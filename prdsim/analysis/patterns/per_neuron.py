"""Tables that have no row per snapshot: one a neuron, one a principal direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prdsim.analysis.patterns.distances import hidden_distances, top_distances
from prdsim.analysis.patterns.measures import forces_of
from prdsim.analysis.patterns.order import morans_i
from prdsim.analysis.patterns.subspace import trajectory_shares
from prdsim.analysis.recording import Recording, recording_of
from prdsim.analysis.table import Table
from prdsim.analysis.theory.forces import FORCES
from prdsim.analysis.theory.scaling import Scaling, measure_scaling
from prdsim.errors import PrdsimError

if TYPE_CHECKING:
    from prdsim.trajectory import Trajectory

_HEADS = {
    "neuron": "neuron j",
    "distance_U": "||u_j(t) - u_j(0)||",
    "distance_V": "||v_j(t) - v_j(0)||",
    "morans_i": "Moran's I of u_j",
    "reaction_U": "||R^u_j||",
    "diffusion_U": "D ||D^u_j||",
    "reaction_V": "||R^v_j||",
    "diffusion_V": "D ||D^v_j||",
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
}


def neuron_table(source: Trajectory | Recording, index: int = -1) -> Table:
    """Return a row per neuron at a snapshot: distances, order, reaction and diffusion.

    Moran's I is left out without a grid, reaction and diffusion where they cannot be computed.
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
        norms = forces_of(recording).norms(**recording.weights(index))
    except PrdsimError:
        return {}
    return {name: getattr(norms, name) for name in FORCES}


def subspace_table(source: Trajectory | Recording) -> Table:
    """Return the shares of the trajectory's variance in its principal directions, falling."""
    shares = trajectory_shares(recording_of(source).U)
    columns = {
        "directions": np.arange(1, len(shares) + 1),
        "share": shares,
        "cumulative": np.cumsum(shares),
    }
    return Table("principal directions of the path U(t)", columns, _HEADS)


def scaling_like(recording: Recording | None) -> Scaling:
    """Measure how reaction and diffusion scale at initial draws like a run's, if one is given.

    Like in ``init_scale`` and ``output_init``; sizes and inputs are those of `measure_scaling`.
    """
    config = None if recording is None else recording.config
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
