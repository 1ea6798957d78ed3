"""CertificateRequest in, Certificate or Nack out: who asks is proved before anything is signed.

Two proofs are taken: a join token, which names the workload and is consumed in the transaction that issues (law 8), or
the verified certificate of the link, for its own identity only. The SAN comes from the proof; the request gives
nothing but a public key and the evidence that its holder asks.
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
from control_plane.log import fields
from control_plane.push.office import Office, in_thread
from control_plane.store.errors import RenewalRefused, StoreError, TokenRefused
from control_plane.store.tokens import Sign
from mesh.wire import Certificate, CertificateRequest, Nack

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
        except StoreError as error:
            log.exception("the store failed", extra=fields(reason=str(error)))
            return self._refusal("store_failed", "the control plane's store failed: try again", address)
        except CsrRefused as error:
            return self._refusal("csr_refused", str(error), address)
        except CannotIssue as error:
            log.exception("the CA cannot issue: run `doorward check`", extra=fields(reason=str(error)))
            return self._refusal("cannot_issue", str(error), address)
        method = "token" if request.token is not None else "certificate"
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
            raise _Refused("not_attested", "a link without a certificate needs a join token: `doorward token create`")
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

        if token is not None:
            return await in_thread(lambda: office.store.issue_with_token(token, key, sign))
        assert peer is not None
        self._count_renewal(peer.id)
        return await in_thread(lambda: self._renew(peer, key, sign))

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

    def _refusal(self, code: str, message: str, address: str) -> Nack:
        self._office.metrics.requests_refused.labels(ABOUT, code).inc()
        log.warning("certificate refused", extra=fields(code=code, reason=message, address=address))
        return Nack(ABOUT, code, message)


def _identity(leaf: x509.Certificate) -> str:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)[0]
