"""How kernels are compiled, and kept on disk: a cache saves time, and its loss nothing else.

Numba's own cache ends a run where its index is spoiled, its disk is full or no folder can be
written; two processes that save at once may leave it with the code of one signature under the
name of another; and it does not notice a change in a function that a kernel calls.
"""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
import time
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps
from platformdirs import user_cache_path

from prdsim import __version__

_SEAL_BYTES = sha256().digest_size
_UNUSED = 90 * 86400.0  # seconds after which kernels of other sources are removed
_troubles: list[str] = []


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function of arrays and numbers at first use, without fastmath, and keep it."""
    options |= {"error_model": "numpy", "no_cfunc_wrapper": True}
    dispatcher: Any = njit(**options)(function)
    try:
        dispatcher._cache = _KernelCache(function)  # as `cache=True` does with Numba's
    except Exception:  # Numba looks for a folder in many ways
        _troubles.append(
            "every process compiles its kernels anew, because no folder for them can be used; "
            "set NUMBA_CACHE_DIR to one that can be written"
        )
    return dispatcher


def trouble() -> tuple[str, ...]:
    """Return a line about what keeps kernels from being kept, if anything did so far."""
    return tuple(_troubles[:1])


class _KernelCache(FunctionCache):
    """Numba's cache of a function, without its errors, in a folder of the user's.

    Environments with the same sources share it. It is Numba's own if NUMBA_CACHE_DIR names one, or
    the user's cannot be written.
    """

    _cache_file: Any

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        folder = _users_folder() or Path(self.cache_path)
        self._cache_file = _SealedFiles(folder, self._impl.filename_base)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # missing or unreadable, whatever the reason: compiled and written again
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception as error:
            reason = getattr(error, "strerror", None) or error
            _troubles.append(
                f"every process compiles its kernels anew, because they cannot be written to "
                f"{self._cache_file.folder} ({reason}); make room there, or set NUMBA_CACHE_DIR"
            )


class _SealedFiles:
    """One file for each signature and processor, replaced as a whole; in place of Numba's index.

    It begins with a checksum that covers all that decides its content: a file that is spoiled, or
    of other sources, or under the name of another one, does not count.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self._name, self._sources = folder, name, _sources()

    def load(self, key: Any) -> Any:
        """Return what was saved under a key, None if that is not intact; may raise OSError."""
        content = self._path(key).read_bytes()
        seal, payload = content[:_SEAL_BYTES], content[_SEAL_BYTES:]
        return pickle.loads(payload) if seal == self._seal(key, payload) else None

    def save(self, key: Any, data: Any) -> None:
        """Write a file in one piece; may raise OSError."""
        path, payload = self._path(key), dumps(data)  # type: ignore[no-untyped-call]
        temporary = path.with_suffix(f".{secrets.token_hex(8)}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(self._seal(key, payload) + payload)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def flush(self) -> None:
        """Delete the files of the function."""
        for path in self.folder.glob(f"{self._name}.*.kernel"):
            path.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        signature, processor, _ = key  # the third is a hash of the function's own code
        digest = sha256(repr((signature, processor)).encode()).hexdigest()
        return self.folder / f"{self._name}.{digest[:16]}.kernel"

    def _seal(self, key: Any, payload: bytes) -> bytes:
        return sha256(b"\0".join([self._sources, repr(key).encode(), payload])).digest()


@cache
def _sources() -> bytes:
    """Return a hash of what decides the code of kernels, which call one another, and its form."""
    digest = sha256(f"{__version__} {numba.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("numba*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


@cache
def _users_folder() -> Path | None:
    """Return the user's folder for kernels of these sources; None if another one is to be used."""
    if numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        return None
    folder: Path = user_cache_path("prdsim") / "kernels" / _sources().hex()[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)  # it is in use
        for other in folder.parent.iterdir():
            if other.stat().st_mtime < time.time() - _UNUSED:
                shutil.rmtree(other, ignore_errors=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
