"""The law about HTTP/1.1 heads that h11 alone does not keep, for requests and responses (law 16).

Two programs that read one message differently are the root of request smuggling, so what can be read in two ways is
refused: Transfer-Encoding with Content-Length or on HTTP/1.0, a repeated Content-Length, bare LF or CR, folded
lines, control bytes, other versions, field names that only look like the framing ones. A head is judged line by
line, so the first faulty line decides, however the bytes arrived. Sources: RFC 9112 §2.2, §3, §5, §6 and §11.2.
"""

import re
from collections.abc import Callable
from typing import Final, NoReturn

from attrs import frozen

from mesh.policy.reasons import Reason
from sidecar.http.failures import HttpRefused
from sidecar.http.heads import Fields

MAX_FIELDS: Final = 256  # field lines of one head: each costs a Python object or three

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/([0-9]\.[0-9]) [1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD_LINE = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)" % _TOKEN)
_METHOD = re.compile(rb"[A-Z][A-Z0-9-]{0,31}")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"(?:(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?)?")
_VERSIONS: Final = (b"1.0", b"1.1")
_FRAMING_NAMES: Final = (b"content-length", b"transfer-encoding")

FOLD: Final = bytes(b if chr(b).isalnum() and b < 128 else ord("-") for b in range(256)).lower()
"""For bytes.translate: how gateways that make variables of field names (CGI, WSGI) may see a name (law 17)."""


@frozen
class StartLine:
    """Judges a start line. Both raise HttpRefused."""

    begun: Callable[[bytes], None]  # given what has arrived of it, at least one byte: its end is not waited for in vain
    whole: Callable[[bytes], None]  # given all of it, without its CRLF


def check_request_head(raw: bytes) -> None:
    """Judge a request's head, from its first byte to the empty line. Raises HttpRefused."""
    fields = _fields(raw, REQUEST_LINE)
    version = raw[: raw.index(b"\r")][-3:]
    _check_framing(fields, version)
    _check_host(fields, version)


def check_response_head(raw: bytes) -> None:
    """Judge a response's head, from its first byte to the empty line. Raises HttpRefused, always with 502."""
    try:
        _check_framing(_fields(raw, STATUS_LINE), raw[5:8])
    except HttpRefused as refused:
        raise blamed_on_upstream(refused) from None


def check_trailers(raw: bytes) -> Fields:
    """Judge the field lines that follow a last chunk, empty line included, and return them. Raises HttpRefused."""
    return tuple(_fields(raw, None))


def blamed_on_upstream(refused: HttpRefused) -> HttpRefused:
    """The same refusal, where it was the response that broke the law: the caller gets 502."""
    return HttpRefused(Reason.UPSTREAM_MALFORMED, 502, refused.detail)


def check_line(line: bytes, number: int, start_line: StartLine | None) -> tuple[bytes, bytes] | None:
    """Judge line `number` (from 0) of a head; `line` has its LF. Returns the field that it holds. Raises HttpRefused.

    `start_line` judges line 0; None: there is none. A bare LF or CR is refused (RFC 9112 §2.2).
    """
    if number == 0 and start_line is not None:
        start_line.begun(line)
    if not line.endswith(b"\r\n") or line.find(b"\r") != len(line) - 2:
        _malformed("a line ends with something else than CRLF")
    content = line[:-2]
    if number == 0 and start_line is not None:
        start_line.whole(content)
        return None
    if not content:
        return None
    if number > MAX_FIELDS:
        raise HttpRefused(Reason.HEAD_TOO_LARGE, 431, f"more than {MAX_FIELDS} header lines")
    found = _FIELD_LINE.fullmatch(content)
    if found is None:
        _malformed("a header line is folded, has no name, or holds control bytes")
    return found[1], found[2].strip(b" \t")


def _check_request_begun(line: bytes) -> None:
    if not (line[0] < 0x7F and chr(line[0]).isalpha()):
        raise HttpRefused(Reason.NOT_HTTP, 400, "this is no HTTP/1.1")


def _check_request_line(line: bytes) -> None:
    """Raises HttpRefused for anything but `METHOD target HTTP/1.0` or `1.1`, and for CONNECT (law 15)."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise HttpRefused(Reason.NOT_HTTP, 400, "the request line is not one of HTTP/1.1")
    method, target, version = found.groups()
    if version not in _VERSIONS:
        raise HttpRefused(Reason.MALFORMED_REQUEST, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    # Methods are case-sensitive, yet many servers fold them: `post` must not slip past a deny of POST.
    if method == b"CONNECT" or not _METHOD.fullmatch(method):
        raise HttpRefused(Reason.METHOD_REFUSED, 501, "CONNECT and methods that are no upper-case words are refused")
    if target == b"*" and method != b"OPTIONS":
        _malformed("only OPTIONS may ask for *")


def _check_status_begun(line: bytes) -> None:
    if not b"HTTP/1.".startswith(line[:7]):
        _malformed("the response does not begin as one of HTTP/1.0 or HTTP/1.1")


def _check_status_line(line: bytes) -> None:
    """Raises HttpRefused for anything but `HTTP/1.0 NNN [reason]` or `1.1`."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None or found[1] not in _VERSIONS:
        _malformed("the status line is not one of HTTP/1.0 or HTTP/1.1")


REQUEST_LINE: Final = StartLine(_check_request_begun, _check_request_line)
STATUS_LINE: Final = StartLine(_check_status_begun, _check_status_line)


def check_host(host: bytes) -> None:
    """Raises HttpRefused for a Host that is no `name[:port]` (RFC 9110 §7.2): no user info, no path, no space."""
    if not _HOST.fullmatch(host):
        _malformed("Host is no name or address with an optional port")


def _check_framing(fields: list[tuple[bytes, bytes]], version: bytes) -> None:
    named = [(name.translate(FOLD), name, value) for name, value in fields]
    lengths = [value for folded, _, value in named if folded == b"content-length"]
    codings = [value.lower() for folded, _, value in named if folded == b"transfer-encoding"]
    if any(folded != name.lower() for folded, name, _ in named if folded in _FRAMING_NAMES):
        _ambiguous("a header's name could be taken for one that frames the body")
    if codings and lengths:
        _ambiguous("Transfer-Encoding together with Content-Length")
    if codings and version == b"1.0":
        _ambiguous("Transfer-Encoding on HTTP/1.0")
    if len(lengths) > 1:
        _ambiguous("Content-Length is repeated")
    if codings and codings != [b"chunked"]:
        _ambiguous("the only Transfer-Encoding taken is chunked, once")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        _ambiguous("Content-Length is no plain number")


def _check_host(fields: list[tuple[bytes, bytes]], version: bytes) -> None:
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1 or (not hosts and version == b"1.1"):
        _malformed("exactly one Host is needed")
    if hosts:
        check_host(hosts[0])


def _fields(raw: bytes, start_line: StartLine | None) -> list[tuple[bytes, bytes]]:
    """The fields of a whole head, each of its lines judged in turn; its one empty line is the last."""
    *lines, rest = raw.split(b"\n")
    fields = [check_line(line + b"\n", number, start_line) for number, line in enumerate(lines)]
    if rest or not lines or lines[-1] != b"\r" or b"\r" in lines[:-1]:
        _malformed("the head has no end, or more behind it")
    return [field for field in fields if field is not None]


def _malformed(detail: str) -> NoReturn:
    raise HttpRefused(Reason.MALFORMED_REQUEST, 400, detail)


def _ambiguous(detail: str) -> NoReturn:
    raise HttpRefused(Reason.AMBIGUOUS_FRAMING, 400, detail)
