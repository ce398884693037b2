"""The plan of a reproduction: its studies, and the pictures of each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prdsim.config import RunConfig
from prdsim.datasets import available_datasets
from prdsim.errors import ConfigError, DataError
from prdsim.study.axes import axis, crossed
from prdsim.study.plan import Plan, from_anywhere
from prdsim.vocabulary import STUDIES

Which = Literal["all", "first", "without", "with", "none"]

DIFFUSION = {"without": False, "with": True}


@dataclass(frozen=True)
class Picture:
    """A figure of a study: its title, the runs that it shows, and the numbers that it quotes.

    ``runs`` are "all", both of the "first" seed, its run "without" or "with" diffusion, or "none".
    """

    figure: str
    title: str
    runs: Which = "first"
    poster: str = ""
    numbers: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """Name of the file, without suffix."""
        number = f"figure-{self.poster}-" if self.poster else ""
        side = f"-{self.runs}" if self.runs in DIFFUSION else ""
        return f"{number}{self.figure}{side}"


_DISTANCES = Picture(
    "distances",
    "Distances from the initial weights, hidden and top layer",
    "all",
    "1",
    ("distance_U_mean", "distance_V_mean"),
    {"log_time": True},
)
_SYMMETRY = Picture(
    "symmetry",
    "Symmetry and homogeneity",
    "first",
    "5",
    ("cv_U", "gini_U", "ks_U", "morans_i_U", "inactive_neurons"),
)
_BEYOND = (
    Picture("changes", "How the filters changed, u_j(t) - u_j(0)"),
    Picture("top", "Columns of the top layer"),
    Picture(
        "order",
        "Measures of symmetry and order over time",
        "all",
        numbers=("kurtosis_U", "effective_rank", "correlation_length_change"),
        options={"log_time": True},
    ),
    Picture("subspace", "The path's variance in its first directions", "all"),
    Picture("embedding", "The neurons in the plane"),
    Picture(
        "forces",
        "Reaction and diffusion per neuron",
        "all",
        numbers=("reaction_U_mean", "diffusion_U_mean"),
        options={"log_time": True},
    ),
)
_GROWTH = (
    Picture("patterns", "What neurons grow towards, and where they went"),
    Picture("dispersion", "Growth along the spectrum of the inputs"),
    Picture("turing", "Whether a homogeneous state loses its stability"),
)
_IMAGES = (
    _DISTANCES,
    Picture("input", "Input image of the features", "first", "2"),
    Picture("filters", "Hidden filters, without and with diffusion", "first", "3"),
    Picture("features", "Features of the input image", "first", "4"),
    _SYMMETRY,
    *_BEYOND,
    *_GROWTH,
)
_SYNTHETIC = (
    Picture("filters", "Hidden filters on synthetic data, without diffusion", "without", "7"),
    Picture("filters", "Hidden filters on synthetic data, with diffusion", "with", "8"),
    _DISTANCES,
    Picture("input", "Input image of the features", "first", "2"),
    Picture("features", "Features of the input image", "first", "4"),
    _SYMMETRY,
    *_BEYOND,
    *_GROWTH,
)
_THEORY = (
    Picture("theorems", "Theorems 1 and 2 over the distances they bound"),
    Picture("bernoulli", "The Bernoulli equation of the residual"),
    Picture("stability", "Leading eigenvalues of the Jacobian at the end"),
)
GENERAL = (
    Picture("schematic", "Turing pattern formation, a schematic", "none", "6"),
    Picture("scaling", "Reaction and diffusion at the initial draw against sizes", "first"),
)


@dataclass(frozen=True)
class Study:
    """A setting: its name, the keys of its runs besides the preset's, its pictures.

    A study of one draw runs the first seed only. Its own keys override those given by the user.
    """

    name: str
    keys: Mapping[str, Any]
    pictures: tuple[Picture, ...] = _IMAGES
    one_draw: bool = False

    def plan(self, seeds: int, **keys: Any) -> Plan:
        """Return the plan of its runs: seeds without and with diffusion, pairs together.

        Raises:
            ConfigError: a key that the study itself sets for each run is among ``keys``, or D = 0.
        """
        for key in ("preset", "dataset", "seed", "diffusion", "output"):
            if key in keys:
                raise ConfigError(f"{key} cannot be set: reproduce sets it for each run")
        base = from_anywhere({"preset": "poster", **keys, **self.keys})
        draws = axis("seed", list(range(1 if self.one_draw else seeds)))
        plan = Plan(base, tuple(crossed([draws, axis("diffusion", list(DIFFUSION.values()))])))
        if any(m.config.diffusion and not m.config.adversary for m in plan.members):
            raise ConfigError("diffusivity cannot be 0: half of the runs are with diffusion")
        return plan


_THEORY_KEYS = {
    "preset": "theory",
    "dataset": "synthetic",
    "samples": 12,
    "width": 800,
    "trainable": "U,W,a",
    "diffusivity": 0.02,
    "snapshots": "times:geometric:16",
}
"""Settings under which the premises hold: few samples, many neurons, weak diffusion."""


def available_studies(names: tuple[str, ...], data_dir: str | None) -> list[Study]:
    """Return the named studies; without names, all whose data are available.

    MNIST is taken from its training part, or from the test part if only that is available.

    Raises:
        ConfigError: an unknown name.
        DataError: unavailable data.
    """
    for name in names:
        if name not in STUDIES:
            raise ConfigError(f"{name}: no such study; choose from {', '.join(STUDIES)}")
    return [
        study
        for name in dict.fromkeys(names or STUDIES)
        for study in _study(name, data_dir, must=bool(names))
    ]


def _study(name: str, data_dir: str | None, *, must: bool) -> list[Study]:
    if name == "synthetic":
        # Random fields: filters of white noise show no visible order.
        return [Study(name, {"dataset": name, "correlation_length": 2.0}, _SYNTHETIC)]
    if name == "theory":
        return [Study(name, _THEORY_KEYS, _THEORY, one_draw=True)]
    if name == "digits":
        return [Study(name, {"dataset": name})]
    found = next(info for info in available_datasets(data_dir) if info.name == name)
    if not found.samples:
        if must:
            raise DataError(f"{name} is unavailable: {found.hint}")
        return []
    split = "train" if "train" in found.samples else "test"
    keys = {"dataset": name, "split": split}
    # Absolute, so that the commands on the page work in its folder.
    place = {"data_dir": str(Path(data_dir).absolute())} if data_dir else {}
    return [Study(name, {**keys, **place})]


def sweep_command(name: str, configs: Sequence[RunConfig]) -> str:
    """Return the command line that makes a study again, in a folder of its name."""
    first = configs[0]
    preset = RunConfig(preset=first.preset)
    words = ["prdsim", "sweep", "-o", f"runs/{name}", f"--set=preset={first.preset}"]
    for key, value in first:
        if key in ("preset", "seed", "diffusion", "output") or value == getattr(preset, key):
            continue
        if key == "threads" and value == 1:  # as members have that say nothing
            continue
        text = str(value).lower() if isinstance(value, bool) else value
        words.append(f"--set={key}={text}")
    seeds = dict.fromkeys(str(config.seed) for config in configs)
    return shlex.join([*words, f"--vary=seed={','.join(seeds)}", "--vary=diffusion=false,true"])
