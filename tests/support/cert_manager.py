"""Secrets as cert-manager writes them for a Certificate with `isCA: true`, of which each part can be otherwise."""

import base64
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@frozen
class Ca:
    """A CA's certificate and key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """As by `encoding: PKCS1`, cert-manager's default."""
        pkcs8 = isinstance(self.key, ed25519.Ed25519PrivateKey)
        shape = PrivateFormat.PKCS8 if pkcs8 else PrivateFormat.TraditionalOpenSSL
        return self.key.private_bytes(Encoding.PEM, shape, NoEncryption())


def ca(
    now: datetime,
    *,
    uris: tuple[str, ...] = ("spiffe://cluster.local",),
    is_ca: bool = True,
    key: Key | None = None,
    issuer: Ca | None = None,
    name: str = "doorward-ca",
) -> Ca:
    """Signed by itself, or by `issuer`."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = issuer or Ca(None, key)  # type: ignore[arg-type]  # it has none yet
    usage = x509.KeyUsage(True, False, True, False, False, is_ca, False, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=90))
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    algorithm = None if isinstance(signer.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Ca(builder.sign(signer.key, algorithm), key)


def secret(made: Ca, root: Ca | None = None, **more: bytes) -> dict[str, Any]:
    """What cert-manager keeps: tls.crt without the root, unless it is one; ca.crt is who signed."""
    files = {"tls.crt": made.pem, "tls.key": made.key_pem, "ca.crt": (root or made).pem, **more}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "doorward-ca", "annotations": {"cert-manager.io/issuer-name": "bootstrap"}},
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
