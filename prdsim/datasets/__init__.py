"""Data sets: the synthetic default, digits, MNIST and Fashion-MNIST, and the user's own.

`load_dataset` loads by name or file, `from_arrays` takes arrays in memory. Data from the user, in
files or arrays, have one sample per *row*; a `Dataset` has one sample per *column*, as the paper
writes X and Y.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prdsim.arguments import integer
from prdsim.datasets import idx
from prdsim.datasets.base import Dataset, Source, fingerprint, finish, make_source, prepare
from prdsim.datasets.reading import expanded, reading
from prdsim.datasets.synthetic import make_synthetic
from prdsim.datasets.user_files import SUFFIXES, load_file
from prdsim.errors import ConfigError, DataError, did_you_mean
from prdsim.symbols import Normalization, Split, Target
from prdsim.words import shown

__all__ = [
    "Dataset",
    "DatasetInfo",
    "available_datasets",
    "fingerprint",
    "from_arrays",
    "load_dataset",
]

_DIGITS = "UCI handwritten digits"
_DIGITS_COUNTS: dict[Split, int] = {"train": 1437, "test": 360}  # the first and the last rows


def load_dataset(
    name_or_path: str | Path,
    *,
    samples: int | None = 256,
    seed: int = 0,
    split: Split = "train",
    normalize: Normalization = "unit",
    target: Target = "labels",
    data_dir: str | Path | None = None,
    outputs: int = 10,
    correlation_length: float = 0.0,
    spectrum: str | None = None,
) -> Dataset:
    """Load a data set by name, or the user's own .npz, .h5, .hdf5 or .csv file.

    Args:
        name_or_path: "synthetic" (784 inputs on a 28 x 28 grid, a random teacher), "digits" (8 x 8,
            shipped; train is the first 1437 of its 1797 samples, test the last 360), "mnist",
            "fashion-mnist" (IDX files, see ``data_dir``), or a file as
            `prdsim.datasets.user_files.load_file` describes it: X is (n, d_in), one sample per row.
        samples: Number to draw, without repetition, in an order that depends only on the seed; a
            smaller draw is the beginning of a larger one. None: all, in seeded order.
        seed: In [0, 2^64).
        split: "train" or "test". A file of the user's own has no parts: "train" is all of it.
        normalize: "unit" scales every sample to norm 1; "none" leaves it as given, with pixels of
            MNIST divided by 255 and those of digits by 16.
        target: "labels": one-hot 0/1 for integer labels, with as many classes as the whole file
            has; real targets as they are. "scalar": d_out = 1; class k of c classes becomes
            2 k / (c - 1) - 1 in [-1, 1]; a single real target is taken as it is. "inputs": Y = X
            after normalization. Synthetic data use a separate teacher for "scalar".
        data_dir: Folder of MNIST and Fashion-MNIST, searched before the environment variable
            PRDSIM_DATA_DIR and the user's cache; in each, a folder named after the data set first.
        outputs: Number of classes of synthetic labels.
        correlation_length: Of synthetic inputs in pixels, 0 for white noise.
        spectrum: "ring:K" for synthetic inputs of K waves along a side, 1 to 14; None: no ring.

    Raises:
        DataError: The data are missing, malformed, too few, not finite, or of norm 0 under "unit".
        ConfigError: An argument is invalid.
    """
    _check_options(
        samples,
        seed,
        dataset=name_or_path,
        split=split,
        normalize=normalize,
        target=target,
        data_dir=data_dir,
        outputs=outputs,
        correlation_length=correlation_length,
        spectrum=spectrum,
    )
    name = str(name_or_path)
    if name == "synthetic":
        if samples is None:
            raise ConfigError("synthetic data need a number of samples")
        source = make_synthetic(
            samples,
            seed=seed,
            split=split,
            target=target,
            outputs=outputs,
            correlation_length=correlation_length,
            spectrum=spectrum,
        )
        return finish(source, np.arange(samples), normalize=normalize, target=target)
    if name == "digits":
        source = _load_digits(split)
    elif name in idx.manifest():
        source = idx.load_idx(name, split, data_dir)
    else:
        source = _load_own(name, split)
    return prepare(source, samples=samples, seed=seed, normalize=normalize, target=target)


def from_arrays(
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    grid: tuple[int, int] | None = None,
    name: str = "arrays",
    samples: int | None = None,
    seed: int = 0,
    normalize: Normalization = "unit",
    target: Target = "labels",
) -> Dataset:
    """Make a data set of arrays with one sample per ROW: X (n, d_in), Y (n, d_out) or labels (n,).

    This is the convention of the user's files, and the transpose of the paper's X and Y, which the
    returned `Dataset` holds. A one-dimensional integer Y holds labels 0, 1, ...; any other Y holds
    real targets. Y may be None with ``target="inputs"``. The other arguments and the errors are
    those of `load_dataset`.
    """
    _check_options(samples, seed, dataset=name, normalize=normalize, target=target)
    source = make_source(name, name, X, Y, grid)
    return prepare(source, samples=samples, seed=seed, normalize=normalize, target=target)


@dataclass(frozen=True)
class DatasetInfo:
    """The availability of one data set.

    Attributes:
        name: The name that `load_dataset` takes.
        description: One line.
        location: "generated", "shipped", or the folder that holds it; None if it is not found.
        samples: Number of samples of each part found; empty if any number can be generated.
        hint: How to get missing files or repair unreadable ones, or None.
    """

    name: str
    description: str
    location: str | None
    samples: dict[Split, int]
    hint: str | None


def available_datasets(data_dir: str | Path | None = None) -> list[DatasetInfo]:
    """Every data set known by name, and its location; of files only the first bytes are read.

    Raises `ConfigError` if ``data_dir`` is no path, `DataError` if it begins with the home folder
    of an unknown user.
    """
    synthetic = "white noise or random fields, 28 x 28, with a random teacher"
    digits = f"{_DIGITS}, 8 x 8, 10 classes"
    return [
        DatasetInfo("synthetic", synthetic, "generated", {}, None),
        DatasetInfo("digits", digits, "shipped", dict(_DIGITS_COUNTS), None),
        *(_describe_idx(name, data_dir) for name in idx.manifest()),
    ]


def _describe_idx(name: str, data_dir: str | Path | None) -> DatasetInfo:
    samples: dict[Split, int] = {}
    folders: list[str] = []
    hints: list[str] = []
    missing: list[Split] = []
    for split in idx.SPLITS:
        found = idx.find(name, split, data_dir)
        if found is None:
            missing.append(split)
            continue
        try:
            samples[split] = idx.count_idx(found[0])
            folders.append(str(found[0].parent))
        except DataError as error:
            hints.append(str(error))
    if missing:
        parts = " and ".join(missing)
        hints.append(
            f"{parts} not found: get it with `prdsim data fetch {name}`, or name the folder with "
            "--data-dir (data_dir)"
        )
    location = ", ".join(dict.fromkeys(folders)) or None
    description = f"{idx.manifest()[name]['title']}, 28 x 28, 10 classes"
    return DatasetInfo(name, description, location, samples, "; ".join(hints) or None)


def _check_options(samples: int | None, seed: int, **keys: Any) -> None:
    """Raise `ConfigError` for what a configuration cannot hold, None for all samples apart."""
    from prdsim.config import RunConfig  # heavier than all that lists and fetches data

    integer("seed", seed, least=0, most=2**64 - 1)
    RunConfig(**keys, **({} if samples is None else {"samples": samples}))


def _load_digits(split: Split) -> Source:
    with files("prdsim.data").joinpath("digits.npz").open("rb") as file, np.load(file) as archive:
        images, labels = archive["images"], archive["labels"]
    n_train = _DIGITS_COUNTS["train"]
    part = slice(0, n_train) if split == "train" else slice(n_train, None)
    X = images.reshape(len(images), -1)[part]
    return make_source("digits", f"{_DIGITS}, {split} part", X, labels[part], (8, 8), scale=16.0)


def _load_own(name: str, split: Split) -> Source:
    path = expanded(name)
    with reading(path):
        unknown = path.suffix.lower() not in SUFFIXES and not path.exists()
    if unknown:
        known = ["synthetic", "digits", *idx.manifest()]
        guess = did_you_mean(name.lower(), known) or f"choose from {', '.join(known)}."
        raise DataError(
            f'unknown data set "{shown(name)}": {guess} '
            f"Your own files must end in {', '.join(SUFFIXES)}"
        )
    source = load_file(path)
    if split != "train":
        raise DataError(f"{path} has no {split} part: leave split at train, which is all of it")
    return source
