"""The page of a live run, served to this machine's browsers alone; its files are only read."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prdsim.errors import ConfigError

_HOST = "127.0.0.1"


class Served:
    """A page and its version, both of which may be replaced while they are served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._page, self._version = b"", ""

    def replace(self, page: str, version: str) -> None:
        """Serve another page from now on."""
        with self._lock:
            self._page, self._version = page.encode(), version

    def answers(self) -> dict[str, tuple[str, bytes]]:
        """Return the kind and content of each name below the secret address."""
        with self._lock:
            return {
                "": ("text/html; charset=utf-8", self._page),
                "version": ("text/plain; charset=utf-8", self._version.encode()),
            }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Print nothing: browsers close connections when they like."""


class PageServer:
    """Serves a page on loopback, at a port or a free one, below a name that cannot be guessed.

    Requests that name another host are refused: a page of the web cannot reach it by a name that
    it lets point to this machine. A context manager, which serves from its beginning; raises
    `ConfigError` if the port cannot be had.
    """

    def __init__(self, served: Served, port: int = 0) -> None:
        self._token = secrets.token_urlsafe(24)
        try:
            self._server = _Server((_HOST, port), self._handler(served))
        except OSError as error:
            raise ConfigError(
                f"port {port}: {error.strerror}; name another, or leave out --port"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """The port."""
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{_HOST}:{self.port}/{self._token}/"

    def _handler(self, served: Served) -> type[BaseHTTPRequestHandler]:
        def find(host: str, path: str) -> tuple[int, str, bytes]:
            if host not in (f"{_HOST}:{self.port}", f"localhost:{self.port}"):
                return 421, "text/plain", b"this page is for 127.0.0.1 alone\n"
            token, slash, name = path.removeprefix("/").partition("/")
            kind, content = served.answers().get(name, ("", b""))
            if not (kind and slash) or not hmac.compare_digest(
                token.encode(), self._token.encode()
            ):
                return 404, "text/plain", b"not here\n"
            return 200, kind, content

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version, timeout = "prdsim", "", 30

            def do_GET(self) -> None:
                self._answer(content=True)

            def do_HEAD(self) -> None:
                self._answer(content=False)

            def _answer(self, *, content: bool) -> None:
                status, kind, body = find(self.headers.get("Host", ""), self.path.split("?")[0])
                self.send_response(status)
                for name, value in (
                    ("Content-Type", kind),
                    ("Content-Length", str(len(body))),
                    ("Cache-Control", "no-store"),
                    ("X-Content-Type-Options", "nosniff"),
                    ("X-Frame-Options", "DENY"),
                    ("Referrer-Policy", "no-referrer"),
                    ("Cross-Origin-Resource-Policy", "same-origin"),
                ):
                    self.send_header(name, value)
                self.end_headers()
                if content:
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Print nothing: addresses hold the secret."""

        return Handler

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def follow(
    served: Served,
    known: str,
    state: Callable[[], str | None],
    make: Callable[[str], str | None],
    *,
    until: Callable[[], bool] = lambda: False,
    seconds: float = 2.0,
) -> None:
    """Keep a served page up to date: ``make`` returns the page of a ``state`` other than the last.

    ``known`` is that of the page being served. None from either means that it cannot be told now:
    the page stays as it is, and both are asked again.
    """
    while not until():
        time.sleep(seconds)
        now = state()
        if now is None or now == known:
            continue
        page = make(now)
        if page is not None:
            served.replace(page, now)
            known = now
