"""Certificates for operators: the key stays with who asks, and the name comes from somebody who is known already.

A local user of the control plane, or an operator, vouches for the name in the request. From the signing request nothing
is believed but the public key.
"""

import base64
import functools
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from starlette.requests import Request

from certs.certificate import leaf_id
from certs.csr import read_csr
from certs.errors import CannotIssue, CsrRefused, SpiffeIdMalformed
from certs.keys import fingerprint
from certs.spiffe import SpiffeId
from control_plane.admin import plain
from control_plane.admin.backend import Backend, in_thread
from control_plane.admin.problems import Problem
from control_plane.admin.reading import read_body
from control_plane.store.operators import Voucher

DEFAULT_LIFETIME = timedelta(hours=8)


async def create_operator(backend: Backend, request: Request) -> dict[str, Any]:
    """Issue for `name` and the key of `csr` (PKCS #10 in DER, base64), for `lifetime` seconds. Raises Problem."""
    body = await read_body(request)
    name, csr = body.get("name", str), body.get("csr", str)
    seconds = body.optional("lifetime", int)
    body.done()
    identity, lifetime = _identity(backend, name), _lifetime(backend, seconds)
    public_key = _public_key(csr)

    def sign(attested: SpiffeId) -> tuple[x509.Certificate, ...]:
        return backend.authority.issue(public_key, attested, lifetime=lifetime)

    caller = request.state.caller
    peer = getattr(caller, "peer", None)
    voucher = Voucher(caller.author, None if peer is None else peer.serial)
    issue = functools.partial(
        backend.store.issue_operator,
        identity.operator or "",
        fingerprint(public_key),
        sign,
        voucher=voucher,
        max_age=backend.lifetimes.attestation,
    )
    try:
        chain = await in_thread(issue)
    except CannotIssue as error:
        raise Problem(409, "cannot_issue", f"the CA cannot issue: {error}: see `doorward check`") from error
    return {
        "name": name,
        "identity": str(leaf_id(chain[0])),
        "serial": str(chain[0].serial_number),
        "expires": plain.moment(chain[0].not_valid_after_utc),
        "author": voucher.author,
        "chain": b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain).decode("ascii"),
        "bundle": backend.authority.bundle.to_pem(backend.trust_domain).decode("ascii"),
    }


async def operators(backend: Backend, _: Request) -> dict[str, Any]:
    """Where operators connect, and the certificates of theirs that have not ended."""

    def listed() -> list[dict[str, Any]]:
        bans = {each.subject for each in backend.store.bans()}
        return [plain.operator(each, bans) for each in backend.store.operators()]

    return {"listen": backend.operators_listen, "operators": await in_thread(listed)}


def _identity(backend: Backend, name: str) -> SpiffeId:
    try:
        return backend.trust_domain.operator(name)
    except SpiffeIdMalformed as error:
        raise Problem(400, "bad_name", f"{name[:80]!r} cannot be an operator's name: {error}") from error


def _lifetime(backend: Backend, seconds: int | None) -> timedelta:
    most = backend.lifetimes.operator
    if seconds is None:
        return min(DEFAULT_LIFETIME, most)
    if not 1 <= seconds <= most.total_seconds():
        raise Problem(
            400,
            "bad_lifetime",
            f"an operator's certificate lives from one second to {most.total_seconds():.0f} s "
            "(--operator-lifetime of the control plane)",
        )
    return timedelta(seconds=seconds)


def _public_key(csr: str) -> Any:
    try:
        return read_csr(base64.b64decode(csr.encode("ascii"), validate=True))
    except ValueError as error:
        raise Problem(400, "csr_refused", "csr is not base64") from error
    except CsrRefused as error:
        raise Problem(400, "csr_refused", str(error)) from error
