"""Keys: fresh ones are P-256, PEM round-trips, and weak, encrypted or foreign keys are refused."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certs.errors import KeyRefused
from certs.keys import PrivateKey, fingerprint, is_strong, key_from_pem, key_to_pem, new_key


def test_a_new_key_is_p_256_and_never_the_same() -> None:
    one, other = new_key(), new_key()
    assert isinstance(one.curve, ec.SECP256R1)
    assert fingerprint(one.public_key()) != fingerprint(other.public_key())


@pytest.mark.parametrize(
    "key",
    [new_key(), ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "P-384", "RSA 2048"],
)
def test_a_strong_key_round_trips_through_pem(key: PrivateKey) -> None:
    read = key_from_pem(key_to_pem(key))
    assert fingerprint(read.public_key()) == fingerprint(key.public_key())
    assert is_strong(key.public_key())


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (ec.generate_private_key(ec.SECP224R1()), "secp224r1"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (rsa.generate_private_key(65537, 1024), "1024 bits"),
        (ed25519.Ed25519PrivateKey.generate(), "neither EC nor RSA"),
    ],
    ids=["P-224", "secp256k1", "RSA 1024", "Ed25519"],
)
def test_a_key_of_another_kind_or_size_is_refused(key: PrivateKey, why: str) -> None:
    with pytest.raises(KeyRefused, match=why):
        key_from_pem(key_to_pem(key))
    assert not is_strong(key.public_key())


def test_an_encrypted_key_is_refused_with_advice() -> None:
    locked = new_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(KeyRefused, match="decrypt it first"):
        key_from_pem(locked)


@pytest.mark.parametrize("pem", [b"", b"\x00\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(pem: bytes) -> None:
    with pytest.raises(KeyRefused, match="no private key"):
        key_from_pem(pem)
