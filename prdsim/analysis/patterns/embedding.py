"""Neurons as points in a plane: by principal components, or by t-SNE.

Functions raise `ConfigError` unless the neurons are (m, d_in), real and finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from prdsim.analysis.arrays import Reals, real_array
from prdsim.errors import ConfigError

_FEWEST = 4  # neurons: t-SNE's perplexity is then 1


def principal_plane(neurons: ArrayLike) -> tuple[Reals, Reals]:
    """Project the neurons, rows of (m, d_in), on their first two principal components.

    Returns the coordinates (m, 2), in units of the weights and about their mean, and the shares
    (2,) of the variance that each explains, NaN when all neurons are equal. The sign of an axis is
    such that its loading of largest magnitude is positive. One neuron or one input has no second
    axis: its coordinates are 0.
    """
    array = real_array("neurons", neurons, ndim=2)
    moved = array - array[0]  # exactly 0 when all are equal
    _, values, loadings = np.linalg.svd(moved - moved.mean(axis=0), full_matrices=False)
    axes = loadings[:2]
    largest = np.argmax(np.abs(axes), axis=1)
    axes *= np.where(axes[np.arange(len(axes)), largest] < 0.0, -1.0, 1.0)[:, None]
    coordinates, shares = np.zeros((len(array), 2)), np.zeros(2)
    coordinates[:, : len(axes)] = (moved - moved.mean(axis=0)) @ axes.T
    total = float(np.square(values).sum())
    if total == 0.0:
        return coordinates, np.full(2, np.nan)
    shares[: len(axes)] = np.square(values[:2]) / total
    return coordinates, shares


def tsne(neurons: ArrayLike, *, perplexity: float = 30.0) -> Reals:
    """Embed the neurons, rows of (m, d_in), in the plane by t-SNE; returns (m, 2).

    It starts from `principal_plane`, draws nothing, and runs on one thread: the same neurons give
    the same bits with the same libraries on the same machine. ``perplexity``, roughly the number
    of neighbors that a neuron takes into account, is limited to (m - 1) / 3. Neurons that are all
    equal stay in one point, 0. Needs scikit-learn. Source: L. van der Maaten and G. Hinton,
    J. Mach. Learn. Res. 9, 2579 (2008).
    Raises `ConfigError` for fewer than 4 neurons, a perplexity that is not positive, and if
    scikit-learn is not installed.
    """
    array = real_array("neurons", neurons, ndim=2)
    TSNE = require_tsne(len(array))
    if not perplexity > 0.0:
        raise ConfigError(f"perplexity must be positive, not {perplexity}")
    with threadpool_limits(1):  # threads would add in no fixed order
        start, _ = principal_plane(array)
        spread = float(start[:, 0].std())
        if spread == 0.0:
            return start
        # 1e-4 is the initial scale of the published method.
        method = TSNE(
            perplexity=min(perplexity, (len(array) - 1) / 3.0),
            init=(1e-4 / spread * start).astype(np.float32),
            random_state=0,
        )
        return np.asarray(method.fit_transform(array), dtype=np.float64)


def require_tsne(m: int) -> Any:
    """Return scikit-learn's t-SNE class for m neurons; raises `ConfigError` as `tsne`."""
    if m < _FEWEST:
        raise ConfigError(f"t-SNE needs {_FEWEST} neurons or more, not {m}: use PCA")
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ConfigError(
            "t-SNE needs scikit-learn, which is not installed: pip install 'prdsim[tsne]'"
        ) from None
    return TSNE
