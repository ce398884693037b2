"""Filters over time in eight bits: compressed here, opened and drawn in colors by a browser."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps

from prdsim.backends.arrays import HostArray as Array
from prdsim.figures.style import SIGNED, largest

LEVELS = 127
"""Steps of the numbers on each side of 0, and of the colors."""


@dataclass(frozen=True)
class Frames:
    """Filters at t = 0, ``start`` (N, P), and their ``changes`` since, (K, N, P)."""

    start: Array
    changes: Array


@dataclass(frozen=True)
class Scales:
    """The steps of the numbers kept, and the ends of the color scales, of filters and of changes.

    A step reaches the largest of all numbers: none is cut off. A color scale ends where figures'
    scales do, so that a few outliers do not wash the others out.
    """

    start_step: float
    change_step: float
    weights_limit: float
    changes_limit: float

    @classmethod
    def of(cls, runs: Iterable[Frames]) -> Scales:
        """Return scales that all runs share."""
        runs = list(runs)
        starts, changes = [run.start for run in runs], [run.changes for run in runs]
        filters = (run.start + change for run in runs for change in run.changes)
        return cls(
            start_step=_step(starts),
            change_step=_step(changes),
            weights_limit=largest(filters),
            changes_limit=largest(changes),
        )


def _step(arrays: Iterable[Array]) -> float:
    return max(float(np.abs(array).max()) for array in arrays) / LEVELS or 1.0


def packed(frames: Frames, scales: Scales) -> str:
    """Return the frames as base64 of a zlib stream of signed bytes, for `page.js`.

    The start is first, in steps of ``start_step``; then the changes in steps of ``change_step``,
    each as its difference from the one before, modulo 256: most filters move little.
    """
    start = _in_steps(frames.start, scales.start_step)
    changes = _in_steps(frames.changes, scales.change_step)
    differences = np.diff(changes, axis=0, prepend=changes[:1])
    differences[:1] = changes[:1]
    content = start.tobytes() + differences.tobytes()
    # Runs of zeros and Huffman's codes are all there is to find: longer searches gain 1 %.
    compressor = zlib.compressobj(9, strategy=zlib.Z_RLE)
    return base64.b64encode(compressor.compress(content) + compressor.flush()).decode()


def _in_steps(values: Array, step: float) -> Array:
    """Return whole numbers of steps, int8; halves go up, as in the browser."""
    steps: Array = np.floor(values / step + 0.5).astype(np.int8)
    return steps


def color_table() -> str:
    """Return the colors of -1 to 1 in `LEVELS` steps on each side: red, green, blue, as base64."""
    colors = colormaps[SIGNED](np.linspace(0.0, 1.0, 2 * LEVELS + 1), bytes=True)
    return base64.b64encode(np.asarray(colors)[:, :3].tobytes()).decode()
