"""TLS contexts of two workloads that trust one another."""

import pytest
from attrs import frozen
from OpenSSL import SSL

from certs.tls import client_context, server_context
from tests.support.pki import Pki


@frozen
class Contexts:
    client: SSL.Context
    server: SSL.Context


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="session")
def contexts(pki: Pki) -> Contexts:
    return Contexts(
        client_context(pki.svid("shop/checkout"), pki.bundle, [b"test"]),
        server_context(pki.svid("shop/payments"), pki.bundle, [b"test"]),
    )
