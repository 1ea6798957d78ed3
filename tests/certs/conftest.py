"""One PKI for all tests of certs, and a partner's in a second trust domain; both trusted by `bundle`."""

import pytest

from certs.bundle import TrustBundle
from tests.support.pki import Pki


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="session")
def partner(pki: Pki) -> Pki:
    return Pki("partner.example", now=pki.now)


@pytest.fixture(scope="session")
def bundle(pki: Pki, partner: Pki) -> TrustBundle:
    return pki.bundle_with(partner)
