"""Servers' ways of reading HTTP/1.1, independent of the sidecar's: a strict one, and lenient ones that err differently.

Each takes all the bytes of one connection and returns the requests that it finds whole, and what is left over. Where
the strict reader and all lenient ones find the same, there is nothing that two servers could disagree about.
"""

import io
import re
from collections.abc import Callable
from http.client import HTTPMessage, parse_headers
from typing import Final

import h11
from attrs import frozen


@frozen
class Read:
    """A request as a server understood it. `identity` are the values of what names the caller, in any spelling."""

    method: str
    target: str
    host: str
    identity: tuple[str, ...]
    body: bytes


Reader = Callable[[bytes], tuple[list[Read], bytes]]

_IDENTITY: Final = "x-forwarded-client-cert"
_START = re.compile(rb"([A-Z][A-Z0-9-]*) (/[\x21-\x7e]*|\*) HTTP/1\.1")
_FIELD = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"
)
_CHUNK = re.compile(rb"([0-9a-f]{1,15})\r\n")


class Malformed(Exception):
    """The strict reader met what no sidecar should have written."""


def strictly(raw: bytes) -> tuple[list[Read], bytes]:
    """Only the plainest form of RFC 9112, as the sidecar promises to write it. Raises Malformed."""
    found: list[Read] = []
    while b"\r\n\r\n" in raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        fields = [_strict_field(line) for line in lines]
        taken = _strict_body(fields, rest)
        said = _START.fullmatch(start)
        hosts = [value for name, value in fields if _folded(name) == "host"]
        if said is None or len(hosts) != 1:
            raise Malformed(start, hosts)
        if taken is None:
            break
        body, raw = taken
        who = tuple(value for name, value in fields if _folded(name) == _IDENTITY)
        found.append(Read(said[1].decode(), said[2].decode(), hosts[0], who, body))
    return found, raw


def _strict_field(line: bytes) -> tuple[str, str]:
    found = _FIELD.fullmatch(line)
    if found is None:
        raise Malformed(line)
    return found[1].decode(), (found[2] or b"").decode("latin-1")


def _strict_body(fields: list[tuple[str, str]], rest: bytes) -> tuple[bytes, bytes] | None:
    framing = [(name, value) for name, value in fields if _folded(name) in ("content-length", "transfer-encoding")]
    if not framing:
        return b"", rest
    if len(framing) > 1:
        raise Malformed(framing)
    name, value = framing[0]
    if name == "content-length" and re.fullmatch("0|[1-9][0-9]*", value):
        return (rest[: int(value)], rest[int(value) :]) if len(rest) >= int(value) else None
    if (name, value) != ("transfer-encoding", "chunked"):
        raise Malformed(framing)
    return _strict_chunks(rest)


def _strict_chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while b"\r\n" in rest:
        said = _CHUNK.match(rest)
        if said is None:
            raise Malformed(rest)
        size, rest = int(said[1], 16), rest[said.end() :]
        if not size:
            return _strict_trailers(body, rest)
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise Malformed(rest)
        body, rest = body + rest[:size], rest[size + 2 :]
    return None


def _strict_trailers(body: bytes, rest: bytes) -> tuple[bytes, bytes] | None:
    while not rest.startswith(b"\r\n"):
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        name, _ = _strict_field(line)
        if _folded(name) in ("content-length", "transfer-encoding", "host", _IDENTITY):
            raise Malformed(line)
    return body, rest[2:]


def by_h11(raw: bytes) -> tuple[list[Read], bytes]:
    """As h11 does, which takes bare LF, folded lines and more."""
    found: list[Read] = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    while isinstance(request := connection.next_event(), h11.Request):
        body = bytearray()
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            break
        fields = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
        found.append(_read(request.method.decode(), request.target.decode(), fields, bytes(body)))
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            break
        raw = connection.trailing_data[0]
        connection.start_next_cycle()
    return found, raw


def by_the_standard_library(raw: bytes) -> tuple[list[Read], bytes]:
    """As http.server reads heads (email's parser), with a body by Content-Length if there is one, else by chunks."""
    found: list[Read] = []
    stream = io.BytesIO(raw)
    while (left := raw[stream.tell() :]) and (start := stream.readline(65537).decode("latin-1").rstrip("\r\n").split()):
        message: HTTPMessage = parse_headers(stream)
        fields = [(name, value) for name, value in message.items()]
        length, coding = message.get("content-length"), message.get("transfer-encoding", "")
        body = stream.read(int(length)) if length else _lenient_chunks(stream) if "chunked" in coding.lower() else b""
        if body is None or len(body) < int(length or 0):
            return found, left
        found.append(_read(start[0], start[1], fields, body))
    return found, left


def by_any_line_end_and_length(raw: bytes) -> tuple[list[Read], bytes]:
    """A naive one: CR, LF or both end a line, blanks do not matter, the last of equal fields and any length count."""
    return _naively(raw, re.compile(rb"\r\n|\n|\r"), prefer="content-length", last=True)


def by_line_feed_and_coding(raw: bytes) -> tuple[list[Read], bytes]:
    """Another: LF ends a line, folded lines go on, the first of equal fields counts, any coding with `chunked` wins."""
    return _naively(raw, re.compile(rb"\n(?![ \t])"), prefer="transfer-encoding", last=False)


LENIENT: Final[dict[str, Reader]] = {
    each.__name__: each
    for each in (by_h11, by_the_standard_library, by_any_line_end_and_length, by_line_feed_and_coding)
}


def _naively(raw: bytes, line_end: re.Pattern[bytes], *, prefer: str, last: bool) -> tuple[list[Read], bytes]:
    found: list[Read] = []
    while raw:
        lines, at = [], 0
        while end := line_end.search(raw, at):
            line, at = raw[at : end.start()].strip(), end.end()
            if not line:
                break
            lines.append(line.decode("latin-1"))
        else:
            return found, raw
        start, *rest = lines
        fields = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in rest)]
        body = _naive_body(
            {_folded(name): value for name, value in (fields if last else reversed(fields))}, raw[at:], prefer
        )
        if body is None:
            return found, raw
        content, raw = body
        words = start.split()
        found.append(_read(words[0], words[1], fields if last else fields[::-1], content))
    return found, raw


def _naive_body(said: dict[str, str], rest: bytes, prefer: str) -> tuple[bytes, bytes] | None:
    chunked = "chunked" in said.get("transfer-encoding", "").lower()
    digits = re.search("[0-9]+", said.get("content-length", ""))
    if chunked and (prefer == "transfer-encoding" or digits is None):
        stream = io.BytesIO(rest)
        content = _lenient_chunks(stream)
        return None if content is None else (content, stream.read())
    length = int(digits[0]) if digits else 0
    return None if len(rest) < length else (rest[:length], rest[length:])


def _lenient_chunks(stream: io.BytesIO) -> bytes | None:
    """Chunks as a script would read them: by lines, with whatever int() takes for a size. None: there is no end."""
    body = b""
    while line := stream.readline():
        size = int(line.partition(b";")[0], 16)
        if size <= 0:
            while line := stream.readline():
                if not line.strip():
                    return body
            return None
        piece = stream.read(size)
        if len(piece) < size:
            return None
        body += piece
        stream.readline()
    return None


def _read(method: str, target: str, fields: list[tuple[str, str]], body: bytes) -> Read:
    said = {_folded(name): value for name, value in fields}
    who = tuple(value for name, value in fields if _folded(name) == _IDENTITY)
    return Read(method, target, said.get("host", ""), who, body)


def _folded(name: str) -> str:
    """As gateways that make variables of field names see it."""
    return re.sub("[^a-z0-9]", "-", name.lower())
