"""One file over HTTP into a partial file that outlives whatever happens on the way.

A `PartialFile` holds the first bytes of a file. `complete` adds the others from one mirror after
the other until size and SHA-256 are right; only the SHA-256 is trusted, never what a server says.
Proxies are those of the environment variables http_proxy, https_proxy and no_proxy.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import ssl
import string
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from prdsim import __version__
from prdsim.datasets.download_progress import Report
from prdsim.errors import DataError
from prdsim.files import posix

_SCHEMES = ("http", "https")
_CHUNK = 1 << 16
_REDIRECTIONS = (301, 302, 303, 307, 308)
_MAX_REDIRECTIONS = 10
_MAX_REASON = 200  # characters
_TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)  # and all from 500


@dataclass(frozen=True)
class Patience:
    """How long a download puts up with a bad connection.

    Attributes:
        timeout: Seconds to wait for a connection, and for any byte after that.
        slowest: Bytes a second; a connection slower than this for ``timeout`` seconds is given up.
        attempts: Attempts at each mirror.
        pause: Seconds before the second attempt; doubled before each further one.
        lock: Seconds to wait while another process downloads the same file.

    """

    timeout: float = 30.0
    slowest: float = 1000.0
    attempts: int = 3
    pause: float = 1.0
    lock: float = 600.0


@dataclass(frozen=True)
class Wanted:
    """What a file must be: its name, its size in bytes, the SHA-256 of its content in hex."""

    name: str
    size: int
    sha256: str


class PartialFile:
    """The first bytes of a file, on the disk under a name of their own; one process at a time.

    ``origin`` is the URL all its bytes came from, None if some are older or none is here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.origin: str | None = None
        with disk_errors("write", path):
            # No symbolic link: in a folder open to others it could lead anywhere.
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            self.size = os.fstat(self._fd).st_size

    def append(self, data: bytes) -> None:
        """Add bytes; they are kept whatever happens to the process afterwards."""
        with disk_errors("write", self.path):
            posix.pwrite(self._fd, data, self.size)
        self.size += len(data)

    def clear(self) -> None:
        """Forget all bytes."""
        with disk_errors("write", self.path):
            os.ftruncate(self._fd, 0)
        self.size, self.origin = 0, None

    def sha256(self) -> str:
        """SHA-256 of what is on the disk, in hex."""
        with disk_errors("read", self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def require_space(self, size: int) -> None:
        """Refuse what the disk cannot hold before asking anyone for it."""
        with disk_errors("write", self.path):
            free = shutil.disk_usage(self.path.parent).free
        if free < size - self.size:
            raise DataError(
                f"{self.path.parent} has {posix.format_bytes(free)} free, "
                f"{posix.format_bytes(size - self.size)} are needed: make room, or name another "
                "folder with --data-dir"
            )

    def publish(self, path: Path) -> None:
        """Give the file, complete and on the disk, its final name in the same folder."""
        with disk_errors("write", path):
            os.fsync(self._fd)
            posix.publish_over(self.path, path)

    def close(self) -> None:
        """Let go of it; nothing stays if nothing is in it."""
        os.close(self._fd)
        if self.size == 0:
            with suppress(OSError):
                self.path.unlink()


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a DataError that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot {action} {path}: {error.strerror or error}.\n"
            "Mend that, or name another folder with --data-dir (data_dir)"
        ) from error


def check_mirror(url: str) -> str:
    """Return the URL of a mirror's folder with its last slash.

    Raises:
        ValueError: it is no plain http or https URL of a folder.

    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError("a mirror begins with http:// or https://")
    if not parts.hostname or parts.port == 0 or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("no usable host, port or path")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a mirror is a folder's URL, without user name, ? and #")
    return url if url.endswith("/") else url + "/"


def complete(
    part: PartialFile, wanted: Wanted, mirrors: Sequence[str], patience: Patience, report: Report
) -> str | None:
    """Fill the partial file until it is what is wanted.

    Returns the mirror that gave its end, None if nothing was missing. Whatever of the file has
    come stays in ``part`` when this fails.

    Raises:
        DataError: no mirror could serve it, or the disk refused it.

    """
    if part.size >= wanted.size:
        if part.size == wanted.size and part.sha256() == wanted.sha256:
            return None
        part.clear()
    part.require_space(wanted.size)
    reasons = []
    for mirror in mirrors:
        report.start(wanted.name, part.size, wanted.size, mirror)
        try:
            _from_mirror(part, wanted, mirror + wanted.name, patience, report)
        except _MirrorError as error:
            reasons.append(f"{mirror}: {error}")
            report.note(f"{wanted.name}: {reasons[-1]}")
        else:
            return mirror
        finally:
            report.close()
    kept = f"{part.size} of {wanted.size} bytes are kept for the next try. " if part.size else ""
    proxied = urllib.request.getproxies().keys() & set(_SCHEMES)
    raise DataError(
        f"cannot download {wanted.name}: {'; '.join(reasons)}.\n{kept}Try again later, name "
        f"another server with --mirror, or {'correct' if proxied else 'set'} http_proxy and "
        "https_proxy if a proxy is needed"
    )


class _MirrorError(Exception):
    """A mirror failed; ``again`` if another attempt may help."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        # Parts of it may come from the server: one line, and nothing a terminal would obey.
        printable = "".join(c if c.isprintable() else " " for c in reason)
        super().__init__(" ".join(printable.split())[:_MAX_REASON])
        self.again = again


def _from_mirror(
    part: PartialFile, wanted: Wanted, url: str, patience: Patience, report: Report
) -> None:
    """Fill the file from one mirror, in a few attempts."""
    attempt = 1
    while True:
        try:
            with _network_errors(part, wanted, patience):
                _request(part, wanted, url, patience, report)
            _verify(part, wanted, url)
            return
        except _MirrorError as error:
            if not error.again or attempt == patience.attempts:
                raise
            attempt += 1
            report.note(f"{wanted.name}: {error}; attempt {attempt} of {patience.attempts}")
        time.sleep(patience.pause * 2 ** (attempt - 2))


def _verify(part: PartialFile, wanted: Wanted, url: str) -> None:
    found = part.sha256()
    if found == wanted.sha256:
        return
    pure = part.origin == url
    part.clear()
    if pure:
        raise _MirrorError(
            f"another content (SHA-256 {found[:12]}..., not {wanted.sha256[:12]}...)"
        )
    raise _MirrorError("what had come before does not fit, beginning anew", again=True)


@contextmanager
def _network_errors(part: PartialFile, wanted: Wanted, patience: Patience) -> Iterator[None]:
    """Say in a few words what the network did."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _status_error(error, part) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: unusable URL
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise _MirrorError(f"no valid certificate ({cause.verify_message})") from None
        if isinstance(cause, TimeoutError):
            reason = f"nothing for {patience.timeout:g} s"
        elif isinstance(cause, http.client.BadStatusLine) and not isinstance(cause, OSError):
            reason = f"no HTTP answer, but {cause}"
        elif isinstance(cause, http.client.IncompleteRead):
            reason = "connection dropped"
        else:
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        if part.size:
            reason += f" at byte {part.size} of {wanted.size}"
        raise _MirrorError(reason, again=not isinstance(cause, ValueError)) from None


def _status_error(error: urllib.error.HTTPError, part: PartialFile) -> _MirrorError:
    if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
        part.clear()
        return _MirrorError("cannot resume, beginning anew", again=True)
    return _MirrorError(
        f"HTTP {error.code} {error.reason}", again=error.code >= 500 or error.code in _TRY_AGAIN
    )


def _open(url: str, headers: dict[str, str], timeout: float) -> http.client.HTTPResponse:
    """Ask for a URL, following redirections, but only to HTTP, and without reading their bodies."""
    opener = _opener()
    for _ in range(_MAX_REDIRECTIONS + 1):
        try:
            request = urllib.request.Request(url, headers=headers)
            response: http.client.HTTPResponse = opener.open(request, timeout=timeout)
            return response
        except urllib.error.HTTPError as error:
            location = error.headers["Location"]
            if error.code not in _REDIRECTIONS or location is None:
                raise
            error.close()
            # What servers should have quoted; http.client reads headers as Latin-1.
            location = quote(location, safe=string.punctuation, encoding="iso-8859-1")
            url = urljoin(url, location)
            if urlsplit(url).scheme not in _SCHEMES:
                raise _MirrorError("redirected to what is no http or https URL") from None
    raise _MirrorError(f"redirected more than {_MAX_REDIRECTIONS} times")


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS through the environment's proxies; no other scheme, no redirections."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _request(
    part: PartialFile, wanted: Wanted, url: str, patience: Patience, report: Report
) -> None:
    """Ask once for what is missing, and append what comes."""
    if part.size == wanted.size:
        return
    # The files are compressed already; a server's own compression would only change their bytes.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"prdsim/{__version__}"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    with _open(url, headers, patience.timeout) as response:
        if not _continues(response, part, wanted):
            part.clear()
            part.origin = url
        report.update(part.size)
        _receive(response, part, wanted, patience, report)


def _continues(response: http.client.HTTPResponse, part: PartialFile, wanted: Wanted) -> bool:
    """Whether the answer goes on where the file ends (else it is the whole file), once checked."""
    if response.headers.get_content_type() == "text/html":
        raise _MirrorError("a web page instead of the file (a login page?)")
    left = wanted.size
    if response.status == HTTPStatus.PARTIAL_CONTENT and part.size:
        left -= part.size
        span = rf"bytes {part.size}-{wanted.size - 1}/({wanted.size}|\*)"
        if not re.fullmatch(span, response.headers.get("Content-Range", "").strip()):
            part.clear()
            raise _MirrorError("another range than the one asked for, beginning anew", again=True)
    elif response.status != HTTPStatus.OK:
        raise _MirrorError(f"unexpected HTTP {response.status} {response.reason}")
    resumed = left < wanted.size
    if response.length not in (None, left):  # None: the server does not say
        if resumed:
            part.clear()
        raise _MirrorError(f"{response.length} bytes offered, {left} expected", again=resumed)
    return resumed


def _receive(
    response: http.client.HTTPResponse,
    part: PartialFile,
    wanted: Wanted,
    patience: Patience,
    report: Report,
) -> None:
    """Append what comes, up to the size wanted; more is not read, the SHA-256 decides."""
    begun, size_then = time.monotonic(), part.size
    while part.size < wanted.size:
        data = response.read1(min(_CHUNK, wanted.size - part.size))
        if not data:
            if response.headers.get("Transfer-Encoding"):  # chunks say where they end
                size = part.size
                part.clear()
                raise _MirrorError(f"the content has {size} bytes, {wanted.size} expected")
            raise _MirrorError(
                f"connection dropped at byte {part.size} of {wanted.size}", again=True
            )
        part.append(data)
        report.update(part.size)
        elapsed = time.monotonic() - begun
        if elapsed > patience.timeout:
            if part.size - size_then < patience.slowest * elapsed:
                raise _MirrorError(
                    f"less than {patience.slowest:g} bytes/s at byte {part.size} of {wanted.size}",
                    again=True,
                )
            begun, size_then = time.monotonic(), part.size
