"""The user's settings of matplotlib change no picture, and fail none."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import pytest
from support_cli import ROOT
from support_runs import make_run

import prdsim
from prdsim.figures import draw

FIGURES = ("distances", "filters")
HOSTILE = {
    "image.origin": "lower",  # turned filters upside down
    "text.usetex": "True",
    "font.size": "33",
    "axes.grid": "False",
    "lines.linewidth": "9",
    "savefig.dpi": "40",
    "savefig.bbox": "tight",
    "savefig.facecolor": "black",
    "svg.hashsalt": "other",
    "nonsense": "3",  # of which matplotlib warns
    "figure.dpi": "nonsense",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "a.h5")


def plot(path: Path, folder: Path, **environment: str) -> list[bytes]:
    """The pictures that the command line draws in a folder; it prints their names and no more."""
    line = [sys.executable, "-m", "prdsim", "plot", str(path), *FIGURES, "--dpi", "40"]
    done = subprocess.run(
        line,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    files = [folder / f"a-{name}.png" for name in FIGURES]
    assert done.stdout.split() == [file.name for file in files]
    return [file.read_bytes() for file in files]


def png(figure: mpl.figure.Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def test_neither_a_matplotlibrc_nor_the_environment_changes_a_picture(path, tmp_path):
    with prdsim.open_trajectory(path) as run:
        expected = [png(draw(name, [run])) for name in FIGURES]
    (folder := tmp_path / "settings").mkdir()
    (folder / "matplotlibrc").write_text("".join(f"{k}: {v}\n" for k, v in HOSTILE.items()))
    (tmp_path / "file").touch()
    unwritable = str(tmp_path / "file" / "no")
    assert plot(path, folder, MPLCONFIGDIR=unwritable, SOURCE_DATE_EPOCH="nonsense") == expected
    (folder := tmp_path / "unreadable").mkdir()
    (folder / "matplotlibrc").write_bytes(b"\xff\xfe\x00")
    assert plot(path, folder, MPLBACKEND="nonsense", MATPLOTLIBRC=str(tmp_path)) == expected


def test_a_notebook_draws_a_figure_in_its_style(path):
    """Ticks, and what they look like, are made when a figure is shown."""
    with prdsim.open_trajectory(path) as run:
        for name in FIGURES:
            expected = png(draw(name, [run]))
            with mpl.rc_context():
                matplotlib.style.use("dark_background")
                mpl.rcParams.update({k: HOSTILE[k] for k in list(HOSTILE)[:5]})
                assert png(draw(name, [run])) == expected, name
                figure = draw(name, [run])
                shown = io.BytesIO()  # as IPython does
                figure.canvas.print_figure(
                    shown, format="png", dpi=40, facecolor=figure.get_facecolor()
                )
                assert shown.getvalue() == expected, name
