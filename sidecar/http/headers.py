"""Which header fields pass, and which are ours to set. Pure.

The order is law 17: first the hop-by-hop fields and what Connection nominates go (RFC 9110 §7.6.1), then every field
whose name folds to one of Doorward's own, and last the caller's identity is set, as one element, from TLS alone.
"""

import re
from collections.abc import Set as AbstractSet
from typing import Final

from certs.spiffe import SpiffeId
from sidecar.http.heads import Body, Fields, Framing, RequestHead, ResponseHead, elements, values
from sidecar.http.refusals import FOLD

IDENTITY: Final = b"x-forwarded-client-cert"
DECISION: Final = b"x-doorward-decision"
_OWN_PREFIX: Final = b"x-doorward-"

_KEEP_ALIVE: Final = re.compile(rb"timeout=([0-9]{1,6})")
_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"http2-settings")
)
# Written anew from what was understood; a nomination by Connection does not remove them.
_WRITTEN: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
# RFC 9110 §6.5.1: nothing that frames, routes, authenticates or controls may come late.
_NO_TRAILERS: Final = (
    _HOP_BY_HOP
    | _WRITTEN
    | {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"max-forwards",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"range",
        b"set-cookie",
        b"trailer",
        b"www-authenticate",
    }
)


def is_own(name: bytes) -> bool:
    """Whether a field's name is, or could be taken for, one of Doorward's own (law 17)."""
    folded = name.translate(FOLD)
    return folded == IDENTITY or folded.startswith(_OWN_PREFIX)


def identity(own: SpiffeId, caller: SpiffeId) -> Fields:
    """The one field that tells the application who is calling."""
    return ((IDENTITY, f"By={own};URI={caller}".encode()),)


def asks_websocket(head: RequestHead) -> bool:
    """Whether a request asks for the one upgrade that is carried: h2c and others are dropped (law 18)."""
    return (
        head.method == "GET"
        and head.version == (1, 1)
        and head.framing in (Body.NONE, 0)
        and b"upgrade" in elements(head.fields, b"connection")
        and b"websocket" in elements(head.fields, b"upgrade")
    )


def grants_websocket(head: ResponseHead) -> bool:
    """Whether a 101 grants what asks_websocket() asked for, and nothing else."""
    return b"upgrade" in elements(head.fields, b"connection") and elements(head.fields, b"upgrade") == [b"websocket"]


def request_fields(head: RequestHead, host: bytes, *, upgrade: bool, identified: Fields = ()) -> Fields:
    """The fields to send upstream, Host first and the caller's identity (where there is one) last."""
    dropped = _HOP_BY_HOP | _WRITTEN | _nominated(head.fields)
    if head.version == (1, 0):
        dropped = dropped | {b"expect"}  # RFC 9110 §10.1.1
    passed = _without(head.fields, dropped, own=True)
    return ((b"host", host), *passed, *_connection(head, upgrade=upgrade), *identified)


def response_fields(head: ResponseHead, *, own: bool, close: bool = False) -> Fields:
    """The fields to send downstream. `own`: drop those that only Doorward may set, which an application cannot."""
    passed = _without(head.fields, _HOP_BY_HOP | _FRAMING | _nominated(head.fields), own=own)
    if head.status == 101:
        return (*passed, (b"connection", b"upgrade"), (b"upgrade", b"websocket"))
    return (*passed, (b"connection", b"close")) if close else passed


def response_framing(head: ResponseHead, version: tuple[int, int]) -> Framing:
    """How the response is framed for a client of this version: HTTP/1.0 knows no chunks."""
    if head.framing is Body.NONE:
        announced = head.announced if head.status >= 200 and head.status != 204 else None
        return announced if isinstance(announced, int) else Body.NONE
    if isinstance(head.framing, int):
        return head.framing
    return Body.CHUNKED if version == (1, 1) else Body.UNTIL_CLOSE


def keep_alive_seconds(head: ResponseHead) -> float | None:
    """How long an upstream says it keeps an idle connection open, less one for the request on its way."""
    for element in elements(head.fields, b"keep-alive"):
        if found := _KEEP_ALIVE.fullmatch(element):
            return max(0.0, float(found[1]) - 1.0)
    return None


def trailers(fields: Fields, head: RequestHead | ResponseHead, *, own: bool) -> Fields:
    """The trailers that may pass behind `head`, whose Connection names fields here too; `own` as in response_fields().

    What may not come late may not come late under a name that folds to it either.
    """
    late = tuple(field for field in fields if field[0].translate(FOLD) not in _NO_TRAILERS)
    return _without(late, _nominated(head.fields), own=own)


def _nominated(fields: Fields) -> AbstractSet[bytes]:
    return frozenset(elements(fields, b"connection")) - _WRITTEN


def _without(fields: Fields, dropped: AbstractSet[bytes], *, own: bool) -> Fields:
    return tuple((name, value) for name, value in fields if name.lower() not in dropped and not (own and is_own(name)))


def _connection(head: RequestHead, *, upgrade: bool) -> Fields:
    """Our own Connection field, and what it nominates (RFC 9110 §7.6.1, §10.1.4)."""
    said: list[tuple[bytes, bytes]] = []
    if upgrade:
        said.append((b"upgrade", b"websocket"))
    if b"trailers" in elements(head.fields, b"te"):
        said.append((b"te", b"trailers"))
    return ((b"connection", b", ".join(name for name, _ in said)), *said) if said else ()


def host_of(head: RequestHead) -> bytes | None:
    """The request's Host, None where HTTP/1.0 has none."""
    return next(iter(values(head.fields, b"host")), None)
