"""The type of a data set, and how a reader's samples become the X and Y of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prdsim.datasets.reading import check_memory
from prdsim.errors import DataError
from prdsim.notebook import html_table
from prdsim.physics.randomness import Stream, generator
from prdsim.symbols import Normalization, Target
from prdsim.words import shown


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """The samples of one run, one per column.

    Attributes:
        X: Inputs, shape (d_in, n), float64, C-contiguous.
        Y: Targets, shape (d_out, n), float64, C-contiguous.
        name: Short name, such as "mnist" or the file's name.
        grid: Rows and columns of an input that is an image, else None.
        fingerprint: SHA-256 of X and Y, see `fingerprint`.
        description: One line of text.
        notes: What may be a mistake in the data, one line each.
    """

    X: NDArray[np.float64]
    Y: NDArray[np.float64]
    name: str
    grid: tuple[int, int] | None
    fingerprint: str
    description: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Dataset {shown(self.name)}: {shown(self.description, 200)}>"

    def _repr_html_(self) -> str:
        facts = {"description": self.description, "X": self.X.shape, "Y": self.Y.shape}
        return html_table(f"Dataset {self.name}", {**facts, "SHA-256": self.fingerprint})


def sample_place(row: int) -> str:
    """Return the place of a row of arrays, as text for a message."""
    return f"sample {row}"


@dataclass(frozen=True, eq=False)
class Source:
    """All samples that a reader found, one per row.

    X is (count, d_in), real and finite; Y is (count,) integer labels, (count, d_out) real targets,
    or None. ``classes`` is the number of classes if Y holds labels. ``scale`` divides X. ``where``
    names the place of a row in messages.
    """

    name: str
    description: str
    X: NDArray[Any]
    Y: NDArray[Any] | None
    classes: int | None
    grid: tuple[int, int] | None
    scale: float = 1.0
    where: Callable[[int], str] = sample_place


def make_source(
    name: str,
    description: str,
    X: ArrayLike,
    Y: ArrayLike | None,
    grid: ArrayLike | None,
    scale: float = 1.0,
    where: Callable[[int], str] = sample_place,
) -> Source:
    """Check external arrays and put them into a `Source`.

    X is (n, d_in). Y is (n,) or (n, d_out): one-dimensional integers are labels 0, 1, ..., any
    other Y holds real targets. Raises `DataError` for unusable arrays.
    """
    X = _real_array(f"X of {name}", X)
    if X.ndim != 2:
        raise DataError(f"X of {name} must be (n, d_in), one sample per row, but is {_shape(X)}")
    _require_finite(f"X of {name}", X)
    classes = None
    if Y is not None:
        Y = _real_array(f"Y of {name}", Y)
        if Y.ndim not in (1, 2):
            raise DataError(f"Y of {name} must be (n,) or (n, d_out), but is {_shape(Y)}")
        if len(Y) != len(X):
            raise DataError(
                f"X of {name} is {_shape(X)} and Y is {_shape(Y)}: the numbers of rows differ, "
                "but both need one sample per row"
            )
        _require_finite(f"Y of {name}", Y)
        if Y.ndim == 1 and Y.dtype.kind in "iub":
            classes = _count_classes(name, Y, where)
        elif Y.ndim == 1:
            Y = Y[:, None]
    return Source(name, description, X, Y, classes, _grid(name, grid, X.shape[1]), scale, where)


def prepare(
    source: Source, *, samples: int | None, seed: int, normalize: Normalization, target: Target
) -> Dataset:
    """Draw ``samples`` of the source (None: all), normalize them and form their targets.

    The drawn samples are the first of a permutation that depends only on the seed and the number
    of samples in the source: a smaller draw is the beginning of a larger one.
    """
    total = len(source.X)
    n = total if samples is None else samples
    if n > total:
        raise DataError(
            f"{source.description} has {total} samples, {n} were requested: lower `samples`"
        )
    drawn = generator(seed, Stream.SAMPLE_SELECTION).permutation(total)[:n]
    return finish(source, drawn, normalize=normalize, target=target)


def finish(
    source: Source, chosen: NDArray[np.int64], *, normalize: Normalization, target: Target
) -> Dataset:
    """Make a `Dataset` from the chosen samples of a source, in the chosen order."""
    n, d_in = len(chosen), source.X.shape[1]
    check_memory(f"{n} samples of {source.description}", 24 * n * d_in, "lower `samples`")
    rows = source.X[chosen].astype(np.float64)
    rows /= source.scale
    if normalize == "unit":
        rows /= _norms(source, rows, chosen)[:, None]
    X = np.ascontiguousarray(rows.T)
    Y = _targets(source, chosen, X, target)
    grid = "" if source.grid is None else f" ({source.grid[0]} x {source.grid[1]})"
    count = f"{n}" if n == len(source.X) else f"{n} of {len(source.X)}"
    description = (
        f"{source.description}: {count} samples, {d_in} inputs{grid}"
        f"{' of norm 1' if normalize == 'unit' else ''}, {len(Y)} outputs"
    )
    notes = _empty_classes(source) if target != "inputs" else ()
    return Dataset(X, Y, source.name, source.grid, fingerprint(X, Y), description, notes)


def fingerprint(X: NDArray[np.float64], Y: NDArray[np.float64]) -> str:
    """SHA-256 (hexadecimal) of the shapes and the little-endian float64 bytes of X and Y.

    The name is not included: a renamed or moved file holds the same data.
    """
    digest = hashlib.sha256()
    for array in (X, Y):
        digest.update(np.array(array.shape, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(array, dtype="<f8").reshape(-1).data)
    return digest.hexdigest()


def require_representable(dataset: Dataset, precision: str) -> None:
    """Raise `DataError` for numbers that become infinite, or samples that vanish, at a precision.

    ``precision`` is the name of NumPy's type, such as "float32".
    """
    if precision == "float64":
        return
    for name, array in (("X", dataset.X), ("Y", dataset.Y)):
        with np.errstate(over="ignore", under="ignore"):
            rounded = array.astype(precision)
        row, column = np.unravel_index(int(np.argmax(np.abs(array))), array.shape)
        if np.isinf(rounded[row, column]):
            raise DataError(
                f"{name} of {dataset.name} holds {array[row, column]:g}, which is beyond the range "
                f"of {precision}: scale the data, or use --precision float64"
            )
        vanished = np.flatnonzero(array.any(axis=0) & ~rounded.any(axis=0))
        if name == "X" and vanished.size:
            largest = np.abs(array[:, vanished[0]]).max()
            raise DataError(
                f"an input of {dataset.name}, whose largest number is {largest:g}, becomes 0 in "
                f"{precision}: scale the data, or use --precision float64"
            )


def _targets(
    source: Source, chosen: NDArray[np.int64], X: NDArray[np.float64], target: Target
) -> NDArray[np.float64]:
    """Y, shape (d_out, n), for each meaning of ``target``; see `prdsim.datasets.load_dataset`."""
    if target == "inputs":
        return X.copy()
    if source.Y is None:
        raise DataError(f'{source.description} has no Y: the only target without Y is "inputs"')
    if source.classes is None:
        if target == "scalar" and source.Y.shape[1] != 1:
            raise DataError(
                f'target "scalar" needs one output, but Y of {source.name} has '
                f'{source.Y.shape[1]}: use target "labels", which takes Y as it is'
            )
        return np.ascontiguousarray(source.Y[chosen].T, dtype=np.float64)
    labels = source.Y[chosen].astype(np.int64)
    if target == "scalar":
        return (2.0 * labels / max(source.classes - 1, 1) - 1.0)[None, :]
    what = f"{source.classes} classes in Y of {source.name}"
    check_memory(what, 8 * source.classes * len(labels), "number the labels 0, 1, 2, ...")
    Y = np.zeros((source.classes, len(labels)))
    Y[labels, np.arange(len(labels))] = 1.0
    return Y


def _empty_classes(source: Source) -> tuple[str, ...]:
    """Say which classes no sample of a source has, if any: labels may not begin at 0."""
    if source.classes is None or source.name == "synthetic":
        return ()
    assert source.Y is not None
    found = set(np.unique(source.Y).tolist())
    if len(found) == source.classes:
        return ()
    count = source.classes - len(found)
    first = list(islice((k for k in range(source.classes) if k not in found), 5))
    which = ", ".join(map(str, first)) + ", ..." * (count > len(first))
    return (
        f"{source.name}: no sample has label {which} ({count} of {source.classes} classes, "
        f"0 to {source.classes - 1}); each has an output all the same",
    )


def _norms(
    source: Source, rows: NDArray[np.float64], indices: NDArray[np.int64]
) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        norms: NDArray[np.float64] = np.sqrt(np.square(rows).sum(axis=1))
    bad = np.flatnonzero((norms == 0) | np.isinf(norms))
    if bad.size:
        place = source.where(int(indices[bad[0]]))
        raise DataError(
            f"{place} of {source.name} has norm {norms[bad[0]]:g} and cannot be scaled "
            'to norm 1: leave it out, or set normalize to "none"'
        )
    return norms


def _real_array(what: str, values: ArrayLike) -> NDArray[Any]:
    if _is_masked(values):
        count = int(np.ma.getmaskarray(np.ma.array(values)).sum())
        if count:
            raise DataError(
                f"{what} has {count} masked values: leave out their samples, or fill them "
                "(numpy.ma.filled)"
            )
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError(f"{what} is not an array: its rows differ in length") from None
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise DataError(
            f"{what} must hold real numbers of up to 64 bits, but has type {array.dtype}"
        )
    return array


def _is_masked(values: ArrayLike) -> bool:
    """Whether it is a masked array, or a sequence of rows with one among them."""
    rows = values if isinstance(values, list | tuple) else (values,)
    return any(isinstance(row, np.ma.MaskedArray) for row in rows)


def _shape(array: NDArray[Any]) -> str:
    return "(" + " x ".join(map(str, array.shape)) + ")"


def _require_finite(what: str, array: NDArray[Any]) -> None:
    """Raise `DataError` for an array that is empty, or holds NaN or an infinity."""
    if array.size == 0:
        raise DataError(f"{what} is empty: its shape is {_shape(array)}")
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if not finite.all():
        index = np.unravel_index(int(np.argmin(finite)), array.shape)
        where = ", ".join(str(i) for i in index)
        raise DataError(f"{what} holds {array[index]} at [{where}]: all numbers must be finite")


def _count_classes(name: str, labels: NDArray[Any], where: Callable[[int], str]) -> int:
    if int(labels.min()) < 0:
        index = int(np.argmin(labels))
        raise DataError(
            f"label {labels[index]} of {where(index)} of {name} is negative: "
            "labels are integers 0, 1, 2, ..."
        )
    return int(labels.max()) + 1


def _grid(name: str, grid: ArrayLike | None, d_in: int) -> tuple[int, int] | None:
    if grid is None:
        return None
    values = _real_array(f"grid of {name}", grid)
    if values.shape != (2,) or values.dtype.kind not in "iu" or values.min() < 1:
        raise DataError(f"grid of {name} must be two positive integers, rows and columns")
    rows, columns = int(values[0]), int(values[1])
    if rows * columns != d_in:
        raise DataError(f"grid of {name} is {rows} x {columns}, but X has {d_in} inputs per sample")
    return rows, columns
