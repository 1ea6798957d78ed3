"""`verify_chain`: every bad chain gets its own error, and nothing good is refused."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from attrs import evolve
from cryptography import x509

from certs import errors
from certs.authority import Authority
from certs.bundle import TrustBundle, root_fingerprint
from certs.certificate import MAX_CERTIFICATE_BYTES
from certs.svid import Svid
from certs.verify import MAX_CHAIN, verify_chain, verify_der
from tests.support.bad_chains import BAD_CHAINS, UNKNOWN_OID, BadChain
from tests.support.pki import DAY, HOUR, Pki, forge

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("bad", BAD_CHAINS, ids=str)
def test_a_bad_chain_is_refused_for_its_own_reason(bad: BadChain, pki: Pki, partner: Pki, bundle: TrustBundle) -> None:
    chain = bad.make(pki, partner).chain
    with pytest.raises(errors.CertificateRefused) as refused:
        verify_chain(chain, bundle, pki.now)
    assert refused.type is bad.error


def test_every_reason_to_refuse_has_a_bad_chain() -> None:
    made = {bad.error for bad in BAD_CHAINS} | {errors.CertificateMissing}
    assert made == set(errors.CertificateRefused.__subclasses__())


def test_a_good_chain_yields_the_whole_peer(pki: Pki, bundle: TrustBundle) -> None:
    svid = pki.svid("shop/checkout", lifetime=HOUR)
    peer = verify_chain(svid.chain, bundle, pki.now)
    assert peer.id == svid.id
    assert peer.serial == svid.leaf.serial_number
    assert peer.root == root_fingerprint(pki.root.root)
    assert (peer.not_before, peer.not_after) == (svid.not_before, pki.now + HOUR)


def test_der_is_verified_alike(pki: Pki, bundle: TrustBundle) -> None:
    svid = pki.svid()
    assert verify_der(svid.chain_der(), bundle, pki.now) == verify_chain(svid.chain, bundle, pki.now)


def test_each_trust_domain_is_verified_by_its_own_root(pki: Pki, partner: Pki, bundle: TrustBundle) -> None:
    assert verify_chain(partner.svid().chain, bundle, pki.now).root == root_fingerprint(partner.root.root)
    with pytest.raises(errors.OtherTrustDomain):
        verify_chain(partner.svid().chain, pki.bundle, pki.now)


def test_no_certificate_is_a_reason_of_its_own(bundle: TrustBundle, pki: Pki) -> None:
    with pytest.raises(errors.CertificateMissing):
        verify_chain([], bundle, pki.now)
    with pytest.raises(errors.CertificateMissing):
        verify_der([], bundle, pki.now)


@pytest.mark.parametrize(
    ("moment", "error"),
    [
        (lambda svid: svid.not_before, None),
        (lambda svid: svid.not_before - SECOND, errors.CertificateNotYetValid),
        (lambda svid: svid.not_after, None),
        (lambda svid: svid.not_after + SECOND, errors.CertificateExpired),
    ],
    ids=["at NotBefore", "before it", "at NotAfter", "after it"],
)
def test_both_ends_of_the_validity_belong_to_it(
    pki: Pki, moment: Callable[[Svid], datetime], error: type[Exception] | None
) -> None:
    svid = pki.svid(lifetime=HOUR, now=pki.now + DAY)
    at = moment(svid)
    if error is None:
        assert verify_chain(svid.chain, pki.bundle, at).id == svid.id
    else:
        with pytest.raises(error):
            verify_chain(svid.chain, pki.bundle, at)


def test_an_expired_root_is_refused(pki: Pki) -> None:
    old = Pki(now=pki.now - 400 * DAY)
    leaf = pki.forge(pki.template(), by=old.forge_ca(pki.ca_template()))
    with pytest.raises(errors.CertificateExpired, match="root"):
        verify_chain(leaf.chain, old.bundle, pki.now)


def test_the_path_length_of_the_root_counts_too(pki: Pki) -> None:
    root = _root(pki, path_length=0)
    leaf = pki.forge(pki.template(), by=pki.forge_ca(pki.ca_template(), by=root))
    with pytest.raises(errors.WrongUsage, match="path length 0"):
        verify_chain(leaf.chain, root.bundle, pki.now)


def test_a_certificate_that_is_too_long_is_not_read(pki: Pki) -> None:
    padding = x509.UnrecognizedExtension(UNKNOWN_OID, bytes(MAX_CERTIFICATE_BYTES))
    with pytest.raises(errors.CertificateMalformed, match="longer"):
        verify_der(pki.with_extension(padding, critical=False).chain_der(), pki.bundle, pki.now)


def test_a_chain_below_the_root_directly_is_accepted(pki: Pki) -> None:
    leaf = pki.forge(pki.template(), by=pki.root)
    assert len(leaf.chain) == 1
    assert verify_chain(leaf.chain, pki.bundle, pki.now).id == pki.id()


def test_an_svid_without_extended_key_usage_is_accepted(pki: Pki) -> None:
    assert verify_chain(pki.with_extended_usage().chain, pki.bundle, pki.now).id == pki.id()


def test_a_dns_name_beside_the_one_uri_is_accepted(pki: Pki) -> None:
    svid = pki.forge(evolve(pki.template(), dns_names=("checkout.shop.svc",)))
    assert verify_chain(svid.chain, pki.bundle, pki.now).id == pki.id()


def test_an_unknown_extension_that_is_not_critical_is_accepted(pki: Pki) -> None:
    svid = pki.with_extension(x509.UnrecognizedExtension(UNKNOWN_OID, b"\x05\x00"), critical=False)
    assert verify_chain(svid.chain, pki.bundle, pki.now).id == pki.id()


def test_an_intermediate_that_names_no_trust_domain_is_accepted(pki: Pki) -> None:
    svid = pki.forge(pki.template(), by=pki.forge_ca(evolve(pki.ca_template(), uris=())))
    assert verify_chain(svid.chain, pki.bundle, pki.now).id == pki.id()


def test_order_strangers_and_the_root_itself_do_not_matter(pki: Pki) -> None:
    upper = pki.forge_ca(pki.ca_template(path_length=1), by=_root(pki, path_length=None))
    lower = pki.forge_ca(pki.ca_template(path_length=0), by=upper)
    leaf = pki.forge(pki.template(), by=lower)
    above = [*lower.chain, Pki().intermediate.certificate]
    bundle = TrustBundle([upper.root])
    for presented in (above, above[::-1]):
        assert verify_chain([leaf.leaf, *presented], bundle, pki.now).id == pki.id()


def test_a_renewed_intermediate_wins_over_its_expired_predecessor(pki: Pki) -> None:
    """Both have the same name and key, as when a CA renews its certificate and sends the old one along."""
    renewed = pki.intermediate.certificate
    expired = _again(pki, renewed, pki.now - 2 * DAY, pki.now - DAY)
    leaf = pki.svid().leaf
    for presented in ([expired, renewed], [renewed, expired]):
        assert verify_chain([leaf, *presented], pki.bundle, pki.now).id == pki.id()
    with pytest.raises(errors.CertificateExpired, match="intermediate"):
        verify_chain([leaf, expired], pki.bundle, pki.now)


def test_roots_can_be_rotated_while_both_are_believed(pki: Pki) -> None:
    successor = Pki(now=pki.now)
    both = TrustBundle([pki.root.root, successor.root.root])
    for each in (pki, successor):
        assert verify_chain(each.svid().chain, both, pki.now).root == root_fingerprint(each.root.root)
    with pytest.raises(errors.UnknownIssuer):
        verify_chain(pki.svid().chain, successor.bundle, pki.now)


def test_as_many_certificates_as_allowed_are_read(pki: Pki) -> None:
    good = pki.svid()
    strangers = [pki.svid().leaf for _ in range(MAX_CHAIN - len(good.chain))]
    assert verify_chain([*good.chain, *strangers], pki.bundle, pki.now).id == pki.id()


def _root(pki: Pki, *, path_length: int | None) -> Authority:
    """A root of the same trust domain with another path length."""
    root = Authority.new_root(pki.domain, now=pki.now, lifetime=DAY)
    template = evolve(pki.ca_template(path_length=path_length), subject=root.certificate.subject)
    return Authority(root.key, (forge(template, root.key.public_key(), root.certificate, root.key),))


def _again(pki: Pki, certificate: x509.Certificate, begin: datetime, end: datetime) -> x509.Certificate:
    """The same CA's certificate with other dates."""
    template = evolve(pki.ca_template(), subject=certificate.subject, not_before=begin, not_after=end)
    return forge(template, certificate.public_key(), pki.root.certificate, pki.root.key)
