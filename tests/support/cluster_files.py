"""What an API server of the tests is started with: its CA and certificate, keys, the administrator, a kubeconfig; and
what it writes down.
"""

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

# A line for each list that was answered, in the order of the answers' ends: apiserver_request_total has no callers, and
# the API server lists Services itself every three minutes.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "verbs": ["list"]}, {"level": "None"}],
}
NAMES = ("localhost", "kubernetes", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


def write_files(directory: Path, address: str, admin_token: str) -> None:
    """Write all of them for an API server at `address`."""
    authority, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name.from_rfc4514_string("CN=test-cluster")
    ca = _certificate(issuer, issuer, authority, authority, x509.BasicConstraints(ca=True, path_length=0))
    addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in (address, "127.0.0.1", "10.78.0.1")]
    names = x509.SubjectAlternativeName([*(x509.DNSName(name) for name in NAMES), *addresses])
    server = _certificate(x509.Name.from_rfc4514_string("CN=kube-apiserver"), issuer, leaf, authority, names)
    (directory / "ca.crt").write_bytes(ca.public_bytes(Encoding.PEM))
    (directory / "server.crt").write_bytes(server.public_bytes(Encoding.PEM))
    _write_key(directory / "server.key", leaf)
    _write_key(directory / "accounts.key", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    (directory / "tokens.csv").write_text(f"{admin_token},admin,admin,system:masters\n")
    (directory / "admin.token").write_text(admin_token)
    (directory / "audit.json").write_text(json.dumps(AUDIT))
    (directory / "kubeconfig").write_text(json.dumps(_kubeconfig(directory, address, admin_token)))


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    )
    return builder.sign(signer, hashes.SHA256())


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _kubeconfig(directory: Path, address: str, token: str) -> dict[str, object]:
    server = {"server": f"https://{address}:6443", "certificate-authority": str(directory / "ca.crt")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
