"""How the users' files are read: one boundary for their errors, one budget for their size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prdsim.errors import ConfigError, DataError, PrdsimError
from prdsim.files.foreign import ForeignFileError
from prdsim.files.memory import available_bytes
from prdsim.files.small import size_text
from prdsim.words import first_line


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Make a `DataError` of whatever a decoder raises for the bytes of a user's file.

    Encloses foreign decoders alone. Their exceptions are of any type; their warnings tell the user
    nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PrdsimError:
        raise
    except ForeignFileError as error:
        raise DataError(str(error)) from None
    except MemoryError:
        raise DataError(f"cannot read {path}: its content does not fit into memory") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from error
    except Exception as error:
        raise DataError(f"{path} is damaged: {first_line(error)}") from error


def check_memory(
    what: str, needed: int, advice: str, error: type[DataError | ConfigError] = DataError
) -> None:
    """Raise an error, before allocation, if ``what`` needs more bytes than are available.

    ``advice`` says what to do. Raises ``error``: `DataError`, or `ConfigError` where a setting
    alone determines the size.
    """
    available = available_bytes()
    if needed > available:
        raise error(
            f"{what}: needs {size_text(needed)} of memory, but only {size_text(available)} are "
            f"available; {advice}"
        )


def check_declared(what: str, needed: int) -> None:
    """Raise `DataError` if a file declares ``what`` larger than the memory that is available."""
    check_memory(what, needed, "put fewer samples into the file, or use a larger machine")


def expanded(path: str | Path) -> Path:
    """Return a path with ~ replaced by the home folder; raises `DataError` if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(f"{path}: there is no such user's home folder") from None
