"""Names that commands take, and their meaning: help and completion import nothing heavier."""

GROUPS = {
    "distances": "||u_j(t) - u_j(0)||, ||v_j(t) - v_j(0)||: mean, spread, quantiles",
    "spread": "coefficient of variation and Gini of the distances",
    "entries": "entries of U against a normal distribution",
    "order": "Moran's I, peak wavelength, correlation length of filters",
    "activity": "open gates, silent neurons, and the spread of the others",
    "rank": "effective rank and participation ratio of U(t) - U(0)",
    "growth": "leading growth rates sigma_1(C_j), reaction and diffusion part",
    "forces": "norms of reaction and diffusion",
    "synchrony": "alignment of weights and velocities, synchrony of activities and speeds",
}
"""Groups of measures that have a row per snapshot; see `prdsim.analysis.GROUPS`."""


def _over_neurons(*names: str) -> tuple[str, ...]:
    return tuple(
        f"{name}_{part}" for name in names for part in ("mean", "sd", "q05", "q50", "q95", "max")
    )


MEASURES = {
    "distances": _over_neurons("distance_U", "distance_V"),
    "spread": ("cv_U", "gini_U", "cv_V", "gini_V"),
    "entries": ("skewness_U", "kurtosis_U", "ks_U", "ks_initial_U"),
    "order": (
        "morans_i_U",
        "morans_i_change",
        "wavelength_U",
        "wavelength_change",
        "correlation_length_U",
        "correlation_length_change",
    ),
    "activity": ("active_gates", "inactive_neurons", "cv_active_U", "gini_active_U"),
    "rank": ("effective_rank", "participation_ratio"),
    "growth": (*_over_neurons("growth_rate"), "growth_reaction", "growth_diffusion"),
    "forces": _over_neurons("reaction_U", "diffusion_U", "reaction_V", "diffusion_V"),
    "synchrony": (
        *(
            f"{name}_{of}"
            for name in ("alignment", "directions", "polar")
            for of in ("U", "change", "V", "velocity_U", "velocity_V", "motion_U", "motion_V")
        ),
        "within_groups_U",
        "within_groups_V",
        "chi2_activity",
        "chi2_speed_U",
    ),
}
"""The measures of each group."""

SCALARS = (
    "step",
    "time",
    "step_size",
    "loss_sup",
    "loss_adv",
    "loss_aug",
    "loss_critic",
    "residual_norm",
    "reaction_norm_U",
    "diffusion_norm_U",
    "reaction_norm_V",
    "diffusion_norm_V",
    "distance_U_mean",
    "distance_U_max",
    "distance_V_mean",
    "distance_V_max",
    "balance_drift",
    "critic_balance_drift",
    "score_norm_mean",
    "penalty_norm_mean",
    "mask_flips",
    "evaluations",
    "rejected_steps",
    "invariant_error",
    "lambda_max",
)
"""What every run records besides snapshots; see `prdsim.trajectory.SCALARS`."""

TABLES = {
    "subspace": "share of the path's variance in its first k directions",
    "neurons": "all of the above per neuron, at the last snapshot",
    "theorems": "Theorems 1 and 2 on a run of the preset theory, with their premises",
    "couplings": "integrated growth rates per neuron (runs again, in memory)",
    "lyapunov": "growth of a small difference between kinks (runs again, in memory)",
    "stability": "leading eigenvalues of the Jacobian at the last snapshot",
    "equilibrium": "the same at the reaction equilibrium reached from there (small problems)",
    "scaling": "how reaction and diffusion scale at the initial draw",
}
"""Other tables of a run; see `prdsim.analysis.run_tables`."""

FIGURES = (
    "distances",
    "input",
    "filters",
    "changes",
    "features",
    "top",
    "symmetry",
    "order",
    "subspace",
    "embedding",
    "forces",
    "scaling",
    "schematic",
    "theorems",
    "bernoulli",
    "growth",
    "patterns",
    "dispersion",
    "ranking",
    "stability",
    "wavelengths",
    "turing",
    "movie",
)
"""Figures that `prdsim plot` draws; see `prdsim.figures.FIGURES`."""

DOWNLOADED = ("mnist", "fashion-mnist")
"""Data sets that `prdsim data fetch` gets; see `prdsim.datasets.idx.manifest`."""

DATASETS = ("synthetic", "digits", *DOWNLOADED)
"""Data sets known by name; see `prdsim.datasets.load_dataset`."""

DATA_SUFFIXES = (".npz", ".h5", ".hdf5", ".csv")
"""Suffixes of the user's own data files; see `prdsim.datasets.user_files`."""

STUDIES = ("mnist", "digits", "synthetic", "theory")
"""Parts of the page of `prdsim reproduce`, in its order; see `prdsim.reproduction.plan`."""
