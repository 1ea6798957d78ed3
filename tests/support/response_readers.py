"""Clients' ways of reading HTTP/1.1 responses, independent of the sidecar's: all must find the same ones.

Each takes everything that came back on one connection, and the methods of the requests that were sent on it.
"""

import http.client
import io
import re
from collections.abc import Sequence
from typing import Any, Final, cast

import h11

from tests.support.forged_answers import Heard

_HEAD = re.compile(
    rb"HTTP/1\.1 ([1-9][0-9]{2}) [\t\x20-\x7e\x80-\xff]*\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)


_SIZE = re.compile(rb"([1-9a-f][0-9a-f]*)\r\n")
_END = re.compile(rb"0\r\n(?:[^\r\n\0]+\r\n)*\r\n")


class Malformed(Exception):
    """What came back is no whole response."""


def strictly(raw: bytes, methods: Sequence[str]) -> tuple[list[Heard], bytes]:
    """Only what the sidecar promises to write: one framing, no bodies until the end. Raises Malformed."""
    found: list[Heard] = []
    left = list(methods)
    while left and raw:
        said = _HEAD.match(raw)
        if said is None:
            raise Malformed(raw)
        status, raw = int(said[1]), raw[said.end() :]
        if status < 200:
            continue
        framing = re.findall(rb"^(content-length|transfer-encoding): (.*)\r$", said[2].lower(), re.MULTILINE)
        if len(framing) > 1:
            raise Malformed(framing)
        bodiless = left.pop(0) == "HEAD" or status in (204, 304)
        body, raw = (b"", raw) if bodiless else _body(framing, raw)
        found.append(Heard(status, body))
    return found, raw


def _body(framing: list[tuple[bytes, bytes]], raw: bytes) -> tuple[bytes, bytes]:
    if framing and framing[0][0] == b"content-length" and len(raw) >= (length := int(framing[0][1])):
        return raw[:length], raw[length:]
    if framing != [(b"transfer-encoding", b"chunked")]:
        raise Malformed(framing, raw)
    body = b""
    while said := _SIZE.match(raw):
        size, at = int(said[1], 16), said.end()
        body, raw = body + raw[at : at + size], raw[at + size :]
        if not raw.startswith(b"\r\n"):
            raise Malformed(raw)
        raw = raw[2:]
    said = _END.match(raw)
    if said is None:
        raise Malformed(raw)
    return body, raw[said.end() :]


def by_h11(raw: bytes, methods: Sequence[str]) -> tuple[list[Heard], bytes]:
    """As h11 does, which takes bare LF, folded lines and more."""
    found: list[Heard] = []
    for method in methods:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(raw)
        while isinstance(event := connection.next_event(), h11.InformationalResponse):
            continue
        if not isinstance(event, h11.Response):
            break
        status, body = event.status_code, bytearray()
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            break
        found.append(Heard(status, bytes(body)))
        raw = connection.trailing_data[0]
    return found, raw


class _Socket(io.BytesIO):
    def makefile(self, *_: Any) -> io.BytesIO:
        return self


def by_the_standard_library(raw: bytes, methods: Sequence[str]) -> tuple[list[Heard], bytes]:
    """As http.client does."""
    found: list[Heard] = []
    left = list(methods)
    while left and raw:
        stream = _Socket(raw)
        response = http.client.HTTPResponse(cast("Any", stream), method=left[0])
        response.begin()
        response._close_conn = lambda: None  # type: ignore[attr-defined]  # it would close what holds the next one
        body, raw = response.read(), raw[stream.tell() :]
        if response.status >= 200:
            found.append(Heard(response.status, body))
            del left[0]
    return found, raw


READERS: Final = (by_h11, by_the_standard_library)
