"""Service accounts' tokens that no API server would make: another's signature, another's claims."""

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def claims(token: str) -> dict[str, Any]:
    """What a token says, believed as it is."""
    payload = token.split(".")[1]
    said: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return said


def signed_anew(token: str, key: rsa.RSAPrivateKey, **changed: Any) -> str:
    """The same token with some claims changed, signed by `key` as RS256; its head stays as it was."""
    head = token.partition(".")[0]
    signed = f"{head}.{_part(json.dumps({**claims(token), **changed}).encode())}"
    return f"{signed}.{_part(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def key_in(file: Path) -> rsa.RSAPrivateKey:
    """The key with which an API server signs."""
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
