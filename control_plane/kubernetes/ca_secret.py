"""The CA in a Secret of the control plane's namespace, in cert-manager's format; made on the first start.

    tls.crt    the CA's certificates, its own first
    tls.key    its key
    ca.crt     its root, where tls.crt does not reach it

What is read stays in memory: the key is written to no disk of this program's. Of several control planes that start at
once one makes the Secret, and all of them take that one.
Source: https://cert-manager.io/docs/configuration/ca; https://kubernetes.io/docs/concepts/configuration/secret.
"""

import base64
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import trio
from cryptography.hazmat.primitives.serialization import Encoding

from certs.authority import Authority
from certs.bundle import root_fingerprint
from certs.certificate import issued, load_pem
from certs.errors import CertificateRefused
from certs.spiffe import TrustDomain
from control_plane.authority import AuthorityRefused, GivenCa
from control_plane.kubernetes.api import KubernetesApi
from control_plane.kubernetes.errors import ApiRefused, ApiUnreachable, KubernetesError
from control_plane.log import fields
from transport.backoff import Backoff

LABELS: Final = {
    "app.kubernetes.io/name": "doorward",
    "app.kubernetes.io/component": "ca",
    "app.kubernetes.io/managed-by": "doorward",
}
NOT_FOUND, CONFLICT = 404, 409
BACKOFF_SECONDS: Final = (0.5, 10.0)

log = logging.getLogger("doorward.kubernetes")

T = TypeVar("T")


async def open_ca_secret(
    api: KubernetesApi, namespace: str, name: str, trust_domain: TrustDomain, *, now: datetime, lifetime: timedelta
) -> GivenCa:
    """The CA of that Secret; where there is none, it is made with a new root that lives for `lifetime`.

    Waits for an API server that is away: a start that ends is tried again ever later. Raises AuthorityRefused.
    """
    path, source = f"/api/v1/namespaces/{namespace}/secrets", f"the Secret {namespace}/{name}"

    async def found() -> dict[str, Any] | None:
        there = await _read(api, f"{path}/{name}")
        if there is not None:
            return there
        return await _make(api, path, name, Authority.new_root(trust_domain, now=now, lifetime=lifetime))

    try:
        secret = await _once_it_answers(found, source)
    except KubernetesError as error:
        raise AuthorityRefused(
            f"{source} can be neither read nor made: {error}; the control plane's service account needs the verbs get "
            f"and create for Secrets in {namespace}"
        ) from error
    return read_secret(secret, source, trust_domain)


def read_secret(secret: Any, source: str, trust_domain: TrustDomain) -> GivenCa:
    """The CA that a Secret holds; whether it can be used, its reader finds out. Raises AuthorityRefused."""
    data = secret.get("data") if isinstance(secret, dict) else None
    certificates, key = _content(data, "tls.crt", source), _content(data, "tls.key", source)
    above = _content(data, "ca.crt", source) if isinstance(data, dict) and data.get("ca.crt") else b""
    advice = (
        "a Certificate of cert-manager makes one that can be used by isCA: true, commonName: doorward-ca, "
        f"uris: [spiffe://{trust_domain}], privateKey: {{algorithm: ECDSA, size: 256}} (its issuer's root needs the "
        "same URI, unless it signs itself); or delete the Secret to have one made"
    )
    return GivenCa(_whole(certificates, above), key, source, advice)


async def _once_it_answers(ask: Callable[[], Awaitable[T]], source: str) -> T:
    """What it gives; asked again while no API server answers, and once one is starting. Raises KubernetesError.

    An API server that has only just started refuses everybody: it has not read yet who may do what.
    """
    backoff, away = Backoff(*BACKOFF_SECONDS), False
    while True:
        try:
            return await ask()
        except (ApiUnreachable, ApiRefused) as error:
            away = away or isinstance(error, ApiUnreachable)
            if not away:
                raise
            wait = backoff.next()
            about = fields(holds=source, reason=str(error), retry_in=round(wait, 2))
            log.warning("the start waits for the API server, which has the CA", extra=about)
            await trio.sleep(wait)


async def _read(api: KubernetesApi, path: str) -> dict[str, Any] | None:
    try:
        return await api.get(path)
    except ApiRefused as refused:
        if refused.status == NOT_FOUND:
            return None
        raise


async def _make(api: KubernetesApi, path: str, name: str, root: Authority) -> dict[str, Any] | None:
    """The Secret as it is afterwards: with `root`, or as another control plane has just made it."""
    pem = {"tls.crt": root.chain_pem(), "tls.key": root.key_pem(), "ca.crt": root.chain_pem()}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": LABELS},
        "type": "kubernetes.io/tls",
        "data": {file: base64.b64encode(content).decode("ascii") for file, content in pem.items()},
    }
    try:
        made = await api.create(path, body)
    except ApiRefused as refused:
        if refused.status != CONFLICT:
            raise
        return await _read(api, f"{path}/{name}")
    log.info("made a new root and put it into a Secret", extra=fields(secret=name, root=root_fingerprint(root.root)))
    return made


def _content(data: Any, name: str, source: str) -> bytes:
    try:
        return base64.b64decode(data[name], validate=True)
    except (ValueError, KeyError, TypeError):
        raise AuthorityRefused(
            f"{source} has no {name} that can be read: it needs tls.crt and tls.key, in PEM, as in a Secret of the "
            "type kubernetes.io/tls; or delete the Secret to have one made"
        ) from None


def _whole(certificates: bytes, above: bytes) -> bytes:
    """The chain up to its root, whose last part may have to be found among the certificates `above`."""
    try:
        chain, others = list(load_pem(certificates)), load_pem(above) if above else ()
    except CertificateRefused:
        return certificates  # whoever uses it says what is wrong
    while not issued(chain[-1], chain[-1]):
        upper = next((each for each in others if each not in chain and issued(each, chain[-1])), None)
        if upper is None:
            break
        chain.append(upper)
    return b"".join(each.public_bytes(Encoding.PEM) for each in chain)
