"""Law 20 against everything that a caller can say: one JSON line each, and nothing secret in log, metric or answer."""

import json
import logging
import os
from collections.abc import Iterator

import pytest

from sidecar import log
from tests.laws.conftest import Shop, eventually
from tests.support.doors import Node

SECRET = "s3cret"
# Line ends of every kind, escapes of terminals and of JSON, what turns text around, and what closes an object.
FORGERY = 'x"},\n{"forged":1}\r\n\x85\u2028\u2029\x1b[2J\x00\\\\n\\u000a\u202e{}%s$(id)'
IN_LATIN = FORGERY.encode("utf-8").decode("latin-1")

METHODS = ("GET", "PURGE", "get", "X" * 40, "G\x1b", 'G"', "G\xe9T", "GET\\n")
PATHS = (
    "/",
    "/%0a%7B%22forged%22:1%7D",
    "/%22%7D%E2%80%A8",
    '/"},{"forged":1}',
    "/" + "a" * 30_000,
    "/%1b[2J",
    "/\x1b[2J",
    "/..",
)
PATHS += (
    "/?" + SECRET,
    "/shut?" + SECRET,
    "/%00?" + SECRET,
    "http://payments/?" + SECRET,
    f"http://{SECRET}@payments/",
    "/#" + SECRET,
)
HOSTS = ("payments", 'payments"', "payments\x1b", SECRET + "@payments", SECRET, "p" * 5000, "")
FIELDS = (
    "X: " + SECRET,
    f"traceparent: {SECRET}",
    "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    "X: \x1b" + SECRET,
)
FIELDS += (
    f"{SECRET}: a",
    f"{SECRET} : a",
    f"Cookie: {SECRET}",
    "traceparent: " + IN_LATIN.replace("\n", "\r\n "),
    f"Content-Length: {SECRET}",
)
FIELDS += (
    f"Transfer-Encoding: {SECRET}",
    f"Upgrade: {SECRET}",
    f"Connection: {SECRET}",
    f"Expect: {SECRET}",
    f"Host: {SECRET}",
)


def requests() -> list[bytes]:
    """Each strange thing in an otherwise plain request."""
    heads = [f"{method} / HTTP/1.1\r\nHost: payments\r\n" for method in METHODS]
    heads += [f"GET {path} HTTP/1.1\r\nHost: payments\r\n" for path in PATHS]
    heads += [f"GET / HTTP/1.1\r\nHost: {host}\r\n" for host in HOSTS]
    heads += [f"GET / HTTP/1.1\r\nHost: payments\r\n{field}\r\n" for field in FIELDS]
    heads += [f"POST / HTTP/1.1\r\nHost: payments\r\nContent-Length: 6\r\n\r\n{SECRET}", f"{SECRET}{IN_LATIN}"]
    heads += [
        f"POST / HTTP/1.1\r\nHost: payments\r\nTransfer-Encoding: chunked\r\n\r\n6;{SECRET}\r\n{SECRET}\r\n{SECRET}"
    ]
    return [f"{head}\r\n".encode("latin-1") for head in heads]


def exposed(node: Node) -> str:
    """Every metric with its labels."""
    families = node.proxy.metrics.registry.collect()
    return repr([(sample.name, sample.labels) for family in families for sample in family.samples])


@pytest.fixture
def process_log() -> Iterator[int]:
    """The reading end of the process log."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    log.configure("debug", fd=writing)
    yield reading
    root.level, root.handlers[:] = before
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("door", ["outbound", "inbound"])
async def test_law_20_whatever_a_caller_says_makes_one_line_that_says_nothing_secret(
    shop: Shop, door: str, process_log: int
) -> None:
    await shop.open({"methods": ["GET", "PURGE", "POST"], "paths": ["/", "/open/*"]})
    node = shop.payments if door == "inbound" else shop.checkout
    answers = b""
    for request in requests():
        before = len(node.written)
        answers += await shop.say(request, straight=door == "inbound")
        await eventually(lambda: len(node.written) > before)  # noqa: B023  # awaited here
    lines = [record.line() for record in node.written]
    for line in lines:
        assert line.endswith(b"\n")
        assert line[:-1].decode("ascii").isprintable(), line
        assert isinstance(json.loads(line), dict)
        assert len(line) < 4096
        assert SECRET.encode() not in line
    said = os.read(process_log, 1 << 20)
    assert said
    assert all(isinstance(json.loads(line), dict) for line in said.splitlines())
    everything = b"".join(lines) + said + answers + exposed(node).encode()
    assert SECRET.encode() not in everything
    assert b'"forged":' not in everything
    assert b"\x1b" not in everything
