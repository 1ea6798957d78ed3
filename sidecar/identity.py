"""Who this sidecar is, through all its certificates: which one to show, when to ask for the next, and with what.

The control link asks this object before each session and tells it every answer. What can go wrong, and the way out:

    the certificate ran out                      a session without it, in which the token attests
    the control plane refuses it in TLS          the same, once; then with it again
    renewal is refused: attest anew              the token goes with the next renewal, once; then without it again

A service account's token, which the kubelet replaces in its file long before it ends, goes with every request: the
cluster is asked about each certificate.
"""

from typing import Final

from certs.bundle import TrustBundle
from certs.svid import Svid
from mesh.wire import Certificate, CertificateRequest, is_jwt
from sidecar import log
from sidecar.enrolment import Enrolment, Tokens, renewal_due
from sidecar.metrics import Metrics
from sidecar.view import Mesh

RENEWAL_ENDED: Final = frozenset({"unknown_certificate", "attestation_too_old", "token_required"})

_MEANING: Final = {
    "token_unknown": "the control plane does not know this token",
    "token_expired": "the token has expired",
    "token_used": "the token is used up",
    "token_for_other_workload": "the token is for another workload: correct --workload or --trust-domain",
    "token_not_authenticated": "the cluster does not take the service account's token",
    "token_wrong_audience": "the service account's token is for another audience",
    "token_not_a_service_account": "the token is not that of a service account",
    "token_not_bound_to_a_pod": "the service account's token is not bound to a pod",
    "token_required": "this identity is attested by its token every time",
    "attestation_unavailable": "the control plane cannot ask the cluster about the token",
    "kubernetes_not_enabled": "the control plane takes join tokens only",
    "unknown_certificate": "the control plane has no record of this certificate",
    "attestation_too_old": "this identity has to be attested anew",
    "banned": "this identity or its certificate is banned: see `doorward ban list`",
}


class Identity:
    """The own identity's state. Puts every accepted certificate into `mesh`; `due` says when to renew it."""

    def __init__(self, mesh: Mesh, tokens: Tokens, metrics: Metrics) -> None:
        self._mesh = mesh
        self._tokens = tokens
        self._metrics = metrics
        self._enrolment = Enrolment(mesh.own)
        self._learnt: TrustBundle | None = None
        self._attest_anew = False
        self._projected = False  # the token that was read last is one of a service account
        self._shunned = False
        self.due = mesh.now()

    def usable(self) -> Svid | None:
        """The certificate to show, None where the token has to attest: there is none, it is over, or is refused."""
        svid = self._mesh.svid
        return None if svid is None or self._shunned or self._mesh.now() >= svid.not_after else svid

    def roots(self) -> TrustBundle | None:
        """The roots that the control plane itself told last, None before it did."""
        return self._mesh.view.bundle if self._mesh.view else self._learnt

    def session_failed(self, code: str) -> None:
        """A session ended with that LinkFailed code: where TLS refused the certificate, go without it once."""
        self._shunned = code == "refused" and not self._shunned

    async def first_request(self) -> CertificateRequest:
        """What asks with the token. Raises TokenUnreadable."""
        return self._enrolment.request(await self._read_token())

    async def renewal_request(self) -> CertificateRequest:
        """What asks with the certificate; with the token too where that is a service account's, or was wanted.

        Raises TokenUnreadable.
        """
        anew, self._attest_anew = self._attest_anew, False
        token = await self._read_token() if anew or self._projected else None
        return self._enrolment.request(token if anew or self._projected else None)

    async def _read_token(self) -> str:
        token = await self._tokens.read()
        self._projected = is_jwt(token)
        return token

    def take(self, answer: Certificate, trusted: TrustBundle) -> None:
        """Put a new certificate into force. Raises IdentityRefused where it is not one for us; nothing changes then."""
        now = self._mesh.now()
        svid, self._learnt = self._enrolment.accept(answer, trusted, now)
        self._mesh.replace_svid(svid)
        self.due = renewal_due(svid, now)
        self._shunned = False
        self._metrics.certificate("issued", svid.not_after)
        log.info("certificate", identity=svid.id, serial=str(svid.serial), expires=svid.not_after.isoformat())

    def refused(self, request: CertificateRequest, code: str, message: str) -> str:
        """The control plane refused `request`. Returns what that means and what to do."""
        self._metrics.certificate(code)
        # Where the certificate no longer attests the token may; where that is no use, the certificate is asked again.
        self._attest_anew = code in RENEWAL_ENDED and request.token is None
        meaning = f"{_MEANING.get(code, 'the control plane issues no certificate')} ({message})"
        if code == "banned" or code not in _MEANING or self._projected:  # a join token would not help
            return meaning
        return (
            f"{meaning}; create a new token with `doorward token create --workload {self._mesh.workload}` "
            f"and write it to {self._tokens.source}"
        )
