"""The live page: for browsers of this machine that know its address, and up to date."""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from prdsim.errors import ConfigError
from prdsim.explorer.server import PageServer, Served, follow


@pytest.fixture
def served() -> Served:
    served = Served()
    served.replace("<p>one</p>", "1")
    return served


@pytest.fixture
def server(served) -> Iterator[PageServer]:
    with PageServer(served) as server:
        yield server


def ask(
    server: PageServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    assert answer.getheader("X-Content-Type-Options") == "nosniff" or status == 501
    connection.close()
    return status, text


def secret(server: PageServer) -> str:
    return urlsplit(server.address).path


def test_the_page_and_its_version_are_at_the_secret_address(server, served):
    assert ask(server, secret(server)) == (200, "<p>one</p>")
    assert ask(server, secret(server) + "version") == (200, "1")
    assert ask(server, secret(server), "HEAD") == (200, "")
    served.replace("<p>two</p>", "2")
    assert ask(server, secret(server)) == (200, "<p>two</p>")
    assert ask(server, secret(server) + "version?x=1") == (200, "2")


def test_nothing_is_anywhere_else(server):
    token = secret(server).strip("/")
    assert len(token) >= 32
    for path in ("/", "/version", f"/{token[:-1]}/", f"/{token}x/", f"/{token}/../etc/passwd"):
        assert ask(server, path)[0] == 404, path
    assert ask(server, f"/{token}/page.h5")[0] == 404
    assert ask(server, "/" + "x" * 1000)[0] == 404


def test_other_names_of_the_host_are_refused(server):
    for host in (
        "evil.example",
        f"evil.example:{server.port}",
        "127.0.0.1",
        "",
        f"[::1]:{server.port}",
    ):
        assert ask(server, secret(server), host=host)[0] == 421, host
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}"):
        assert ask(server, secret(server), host=host)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(server, method):
    assert ask(server, secret(server), method)[0] == 501


def test_two_servers_have_different_secrets_and_only_loopback_listens(server, served):
    with PageServer(served) as other:
        assert secret(other) != secret(server)
    with socket.socket() as probe:  # no address but 127.0.0.1 is taken
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        probe.bind(("127.0.0.2", server.port))


def test_the_address_needs_its_last_slash(server):
    """Without it, the page would ask for its version elsewhere."""
    assert ask(server, secret(server).rstrip("/"))[0] == 404


def test_a_port_that_is_taken_is_refused_in_words(server, served):
    with pytest.raises(
        ConfigError, match=f"port {server.port}: Address already in use; name anoth"
    ):
        PageServer(served, server.port)


def test_clients_that_go_away_leave_no_word(server, served, capfd):
    served.replace("x" * 10_000_000, "1")
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            request = f"GET {secret(server)} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
            client.sendall(request.encode())
            client.recv(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.replace("<p>one</p>", "1")
    assert ask(server, secret(server)) == (200, "<p>one</p>")
    assert capfd.readouterr() == ("", "")


def test_a_page_is_made_again_when_the_state_has_changed():
    served, made = Served(), []
    served.replace("page a", "a")
    states = iter(["a", "b", None, "b", "c", "c", "d"])

    def make(version: str) -> str | None:
        made.append(version)
        return None if made.count("c") == 1 and version == "c" else f"page {version}"

    rounds = iter([False] * 6 + [True])
    follow(served, "a", lambda: next(states), make, until=lambda: next(rounds), seconds=0.0)
    assert made == ["b", "c", "c"], "again what could not be made, never what is served"
    assert served.answers()[""][1] == b"page c"
    assert served.answers()["version"][1] == b"c"
