"""An SVID is a key and a chain that fit, or none at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import CertificateMalformed, CertificateMissing, CertificateRefused, KeyRefused, LeafIsCa, NoUriSan
from certs.keys import new_key
from certs.svid import Svid
from tests.support.mutations import mutated
from tests.support.pki import HOUR, Pki

GOOD = Pki().svid()


def test_key_and_chain_become_one_value(pki: Pki) -> None:
    issued = pki.svid("shop/checkout", lifetime=HOUR)
    svid = Svid.build(issued.key, issued.chain_der())
    assert svid == issued
    assert svid.id == pki.id("shop/checkout")
    assert svid.serial == issued.chain[0].serial_number
    assert svid.not_before < pki.now < svid.not_after == pki.now + HOUR
    assert svid.not_after.utcoffset() == pki.now.utcoffset()


def test_a_chain_for_another_key_is_refused(pki: Pki) -> None:
    with pytest.raises(KeyRefused, match="not for this key"):
        Svid.build(new_key(), pki.svid().chain_der())


def test_an_empty_chain_is_refused() -> None:
    with pytest.raises(CertificateMissing):
        Svid.build(new_key(), [])


def test_a_leaf_that_is_no_svid_is_refused_before_it_is_used(pki: Pki) -> None:
    for bad, error in ((pki.no_san(), NoUriSan), (pki.ca_leaf(), LeafIsCa)):
        with pytest.raises(error):
            Svid.build(bad.key, bad.chain_der())


def test_garbage_anywhere_in_the_chain_is_refused(pki: Pki) -> None:
    good = pki.svid()
    for chain in ([b"garbage"], [*good.chain_der(), b""], [*good.chain_der(), bytes(100_000)]):
        with pytest.raises(CertificateMalformed):
            Svid.build(good.key, chain)


def test_the_key_is_not_shown(pki: Pki) -> None:
    assert "key=" not in repr(pki.svid())


@given(mutated(GOOD.chain_der()[0]) | st.binary(max_size=80), st.lists(st.binary(max_size=40), max_size=1))
def test_no_bytes_raise_anything_but_a_refusal(leaf: bytes, more: list[bytes]) -> None:
    try:
        svid = Svid.build(GOOD.key, [leaf, *more])
    except (CertificateRefused, KeyRefused):
        return
    assert svid.leaf.public_key() == GOOD.key.public_key()
