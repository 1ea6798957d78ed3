"""Over the real socket: what is refused unread, and that one bad connection costs itself only."""

import json
import os
import pwd
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from control_plane.admin import reading
from control_plane.admin.client import Client
from control_plane.admin.server import serve
from control_plane.admin.unix_socket import SocketRefused
from control_plane.metrics import Metrics
from tests.support.admin import MAX_CONNECTIONS, AdminHouse
from tests.support.patience import PATIENCE
from tests.support.strange_heads import HTTP_2


def raw(house: AdminHouse, request: bytes) -> tuple[int, dict[str, object]]:
    """Send bytes as they are; status and JSON of the answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(house.socket))
        sock.sendall(request)
        answer = b""
        while part := sock.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def get(path: str = "/v1/bans", *headers: str, host: str = "localhost") -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def post(body: bytes, *headers: str, path: str = "/v1/bans") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost:80", "doorward"])
def test_our_own_names_are_answered(house: AdminHouse, host: str) -> None:
    assert raw(house, get(host=host)) == (200, {"bans": []})


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost.evil.example", ""])
def test_a_foreign_host_is_refused(house: AdminHouse, host: str) -> None:
    status, answer = raw(house, get(host=host))
    assert (status, answer["error"]) == (421, "foreign_host")


@pytest.mark.parametrize("name", HTTP_2)
def test_http_2_is_not_spoken(house: AdminHouse, name: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(house.socket))
        sock.sendall(HTTP_2[name])
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 421 "))
    assert b"\0" not in answer, "no frame of HTTP/2"


@pytest.mark.parametrize(
    "header", ["Origin: http://localhost", "Sec-Fetch-Site: same-origin", "Cookie: a=b", "Referer: x"]
)
def test_a_browser_is_refused(house: AdminHouse, header: str) -> None:
    status, answer = raw(house, get("/v1/bans", header))
    assert (status, answer["error"]) == (403, "browser_refused")


@pytest.mark.parametrize(
    "header", ["Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "X-A: b"]
)
def test_a_change_needs_the_content_type_that_no_form_sends(house: AdminHouse, header: str) -> None:
    status, answer = raw(house, post(b'{"subject": "shop/checkout"}', header))
    assert (status, answer["error"]) == (415, "not_json")
    assert house.backend.store.bans() == ()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"[]", "not_json"),
        (b'{"subject": NaN}', "not_json"),
        (b"\xff\xfe{}", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"subject": "a/b", "subject": "c/d"}', "not_json"),
        (b"{}", "missing_field"),
        (b'{"subject": 7}', "wrong_type"),
        (b'{"subject": "shop/checkout", "reasn": "x"}', "unknown_field"),
        (b'{"subject": "checkout"}', "bad_subject"),
        (b'{"subject": "serial:0x1f"}', "bad_subject"),
    ],
)
def test_a_body_that_is_not_what_is_expected_changes_nothing(house: AdminHouse, body: bytes, error: str) -> None:
    status, answer = raw(house, post(body, "Content-Type: application/json"))
    assert (status, answer["error"]) == (400, error)
    assert house.backend.store.bans() == ()


def test_a_body_above_the_bound_is_refused(house: AdminHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BODY_BYTES", 1000)
    status, answer = raw(house, post(b" " * 1001, "Content-Type: application/json"))
    assert (status, answer["error"]) == (413, "body_too_large")


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/decisions", 405)])
def test_an_unknown_path_or_method_is_a_problem_like_any_other(house: AdminHouse, path: str, status: int) -> None:
    found, answer = raw(house, get(path))
    assert (found, answer["error"], answer["faults"]) == (status, "no_such_route", [])


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01 hello", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"A" * 100_000]
)
def test_garbage_costs_its_own_connection_only(house: AdminHouse, client: Client, garbage: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(house.socket))
        with suppress(ConnectionError):  # cut off, where it was judged before its end had come
            sock.sendall(garbage)
    assert client.get("/v1/bans") == {"bans": []}


def test_a_fault_of_ours_is_a_500_that_tells_nothing_of_its_inside(house: AdminHouse, client: Client) -> None:
    house.backend.store.close()
    house.backend.store.bans = lambda: 1 / 0
    status, answer = raw(house, get())
    assert (status, answer["error"]) == (500, "internal_error")
    assert "division" not in json.dumps(answer)


def test_the_author_of_a_change_is_the_user_that_the_kernel_names(house: AdminHouse, client: Client) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert client.post("/v1/bans", {"subject": "shop/checkout"})["author"] == me


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_shut_out_even_where_the_socket_is_open(house: AdminHouse) -> None:
    for path in (house.directory, house.directory / "state", house.socket):
        path.chmod(0o777)
    script = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])\n"
        "try:\n"
        "    s.sendall(b'GET /v1/bans HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "    data = s.recv(100)\n"
        "except ConnectionError: data = b''\n"
        "sys.exit(len(data))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(house.socket)], check=False, timeout=60)
    assert done.returncode == 0


async def test_a_second_server_on_the_same_socket_does_not_start(house: AdminHouse) -> None:
    with pytest.raises(SocketRefused):
        await serve(house.socket, house.backend, Metrics(), max_connections=4)


async def test_the_socket_goes_away_with_the_server(house: AdminHouse, short_directory: Path) -> None:
    path = short_directory / "second.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, max_connections=4), path, house.backend, Metrics())
        assert path.is_socket()
        nursery.cancel_scope.cancel()
    assert not path.exists()


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /v1/bans HT", post(b"{" * 1000, "Content-Type: application/json")[:-1]],
    ids=["", "head", "body"],
)
def test_requests_that_do_not_come_to_their_end_keep_nobody_out(house: AdminHouse, begun: bytes) -> None:
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        for each in crowd:
            each.connect(str(house.socket))
            each.sendall(begun)
        with house.client() as client:
            assert client.get("/v1/bans") == {"bans": []}
        crowd[0].settimeout(PATIENCE)
        with suppress(ConnectionResetError):  # it may have had to give way before anybody read what it said
            assert crowd[0].recv(100) == b"", "it has waited longest"
    finally:
        for each in crowd:
            each.close()
