"""One file over HTTP, by pooch: whole and right under its name, or not there at all.

pooch writes to a temporary file in the same folder and renames it once its SHA-256 is right. So an
interrupted download leaves nothing under the file's name, and processes that fetch the same file
at the same time do not disturb each other. Proxies are those of the environment variables
http_proxy, https_proxy and no_proxy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO
from urllib.parse import urlsplit

from prdsim import __version__
from prdsim.errors import DataError
from prdsim.files.small import size_text
from prdsim.progress import Meter, show_line

if TYPE_CHECKING:
    import requests

_TIMEOUT = 30.0  # seconds to wait for a connection, and for any byte after that
_RETRIES = 1  # of each mirror, a second later
_CHUNK = 1 << 16
_MAX_REASON = 200  # characters


@dataclass(frozen=True)
class Wanted:
    """What a file must be: its name, its size in bytes, the SHA-256 of its content in hex."""

    name: str
    size: int
    sha256: str


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        # pooch puts an error of many words before the system's own.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise DataError(
            f"cannot {action} {path}: {cause.strerror or cause}.\n"
            "Mend that, or name another folder with --data-dir (data_dir)"
        ) from error


def check_mirror(url: str) -> str:
    """Return the URL of a mirror's folder with its last slash.

    Raises:
        ValueError: it is not a plain http or https URL of a folder.

    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("a mirror begins with http:// or https://")
    if not parts.hostname or parts.port == 0 or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("no usable host, port or path")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a mirror is a folder's URL, without user name, ? and #")
    return url if url.endswith("/") else url + "/"


def download(
    path: Path, wanted: Wanted, mirrors: Sequence[str], *, force: bool, stream: TextIO | None
) -> str:
    """Download a file from the first mirror that serves it; return that mirror.

    A right file at ``path`` is left alone; a wrong one is replaced by the right one with
    ``force``. Progress is shown on ``stream``.

    Raises:
        DataError: no mirror could serve the file, or the disk refused it.

    """
    import pooch
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    with disk_errors("write", path):
        if path.exists() and not path.is_file():  # pooch would move the download into a folder
            raise OSError("it is not a file")
    pooch.get_logger().setLevel("WARNING")  # the progress shown here says as much
    registry = {wanted.name: f"sha256:{wanted.sha256}"}
    reasons = []
    for mirror in mirrors:
        store = pooch.Pooch(
            path.parent.absolute(), mirror, registry, retry_if_failed=_RETRIES, allow_updates=force
        )
        with disk_errors("write", path):
            try:
                store.fetch(wanted.name, downloader=partial(_receive, wanted, mirror, stream))
                return mirror
            except (RequestException, HTTPError, ValueError) as error:
                reasons.append(f"{mirror}: {_reason(error)}")
        show_line(f"{wanted.name}: {reasons[-1]}", stream)
    raise DataError(
        f"cannot download {wanted.name}: {'; '.join(reasons)}.\nTry again later, name another "
        "server with --mirror, or correct http_proxy and https_proxy if a proxy is needed"
    )


class _Counted:
    """pooch's temporary file; shows how much of it has come, and takes no more than is wanted."""

    def __init__(self, file: BinaryIO, wanted: Wanted, meter: Meter) -> None:
        self._file, self._wanted, self._meter = file, wanted, meter
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._wanted.size:
            raise ValueError(f"more than the {self._wanted.size} bytes expected")
        self._file.write(data)
        self._meter.move(self.size)
        if self._meter.due():
            of = f"{size_text(self.size)} of {size_text(self._wanted.size)}"
            self._meter.line(f"{self._wanted.name}: {of}")

    def flush(self) -> None:
        self._file.flush()


def _receive(
    wanted: Wanted, mirror: str, stream: TextIO | None, url: str, temporary: str, _: object
) -> None:
    """Download into pooch's temporary file."""
    from pooch import HTTPDownloader

    Path(temporary).unlink()  # pooch's can be read by its owner alone, unlike any new file
    with ExitStack() as stack:
        file = stack.enter_context(Path(temporary).open("xb"))
        meter = stack.enter_context(
            Meter(stream, desc=wanted.name, total=wanted.size, unit="B", unit_scale=True)
        )
        meter.line(f"{wanted.name}: {size_text(wanted.size)} from {mirror}")

        def check(response: requests.Response, **_: object) -> None:
            stack.callback(response.close)
            html = response.headers.get("Content-Type", "").startswith("text/html")
            if html and response.status_code == HTTPStatus.OK:
                raise ValueError("a web page instead of the file (a login page?)")
            # Some servers call a .gz file's own compression theirs: requests would undo it.
            response.raw.headers.pop("Content-Encoding", None)

        headers = {"Accept-Encoding": "identity", "User-Agent": f"prdsim/{__version__}"}
        ask = HTTPDownloader(
            chunk_size=_CHUNK, timeout=_TIMEOUT, headers=headers, hooks={"response": check}
        )
        counted = _Counted(file, wanted, meter)
        ask(url, counted, None)
        if counted.size < wanted.size:
            raise ValueError(f"{counted.size} bytes instead of {wanted.size}")
        file.flush()
        os.fsync(file.fileno())


def _reason(error: BaseException) -> str:
    """Say in a few words why a mirror failed: the system's own, below what the libraries add."""
    from requests import HTTPError

    if isinstance(error, HTTPError) and error.response is not None:
        text = f"HTTP {error.response.status_code} {error.response.reason}"
    else:
        while cause := error.__cause__ or error.__context__:
            error = cause
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        text = text.partition(": expected ")[0]  # two long checksums
    # Parts of it may come from the server: one line, and nothing a terminal would obey.
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_MAX_REASON]
