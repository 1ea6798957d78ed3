"""A certificate for programs that know no SPIFFE: it proves a DNS name, as on the web, and never passes for an SVID.

It has no URI SAN and serves one end only, so `verify` refuses it twice over. Source: RFC 6125 §2.3; RFC 5280 §4.2.1.12.
"""

import re

from attrs import field, frozen
from cryptography import x509

from certs.keys import PrivateKey

MAX_DNS_NAME = 253  # RFC 1035 §2.3.4, as text

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)


def is_dns_name(text: str) -> bool:
    """Whether this is the full name of one host, in lower case (RFC 1123 §2.1): no wildcard, no final dot."""
    return len(text) <= MAX_DNS_NAME and _DNS_NAME.fullmatch(text) is not None


@frozen
class ServingCertificate:
    """A private key and its certificates, leaf first, then the intermediates, without the root."""

    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that bears the DNS names."""
        return self.chain[0]
