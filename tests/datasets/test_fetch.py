"""Downloads of data sets: every way one can fail, and that none leaves a wrong file.

The servers are the tests' own, on loopback; nothing else is ever asked.
"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import io
import os
import random
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from prdsim.datasets import idx, load_dataset
from prdsim.datasets.download import Patience, check_mirror
from prdsim.datasets.download_progress import Bar, Lines, Silent, automatic_report
from prdsim.datasets.fetch import check_dataset, fetch_dataset
from prdsim.errors import ConfigError, DataError
from prdsim.files.lock import WriterLock

ROOT = Path(__file__).resolve().parents[2]
MNIST = ROOT.parent / "shared" / "mnist"

SIZE = 200_000
GOOD = random.Random(0).randbytes(SIZE)
OTHER = random.Random(1).randbytes(SIZE)
LABELS = b"labels"
# Long enough for a busy machine where nothing should time out, short where something must.
PATIENT = Patience(timeout=20.0, slowest=1000.0, attempts=3, pause=0.001, lock=0.3)
HASTY = replace(PATIENT, timeout=0.5, attempts=2)


def known(content: bytes) -> dict[str, object]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def make_manifest(*mirrors: str, **files: dict[str, object]) -> dict[str, object]:
    files = files or {"images": known(GOOD)}
    named = {f"{name}.gz": entry for name, entry in files.items()}
    return {"set": {"title": "made up", "mirrors": list(mirrors), "files": named}}


# -- servers ---------------------------------------------------------------------------------------

Answer = Callable[["Handler", bytes], None]


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name; the answers to the first requests may be chosen."""

    daemon_threads = True

    def __init__(self, handler: type[Handler] | type[Proxy]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.files = {"/images.gz": GOOD, "/labels.gz": LABELS}
        self.answers: list[Answer] = []
        self.always: Answer = serve
        self.requests: list[tuple[str, str | None]] = []  # path and range
        self.headers: list[dict[str, str]] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Range"]))
        self.server.headers.append(dict(self.headers))
        content = self.server.files.get(urlsplit(self.path).path)
        answer = self.server.answers.pop(0) if self.server.answers else self.server.always
        if content is None and answer is serve:
            return self.send_error(404)
        return answer(self, content or b"")

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def serve(handler: Handler, content: bytes) -> None:
    """What a good server does."""
    wanted = handler.headers["Range"]
    if wanted is None:
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content)
        return
    first = int(wanted.removeprefix("bytes=").removesuffix("-"))
    span = f"bytes {first}-{len(content) - 1}/{len(content)}"
    handler.head(206, Content_Range=span, Content_Length=len(content) - first)
    handler.wfile.write(content[first:])


def serve_whole(handler: Handler, content: bytes) -> None:
    """Knows no ranges."""
    handler.head(200, Content_Length=len(content))
    handler.wfile.write(content)


def serve_other(handler: Handler, _: bytes) -> None:
    serve(handler, OTHER)


def drop_at(count: int) -> Answer:
    """Promises all that is asked for, sends this many bytes of it, and closes."""

    def answer(handler: Handler, content: bytes) -> None:
        first = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        if first:
            span = f"bytes {first}-{len(content) - 1}/{len(content)}"
            handler.head(206, Content_Range=span, Content_Length=len(content) - first)
        else:
            handler.head(200, Content_Length=len(content))
        handler.wfile.write(content[first : first + count])

    return answer


def hang_at(count: int) -> Answer:
    """Sends this many bytes, then nothing, and keeps the connection."""

    def answer(handler: Handler, content: bytes) -> None:
        drop_at(count)(handler, content)
        handler.wfile.flush()
        handler.server.stopping.wait(20)

    return answer


def hang_silently(handler: Handler, _: bytes) -> None:
    handler.server.stopping.wait(20)


def trickle(handler: Handler, content: bytes) -> None:
    """Never silent for long, and never done."""
    handler.head(200, Content_Length=len(content))
    for i in range(100):
        if handler.server.stopping.wait(0.05):
            return
        handler.wfile.write(content[i : i + 1])


def fail(status: int) -> Answer:
    return lambda handler, _: handler.send_error(status)


def hang_up(handler: Handler, _: bytes) -> None:
    """Closes without a word."""


def reset(handler: Handler, _: bytes) -> None:
    linger = b"\1\0\0\0\0\0\0\0"
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def garble(handler: Handler, _: bytes) -> None:
    handler.wfile.write(b"\x1b[31mno HTTP at all\r\n\r\n")


def redirect(target: str) -> Answer:
    return lambda handler, _: handler.head(302, Location=target, Content_Length=0)


def page(size: int | None) -> Answer:
    """A web page in place of the file, with or without its length."""

    def answer(handler: Handler, _: bytes) -> None:
        body = b"<html>log in</html>".ljust(size or 0)
        length = {} if size is None else {"Content_Length": size}
        handler.head(200, Content_Type="text/html; charset=utf-8", **length)
        handler.wfile.write(body)

    return answer


def unsized(change: Callable[[bytes], bytes]) -> Answer:
    """All of the changed content, its length told by the end of the connection alone."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.head(200, Content_Type="application/x-gzip")
        handler.wfile.write(change(content))

    return answer


def sized(change: Callable[[bytes], bytes], **headers: object) -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        body = change(content)
        handler.head(200, Content_Length=len(body), **headers)
        handler.wfile.write(body)

    return answer


def chunked(change: Callable[[bytes], bytes], *, end: bytes = b"0\r\n\r\n") -> Answer:
    def answer(handler: Handler, content: bytes) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.head(200, Transfer_Encoding="chunked", Connection="close")
        body = change(content)
        for i in range(0, len(body), 50_000):
            piece = body[i : i + 50_000]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        handler.wfile.write(end)

    return answer


def endless(handler: Handler, content: bytes, status: int = 200) -> None:
    handler.head(status, Location="/images.gz")
    handler.wfile.write(content)
    while not handler.server.stopping.is_set():
        handler.wfile.write(bytes(1 << 16))


def wrong_range(span: str, length: int | None = None) -> Answer:
    """Answers 206 with a range that was not asked for."""

    def answer(handler: Handler, content: bytes) -> None:
        first = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        rest = content[first:]
        header = {"Content_Range": span.format(first=first)} if span else {}
        handler.head(206, Content_Length=len(rest) if length is None else length, **header)
        handler.wfile.write(rest)

    return answer


class Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards what it is asked for to the server `origin`, whatever host is named."""

    origin: Server
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        connection = http.client.HTTPConnection("127.0.0.1", self.origin.server_port, timeout=5)
        connection.request("GET", urlsplit(self.path).path, headers=dict(self.headers))
        response = connection.getresponse()
        self.send_response(response.status)
        for name, value in response.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.read())
        connection.close()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with running(Server(Handler)) as one:
        yield one


@pytest.fixture
def second():
    with running(Server(Handler)) as one:
        yield one


@pytest.fixture
def dead() -> str:
    """The URL of a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("PRDSIM_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where fetch puts the files of "set" with data_dir = tmp_path."""
    return tmp_path / "set"


def fetch(folder: Path, *mirrors: str, **options):
    options = {"manifest": make_manifest(*mirrors), "patience": PATIENT, **options}
    return fetch_dataset("set", data_dir=folder.parent, **options)


def failure(folder: Path, *mirrors: str, **options) -> str:
    """Fetch in vain; return the message after checking its form."""
    with pytest.raises(DataError) as caught:
        fetch(folder, *mirrors, **options)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    return message


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


# -- what works ------------------------------------------------------------------------------------


def test_a_download(folder, server):
    (file,) = fetch(folder, server.url)
    assert (file.state, file.fetched, file.path) == ("ok", True, folder / "images.gz")
    assert contents(folder) == {"images.gz": GOOD}
    assert server.requests == [("/images.gz", None)]
    assert server.headers[0]["Accept-Encoding"] == "identity"
    assert server.headers[0]["User-Agent"].startswith("prdsim/")
    umask = os.umask(0)
    os.umask(umask)
    assert (folder / "images.gz").stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_is_here_and_right_is_not_downloaded_again(folder, server):
    fetch(folder, server.url)
    before = (folder / "images.gz").stat()
    for force in (False, True):
        (file,) = fetch(folder, server.url, force=force)
        assert (file.state, file.fetched) == ("ok", False)
    assert len(server.requests) == 1
    assert (folder / "images.gz").stat().st_mtime_ns == before.st_mtime_ns


def test_only_what_is_missing_is_downloaded(folder, server):
    folder.mkdir()
    (folder / "images.gz").write_bytes(GOOD)
    both = make_manifest(server.url, images=known(GOOD), labels=known(LABELS))
    assert [file.fetched for file in fetch(folder, manifest=both)] == [False, True]
    assert contents(folder) == {"images.gz": GOOD, "labels.gz": LABELS}
    assert server.requests == [("/labels.gz", None)]


@pytest.mark.parametrize("place", ["data_dir", "environment", "cache"])
def test_places(tmp_path, monkeypatch, server, place):
    roots = {name: tmp_path / "new" / name for name in ("data_dir", "environment")}
    roots["cache"] = tmp_path / "cache" / "prdsim"
    if place != "cache":
        monkeypatch.setenv("PRDSIM_DATA_DIR", str(roots["environment"]))
    data_dir = roots["data_dir"] if place == "data_dir" else None
    (file,) = fetch_dataset("set", data_dir=data_dir, manifest=make_manifest(server.url))
    assert file.path == roots[place] / "set" / "images.gz"
    assert file.path.read_bytes() == GOOD


def test_files_go_beside_those_of_the_set(tmp_path, server):
    """A user's folder with the files themselves, as --data-dir accepts it, is completed."""
    (tmp_path / "images.gz").write_bytes(GOOD)
    both = make_manifest(server.url, images=known(GOOD), labels=known(LABELS))
    files = fetch(tmp_path / "set", manifest=both)
    assert [file.path for file in files] == [tmp_path / "images.gz", tmp_path / "labels.gz"]
    assert not (tmp_path / "set").exists()


def test_files_of_the_same_name_of_another_set_stay(folder, tmp_path, server):
    (tmp_path / "images.gz").write_bytes(OTHER)
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert (tmp_path / "images.gz").read_bytes() == OTHER


def test_right_files_in_a_folder_that_cannot_be_written(folder, dead):
    folder.mkdir()
    (folder / "images.gz").write_bytes(GOOD)
    folder.chmod(0o555)
    with ordinary_user():
        assert fetch_or_unreadable(folder, dead)
    folder.chmod(0o755)


def fetch_or_unreadable(folder: Path, mirror: str) -> bool:
    """Whether nothing had to be written: as another user the test's own folder may be closed."""
    try:
        return not fetch(folder, mirror)[0].fetched
    except DataError as error:
        return "cannot read" in str(error)


def test_the_first_mirror_is_dead(folder, server, dead):
    both = make_manifest(dead, server.url, images=known(GOOD), labels=known(LABELS))
    stream = io.StringIO()
    fetch(folder, manifest=both, report=Lines(stream))
    assert contents(folder) == {"images.gz": GOOD, "labels.gz": LABELS}
    told = stream.getvalue()
    assert f"images.gz: {dead}: Connection refused" in told
    assert f"labels.gz: 6 bytes from {server.url}" in told
    assert f"labels.gz: 6 bytes from {dead}" not in told  # the mirror that served comes first


@pytest.mark.parametrize("wrong", [serve_other, fail(404), page(SIZE), drop_at(500)])
def test_a_bad_mirror_then_a_good_one(folder, server, second, wrong):
    server.always = wrong
    fetch(folder, server.url, second.url)
    assert contents(folder) == {"images.gz": GOOD}


def test_a_mirror_of_the_users_replaces_the_others(folder, server, second):
    fetch(folder, server.url, mirror=second.url.removesuffix("/"))
    assert (len(server.requests), len(second.requests)) == (0, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections_are_followed(folder, server, second, status):
    server.always = lambda handler, _: handler.head(status, Location=f"{second.url}images.gz")
    second.answers = [drop_at(1000)]
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert second.requests == [("/images.gz", None), ("/images.gz", "bytes=1000-")]


@pytest.mark.parametrize(
    "answer",
    [
        unsized(bytes),
        chunked(bytes),
        unsized(lambda content: content + b"more"),
        chunked(lambda content: content + bytes(SIZE)),
        endless,
        sized(bytes, Content_Encoding="gzip"),  # a server that mistakes the file for its encoding
        sized(bytes, Content_Type="application/octet-stream"),
    ],
    ids=["unsized", "chunked", "longer", "longer chunked", "endless", "encoding", "type"],
)
def test_ways_to_send_the_right_bytes(folder, server, answer):
    """What is longer than it should be is not read on."""
    server.always = answer
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert len(server.requests) == 1


# -- resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [drop_at(1000), hang_at(1000), hang_up, hang_silently, reset, garble, fail(503)]
)
def test_a_broken_download_goes_on_within_one_call(folder, server, answer):
    server.answers = [drop_at(1000), answer]
    fetch(folder, server.url, patience=replace(HASTY, attempts=3))
    assert contents(folder) == {"images.gz": GOOD}
    done = server.requests[2][1]
    assert server.requests[:2] == [("/images.gz", None), ("/images.gz", "bytes=1000-")]
    assert done in ("bytes=1000-", "bytes=2000-")


@pytest.mark.parametrize(
    "answer",
    [
        drop_at(1000),
        unsized(lambda content: content[:1000]),
        chunked(lambda content: content[:1000], end=b""),
    ],
    ids=["sized", "unsized", "chunked"],
)
def test_a_broken_download_is_kept_and_goes_on_in_the_next_call(folder, server, answer):
    server.answers = [answer, fail(404)]
    message = failure(folder, server.url)
    assert contents(folder) == {"images.gz.part": GOOD[:1000]}
    assert f"{server.url}: HTTP 404" in message
    assert f"1000 of {SIZE} bytes are kept for the next try." in message
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert server.requests[-1] == ("/images.gz", "bytes=1000-")


def test_another_mirror_goes_on_where_the_first_one_dropped(folder, server, second):
    server.always = fail(404)
    server.answers = [drop_at(1000)]
    fetch(folder, server.url, second.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert second.requests == [("/images.gz", "bytes=1000-")]


def leave_part(folder: Path, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "images.gz.part").write_bytes(content)


BAD_RANGES = {
    "ignored": (serve_whole, 1),
    "no Content-Range": (wrong_range(""), 2),
    "no numbers": (wrong_range("bytes"), 2),
    "first byte": (wrong_range(f"bytes 0-{SIZE - 1}/{SIZE}"), 2),
    "last byte": (wrong_range("bytes {first}-5000/" + str(SIZE)), 2),
    "size": (wrong_range(f"bytes {{first}}-{SIZE - 1}/{SIZE + 1}"), 2),
    "Content-Length": (wrong_range(f"bytes {{first}}-{SIZE - 1}/{SIZE}", length=SIZE), 2),
    "unit": (wrong_range(f"pixels {{first}}-{SIZE - 1}/{SIZE}"), 2),
    "not satisfiable": (fail(416), 2),
    "other bytes": (serve_other, 2),
}


@pytest.mark.parametrize(("answer", "requests"), BAD_RANGES.values(), ids=BAD_RANGES)
def test_a_server_that_cannot_resume(folder, server, answer, requests):
    leave_part(folder, GOOD[:1000])
    server.answers = [answer]
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    ranges = [asked for _, asked in server.requests]
    assert ranges == ["bytes=1000-", None][:requests]


def test_a_range_of_unknown_total_is_fine(folder, server):
    leave_part(folder, GOOD[:1000])
    server.answers = [wrong_range(f"bytes {{first}}-{SIZE - 1}/*")]
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert len(server.requests) == 1


def test_a_range_nobody_asked_for(folder, server):
    server.always = wrong_range(f"bytes 0-{SIZE - 1}/{SIZE}")
    assert "unexpected HTTP 206" in failure(folder, server.url)
    assert contents(folder) == {}


@pytest.mark.parametrize("length", [1, 1000, SIZE - 1, SIZE, SIZE + 1])
def test_a_wrong_part_is_found_out_and_dropped(folder, server, length):
    leave_part(folder, (OTHER + OTHER)[:length])
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}


def test_a_wrong_part_does_not_condemn_the_mirrors(folder, server, second):
    """The first mirror drops out after resuming over it; the second has to begin anew."""
    leave_part(folder, OTHER[:1000])
    server.always = fail(404)
    server.answers = [drop_at(1000)]
    fetch(folder, server.url, second.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert second.requests == [("/images.gz", "bytes=2000-"), ("/images.gz", None)]


def test_a_part_that_lacks_nothing_needs_no_network(folder, dead):
    leave_part(folder, GOOD)
    fetch(folder, dead)
    assert contents(folder) == {"images.gz": GOOD}


def test_a_part_that_is_a_link_is_not_followed(folder, tmp_path, server):
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (folder / "images.gz.part").symlink_to(victim)
    assert "images.gz.part" in failure(folder, server.url)
    assert victim.read_bytes() == b"precious"
    assert not (folder / "images.gz").exists()


# -- what fails ------------------------------------------------------------------------------------

FLIPPED = bytes([GOOD[0] ^ 1]) + GOOD[1:]
# What always answers, a part of the message, requests made, bytes of the file that remain in .part.
FAILURES: dict[str, tuple[Answer, str, int, int]] = {
    "404": (fail(404), "HTTP 404 Not Found", 1, 0),
    "403": (fail(403), "HTTP 403 Forbidden", 1, 0),
    "407": (fail(407), "HTTP 407", 1, 0),
    "416": (fail(416), "HTTP 416", 1, 0),
    "500": (fail(500), "HTTP 500", 3, 0),
    "503": (fail(503), "HTTP 503 Service Unavailable", 3, 0),
    "429": (fail(429), "HTTP 429 Too Many Requests", 3, 0),
    "204": (lambda h, _: h.head(204), "unexpected HTTP 204", 1, 0),
    "hung up": (hang_up, "Remote end closed connection", 3, 0),
    "reset": (reset, "Connection reset by peer", 3, 0),
    "no HTTP": (garble, "no HTTP answer, but [31mno HTTP at all.\n", 3, 0),
    "silent": (hang_silently, "nothing for 0.5 s", 2, 0),
    "silent after the head": (hang_at(0), "nothing for 0.5 s", 2, 0),
    "dropped": (drop_at(1000), f"connection dropped at byte 3000 of {SIZE}", 3, 3000),
    "goes silent": (hang_at(1000), f"nothing for 0.5 s at byte 2000 of {SIZE}", 2, 2000),
    "trickle": (trickle, "less than 1000 bytes/s at byte", 2, -1),
    "wrong content": (sized(lambda _: OTHER), "another content (SHA-256", 1, 0),
    "one bit": (sized(lambda _: FLIPPED), "another content (SHA-256", 1, 0),
    "wrong and unsized": (unsized(lambda _: OTHER), "another content", 1, 0),
    "shorter": (sized(lambda c: c[:-1]), f"{SIZE - 1} bytes offered, {SIZE} expected", 1, 0),
    "longer": (sized(lambda c: c + b"x"), f"{SIZE + 1} bytes offered", 1, 0),
    "nothing": (sized(lambda _: b""), "0 bytes offered", 1, 0),
    "shorter, chunked": (chunked(lambda c: c[:-1]), f"the content has {SIZE - 1} bytes", 1, 0),
    "bad chunk": (chunked(lambda c: c[:1000], end=b"zz\r\n"), "dropped at byte 1000", 3, 1000),
    "longer before": (unsized(lambda c: b"x" + c), "another content", 1, 0),
    "compressed": (
        sized(lambda c: b"\x1f\x8b" + c, Content_Encoding="gzip"),
        "bytes offered",
        1,
        0,
    ),
    "page": (page(None), "a web page instead of the file", 1, 0),
    "page of the right size": (page(SIZE), "a web page instead of the file", 1, 0),
    "page without its type": (sized(lambda _: b"<html>".ljust(SIZE)), "another content", 1, 0),
    "circle": (redirect("/images.gz"), "redirected more than 10 times", 11, 0),
    "to a file": (redirect("file:///etc/hostname"), "redirected to what is no http", 1, 0),
    "to FTP": (redirect("ftp://127.0.0.1/images.gz"), "redirected to what is no http", 1, 0),
    "to data": (redirect("data:,x"), "redirected to what is no http", 1, 0),
    "to nonsense": (redirect("http://[::1"), "Invalid IPv6 URL", 1, 0),
    "nowhere": (lambda h, _: h.head(302, Content_Length=0), "HTTP 302", 1, 0),
    "endless page": (lambda h, c: endless(h, c, 302), "redirected more than 10 times", 11, 0),
    "endless error": (lambda h, c: endless(h, c, 404), "HTTP 404", 1, 0),
}


SLOW = ("silent", "silent after the head", "goes silent", "trickle")  # a second each


@pytest.mark.parametrize(
    ("name", "before"),
    [(name, "nothing") for name in FAILURES]
    + [(name, "wrong file") for name in FAILURES if name not in SLOW],
)
def test_a_failure_leaves_no_wrong_file(folder, server, name, before):
    """None under the final name; a wrong one that --force should replace stays as it was."""
    answer, told, requests, left = FAILURES[name]
    server.always = answer
    keep = {}
    if before == "wrong file":
        folder.mkdir()
        (folder / "images.gz").write_bytes(OTHER)
        keep = {"images.gz": OTHER}
    patience = HASTY if name in SLOW else PATIENT
    message = failure(folder, server.url, force=True, patience=patience)
    assert f"cannot download images.gz: {server.url}: " in message
    assert told in message
    assert "Try again later, name another server with --mirror" in message
    assert len(server.requests) == requests
    found = contents(folder)
    part = found.pop("images.gz.part", b"")
    assert found == keep
    assert part == GOOD[: len(part)]
    assert len(part) == left or (left < 0 and 0 < len(part) < 100)


def test_every_mirror_that_failed_is_named(folder, server, second, dead):
    server.always = fail(404)
    second.always = serve_other
    message = failure(folder, server.url, second.url, dead)
    assert f"{server.url}: HTTP 404 Not Found; {second.url}: another content" in message
    assert f"; {dead}: Connection refused.\n" in message
    assert contents(folder) == {}


def test_no_chain_of_failures_leaves_a_wrong_file(folder, server, second):
    """Any of them in any order; afterwards the file is right or absent, and can be had."""
    quick = [
        *(fail(404), fail(500), drop_at(0), drop_at(70_000), drop_at(150_000), serve_other),
        *(
            serve,
            serve_whole,
            hang_up,
            reset,
            garble,
            page(SIZE),
            fail(416),
            redirect("/images.gz"),
        ),
        *(wrong_range(""), chunked(bytes), chunked(lambda c: c[:60_000], end=b"")),
        *(chunked(lambda c: c[:-1]), unsized(lambda _: OTHER[:80_000]), unsized(bytes)),
        sized(lambda c: c + c),
    ]
    outcomes = set()
    for seed in range(60):
        shutil.rmtree(folder, ignore_errors=True)
        rng = random.Random(seed)
        for one in (server, second):
            one.answers = rng.choices(quick, k=rng.randint(0, 6))
        if rng.random() < 0.5:
            leave_part(folder, rng.choice([GOOD, OTHER])[: rng.randrange(SIZE)])
        try:
            fetch(folder, server.url, second.url)
            outcomes.add("fetched")
            assert contents(folder) == {"images.gz": GOOD}, seed
        except DataError:
            outcomes.add("failed")
            assert set(contents(folder)) <= {"images.gz.part"}, seed
            server.answers, second.answers = [], []
            fetch(folder, server.url, second.url)
            assert contents(folder) == {"images.gz": GOOD}, seed
    assert outcomes == {"fetched", "failed"}


def test_a_wrong_file_is_replaced_only_by_force(folder, server):
    folder.mkdir()
    (folder / "images.gz").write_bytes(OTHER)
    message = failure(folder, server.url)
    assert f"{folder / 'images.gz'} is there, but its SHA-256 is " in message
    assert "replace it with --force" in message
    assert contents(folder) == {"images.gz": OTHER}
    assert server.requests == []
    fetch(folder, server.url, force=True)
    assert contents(folder) == {"images.gz": GOOD}


def test_a_wrong_file_is_told_before_anything_is_downloaded(folder, server):
    folder.mkdir()
    (folder / "labels.gz").write_bytes(b"short")
    both = make_manifest(server.url, images=known(GOOD), labels=known(LABELS))
    assert "labels.gz is there, but it has 5 bytes, not 6" in failure(folder, manifest=both)
    assert contents(folder) == {"labels.gz": b"short"}
    assert server.requests == []


def test_a_folder_with_the_files_name(folder, server):
    (folder / "images.gz").mkdir(parents=True)
    assert "is there, but it is no file" in failure(folder, server.url)
    assert "Is a directory" in failure(folder, server.url, force=True)
    assert (folder / "images.gz").is_dir()


def test_a_good_file_that_appears_meanwhile_is_kept(folder, server):
    """Another process may have been faster, and its file is looked at again under the lock."""
    folder.mkdir()

    def appear(path: Path) -> None:
        path.write_bytes(GOOD)

    lock = WriterLock(folder / "images.gz")
    timer = threading.Timer(0.3, lambda: (appear(folder / "images.gz"), lock.release()))
    timer.start()
    (file,) = fetch(folder, server.url, patience=Patience(lock=20))
    timer.join()
    assert (file.state, file.fetched) == ("ok", False)
    assert server.requests == []
    assert contents(folder) == {"images.gz": GOOD}


@pytest.mark.parametrize(
    "entry",
    [
        {"size": SIZE},
        {"size": SIZE, "sha256": ""},
        {"size": SIZE, "sha256": None},
        {"size": SIZE, "sha256": "0" * 63},
        {"sha256": "0" * 64},
        {"size": 0, "sha256": "0" * 64},
    ],
)
def test_what_cannot_be_verified_is_not_fetched(folder, server, entry):
    manifest = make_manifest(server.url, images=known(GOOD), labels=entry)
    message = failure(folder, manifest=manifest)
    assert "no size and SHA-256 for labels.gz of set: what cannot be verified" in message
    assert server.requests == []
    assert contents(folder) == {}


@pytest.mark.parametrize(
    ("name", "told"), [("digits", "it comes with prdsim"), ("mnits", "unknown; fetched are mnist")]
)
def test_names_without_files(name, told):
    for ask in (fetch_dataset, check_dataset):
        with pytest.raises(DataError, match=f'for "{name}": {told}'):
            ask(name)


BAD_MIRRORS = [
    "file:///etc/",
    "ftp://127.0.0.1/",
    "127.0.0.1/",
    "",
    "http://",
    "http://127.0.0.1:port/",
    "http://127.0.0.1:70000/",
    "http://127.0.0.1/a b/",
    "http://127.0.0.1/\r\nX: y",
    "http://[::1",
    "http://user:secret@127.0.0.1/",
    "http://127.0.0.1/?a=b",
]


@pytest.mark.parametrize("url", BAD_MIRRORS)
def test_mirrors_that_cannot_be_used(folder, url):
    with pytest.raises(ConfigError, match="unusable mirror: ") as caught:
        fetch(folder, mirror=url)
    assert "secret" not in str(caught.value)
    assert not folder.exists()


def test_mirrors_are_folders():
    assert check_mirror("http://127.0.0.1:8000") == "http://127.0.0.1:8000/"
    assert check_mirror("HTTPS://host/a") == "HTTPS://host/a/"


# -- encryption and proxies ------------------------------------------------------------------------


def test_encryption_with_a_server_that_has_none(folder, server):
    message = failure(folder, server.url.replace("http:", "https:"))
    assert "SSL" in message
    assert contents(folder) == {}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_a_certificate_nobody_signed(folder, tmp_path, server):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -batch"
    command += f" -subj /CN=127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    message = failure(folder, server.url.replace("http:", "https:"))
    assert "no valid certificate (self" in message
    assert server.requests == []
    assert contents(folder) == {}


def test_a_proxy_of_the_environment(folder, server, monkeypatch):
    handler = type("Asked", (Proxy,), {"origin": server, "asked": []})
    with running(Server(handler)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        leave_part(folder, GOOD[:1000])
        fetch(folder, "http://mirror.invalid/")
    assert contents(folder) == {"images.gz": GOOD}
    assert handler.asked == ["http://mirror.invalid/images.gz"]
    assert server.requests == [("/images.gz", "bytes=1000-")]  # the proxy passed it on


def test_no_proxy_is_obeyed(folder, server, dead, monkeypatch):
    monkeypatch.setenv("http_proxy", dead)
    message = failure(folder, server.url)
    assert "Connection refused" in message
    assert "correct http_proxy and https_proxy" in message
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}


# -- the disk --------------------------------------------------------------------------------------


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Permissions do not stop the superuser: be somebody else meanwhile."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_disk_that_is_too_small(folder, server):
    huge = {"size": 10**18, "sha256": "0" * 64}
    message = failure(folder, manifest=make_manifest(server.url, images=huge))
    assert "free, 1000.0 PB are needed: make room" in message
    assert server.requests == []
    assert contents(folder) == {}


def test_a_disk_that_fills_up(folder, server):
    """A limit of the size of files stands for it: the same call fails in the same way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, before[1]))
    try:
        message = failure(folder, server.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"cannot write {folder / 'images.gz.part'}: File too large" in message
    assert "--data-dir" in message
    assert contents(folder) == {"images.gz.part": GOOD[: SIZE // 2]}
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert server.requests[-1] == ("/images.gz", f"bytes={SIZE // 2}-")


def test_no_permission(server):
    root = Path(tempfile.mkdtemp())
    try:
        root.chmod(0o555)
        with ordinary_user():
            message = failure(root / "set", server.url)
        assert f"cannot create the folder {root / 'set'}: Permission denied" in message
        root.chmod(0o755)
        (root / "set").mkdir(0o555)
        with ordinary_user():
            message = failure(root / "set", server.url)
        assert f"{root / 'set' / 'images.gz'}" in message
        assert "Permission denied" in message
        (root / "set").chmod(0o000)
        with ordinary_user():
            message = failure(root / "set", server.url)
            assert "images.gz is there, but it cannot be read: Permission denied" in message
            root_status = check_dataset("set", data_dir=root, manifest=make_manifest(server.url))
            assert root_status[0].state == "wrong"
    finally:
        (root / "set").chmod(0o755)
        root.chmod(0o755)
        shutil.rmtree(root)
    assert server.requests == []


def test_a_closed_folder(server):
    root = Path(tempfile.mkdtemp())
    try:
        root.chmod(0o000)
        with ordinary_user():
            assert "Permission denied" in failure(root / "set", server.url)
            with pytest.raises(DataError, match="Permission denied"):
                check_dataset("set", data_dir=root / "x", manifest=make_manifest(server.url))
    finally:
        root.chmod(0o755)
        shutil.rmtree(root)


def test_a_file_in_place_of_the_folder(tmp_path, server):
    (tmp_path / "file").write_bytes(b"mine")
    assert "cannot create the folder" in failure(tmp_path / "file" / "set", server.url)
    assert (tmp_path / "file").read_bytes() == b"mine"


# -- several at once, and stopping -----------------------------------------------------------------


def test_downloads_of_the_same_file_at_the_same_time(folder, server):
    """One downloads, the others wait and find the file there."""

    def slowly(handler: Handler, content: bytes) -> None:
        handler.head(200, Content_Length=SIZE)
        handler.wfile.write(content[: SIZE // 2])
        time.sleep(0.3)
        handler.wfile.write(content[SIZE // 2 :])

    server.always = slowly
    results: list[object] = []

    def one() -> None:
        try:
            results.append(fetch(folder, server.url, patience=Patience(lock=20))[0].fetched)
        except BaseException as error:  # shown by the assertion below
            results.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, True]
    assert len(server.requests) == 1
    assert contents(folder) == {"images.gz": GOOD}


def test_waiting_for_another_process_has_an_end(folder, server):
    folder.mkdir()
    lock = WriterLock(folder / "images.gz")
    try:
        stream = io.StringIO()
        message = failure(folder, server.url, report=Lines(stream))
    finally:
        lock.release()
    assert f"images.gz is being written by process {os.getpid()}" in message
    assert "waiting for another process" in stream.getvalue()
    assert contents(folder) == {}


class Interrupting(Silent):
    """Presses Ctrl-C when some bytes have come."""

    def update(self, done: int) -> None:
        if done > 1000:
            raise KeyboardInterrupt


def test_interrupted(folder, server):
    with pytest.raises(KeyboardInterrupt):
        fetch(folder, server.url, report=Interrupting())
    (name, part), *others = contents(folder).items()
    assert (name, others) == ("images.gz.part", [])
    assert part == GOOD[: len(part)]
    assert len(part) > 1000
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    if len(part) < SIZE:
        assert server.requests[-1] == ("/images.gz", f"bytes={len(part)}-")


def prdsim(*arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "prdsim", "data", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_command_that_is_stopped_keeps_what_has_come(tmp_path, server, number, code):
    size = idx.manifest()["mnist"]["files"]["train-images-idx3-ubyte.gz"]["size"]
    server.files["/train-images-idx3-ubyte.gz"] = content = random.Random(2).randbytes(size)
    server.always = hang_at(100_000)
    child = prdsim("fetch", "mnist", "--data-dir", tmp_path, "--mirror", server.url)
    part = tmp_path / "mnist" / "train-images-idx3-ubyte.gz.part"
    for _ in range(200):
        if part.exists() and part.stat().st_size == 100_000:
            break
        time.sleep(0.05)
    child.send_signal(number)
    _, told = child.communicate(timeout=20)
    assert child.returncode == code
    found = contents(tmp_path / "mnist")
    assert found.pop(part.name) == content[:100_000]
    if number == signal.SIGKILL:  # the lock has ended with the process; its file tells nothing
        assert set(found) == {"train-images-idx3-ubyte.gz.lock"}
    else:
        assert found == {}
        assert "Traceback" not in told
    if number == signal.SIGINT:
        assert "what has come is kept: the same command goes on from there\n" in told
        assert told.endswith("interrupted\n")


# -- checking --------------------------------------------------------------------------------------


def states(tmp_path: Path, manifest: dict[str, object] | None = None) -> list[str]:
    manifest = manifest or make_manifest(images=known(GOOD), labels=known(LABELS))
    return [file.state for file in check_dataset("set", data_dir=tmp_path, manifest=manifest)]


def test_check(tmp_path, folder):
    assert states(tmp_path) == ["missing", "missing"]
    folder.mkdir()
    (folder / "images.gz").write_bytes(GOOD)
    assert states(tmp_path) == ["ok", "missing"]
    (folder / "labels.gz").write_bytes(LABELS + b"x")
    assert states(tmp_path) == ["ok", "wrong"]
    (folder / "labels.gz").write_bytes(LABELS)
    assert states(tmp_path) == ["ok", "ok"]
    (folder / "images.gz").write_bytes(FLIPPED)
    assert states(tmp_path) == ["wrong", "ok"]


def test_check_takes_the_first_place_as_loading_does(tmp_path, folder):
    (tmp_path / "images.gz").write_bytes(GOOD)
    assert states(tmp_path) == ["ok", "missing"]
    folder.mkdir()
    (folder / "images.gz").write_bytes(OTHER)
    assert states(tmp_path) == ["wrong", "missing"]


def test_check_of_what_the_manifest_does_not_know(tmp_path):
    (tmp_path / "images").write_bytes(b"uncompressed")
    image, _ = check_dataset(
        "set",
        data_dir=tmp_path,
        manifest=make_manifest(images=known(GOOD), labels=known(LABELS)),
    )
    assert image.state == "unverified"
    assert image.path == tmp_path / "images"
    assert image.reason == "uncompressed: the manifest knows images.gz alone"


def test_files_of_another_set_are_wrong_only_in_a_folder_of_the_sets_name(tmp_path, folder):
    manifest = make_manifest(images=known(GOOD), labels=known(LABELS))
    manifest["other"] = make_manifest(images=known(OTHER))["set"]
    (tmp_path / "images.gz").write_bytes(OTHER)
    assert states(tmp_path, manifest) == ["missing", "missing"]
    folder.mkdir()
    (folder / "images.gz").write_bytes(OTHER)
    assert states(tmp_path, manifest) == ["wrong", "missing"]
    (image, _) = check_dataset("set", data_dir=tmp_path, manifest=manifest)
    assert (image.reason, image.belongs_to) == ("it belongs to other", "other")


# -- the commands ----------------------------------------------------------------------------------


def test_commands_on_a_whole_set(tmp_path, server, monkeypatch):
    """The manifest that ships names files that are not here: a small one takes its place."""
    from prdsim.cli.data import command

    manifest = make_manifest(server.url, images=known(GOOD), labels=known(LABELS))
    monkeypatch.setattr(idx, "manifest", lambda: manifest)

    def invoke(*words: str, code: int = 0):
        result = CliRunner().invoke(
            command, [*words, "--data-dir", str(tmp_path)], standalone_mode=False
        )
        assert (result.exception.exit_code if result.exception else result.return_value) == code
        return result

    assert "images.gz                    missing" in invoke("check").output
    named = invoke("check", "set", code=3)
    assert str(named.exception) == (
        f"of 2 files 2 missing: `prdsim data fetch set --data-dir {tmp_path}` gets the right ones"
    )
    done = invoke("fetch", "set", "set")
    assert (
        f"set: 2 files in {tmp_path / 'set'}, 2 downloaded, 0 were here; all have the right SHA-256"
    ) in done.output
    assert f"images.gz: 200.0 KB from {server.url}\n" in done.stderr
    assert "2 were here" in invoke("fetch", "set").output
    assert len(server.requests) == 2
    assert f"ok  {tmp_path / 'set' / 'labels.gz'}" in invoke("check", "set").output
    (tmp_path / "set" / "labels.gz").write_bytes(b"wrong.")
    for words in (["check"], ["check", "set", "--json"]):
        wrong = invoke(*words, code=3)
        assert "1 wrong: `prdsim data fetch set --force --data-dir" in str(wrong.exception)
        assert '"state": "wrong"' in wrong.output or "wrong  /" in wrong.output
    assert "is there, but" in str(invoke("fetch", "set", code=3).exception)
    invoke("fetch", "set", "--force")
    invoke("check", "set")


def test_usage():
    for words, told in [
        (["fetch"], "Missing argument 'NAME...'"),
        (["fetch", "mnist", "fashion-mnist", "--mirror", "http://x/"], "fetch one at a time"),
        (["fetch", "mnist", "--mirror", "file:///tmp/"], "unusable mirror: a mirror begins with"),
    ]:
        child = prdsim(*words)
        _, error = child.communicate(timeout=20)
        assert child.returncode == 2
        assert told in error


@pytest.mark.skipif(
    not (MNIST / "t10k-images-idx3-ubyte.gz").is_file(), reason=f"no MNIST test part in {MNIST}"
)
def test_mnist_itself(tmp_path, server):
    """The real files through the real manifest; the training part is not to be had here."""
    server.files = {f"/{path.name}": path.read_bytes() for path in MNIST.iterdir()}
    server.answers = [drop_at(700_000)]
    child = prdsim("fetch", "mnist", "--data-dir", tmp_path, "--mirror", server.url)
    _, error = child.communicate(timeout=20)
    assert child.returncode == 3
    assert "prdsim: cannot download train-images-idx3-ubyte.gz" in error
    assert contents(tmp_path / "mnist") == {}

    server.requests, server.answers = [], [drop_at(700_000)]
    entry = idx.manifest()["mnist"]
    test_part = {name: file for name, file in entry["files"].items() if name.startswith("t10k")}
    fetched = fetch_dataset(
        "mnist",
        data_dir=tmp_path,
        mirror=server.url,
        manifest={"mnist": {**entry, "files": test_part}},
        patience=PATIENT,
    )
    assert [file.fetched for file in fetched] == [True, True]
    assert [asked for _, asked in server.requests] == [None, "bytes=700000-", None]
    for name in test_part:
        assert (tmp_path / "mnist" / name).read_bytes() == (MNIST / name).read_bytes()
    assert load_dataset("mnist", split="test", data_dir=tmp_path, samples=9).X.shape == (784, 9)
    for words, code in ((["check"], 0), (["check", "mnist"], 3)):
        child = prdsim(*words, "--data-dir", tmp_path)
        told, _ = child.communicate(timeout=20)
        assert child.returncode == code
        assert told.count(" ok ") == 2


# -- progress --------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(folder, server):
    stream = Terminal()
    report = automatic_report(stream)
    assert isinstance(report, Bar)
    server.answers = [drop_at(50_000), serve_whole]  # the bar goes back to 0, too
    fetch(folder, server.url, report=report)
    assert "images.gz: 100%" in stream.getvalue()
    assert "200k/200k" in stream.getvalue()
    assert "connection dropped at byte 50000 of 200000; attempt 2 of 3\n" in stream.getvalue()


def test_lines_elsewhere(folder, server):
    stream = io.StringIO()
    assert isinstance(automatic_report(stream), Lines)
    server.answers = [drop_at(50_000), fail(404)]
    failure(folder, server.url, report=Lines(stream, seconds=0.0))
    fetch(folder, server.url, report=Lines(stream, seconds=0.0))
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"images.gz: 200.0 KB from {server.url}"
    assert "images.gz: 50.0 KB of 200.0 KB" in lines
    assert f"images.gz: 200.0 KB from {server.url}, from byte 50000" in lines
    assert lines[-1] == "images.gz: 200.0 KB of 200.0 KB"
