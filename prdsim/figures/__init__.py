"""Figures of runs: each by its name, from trajectories or arrays, as a matplotlib `Figure`.

Example::

    with prdsim.open_trajectory("run.h5") as run:
        prdsim.figures.draw("filters", [run], count=12).savefig("filters.png")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prdsim.analysis import Recording, recording_of
from prdsim.errors import ConfigError
from prdsim.figures import (
    distances,
    features,
    filters,
    forces,
    instability,
    movie,
    needs,
    scaling,
    schematic,
    symmetry,
    theory,
)
from prdsim.figures.request import Request
from prdsim.figures.style import SUFFIXES, settings, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from prdsim.trajectory import Trajectory

__all__ = ["FIGURES", "FigureKind", "Request", "check", "draw", "draw_request", "write"]


@dataclass(frozen=True)
class FigureKind:
    """A figure by its name: what it shows, the poster's number for it, and how it is drawn.

    A movie has no ``draw``: it is written as it is made. Some figures need no run. ``needs`` raise
    what drawing would, as far as that is known before.
    """

    name: str
    caption: str
    draw: Callable[[Request], Figure] | None
    poster: str = ""
    needs_run: bool = True
    needs: tuple[Callable[[Request], object], ...] = ()

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The file formats that it can be written in, the default one first."""
        return SUFFIXES if self.draw else movie.SUFFIXES


_ALL = (
    FigureKind(
        "distances",
        "distances of u_j and v_j from their initial values over time",
        distances.draw_distances,
        "1",
    ),
    FigureKind(
        "input",
        "the input image that features are shown of",
        features.draw_input,
        "2",
        needs=(needs.images, needs.input_image),
    ),
    FigureKind(
        "filters",
        "hidden filters u_j as images",
        filters.draw_filters,
        "3, 7, 8",
        needs=(needs.images, needs.neurons),
    ),
    FigureKind(
        "changes",
        "changes u_j(t) - u_j(0) of filters as images",
        filters.draw_changes,
        needs=(needs.images, needs.neurons),
    ),
    FigureKind(
        "features",
        "maps u_j * x and features relu(U x) of the input image",
        features.draw_features,
        "4",
        needs=(needs.images, needs.neurons, needs.input_image),
    ),
    FigureKind(
        "top",
        "columns v_j of the top layer, first, last, and changes",
        features.draw_top,
        needs=(needs.neurons,),
    ),
    FigureKind(
        "symmetry",
        "entries of U, distances over neurons, Moran's I, spectra, at the last snapshot",
        symmetry.draw_symmetry,
        "5",
    ),
    FigureKind("order", "measures of symmetry and order over time", symmetry.draw_order),
    FigureKind(
        "subspace", "variance of the path in its first k directions", symmetry.draw_subspace
    ),
    FigureKind(
        "embedding",
        "the neurons in the plane, by PCA or t-SNE",
        symmetry.draw_embedding,
        needs=(needs.plane,),
    ),
    FigureKind(
        "forces",
        "norms of reaction and diffusion per neuron",
        forces.draw_forces,
        needs=(needs.samples,),
    ),
    FigureKind(
        "scaling",
        "how reaction and diffusion scale with n, d_in, m, d_out at the initial draw",
        scaling.draw_scaling,
        needs_run=False,
    ),
    FigureKind(
        "schematic",
        "a drawing of reaction, diffusion and pattern",
        schematic.draw_schematic,
        "6",
        needs_run=False,
    ),
    FigureKind(
        "theorems",
        "Theorems 1 and 2 over the measured distances, with their premises",
        theory.draw_theorems,
        needs=(needs.theorems,),
    ),
    FigureKind(
        "bernoulli",
        "the residual, its Bernoulli bound and plateau",
        theory.draw_bernoulli,
        needs=(needs.theorems,),
    ),
    FigureKind(
        "growth",
        "leading growth rates sigma_1(C_j) over time",
        instability.draw_growth,
        needs=(needs.samples,),
    ),
    FigureKind(
        "patterns",
        "the patterns that neurons grow towards, and how they changed",
        instability.draw_patterns,
        needs=(needs.images, needs.neurons, needs.samples),
    ),
    FigureKind(
        "dispersion",
        "growth along the spectrum of the inputs",
        instability.draw_dispersion,
        needs=(needs.samples,),
    ),
    FigureKind(
        "ranking",
        "distances against integrated growth rates (runs again, in memory)",
        instability.draw_ranking,
        needs=(needs.samples,),
    ),
    FigureKind(
        "stability",
        "leading eigenvalues of the flow's Jacobian",
        instability.draw_stability,
        needs=(needs.samples,),
    ),
    FigureKind(
        "movie",
        "the formation of the pattern over all snapshots",
        None,
        needs=(needs.images, needs.neurons),
    ),
)

FIGURES: dict[str, FigureKind] = {kind.name: kind for kind in _ALL}


def draw(name: str, sources: Iterable[Trajectory | Recording] = (), **options: Any) -> Figure:
    """Draw a figure of runs; several runs of one kind make bands, the two kinds are set together.

    ``sources`` are open trajectories, or recordings of arrays (`prdsim.analysis.recording_of`);
    ``options`` are the fields of `Request`.

    Raises:
        ConfigError: no such figure, no run, or a choice that does not fit the runs.

    """
    request = Request(tuple(recording_of(source) for source in sources), **options)
    return draw_request(figure_kind(name), request)


def draw_request(kind: FigureKind, request: Request) -> Figure:
    """Draw a figure that is no movie."""
    if kind.draw is None:
        raise ConfigError(f"{kind.name} is a movie: prdsim.figures.write makes its file")
    _require_run(kind, request)
    with settings():
        return kind.draw(request)


def check(name: str, request: Request, path: Path) -> None:
    """Raise what `write` would, as far as that is known before drawing; nothing is written.

    Raises:
        ConfigError: as `draw`; or the format is not one of the figure's, or cannot be written.
        DataError, ResumeMismatchError: a run's samples are needed, and not to be had.

    """
    kind = figure_kind(name)
    if path.suffix not in kind.suffixes:
        known = ", ".join(kind.suffixes)
        raise ConfigError(f"{path}: {name} is written as one of {known}")
    if kind.draw is None:
        movie.require_writer(path)
    _require_run(kind, request)
    for need in kind.needs:
        need(request)


def write(name: str, request: Request, path: Path, *, dpi: float = 150.0) -> None:
    """Draw a figure or a movie, and write it as the path's suffix says.

    Raises:
        ConfigError, DataError, ResumeMismatchError: as `check` and `draw`.
        OutputError: the file cannot be written.

    """
    check(name, request, path)
    kind = figure_kind(name)
    if kind.draw is None:
        movie.write_movie(request, path, dpi=dpi)
    else:
        write_figure(draw_request(kind, request), path, dpi=dpi)


def _require_run(kind: FigureKind, request: Request) -> None:
    if kind.needs_run and not request.recordings:
        raise ConfigError(f"{kind.name}: name at least one run to draw, such as run.h5")


def figure_kind(name: str) -> FigureKind:
    """Return a figure by its name; raises `ConfigError` for an unknown one."""
    try:
        return FIGURES[name]
    except KeyError:
        raise ConfigError(f"{name}: no such figure; there are {', '.join(FIGURES)}") from None
