"""The data set of a configuration."""

from __future__ import annotations

from pathlib import Path

from numpy.typing import ArrayLike

from prdsim.arguments import wrong
from prdsim.config import RunConfig
from prdsim.datasets import Dataset, from_arrays, idx, load_dataset
from prdsim.datasets.base import require_representable


def load_data(
    config: RunConfig, data: tuple[ArrayLike, ArrayLike] | Dataset | None = None
) -> Dataset:
    """Return the data set of a configuration, or one of ``data`` (X, Y) with its settings.

    Raises `ConfigError` for ``data`` that are no pair, `DataError` also for data that are beyond
    the range of the configuration's precision.
    """
    dataset = _load(config, data)
    require_representable(dataset, config.array_precision)
    return dataset


def _load(config: RunConfig, data: tuple[ArrayLike, ArrayLike] | Dataset | None) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if data is not None:
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise wrong("data", "a pair (X, Y) of arrays, one sample a row, or a Dataset", data)
        return from_arrays(
            *data, seed=config.seed, normalize=config.normalize, target=config.target
        )
    return load_dataset(
        config.dataset,
        samples=config.samples,
        seed=config.seed,
        split=config.split,
        normalize=config.normalize,
        target=config.target,
        data_dir=config.data_dir,
        outputs=config.outputs,
        correlation_length=config.correlation_length,
        spectrum=config.spectrum,
    )


def files_of(config: RunConfig) -> list[Path]:
    """Return the user's files that a run reads: data, unless they ship or are drawn, and norms.

    Raises `DataError` if ``data_dir`` is not a folder.
    """
    named = [config.forcing_norm] if isinstance(config.forcing_norm, str) else []
    norms = [path for path in map(Path, named) if path.is_file()]
    if config.dataset in idx.manifest():
        return [*norms, *(idx.find(config.dataset, config.split, config.data_dir) or ())]
    path = Path(config.dataset).expanduser()
    return [*norms, path] if path.is_file() else norms
