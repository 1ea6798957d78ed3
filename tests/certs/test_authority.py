from certs.verify import verify_chain
from tests.support.pki import Pki


def test_an_issued_svid_verifies():
    pki = Pki()
    svid = pki.svid("shop/checkout")
    assert verify_chain(svid.chain, pki.bundle, pki.now).id == svid.id
