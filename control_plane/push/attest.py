"""CertificateRequest in, Certificate or Nack out: who asks is proved before anything is signed.

Three proofs are taken: a join token, which names the workload and is consumed in the transaction that issues (law 8); a
service account's token, about which the cluster's API server is asked every time; or the verified certificate of the
link, for its own identity only and where it was not attested by the cluster. The SAN comes from the proof; the request
gives nothing but a public key and the evidence that its holder asks.
"""

import logging
from collections import Counter

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certs.csr import read_csr
from certs.errors import CannotIssue, CsrRefused
from certs.keys import fingerprint
from certs.spiffe import SpiffeId, WorkloadName
from certs.verify import Peer
from control_plane.kubernetes.token_review import Attested, ReviewRefused
from control_plane.log import fields
from control_plane.push.office import Office, in_thread
from control_plane.store.errors import RenewalRefused, StoreError, TokenRefused
from control_plane.store.records import Method
from control_plane.store.tokens import Sign
from mesh.wire import Certificate, CertificateRequest, Nack, is_jwt

ABOUT = "CertificateRequest"

log = logging.getLogger("doorward.attest")


class _Refused(Exception):
    """No certificate. `code` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Attestor:
    """Answers certificate requests of every link."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._renewals: Counter[SpiffeId] = Counter()
        self._minute = 0

    async def answer(self, request: CertificateRequest, peer: Peer | None, address: str) -> Certificate | Nack:
        """A certificate for the proved identity, or why there is none. `peer` is whom the link's certificate proves."""
        office = self._office
        try:
            chain = await self._issue(request, peer)
        except (_Refused, TokenRefused, RenewalRefused) as error:
            return self._refusal(error.code, str(error), address)
        except ReviewRefused as error:
            return self._refusal(error.code, str(error), address, detail=error.detail)
        except StoreError as error:
            log.exception("the store failed", extra=fields(reason=str(error)))
            return self._refusal("store_failed", "the control plane's store failed: try again", address)
        except CsrRefused as error:
            return self._refusal("csr_refused", str(error), address)
        except CannotIssue as error:
            log.exception("the CA cannot issue: run `doorward check`", extra=fields(reason=str(error)))
            return self._refusal("cannot_issue", str(error), address)
        method = _method(request)
        office.metrics.certificates.labels(method).inc()
        log.info(
            "certificate issued",
            extra=fields(
                identity=_identity(chain[0]), serial=str(chain[0].serial_number), method=method, address=address
            ),
        )
        der = tuple(each.public_bytes(serialization.Encoding.DER) for each in chain)
        return Certificate(chain=der, roots=office.authority.bundle.to_der())

    async def _issue(self, request: CertificateRequest, peer: Peer | None) -> tuple[x509.Certificate, ...]:
        """Raises _Refused, CsrRefused, CannotIssue, StoreError."""
        office, token = self._office, request.token
        if token is None and peer is None:
            raise _Refused("not_attested", "a link without a certificate needs a token: `doorward token create`")
        public_key = read_csr(request.csr)
        key = fingerprint(public_key)

        def sign(workload: WorkloadName) -> tuple[x509.Certificate, ...]:
            identity = workload.in_domain(office.trust_domain)
            if peer is not None and peer.id != identity:
                raise _Refused(
                    "token_for_other_workload", f"the token is for {workload}, the link is that of {peer.id}"
                )
            if request.expected not in {None, str(identity)}:
                raise _Refused("token_for_other_workload", f"the token is for {workload}, not for {request.expected}")
            return office.authority.issue(public_key, identity)

        if peer is not None and _method(request) != "token":
            self._count_renewal(peer.id)
        if token is None:
            assert peer is not None
            return await in_thread(lambda: self._renew(peer, key, sign))
        if not is_jwt(token):
            return await in_thread(lambda: office.store.issue_with_token(token, key, sign))
        pod = await self._review(token)
        if peer is None:
            self._count_renewal(pod.workload.in_domain(office.trust_domain))
        return await in_thread(lambda: office.store.issue_for_pod(pod.workload, key, sign, ground=pod.ground))

    async def _review(self, token: str) -> Attested:
        """Raises _Refused, ReviewRefused."""
        if self._office.reviewer is None:
            raise _Refused(
                "kubernetes_not_enabled",
                "this control plane asks no cluster about service accounts' tokens: start it with --kubernetes, "
                "or join with a token from `doorward token create`",
            )
        return await self._office.reviewer.review(token)

    def _renew(self, peer: Peer, key: str, sign: Sign) -> tuple[x509.Certificate, ...]:
        max_age = self._office.lifetimes.attestation
        return self._office.store.issue_renewal(peer.serial, peer.id, key, sign, max_age=max_age)

    def _count_renewal(self, identity: SpiffeId) -> None:
        minute = int(self._office.clock().timestamp()) // 60
        if minute != self._minute:
            self._minute = minute
            self._renewals.clear()
        self._renewals[identity] += 1
        if self._renewals[identity] > self._office.limits.renewals_per_minute:
            raise _Refused("too_many_renewals", "this identity renews too often: try again in a minute")

    def _refusal(self, code: str, message: str, address: str, **more: str) -> Nack:
        self._office.metrics.requests_refused.labels(ABOUT, code).inc()
        log.warning("certificate refused", extra=fields(code=code, reason=message, address=address, **more))
        return Nack(ABOUT, code, message)


def _method(request: CertificateRequest) -> Method:
    """The proof that a request brings."""
    if request.token is None:
        return "certificate"
    return "kubernetes" if is_jwt(request.token) else "token"


def _identity(leaf: x509.Certificate) -> str:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)[0]
