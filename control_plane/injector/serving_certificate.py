"""The webhook's serving certificate: signed by Doorward's CA, its key in memory only, replaced without a restart.

It is looked at at every connection and request. Past half of its life, or once the issuing certificate is another one,
the next connection sees a new one; those that are open answer the request that they have, and end.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from attrs import define, evolve, field, frozen
from OpenSSL import SSL

from certs.authority import Authority
from certs.errors import CertsError
from certs.keys import new_key
from certs.serving import ServingCertificate
from certs.tls import serving_context
from control_plane.authority import IssuingAuthority
from control_plane.log import fields
from control_plane.metrics import Metrics

RETRY = timedelta(minutes=1)

log = logging.getLogger("doorward.injector")


@frozen
class _Made:
    """One certificate, by whom it was issued, and when the next is due."""

    certificate: ServingCertificate
    context: SSL.Context
    issuer: Authority
    due: datetime


@define(eq=False)
class Serving:
    """The current serving certificate for `names` (DNS), each of them living for `lifetime`. Raises CannotIssue."""

    authority: IssuingAuthority
    names: tuple[str, ...]
    lifetime: timedelta
    clock: Callable[[], datetime]
    metrics: Metrics
    alpn: bytes
    _made: _Made = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._made = self._make(self.authority.issuer, self.clock())

        def expiry() -> float:
            return self.not_after.timestamp()

        self.metrics.serving_certificate_expiry.set_function(expiry)

    def context(self) -> SSL.Context:
        """For the next connection."""
        return self._current().context

    @property
    def not_after(self) -> datetime:
        """When the certificate that the next connection sees ends, aware UTC."""
        return self._current().certificate.leaf.not_valid_after_utc

    def _current(self) -> _Made:
        now, issuer = self.clock(), self.authority.issuer
        if now >= self._made.due or issuer is not self._made.issuer:
            try:
                self._made = self._make(issuer, now)
            except CertsError as error:
                self._made = evolve(self._made, issuer=issuer, due=now + RETRY)
                self.metrics.failures.labels("authority").inc()
                log.warning("the serving certificate cannot be renewed", extra=fields(reason=str(error)))
        return self._made

    def _make(self, issuer: Authority, now: datetime) -> _Made:
        key = new_key()
        chain = issuer.issue_serving(key.public_key(), self.names, now=now, lifetime=self.lifetime)
        certificate, ends = ServingCertificate(key, chain), chain[0].not_valid_after_utc
        serial = str(chain[0].serial_number)
        log.info("made a serving certificate", extra=fields(names=list(self.names), serial=serial, expires=ends))
        return _Made(certificate, serving_context(certificate, [self.alpn]), issuer, now + (ends - now) / 2)
