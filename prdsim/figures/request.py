"""The request for a figure: runs, the options that figures share, and checks of their needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from textwrap import fill
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.figure import Figure

from prdsim.analysis import History, Recording, by_label, history, told_apart
from prdsim.analysis.patterns.embedding import require_tsne
from prdsim.analysis.patterns.neurons import hidden_distances
from prdsim.analysis.theory.theorem_report import check_set_up
from prdsim.arguments import choice, each, flag, function, integer, number
from prdsim.backends.arrays import HostArray as Array
from prdsim.errors import ConfigError
from prdsim.figures.style import SUFFIXES, without_formulas
from prdsim.progress import Say, silent
from prdsim.words import shown

Histories = dict[str, list[History]]
"""The histories of the runs of each label."""

Neurons = Literal["displacement", "random"] | Sequence[int]
Embedding = Literal["pca", "tsne"]


@dataclass(frozen=True, repr=False)
class Request:
    """The runs of a figure, and the options that choose the parts shown.

    ``neurons`` are indices, "displacement" (those that moved most, in all runs shown together) or
    "random" (by ``seed``), ``count`` of them; ``times`` picks the nearest snapshots (None: the
    first, one in between and the last); ``sample`` is the number of the input image; ``embedding``
    is "pca" or "tsne"; ``log_time`` draws time logarithmically. ``progress`` may wrap loops;
    ``say`` is told of other long work now and then.
    Raises `ConfigError` for what none of them can be; sequences of numbers become tuples.
    """

    recordings: tuple[Recording, ...]
    neurons: Neurons = "displacement"
    count: int = 24
    seed: int = 0
    times: Sequence[float] | None = None
    sample: int = 0
    embedding: Embedding = "pca"
    log_time: bool = False
    progress: Callable[[Iterable[int]], Iterable[int]] = iter
    say: Say = silent
    _histories: dict[tuple[int, tuple[str, ...]], History] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in _checked(self).items():
            object.__setattr__(self, name, value)
        readable = tuple(_with_readable_label(run) for run in told_apart(self.recordings))
        object.__setattr__(self, "recordings", readable)

    def __repr__(self) -> str:
        names = shown(", ".join(run.name for run in self.recordings), 200)
        return f"<Request for figures of {len(self.recordings)} runs: {names}>"

    @property
    def runs(self) -> list[Recording]:
        """The first run of each label, without diffusion first, which represents the others."""
        return [members[0] for members in by_label(self.recordings).values()]

    def histories(self, *names: str) -> Histories:
        """Return groups of measures along every run, by label; each is computed once."""
        return {
            label: [self._history(run, names) for run in members]
            for label, members in by_label(self.recordings).items()
        }

    def _history(self, run: Recording, names: tuple[str, ...]) -> History:
        key = (id(run.U), names)
        if key not in self._histories:
            self._histories[key] = history(run, names, progress=self.progress)
        return self._histories[key]

    def input_of(self, run: Recording) -> Array:
        """Return input ``sample`` of a run, (d_in,); raises `ConfigError`."""
        X, _ = run.samples
        if not 0 <= self.sample < X.shape[1]:
            raise ConfigError(f"there is no sample {self.sample}: they are 0 to {X.shape[1] - 1}")
        x: Array = X[:, self.sample]
        return x

    def snapshots(self, run: Recording) -> list[int]:
        """Return the indices of a run's snapshots to show, in order of time."""
        if self.times is not None:
            return sorted({run.nearest(time) for time in self.times})
        between = run.nearest(run.time[-1] / 10)
        return sorted({0, between, len(run) - 1})

    def chosen_neurons(self) -> Array:
        """Return the neurons to show, the same in all runs, in ascending order.

        Raises `ConfigError` if runs differ in width, or there is no such neuron.
        """
        widths = {run.U.shape[1] for run in self.recordings}
        if len(widths) > 1:
            raise ConfigError(
                f"runs of {' and '.join(map(str, sorted(widths)))} neurons have no neurons in "
                "common; draw them separately"
            )
        m = widths.pop()
        if isinstance(self.neurons, tuple):
            absent = [j for j in self.neurons if not 0 <= j < m]
            if absent:
                raise ConfigError(f"there is no neuron {absent[0]}: they are 0 to {m - 1}")
            return np.array(self.neurons)
        count = min(self.count, m)
        if self.neurons == "random":
            return np.sort(np.random.default_rng(self.seed).choice(m, count, replace=False))
        moved = sum(hidden_distances(run.U[-1], run.U[0]) for run in self.runs)
        return np.sort(np.argsort(-moved, kind="stable")[:count])


def _checked(request: Request) -> dict[str, object]:
    """Return the options of a request that are sequences as tuples; raises `ConfigError`."""
    integer("count", request.count, least=1)
    integer("seed", request.seed, least=0)
    integer("sample", request.sample, least=0)
    choice("embedding", request.embedding, get_args(Embedding))
    flag("log_time", request.log_time)
    function("progress", request.progress, "that wraps a loop, such as tqdm")
    found: dict[str, object] = {}
    if request.times is not None:
        times = each("times", request.times, "numbers")
        found["times"] = tuple(number("times", time) for time in times)
    if isinstance(request.neurons, str):
        choice("neurons", request.neurons, ("displacement", "random"))
    else:
        indices = each("neurons", request.neurons, "indices, or displacement, or random")
        found["neurons"] = tuple(integer("neurons", index) for index in indices)
    return found


def _with_readable_label(run: Recording) -> Recording:
    """Return a run whose label fits a panel, with dollar signs that do not begin formulas."""
    if run.config is None:
        return replace(run, name=without_formulas(run.name))
    return replace(run, apart=without_formulas("\n" * bool(run.apart) + fill(run.apart, _LINE)))


_LINE = 32  # characters: of the narrowest panels


Draw = Callable[[Request], Figure]


@dataclass(frozen=True)
class FigureKind:
    """A figure: its name, its caption, its number in the poster, and how it is drawn.

    A movie has no ``draw``: it is written while it is drawn. Some figures need no run. ``needs``
    raise those errors of drawing that can be known before. ``suffixes`` are the file formats in
    which it can be written, the default one first.
    """

    name: str
    caption: str
    draw: Draw | None
    poster: str = ""
    needs_run: bool = True
    needs: tuple[Callable[[Request], object], ...] = ()
    suffixes: tuple[str, ...] = SUFFIXES


FIGURES: dict[str, FigureKind] = {}
"""All figures by name, in the order in which `prdsim.figures` imports their modules."""


def draws(
    name: str, caption: str, *needs: Callable[[Request], object], **others: Any
) -> Callable[[Draw], Draw]:
    """Declare a function that draws a figure; see `FigureKind`."""

    def declared(draw: Draw) -> Draw:
        FIGURES[name] = FigureKind(name, caption, draw, needs=needs, **others)
        return draw

    return declared


# -- needs: checked before anything is drawn, where that is cheap ----------------------------------


def needs_images(request: Request) -> None:
    """Require that inputs are images; raises `ConfigError`."""
    for run in request.runs:
        _ = run.pixels


def needs_course(request: Request) -> None:
    """Require two snapshots of every run; raises `ConfigError`."""
    for run in request.recordings:
        if len(run) < 2:
            raise ConfigError(f"{run.name}: holds its initial state alone; nothing has moved yet")


def needs_neurons(request: Request) -> None:
    """Require that the chosen neurons exist, the same in all runs; raises `ConfigError`."""
    request.chosen_neurons()


def needs_samples(request: Request) -> None:
    """Require samples and critic; raises `ConfigError`, `DataError`, `ResumeMismatchError`."""
    for run in request.runs:
        run.require_critic()
        _ = run.settings, run.samples


def needs_input_image(request: Request) -> None:
    """Require that input ``sample`` exists; raises as `Recording.samples`."""
    for run in request.runs:
        request.input_of(run)


def needs_plane(request: Request) -> None:
    """Require that the requested embedding is available; raises `ConfigError`."""
    if request.embedding == "tsne":
        for run in request.runs:
            require_tsne(run.U.shape[1])


def needs_theorems(request: Request) -> None:
    """Require that runs have the theorems' set-up; raises `ConfigError`, and as `samples`."""
    for run in request.runs:
        _ = run.file
        check_set_up(run.settings, run.samples[0], run.initial[1])
