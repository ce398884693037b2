"""Downloads of data sets: the ways one can fail, and that none leaves a wrong file.

The servers are the tests' own, on loopback; nothing else is ever asked.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import random
import resource
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import Terminal, ordinary_user
from support_cli import PATIENCE, ROOT, Program, caller

from prdsim.datasets import download, idx, load_dataset
from prdsim.datasets.fetch import check_dataset, fetch_dataset
from prdsim.errors import ConfigError, DataError
from prdsim.progress import Meter

MNIST = ROOT.parent / "shared" / "mnist"

SIZE = 200_000
GOOD = random.Random(0).randbytes(SIZE)
FLIPPED = bytes([GOOD[0] ^ 1]) + GOOD[1:]
LABELS = b"labels"


def known(content: bytes) -> dict[str, object]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def make_known(*mirrors: str, **files: bytes) -> dict[str, object]:
    """The manifest's entry of a data set of these files."""
    named = {f"{name}.gz": known(content) for name, content in files.items()}
    return {"title": "made up", "mirrors": list(mirrors), "files": named}


# -- servers ---------------------------------------------------------------------------------------

Answer = Callable[["Handler", bytes], None]


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name, whatever host is asked for; `answer` is the way it does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.files = {"images.gz": GOOD, "labels.gz": LABELS}
        self.answer = send()
        self.requests: list[str] = []
        self.stopping = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path.rpartition("/")[2])
        if content is None:
            self.send_error(404)
        else:
            self.server.answer(self, content)

    def log_message(self, *args: object) -> None:
        pass


def send(change: Callable[[bytes], bytes] = bytes, status: int = 200, **headers: object) -> Answer:
    """Send the changed content; a header None is left out."""

    def answer(handler: Handler, content: bytes) -> None:
        body = change(content)
        handler.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drop_at(count: int, size: int = SIZE) -> Answer:
    """Promise the size, send this many bytes, and close."""
    return send(lambda content: content[:count], Content_Length=size)


def hang_at(count: int, size: int = SIZE) -> Answer:
    """Send this many bytes, then nothing, and keep the connection."""

    def answer(handler: Handler, content: bytes) -> None:
        drop_at(count, size)(handler, content)
        handler.wfile.flush()
        handler.server.stopping.wait(PATIENCE)

    return answer


def endless(handler: Handler, content: bytes) -> None:
    send(Content_Length=None)(handler, content)
    while not handler.server.stopping.is_set():
        handler.wfile.write(bytes(1 << 16))


@pytest.fixture
def start() -> Iterator[Callable[[], Server]]:
    """Start a server that ends with the test."""
    running: list[tuple[Server, threading.Thread]] = []

    def one() -> Server:
        server = Server()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield one
    for server, thread in running:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(start) -> Server:
    return start()


@pytest.fixture
def dead() -> str:
    """The URL of a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def manifest(tmp_path, monkeypatch) -> dict[str, object]:
    """The manifest with one set of one file besides those that ship; nothing else is here."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "prdsim_data_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_RETRIES", 0)
    made = {**idx.manifest(), "set": make_known(images=GOOD)}
    monkeypatch.setattr(idx, "manifest", lambda: made)
    return made


@pytest.fixture
def both(manifest) -> None:
    """The set has two files."""
    manifest["set"] = make_known(images=GOOD, labels=LABELS)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where fetch puts the files of "set" with data_dir = tmp_path."""
    return tmp_path / "set"


def fetch(folder: Path, *mirrors: str, **options):
    """Fetch "set" from the manifest's mirrors, which these are from now on."""
    idx.manifest()["set"]["mirrors"] = list(mirrors)
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


def test_only_what_is_missing_is_downloaded(folder, server, manifest):
    fetch(folder, server.url)
    umask = os.umask(0)
    os.umask(umask)
    before = (folder / "images.gz").stat()
    assert before.st_mode & 0o777 == 0o666 & ~umask
    manifest["set"] = make_known(images=GOOD, labels=LABELS)
    files = fetch(folder, server.url, force=True)
    assert [(file.state, file.fetched) for file in files] == [("ok", False), ("ok", True)]
    assert [file.path for file in files] == [folder / "images.gz", folder / "labels.gz"]
    assert contents(folder) == {"images.gz": GOOD, "labels.gz": LABELS}
    assert server.requests == ["/images.gz", "/labels.gz"]
    assert (folder / "images.gz").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("place", ["data_dir", "environment", "cache"])
def test_places(tmp_path, monkeypatch, server, place):
    roots = {name: tmp_path / "new" / name for name in ("data_dir", "environment")}
    roots["cache"] = tmp_path / "cache" / "prdsim"
    if place != "cache":
        monkeypatch.setenv("PRDSIM_DATA_DIR", str(roots["environment"]))
    data_dir = roots["data_dir"] if place == "data_dir" else None
    (file,) = fetch_dataset("set", data_dir=data_dir, mirror=server.url)
    assert file.path == roots[place] / "set" / "images.gz"
    assert file.path.read_bytes() == GOOD


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(("there", "own"), [(GOOD, False), (FLIPPED, True)])
def test_files_go_beside_right_ones_of_the_set_and_leave_others_alone(tmp_path, server, there, own):
    (tmp_path / "images.gz").write_bytes(there)
    files = fetch(tmp_path / "set", server.url)
    assert {file.path.parent for file in files} == {tmp_path / "set" if own else tmp_path}
    assert (tmp_path / "images.gz").read_bytes() == there
    assert (tmp_path / "set").exists() == own


WRONG = {
    "404": (send(status=404), "404 Client Error: Not Found"),
    "one bit": (send(lambda _: FLIPPED), "SHA256 hash of downloaded file (images.gz) does not"),
    "shorter": (send(lambda c: c[:-1]), "SHA256 hash of downloaded file (images.gz) does not"),
    "endless": (endless, f"more than the {SIZE} bytes expected"),
    "dropped": (drop_at(1000), "IncompleteRead(1000 bytes read"),
    "no HTTP": (lambda h, _: h.wfile.write(b"\x1b[31mno HTTP\r\n\r\n"), "[31mno HTTP"),
    "silent": (hang_at(1000), "timed out"),
    "to a file": (send(status=302, Location="file:///etc/hostname"), "No connection adapters"),
    "to nonsense": (send(status=302, Location="http://[::1"), "Invalid IPv6 URL"),
}


@pytest.mark.parametrize(("answer", "told"), WRONG.values(), ids=WRONG)
def test_a_bad_mirror_leaves_no_wrong_file(folder, server, monkeypatch, answer, told):
    """Neither with nothing there, nor with a wrong file that is to be replaced."""
    if told == "timed out":  # nothing else should time out, however busy the machine
        monkeypatch.setattr(download, "_TIMEOUT", 0.3)
    server.answer = answer
    message = failure(folder, server.url)
    assert not folder.exists()
    folder.mkdir()
    (folder / "images.gz").write_bytes(FLIPPED)
    assert failure(folder, server.url, force=True) == message
    assert contents(folder) == {"images.gz": FLIPPED}
    assert message.startswith(f"cannot download images.gz: {server.url}: ")
    assert told in message
    assert message.replace("\n", "").isprintable()
    assert "Try again later, name another server with --mirror, or" in message


@pytest.mark.parametrize("headers", [{}, {"Content_Length": None}, {"Content_Encoding": "gzip"}])
def test_ways_to_send_the_right_bytes(folder, start, headers):
    """Behind a redirection, without a length, and with the file taken for its own compression."""
    first, second = start(), start()
    first.answer = send(lambda _: b"", status=302, Location=f"{second.url}images.gz")
    second.answer = send(**headers)
    fetch(folder, first.url)
    assert contents(folder) == {"images.gz": GOOD}


def test_a_mirror_is_asked_again_after_a_lost_connection(folder, server, monkeypatch):
    def drop_once(handler: Handler, content: bytes) -> None:
        server.answer = send()
        drop_at(1000)(handler, content)

    monkeypatch.setattr(download, "_RETRIES", 1)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    server.answer = drop_once
    fetch(folder, server.url)
    assert contents(folder) == {"images.gz": GOOD}
    assert len(server.requests) == 2


@pytest.mark.usefixtures("both")
def test_mirrors_in_turn(folder, start, dead):
    bad, good = start(), start()
    bad.answer = send(lambda _: FLIPPED)
    stream = io.StringIO()
    fetch(folder, dead, bad.url, good.url, stream=stream)
    told = stream.getvalue()
    assert f"images.gz: {dead}: [Errno 111] Connection refused\n" in told
    assert f"images.gz: {bad.url}: SHA256 hash" in told
    assert f"labels.gz: 6 bytes from {good.url}\n" in told
    assert (bad.requests, len(good.requests)) == (["/images.gz"], 2)  # labels: the one that served
    fetch(folder.parent / "mine" / "set", bad.url, mirror=good.url.removesuffix("/"))
    assert (len(bad.requests), len(good.requests)) == (1, 4)
    good.files = {}
    message = failure(folder.parent / "no" / "set", good.url, dead)
    assert f"; {dead}: [Errno 111] Connection refused.\n" in message


def test_a_proxy_of_the_environment(folder, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    fetch(folder, "http://mirror.invalid/")
    assert contents(folder) == {"images.gz": GOOD}
    assert server.requests == ["http://mirror.invalid/images.gz"]


# -- what is refused before anyone is asked --------------------------------------------------------


@pytest.mark.usefixtures("both")
def test_a_wrong_file_is_kept_without_force(folder, server):
    folder.mkdir()
    (folder / "labels.gz").write_bytes(b"short")
    assert "labels.gz exists, but it has 5 bytes, not 6" in failure(folder, server.url)
    (folder / "labels.gz").write_bytes(b"wrong.")
    message = failure(folder, server.url)
    assert f"{folder / 'labels.gz'} exists, but its SHA-256 is " in message
    assert "replace it with --force" in message
    assert contents(folder) == {"labels.gz": b"wrong."}
    assert server.requests == []
    fetch(folder, server.url, force=True)
    assert contents(folder) == {"images.gz": GOOD, "labels.gz": LABELS}


def test_a_folder_with_the_files_name(folder, server):
    (folder / "images.gz").mkdir(parents=True)
    for force in (False, True):
        assert "it is not a file" in failure(folder, server.url, force=force)
    assert list((folder / "images.gz").iterdir()) == server.requests == []


@pytest.mark.parametrize("ask", [fetch_dataset, check_dataset])
def test_names_without_files(ask):
    for name, told in (
        ("digits", "it comes with prdsim"),
        ("mnits", r"unknown; did you mean mnist\?"),
    ):
        with pytest.raises(ConfigError, match=f'for "{name}": {told}'):
            ask(name)


BAD_MIRRORS = [
    *("file:///etc/", "ftp://127.0.0.1/", "127.0.0.1/", "", "http://", "http://[::1"),
    *("http://127.0.0.1:port/", "http://127.0.0.1:70000/", "http://127.0.0.1:0/"),
    *("http://user:secret@127.0.0.1/", "http://127.0.0.1/?a=b", "http://127.0.0.1/#a"),
]


@pytest.mark.parametrize("url", BAD_MIRRORS)
def test_mirrors_that_cannot_be_used(folder, url):
    with pytest.raises(ConfigError, match="unusable mirror: ") as caught:
        fetch(folder, mirror=url)
    assert "secret" not in str(caught.value)
    assert not folder.exists()


# -- the disk --------------------------------------------------------------------------------------


def test_a_disk_that_fills_up(folder, server, file_size_limit):
    """A limit of the size of files stands for it: the same call fails in the same way."""
    file_size_limit(SIZE // 2)
    message = failure(folder, server.url)
    file_size_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert f"cannot write {folder / 'images.gz'}: File too large" in message
    assert "--data-dir" in message
    assert contents(folder) == {}


def test_folders_that_cannot_be_written(tmp_path, server):
    (tmp_path / "file").write_bytes(b"mine")
    assert "cannot create the folder" in failure(tmp_path / "file" / "set", server.url)
    with tempfile.TemporaryDirectory() as name:  # unlike tmp_path, within reach of other users
        root, folder = Path(name), Path(name) / "set"
        for mode, inner, told in [
            (0o555, None, f"cannot create the folder {folder}: Permission denied"),
            (0o755, 0o555, f"cannot write {folder / 'images.gz'}: Permission denied"),
            (0o755, 0o000, "images.gz exists, but it cannot be read: Permission denied"),
            (0o000, 0o755, "Permission denied"),
        ]:
            if inner is not None:
                folder.mkdir(exist_ok=True)
                folder.chmod(inner)
            root.chmod(mode)
            with ordinary_user():
                assert told in failure(folder, server.url)
            root.chmod(0o755)
        (folder / "images.gz").write_bytes(GOOD)
        folder.chmod(0o555)
        with ordinary_user():  # nothing has to be written
            assert [file.fetched for file in fetch(folder, server.url)] == [False]
    assert server.requests == []


# -- several at once, and stopping -----------------------------------------------------------------


def test_downloads_of_the_same_file_at_the_same_time(folder, server):
    meet = threading.Barrier(3)

    def together(handler: Handler, content: bytes) -> None:
        meet.wait(PATIENCE)
        send()(handler, content)

    server.answer = together
    threads = [threading.Thread(target=fetch, args=(folder, server.url)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 3
    assert contents(folder) == {"images.gz": GOOD}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_command_that_is_stopped_leaves_no_file(tmp_path, server, number, code):
    name = "train-images-idx3-ubyte.gz"
    server.files[name] = GOOD
    server.answer = hang_at(100_000, size=idx.manifest()["mnist"]["files"][name]["size"])
    words = ("data", "fetch", "mnist", "--data-dir", tmp_path, "--mirror", server.url)
    with Program(*words, cwd=ROOT) as child:
        child.wait_until(lambda: any(map(len, contents(tmp_path / "mnist").values())))
        child.send_signal(number)
        answer = child.answer()
    assert answer.code == code
    left = contents(tmp_path / "mnist")
    assert name not in left
    assert len(left) == (number == signal.SIGKILL)  # pooch's temporary file
    if number == signal.SIGINT:
        assert answer.err == (  # nothing of pooch's own log
            f"{name}: 9.9 MB from {server.url}\n"
            "complete files are kept; repeat the command to fetch the others\n"
            "interrupted\n"
        )


# -- checking --------------------------------------------------------------------------------------


def states(tmp_path: Path) -> list[str]:
    return [file.state for file in check_dataset("set", data_dir=tmp_path)]


@pytest.mark.usefixtures("both")
def test_check(tmp_path, folder):
    """The first place that has a file counts, as it does for loading."""
    assert states(tmp_path) == ["missing", "missing"]
    (tmp_path / "images.gz").write_bytes(GOOD)
    assert states(tmp_path) == ["ok", "missing"]
    folder.mkdir()
    (folder / "images.gz").write_bytes(FLIPPED)
    assert states(tmp_path) == ["wrong", "missing"]
    (folder / "labels.gz").write_bytes(LABELS + b"x")
    assert states(tmp_path) == ["wrong", "wrong"]
    (folder / "images.gz").write_bytes(GOOD)
    (folder / "labels.gz").write_bytes(LABELS)
    assert states(tmp_path) == ["ok", "ok"]
    (folder / "images.gz").rename(folder / "images")
    image, _ = check_dataset("set", data_dir=tmp_path)
    assert (image.state, image.path) == ("unverified", folder / "images")
    assert image.reason == "uncompressed: the manifest lists only images.gz"


def test_files_of_another_set_are_wrong_only_in_a_folder_of_the_sets_name(
    tmp_path, folder, manifest
):
    manifest["other"] = make_known(images=FLIPPED)
    (tmp_path / "images.gz").write_bytes(FLIPPED)
    assert states(tmp_path) == ["missing"]
    folder.mkdir()
    (folder / "images.gz").write_bytes(FLIPPED)
    (image,) = check_dataset("set", data_dir=tmp_path)
    assert image.state == "wrong"
    assert (image.reason, image.belongs_to) == ("it belongs to other", "other")


# -- the commands ----------------------------------------------------------------------------------


@pytest.fixture
def data(monkeypatch, capsys):
    """Run prdsim data."""
    run = caller(monkeypatch, capsys)
    return lambda *words: run("data", *words)


def test_commands_on_a_whole_set(tmp_path, server, manifest, data):
    manifest["set"] = make_known(server.url, images=GOOD, labels=LABELS)
    here = ("--data-dir", tmp_path)
    assert "images.gz                    missing" in data("check", *here).out
    named = data("check", "set", *here)
    assert (named.code, named.err) == (
        3,
        "prdsim: of 2 files, 2 missing: "
        f"`prdsim data fetch set --data-dir {tmp_path}` gets the right ones\n",
    )
    done = data("fetch", "set", "set", *here)
    assert (
        f"set: 2 files in {tmp_path / 'set'}, 2 downloaded, 0 already present; "
        "all have the right SHA-256"
    ) in done.out
    assert f"images.gz: 200.0 KB from {server.url}\n" in done.err
    assert "2 already present" in data("fetch", "set", *here).out
    assert len(server.requests) == 2
    assert f"ok  {tmp_path / 'set' / 'labels.gz'}" in data("check", "set", *here).out
    (tmp_path / "set" / "labels.gz").write_bytes(b"wrong.")
    for words, row in ((["check"], "wrong  /"), (["check", "set", "--json"], '"state": "wrong"')):
        wrong = data(*words, *here)
        assert wrong.code == 3
        assert "1 wrong: `prdsim data fetch set --force --data-dir" in wrong.err
        assert row in wrong.out
    refused = data("fetch", "set", *here)
    assert (refused.code, "exists, but" in refused.err) == (3, True)
    assert data("fetch", "set", "--force", *here).code == 0
    assert data("check", "set", *here).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Missing argument 'NAME...'"),
        (["mnits"], "unknown; did you mean mnist?"),
        (["mnist", "fashion-mnist", "--mirror", "http://x/"], "fetch one at a time"),
        (["mnist", "--mirror", "file:///tmp/"], "unusable mirror: give the http or https URL"),
    ],
)
def test_usage(data, words, told):
    answer = data("fetch", *words)
    assert answer.code == 2
    assert told in answer.err


def test_nothing_is_said_twice_without_a_network(tmp_path, dead, manifest, monkeypatch, data):
    monkeypatch.setattr(download, "_RETRIES", 1)
    manifest["set"] = make_known(dead, images=GOOD)
    answer = data("fetch", "set", "--data-dir", tmp_path)
    assert answer.code == 3
    announced, failed, remedy = answer.err.splitlines()
    assert announced == f"images.gz: 200.0 KB from {dead}"
    assert failed == (f"prdsim: cannot download images.gz: {dead}: [Errno 111] Connection refused.")
    assert remedy.startswith("Try again later")


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_appears_meanwhile(folder, server, force):
    """The same one is as good; another one is replaced only by request."""

    def slow(handler: Handler, content: bytes) -> None:
        (folder / "images.gz").write_bytes(theirs)
        send()(handler, content)

    server.answer = slow
    for theirs in (GOOD, FLIPPED):
        if force or theirs == GOOD:
            fetch(folder, server.url, force=force)
        else:
            message = failure(folder, server.url)
            assert "images.gz has appeared meanwhile, and is another file" in message
        assert contents(folder) == {"images.gz": GOOD if force else theirs}
        (folder / "images.gz").unlink()


@pytest.mark.skipif(
    not (MNIST / "t10k-images-idx3-ubyte.gz").is_file(), reason=f"no MNIST test part in {MNIST}"
)
def test_mnist_itself(tmp_path, server, manifest):
    """The real files by the real manifest; the training part is not in the folder."""
    server.files = {path.name: path.read_bytes() for path in MNIST.iterdir()}
    files = manifest["mnist"]["files"]
    test_part = {name: file for name, file in files.items() if name.startswith("t10k")}
    manifest["mnist"] = {**manifest["mnist"], "files": test_part}
    fetch_dataset("mnist", data_dir=tmp_path, mirror=server.url)
    assert contents(tmp_path / "mnist") == {name: server.files[name] for name in test_part}
    assert load_dataset("mnist", split="test", data_dir=tmp_path, samples=9).X.shape == (784, 9)


# -- progress --------------------------------------------------------------------------------------


def test_progress_is_a_bar_on_a_terminal_lines_elsewhere_or_nothing(
    tmp_path, server, dead, monkeypatch
):
    monkeypatch.setattr(download, "_CHUNK", 50_000)
    monkeypatch.setattr(Meter.__init__, "__kwdefaults__", {"seconds": 0.0})
    terminal, log = Terminal(), io.StringIO()
    for name, stream in (("a", terminal), ("b", log), ("c", None)):
        fetch(tmp_path / name / "set", dead, server.url, stream=stream)
    assert "images.gz: 100%" in terminal.getvalue()
    assert "200k/200k" in terminal.getvalue()
    assert f"images.gz: {dead}: [Errno 111] Connection refused\n" in terminal.getvalue()
    assert log.getvalue().splitlines() == [
        f"images.gz: 200.0 KB from {dead}",
        f"images.gz: {dead}: [Errno 111] Connection refused",
        f"images.gz: 200.0 KB from {server.url}",
        *(f"images.gz: {done}.0 KB of 200.0 KB" for done in (50, 100, 150, 200)),
    ]
