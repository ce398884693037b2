"""What figures need of a request: raised before anything is drawn, where that is cheap to know.

Each function takes a `Request` of one run or more, and raises what drawing would.
"""

from __future__ import annotations

from prdsim.analysis.patterns.embedding import require_tsne
from prdsim.analysis.theory.theorem_report import check_set_up
from prdsim.figures.request import Request


def images(request: Request) -> None:
    """Inputs are images; raises `ConfigError`."""
    for run in request.runs:
        _ = run.pixels


def neurons(request: Request) -> None:
    """The chosen neurons are there, and the same in all runs; raises `ConfigError`."""
    request.chosen_neurons()


def samples(request: Request) -> None:
    """Samples and critic are there; raises `ConfigError`, `DataError`, `ResumeMismatchError`."""
    for run in request.runs:
        run.require_critic()
        _ = run.settings, run.samples


def input_image(request: Request) -> None:
    """There is a sample of the number asked for; raises as `samples`."""
    for run in request.runs:
        request.input_of(run)


def plane(request: Request) -> None:
    """The embedding asked for can be made; raises `ConfigError`."""
    if request.embedding == "tsne":
        for run in request.runs:
            require_tsne(run.U.shape[1])


def theorems(request: Request) -> None:
    """Runs are of the theorems' set-up; raises `ConfigError`, and as `samples`."""
    for run in request.runs:
        _ = run.file
        check_set_up(run.settings, run.samples[0], run.initial[1])
