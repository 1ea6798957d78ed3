"""Where a request wants to go: its target in one canonical form, and the host that goes with it. Pure.

Absolute-form becomes origin-form and its authority becomes Host (law 15, RFC 9112 §3.2.2). What policy matches is
what is forwarded. Host never decides where a request goes; a door on loopback only refuses a foreign one (law 22).
"""

import re
from ipaddress import ip_address
from typing import Final

from certs.spiffe import WorkloadName
from mesh.policy import PathRefused, canonical_target
from mesh.policy.paths import Target
from mesh.policy.reasons import Reason
from sidecar.access_log import Record
from sidecar.http.failures import HttpRefused
from sidecar.http.headers import host_of
from sidecar.http.heads import RequestHead
from sidecar.http.refusals import check_host

_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]+)(.*)")
_QUERY_OR_FRAGMENT: Final = re.compile(rb"[?#]")
_PORT: Final = re.compile(r":[0-9]*\Z")


def requested(head: RequestHead, record: Record) -> tuple[Target, bytes | None]:
    """The canonical target, and the host asked for (None: HTTP/1.0 named none). Raises HttpRefused.

    The path is noted in `record`, as it came where it has no canonical form.
    """
    target, host = head.target, host_of(head)
    if not target.startswith(b"/") and target != b"*":
        target, host = _origin_form(head)
    record.path = _QUERY_OR_FRAGMENT.split(target, 1)[0].decode("latin-1")
    try:
        canonical = canonical_target(target)
    except PathRefused as refused:
        raise HttpRefused(Reason.PATH_REFUSED, 400, str(refused)) from None
    record.path = canonical.path
    return canonical, host


def _origin_form(head: RequestHead) -> tuple[bytes, bytes]:
    found = _ABSOLUTE.fullmatch(head.target)
    if found is None:
        raise HttpRefused(Reason.MALFORMED_REQUEST, 400, "the target is neither a path nor an http URL")
    authority, rest = found.groups()
    check_host(authority)
    if not rest and head.method == "OPTIONS":
        return b"*", authority  # RFC 9112 §3.2.4
    return (rest if rest.startswith(b"/") else b"/" + rest), authority


def is_foreign(host: bytes | None, destination: WorkloadName) -> bool:
    """Whether a Host is neither an address, nor localhost, nor a name of the destination.

    A browser on this machine can be led to a loopback port by any site that points its own name there; the name then
    stands in Host. Case and a port do not matter. No Host at all is no browser.
    """
    if not host:
        return False
    name = _PORT.sub("", host.decode("ascii")).lower().rstrip(".")
    full = f"{destination.name}.{destination.namespace}".lower()
    own = {"localhost", destination.name.lower(), full, f"{full}.svc", f"{full}.svc.cluster.local"}
    if name in own or name.endswith(".localhost"):
        return False
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return True
    return False
