"""Make the gallery: its pictures by the commands that docs/gallery.md shows, and their captions.

    python docs/gallery.py

runs the lines of the page's block of commands in a temporary folder (runs, and their assessments by
`prdsim converge`), draws every picture of `PICTURES`, and writes what is between the marks
"measured: gallery" and "end of measured: gallery". It takes some minutes.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from prdsim.convergence.report import Report, read_report, report_path
from prdsim.figures import FIGURES

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "gallery.md"
PICTURES_FOLDER = DOCS / "pictures" / "gallery"
PAIR = ("with.h5", "without.h5")
THEORY = ("theory-with.h5", "theory-without.h5")
RINGS = ("ring-with.h5", "ring-without.h5")


class Picture(NamedTuple):
    """A figure of some runs: the measures whose errors tell its accuracy, or words on it."""

    figure: str
    runs: tuple[str, ...]
    measures: tuple[str, ...] = ()
    options: str = ""
    words: str = ""


AT_AN_INSTANT = "Directions and rates of one instant are not assessed."

PICTURES = (
    Picture("distances", PAIR, ("distance_U_mean", "distance_V_mean")),
    Picture("changes", PAIR, ("distance_U_mean", "morans_i_change"), "--count 12"),
    Picture("filters", PAIR, ("distance_U_mean", "morans_i_U"), "--count 12"),
    Picture("input", PAIR[:1], words="The input is data, without an error of the integration."),
    Picture("features", PAIR, ("distance_U_mean", "active_gates"), "--count 12"),
    Picture("top", PAIR, ("distance_V_mean",)),
    Picture("symmetry", PAIR, ("ks_U", "cv_U", "morans_i_U")),
    Picture("order", PAIR, ("cv_U", "ks_U", "morans_i_U", "effective_rank")),
    Picture("subspace", PAIR, ("participation_ratio", "effective_rank")),
    Picture("embedding", PAIR, ("distance_U_mean",)),
    Picture("forces", PAIR, ("reaction_U_mean", "diffusion_U_mean")),
    Picture("growth", PAIR, ("growth_rate_mean",)),
    Picture("patterns", PAIR, ("distance_U_mean",), words=AT_AN_INSTANT),
    Picture("dispersion", PAIR, ("growth_reaction", "growth_diffusion"), words=AT_AN_INSTANT),
    Picture("ranking", PAIR, ("distance_U_mean",), words="Integrated rates are not assessed."),
    Picture("stability", PAIR, words="Eigenvalues at one instant; not assessed."),
    Picture("theorems", THEORY, ("distance_U_mean", "distance_U_max")),
    Picture("bernoulli", THEORY, ("residual_norm",)),
    Picture("wavelengths", RINGS, ("distance_U_mean", "wavelength_change")),
    Picture("scaling", (), words="No run: initial draws, with their standard errors."),
    Picture(
        "schematic", (), words="A drawing: no numbers of a run, and so no discretization error."
    ),
    Picture("movie", PAIR, ("distance_U_mean",), "--count 12"),
)


def main() -> None:
    """Make runs, pictures and captions."""
    text = PAGE.read_text(encoding="utf-8")
    block = re.search(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    PICTURES_FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for line in block[1].replace("\\\n", " ").splitlines():
            prdsim(folder, line, may_fail=" converge " in line)
        captions = [caption(folder, picture) for picture in PICTURES]
    new = "\n\n".join(captions)
    marks = r"(<!-- measured: gallery -->\n).*?(<!-- end of measured: gallery -->)"
    page = re.sub(marks, lambda m: f"{m[1]}\n{new}\n\n{m[2]}", text, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")


def prdsim(folder: Path, line: str, *, may_fail: bool = False) -> None:
    """Run a command line of the program in a folder; `converge` may find that a run fails."""
    print(line, flush=True)
    program, *words = shlex.split(line, comments=True)
    assert program == "prdsim", line
    done = subprocess.run([sys.executable, "-m", "prdsim", *words], cwd=folder, check=False)
    if done.returncode not in ((0, 1) if may_fail else (0,)):
        sys.exit(f"exit code {done.returncode}: {line}")


def caption(folder: Path, picture: Picture) -> str:
    """Draw a picture; return its part of the page."""
    kind = FIGURES[picture.figure]
    name = f"{picture.figure}{kind.suffixes[0]}"
    small = "--dpi 60" if picture.figure == "movie" else "--dpi 80"
    words = ["prdsim plot", *picture.runs, picture.figure, picture.options, small, "-o", name]
    command = " ".join(filter(None, words))
    prdsim(folder, command)
    shutil.copyfile(folder / name, PICTURES_FOLDER / name)
    reports = {run: read_report(report_path(folder / run)) for run in picture.runs}
    accuracy = " ".join(filter(None, [_errors(reports, picture.measures), picture.words]))
    return (
        f"## {picture.figure}\n\n![{kind.caption}](pictures/gallery/{name})\n\n"
        f"{kind.caption[0].upper()}{kind.caption[1:]}: `{command}`. {accuracy}"
    )


def _errors(reports: dict[str, Report | None], measures: tuple[str, ...]) -> str:
    """Return the discretization errors of some measures of each run, in words."""
    if not measures:
        return ""
    parts = []
    for run, report in reports.items():
        assert report is not None, run
        errors = [f"{name} {_percent(report, name)}" for name in measures]
        parts.append(f"{', '.join(errors)} ({run})")
    return f"Discretization error: {'; '.join(parts)}."


def _percent(report: Report, name: str) -> str:
    number = report.by_name[name]
    error = "unknown" if number.error is None else f"{100 * number.error:.2g} %"
    return error if number.holds else f"{error}, not converged"


if __name__ == "__main__":
    main()
