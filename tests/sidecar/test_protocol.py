"""HTTP or not, from the first bytes, and the same verdict however they were cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.protocol import METHODS, sniff

HTTP = [
    b"GET / HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"POST http://payments/charges HTTP/1.1\r\n",
    b"CONNECT payments:443 HTTP/1.1\r\n",
    b"PROPFIND /dav HTTP/1.1\r\n",
]
TCP = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",  # the HTTP/2 preface
    b"\x16\x03\x01\x02\x00",  # TLS
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL's SSLRequest
    b"EHLO client.example\r\n",
    b"GET key\r\n",  # Redis, inline
    b"get / HTTP/1.1\r\n",  # methods are case-sensitive
    b"\r\nGET / HTTP/1.1\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
]


@pytest.mark.parametrize("first", HTTP)
def test_http(first: bytes) -> None:
    assert sniff(first) == "http"


@pytest.mark.parametrize("first", TCP)
def test_everything_else_is_tcp(first: bytes) -> None:
    assert sniff(first) == "tcp"


@pytest.mark.parametrize("first", [b"", b"G", b"GET", b"GET ", b"GET h", b"PR", b"CONNECT"])
def test_too_little_to_tell(first: bytes) -> None:
    assert sniff(first) is None


@pytest.mark.parametrize("first", [*HTTP, *TCP])
def test_the_verdict_does_not_depend_on_how_bytes_arrive(first: bytes) -> None:
    verdicts = [sniff(first[:length]) for length in range(len(first) + 1)]
    decided = [verdict for verdict in verdicts if verdict]
    assert set(decided) == {sniff(first)}
    assert verdicts[len(verdicts) - len(decided) :] == decided, "a verdict, once given, stands"


@given(st.binary(min_size=max(map(len, METHODS)) + 5))
def test_it_never_waits_for_more_than_a_few_bytes(seen: bytes) -> None:
    assert sniff(seen) in ("http", "tcp")
