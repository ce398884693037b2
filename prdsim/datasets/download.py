"""One file over HTTP, by pooch: complete and correct under its name, or not there at all.

pooch writes to a temporary file in the same folder, which gets its name once its SHA-256 is right.
An interrupted download therefore leaves nothing under the file's name, and processes that fetch the
same file at the same time do not disturb each other. Proxies are taken from the environment
variables http_proxy, https_proxy and no_proxy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from prdsim import __version__
from prdsim.errors import ConfigError, DataError
from prdsim.files import posix
from prdsim.files.small import size_text
from prdsim.files.whole import temporary_name
from prdsim.progress import Meter, show_line

_TIMEOUT = 30.0  # seconds to wait for a connection, and for any byte after that
_RETRIES = 1  # of each mirror, a second later
_CHUNK = 1 << 16
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"prdsim/{__version__}"}


@dataclass(frozen=True)
class Wanted:
    """The required name, size in bytes and SHA-256 (hexadecimal) of a file."""

    name: str
    size: int
    sha256: str


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        # pooch wraps the system's error in one of many words.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise DataError(
            f"cannot {action} {path}: {cause.strerror or cause}.\n"
            "Correct that, or name another folder with --data-dir (data_dir)"
        ) from error


def check_mirror(url: str) -> str:
    """Return the URL of a mirror's folder with a trailing slash.

    Raises `ConfigError` unless it is a plain http or https URL. The message does not repeat the
    URL, which may contain a password.
    """
    try:
        parts = urlsplit(url)
        # The port is parsed here: an invalid one is a ValueError.
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            "unusable mirror: give the http or https URL of a folder, without user name, ? or #, "
            "such as https://host/folder/"
        )
    return url if url.endswith("/") else url + "/"


def download(
    path: Path, wanted: Wanted, mirrors: Sequence[str], *, force: bool, stream: TextIO | None
) -> str:
    """Download a file from the first mirror that serves it; return that mirror.

    A file that is at ``path`` already is replaced if ``force`` is given. Progress is shown on
    ``stream``.

    Raises:
        DataError: no mirror could serve the file, it could not be written, or there is another one.
    """
    import pooch
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    pooch.get_logger().setLevel("WARNING")  # the progress display shows the same
    temporary = path.absolute().with_name(temporary_name())
    reasons: list[str] = []
    for mirror in mirrors:
        if reasons:
            show_line(f"{wanted.name}: {reasons[-1]}", stream)
        store = pooch.Pooch(
            temporary.parent,
            mirror,
            {temporary.name: f"sha256:{wanted.sha256}"},
            urls={temporary.name: mirror + wanted.name},
            retry_if_failed=_RETRIES,
        )
        meter = Meter(stream, desc=wanted.name, total=wanted.size, unit="B", unit_scale=True)
        with disk_errors("write", path), meter:
            meter.line(f"{wanted.name}: {size_text(wanted.size)} from {mirror}")
            try:
                store.fetch(temporary.name, downloader=partial(_receive, wanted, meter))
                _publish(temporary, path, wanted, force=force)
                return mirror
            except (RequestException, HTTPError, ValueError) as error:
                reason = _reason(error).replace(temporary.name, wanted.name)
                reasons.append(f"{mirror}: {reason}")
            finally:
                with suppress(OSError):  # it would hide the original error
                    temporary.unlink(missing_ok=True)
    raise DataError(
        f"cannot download {wanted.name}: {'; '.join(reasons)}.\nTry again later, name another "
        "server with --mirror, or correct http_proxy and https_proxy if a proxy is needed"
    )


def _publish(temporary: Path, path: Path, wanted: Wanted, *, force: bool) -> None:
    """Give the file its name; the same file from another process is as good."""
    if force:
        posix.publish_over(temporary, path)
        return
    try:
        posix.publish_new(temporary, path)
    except FileExistsError:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted.sha256:
                raise DataError(
                    f"{path} has appeared meanwhile, and is another file.\n"
                    "Move it away, or name another folder with --data-dir"
                ) from None


def _receive(wanted: Wanted, meter: Meter, url: str, temporary: str, _: object) -> None:
    """Download into pooch's temporary file, no more than the wanted size; show progress."""
    import requests

    Path(temporary).unlink()  # only its owner could read pooch's file, unlike a new one
    with Path(temporary).open("xb") as file:
        with requests.get(url, stream=True, timeout=_TIMEOUT, headers=_HEADERS) as response:
            response.raise_for_status()
            # Some servers declare a .gz file's own compression as theirs: requests would undo it.
            response.raw.headers.pop("Content-Encoding", None)
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                if file.tell() > wanted.size:
                    raise ValueError(f"more than the {wanted.size} bytes expected")
                meter.move(file.tell())
                if meter.due():
                    of = f"{size_text(file.tell())} of {size_text(wanted.size)}"
                    meter.line(f"{wanted.name}: {of}")
        file.flush()
        os.fsync(file.fileno())


def _reason(error: BaseException) -> str:
    """Describe briefly why a mirror failed: the system's error beneath those of the libraries."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = str(error).partition(": expected ")[0] or type(error).__name__  # two long checksums
    # Parts of it may come from the server: keep one line, without control characters.
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
