"""The import of matplotlib, before all others: it reads the user's settings, and fails for some.

Those are an MPLBACKEND that is no backend's name, and a file matplotlibrc, in the working folder
too, that is not text or may not be read. Figures need none of them (`style.settings`), so that
matplotlib is then imported where it finds its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

_PATH_ONLY = getattr(os, "O_PATH", os.O_RDONLY)  # the folder need not be readable


def _import_matplotlib() -> None:
    before = set(sys.modules)
    try:
        import_module("matplotlib")
    except ImportError:
        raise
    except Exception:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "matplotlib":
                del sys.modules[name]  # they hold on to the module that failed
        with _away_from_settings():
            import_module("matplotlib")


@contextmanager
def _away_from_settings() -> Iterator[None]:
    """Be in the folder of matplotlib's own settings, and let the environment name no backend."""
    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    backend = os.environ.pop("MPLBACKEND", None)
    here = os.open(os.curdir, _PATH_ONLY | os.O_DIRECTORY)
    try:
        os.chdir(Path(spec.origin).parent / "mpl-data")
        yield
    finally:
        os.fchdir(here)
        os.close(here)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


_import_matplotlib()
