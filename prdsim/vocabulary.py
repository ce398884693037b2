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
}
"""Groups of measures that have a row per snapshot; see `prdsim.analysis.GROUPS`."""

TABLES = {
    "subspace": "share of the path's variance in its first k directions",
    "neurons": "all of the above per neuron, at the last snapshot",
    "theorems": "Theorems 1 and 2 on a run of the preset theory, with their premises",
    "couplings": "integrated growth rates per neuron (runs again, in memory)",
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
