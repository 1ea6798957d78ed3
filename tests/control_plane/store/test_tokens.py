"""Join tokens and renewals (law 8): one use is one key, whatever fails or races."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from cryptography import x509

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from control_plane.store.errors import RenewalRefused, StoreError, TokenRefused
from control_plane.store.records import TokenInfo
from control_plane.store.store import Store
from control_plane.store.tokens import KEEP
from tests.support.stores import CHECKOUT, HOME, PAYMENTS, Clock, identity

Chain = tuple[x509.Certificate, ...]
Sign = Callable[[WorkloadName], Chain]
TEN_MINUTES = timedelta(minutes=10)
DAY = timedelta(days=1)


def token_for(store: Store, workload: WorkloadName = CHECKOUT, *, uses: int = 1) -> str:
    return store.create_token(workload, lifetime=TEN_MINUTES, uses=uses, author="ann")[0]


def refusal(store: Store, token: str, key: str, sign: Sign) -> str:
    """The code with which a token is refused."""
    with pytest.raises(TokenRefused) as refused:
        store.issue_with_token(token, key, sign)
    return refused.value.code


def test_a_token_buys_a_certificate_for_its_own_workload(store: Store, sign: Sign, clock: Clock) -> None:
    (leaf, *_) = store.issue_with_token(token_for(store, PAYMENTS), "key", sign)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(identity(PAYMENTS))]
    (issued,) = store.issuances()
    assert (issued.serial, issued.identity, issued.key) == (leaf.serial_number, str(identity(PAYMENTS)), "key")
    assert (issued.method, issued.attested_at, issued.not_after) == ("token", clock.now, leaf.not_valid_after_utc)


def test_an_issuance_is_in_the_audit_log_with_its_token_and_without_secrets(store: Store, sign: Sign) -> None:
    token, info = store.create_token(CHECKOUT, lifetime=TEN_MINUTES, uses=1, author="ann")
    (leaf, *_) = store.issue_with_token(token, "key", sign)
    created, issued = store.audit()[1:]
    assert (created.actor, created.event, created.detail["id"]) == ("ann", "token.created", info.id)
    assert (issued.actor, issued.event) == (str(identity(CHECKOUT)), "certificate.issued")
    assert (issued.detail["token"], issued.detail["serial"]) == (info.id, str(leaf.serial_number))


def test_the_token_itself_is_kept_nowhere(store: Store, sign: Sign, path: Path) -> None:
    token = token_for(store)
    store.issue_with_token(token, "key", sign)
    assert token.startswith("dwt_")
    assert len(token) == len("dwt_") + 43  # 256 bits
    for file in path.parent.glob("store.db*"):
        assert token.removeprefix("dwt_").encode() not in file.read_bytes(), file


def test_the_same_key_may_ask_again_without_another_use(store: Store, sign: Sign) -> None:
    token = token_for(store)
    serials = {store.issue_with_token(token, "key", sign)[0].serial_number for _ in range(3)}
    assert len(serials) == len(store.issuances()) == 3
    assert [info.uses_left for info in store.tokens()] == [0]


def test_another_key_is_refused_once_the_uses_are_gone(store: Store, sign: Sign) -> None:
    token = token_for(store, uses=2)
    store.issue_with_token(token, "first", sign)
    store.issue_with_token(token, "second", sign)
    assert refusal(store, token, "third", sign) == "token_used"
    assert len(store.issuances()) == 2


def test_an_expired_token_buys_nothing_not_even_for_a_key_that_used_it(store: Store, sign: Sign, clock: Clock) -> None:
    token = token_for(store)
    clock.advance(minutes=9, seconds=59)
    store.issue_with_token(token, "key", sign)
    clock.advance(seconds=1)
    assert refusal(store, token, "key", sign) == "token_expired"


def test_a_revoked_token_buys_nothing_not_even_for_a_key_that_used_it(store: Store, sign: Sign) -> None:
    token, info = store.create_token(CHECKOUT, lifetime=TEN_MINUTES, uses=2, author="ann")
    store.issue_with_token(token, "key", sign)
    assert store.revoke_token(info.id, "bob")
    assert refusal(store, token, "key", sign) == "token_unknown"
    assert store.tokens() == ()
    assert not store.revoke_token(info.id, "bob")
    assert (store.audit()[-1].actor, store.audit()[-1].event) == ("bob", "token.revoked")


@pytest.mark.parametrize("token", ["", "dwt_", "dwt_" + "A" * 43, "\udcff", "x" * 100_000])
def test_a_guess_is_refused_and_leaves_no_trace(store: Store, sign: Sign, token: str) -> None:
    token_for(store)
    entries = len(store.audit())
    assert refusal(store, token, "key", sign) == "token_unknown"
    assert len(store.audit()) == entries


def test_a_use_is_given_back_when_signing_fails(store: Store, sign: Sign) -> None:
    def fail(_workload: WorkloadName) -> Chain:
        raise ZeroDivisionError("the authority has no time left")

    token = token_for(store)
    with pytest.raises(ZeroDivisionError):
        store.issue_with_token(token, "first", fail)
    assert (store.tokens()[0].uses_left, store.issuances(), store.audit()[-1].event) == (1, (), "token.created")
    store.issue_with_token(token, "second", sign)


@pytest.mark.parametrize("uses", [1, 3])
def test_racing_keys_get_exactly_as_many_certificates_as_there_are_uses(store: Store, sign: Sign, uses: int) -> None:
    racers = uses + 4
    token = token_for(store, uses=uses)
    together = Barrier(racers)

    def race(number: int) -> str:
        together.wait()
        try:
            store.issue_with_token(token, f"key {number}", sign)
        except TokenRefused as refused:
            return refused.code
        return "issued"

    with ThreadPoolExecutor(racers) as pool:
        outcomes = sorted(pool.map(race, range(racers)))
    assert outcomes == ["issued"] * uses + ["token_used"] * 4
    assert len(store.issuances()) == uses
    assert store.tokens()[0].uses_left == 0


def test_a_token_of_another_store_is_unknown(store: Store, sign: Sign, tmp_path: Path, clock: Clock) -> None:
    other = Store.open(f"sqlite:///{tmp_path}/other.db", trust_domain=HOME, clock=clock)
    try:
        assert refusal(store, token_for(other), "key", sign) == "token_unknown"
    finally:
        other.close()


def test_a_token_buys_nothing_for_a_banned_workload(store: Store, sign: Sign) -> None:
    token = token_for(store)
    store.ban(str(identity(CHECKOUT)), reason="", author="ann")
    assert refusal(store, token, "key", sign) == "banned"
    store.unban(str(identity(CHECKOUT)), "ann")
    store.issue_with_token(token, "key", sign)


@pytest.mark.parametrize(("lifetime", "uses"), [(timedelta(0), 1), (timedelta(seconds=-1), 1), (DAY, 0), (DAY, -1)])
def test_a_token_without_time_or_use_is_refused(store: Store, lifetime: timedelta, uses: int) -> None:
    with pytest.raises(StoreError, match="a lifetime above zero") as refused:
        store.create_token(CHECKOUT, lifetime=lifetime, uses=uses, author="ann")
    assert refused.value.code == "bad_token"


def test_tokens_are_listed_newest_first_and_swept_long_after_they_expired(store: Store, clock: Clock) -> None:
    token_for(store)
    clock.advance(minutes=20)
    _, young = store.create_token(PAYMENTS, lifetime=KEEP, uses=5, author="bob")
    assert [info.workload for info in store.tokens()] == ["shop/payments", "shop/checkout"]
    assert young == TokenInfo(young.id, "shop/payments", clock.now + KEEP, 5, "bob", clock.now)
    clock.advance(days=KEEP.days)
    token_for(store)
    assert [info.workload for info in store.tokens()] == ["shop/checkout", "shop/payments"]


@pytest.fixture
def serial(store: Store, sign: Sign) -> int:
    """The serial of a certificate that shop/checkout got for a token."""
    return store.issue_with_token(token_for(store), "key", sign)[0].serial_number


def test_a_renewal_carries_the_time_of_attestation_on(store: Store, sign: Sign, clock: Clock, serial: int) -> None:
    attested = clock.now
    for number in range(3):
        clock.advance(minutes=30)
        (leaf, *_) = store.issue_renewal(serial, identity(CHECKOUT), f"key {number}", sign, max_age=DAY)
        assert store.audit()[-1].detail["renewed"] == str(serial)
        serial = leaf.serial_number
        newest = store.issuances()[0]
        assert (newest.serial, newest.method, newest.attested_at) == (serial, "certificate", attested)


def test_renewals_end_when_the_attestation_is_too_old(store: Store, sign: Sign, clock: Clock, serial: int) -> None:
    clock.advance(hours=24)
    (leaf, *_) = store.issue_renewal(serial, identity(CHECKOUT), "key", sign, max_age=DAY)
    clock.advance(seconds=1)
    with pytest.raises(RenewalRefused, match="join again with a new token") as refused:
        store.issue_renewal(leaf.serial_number, identity(CHECKOUT), "key", sign, max_age=DAY)
    assert refused.value.code == "attestation_too_old"


@pytest.mark.parametrize(
    ("offset", "who"),
    [(1, identity(CHECKOUT)), (0, identity(PAYMENTS)), (0, TrustDomain("other.example").workload("shop", "checkout"))],
    ids=["serial never issued", "serial of another identity", "another trust domain"],
)
def test_only_the_certificate_that_was_issued_renews(
    store: Store, sign: Sign, serial: int, offset: int, who: SpiffeId
) -> None:
    with pytest.raises(RenewalRefused) as refused:
        store.issue_renewal(serial + offset, who, "key", sign, max_age=DAY)
    assert refused.value.code == "unknown_certificate"


def test_a_banned_identity_or_serial_does_not_renew(store: Store, sign: Sign, serial: int) -> None:
    for subject in (f"serial:{serial}", str(identity(CHECKOUT))):
        store.ban(subject, reason="", author="ann")
        with pytest.raises(RenewalRefused) as refused:
            store.issue_renewal(serial, identity(CHECKOUT), "key", sign, max_age=DAY)
        assert refused.value.code == "banned"
        store.unban(subject, "ann")
    assert len(store.issuances()) == 1


def test_certificates_that_ran_out_long_ago_are_forgotten(store: Store, sign: Sign, clock: Clock, serial: int) -> None:
    clock.advance(days=KEEP.days, hours=2)
    store.issue_with_token(token_for(store), "key", sign)
    assert serial not in {issued.serial for issued in store.issuances()}


POD = {"pod": "checkout-5d8c", "pod_uid": "0f3c", "service_account": "shop/checkout"}


def test_an_attested_pod_gets_a_certificate_and_the_audit_log_says_which_pod_it_was(
    store: Store, sign: Sign, clock: Clock
) -> None:
    (leaf, *_) = store.issue_for_pod(CHECKOUT, "key", sign, ground=POD)
    (issued,) = store.issuances()
    assert (issued.serial, issued.identity, issued.key) == (leaf.serial_number, str(identity(CHECKOUT)), "key")
    assert (issued.method, issued.attested_at) == ("kubernetes", clock.now)
    entry = store.audit()[-1]
    assert (entry.actor, entry.event) == (str(identity(CHECKOUT)), "certificate.issued")
    assert entry.detail.items() >= {**POD, "method": "kubernetes", "serial": str(leaf.serial_number)}.items()


def test_a_banned_workload_gets_nothing_for_its_pods(store: Store, sign: Sign) -> None:
    store.ban(str(identity(CHECKOUT)), reason="", author="ann")
    with pytest.raises(TokenRefused) as refused:
        store.issue_for_pod(CHECKOUT, "key", sign, ground=POD)
    assert (refused.value.code, store.issuances()) == ("banned", ())


def test_the_certificate_of_an_attested_pod_renews_nothing_without_its_token(store: Store, sign: Sign) -> None:
    (leaf, *_) = store.issue_for_pod(CHECKOUT, "key", sign, ground=POD)
    with pytest.raises(RenewalRefused, match="send the token") as refused:
        store.issue_renewal(leaf.serial_number, identity(CHECKOUT), "other key", sign, max_age=DAY)
    assert (refused.value.code, len(store.issuances())) == ("token_required", 1)


def test_an_issuance_for_a_pod_that_cannot_be_signed_leaves_no_trace(store: Store) -> None:
    def fail(_workload: WorkloadName) -> Chain:
        raise ZeroDivisionError("the authority has no time left")

    entries = len(store.audit())
    with pytest.raises(ZeroDivisionError):
        store.issue_for_pod(CHECKOUT, "key", fail, ground=POD)
    assert (store.issuances(), len(store.audit())) == ((), entries)
