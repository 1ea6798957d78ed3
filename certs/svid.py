"""An SVID of our own: a key and the chain that a peer is shown, as one value that is swapped as a whole at renewal."""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Self

from attrs import field, frozen
from cryptography import x509

from certs import certificate as read
from certs.errors import CertificateMissing, KeyRefused
from certs.keys import PrivateKey, fingerprint
from certs.spiffe import SpiffeId


@frozen
class Svid:
    """A private key and its certificates, leaf first, then the intermediates, without the root."""

    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def build(cls, key: PrivateKey, chain_der: Sequence[bytes]) -> Self:
        """Join a key with the chain that was issued for it, in DER.

        Raises CertificateRefused for a leaf that is no SVID, KeyRefused for a leaf of another key. Who signed it is
        not asked here: the peers will.
        """
        if not chain_der:
            raise CertificateMissing("the issued chain holds no certificate")
        svid = cls(key, tuple(read.load(der) for der in chain_der))
        read.leaf_id(svid.leaf)
        read.check_leaf(svid.leaf)
        if read.public_key_fingerprint(svid.leaf) != fingerprint(key.public_key()):
            raise KeyRefused("the issued certificate is not for this key: ask for a new one")
        return svid

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that names the workload."""
        return self.chain[0]

    @cached_property
    def id(self) -> SpiffeId:
        """The workload's SPIFFE ID. Raises CertificateRefused where the leaf has none."""
        return read.leaf_id(self.leaf)

    @property
    def serial(self) -> int:
        """The leaf's serial number."""
        return self.leaf.serial_number

    @property
    def not_before(self) -> datetime:
        """From when on the leaf is valid, aware UTC."""
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """Until when the leaf is valid, aware UTC."""
        return self.leaf.not_valid_after_utc

    def chain_der(self) -> tuple[bytes, ...]:
        """The chain in DER, leaf first: what goes over the wire."""
        return tuple(read.to_der(certificate) for certificate in self.chain)
