"""The CA of a state directory: made once, read again, rotated in time, refused when it is not what it should be."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.authority import Authority
from certs.bundle import TrustBundle
from certs.errors import CannotIssue, CertificateExpired
from certs.keys import new_key
from certs.spiffe import TrustDomain
from certs.verify import Peer, verify_chain
from control_plane.authority import AuthorityRefused, GivenCa, IssuingAuthority, open_authority
from control_plane.settings import Lifetimes
from control_plane.state import State

DOMAIN = TrustDomain("cluster.local")
CHECKOUT = DOMAIN.workload("shop", "checkout")
START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Clock:
    """A wall clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state", trust_domain=DOMAIN.name) as state:
        yield state


def issued(authority: IssuingAuthority, bundle: TrustBundle, now: datetime) -> Peer:
    return verify_chain(authority.issue(new_key().public_key(), CHECKOUT), bundle, now)


def files(state: State) -> dict[str, bytes | None]:
    return {name: state.read(name) for name in ("root.key", "root.pem", "issuer.key", "issuer.pem")}


def test_the_first_run_makes_a_ca_and_the_second_reads_it(state: State, clock: Clock) -> None:
    first = open_authority(state, DOMAIN, clock)
    made = files(state)
    assert all(made.values())
    second = open_authority(state, DOMAIN, clock)
    assert files(state) == made
    assert second.bundle == first.bundle
    assert issued(second, first.bundle, clock()).id == CHECKOUT


def test_the_own_svid_is_the_control_plane_s_and_new_at_every_start(state: State, clock: Clock) -> None:
    first, second = open_authority(state, DOMAIN, clock), open_authority(state, DOMAIN, clock)
    assert first.svid.id == second.svid.id == DOMAIN.control_plane()
    assert first.svid.serial != second.svid.serial
    assert verify_chain(first.svid.chain, first.bundle, clock()).id == DOMAIN.control_plane()


def test_a_leaf_lives_as_long_as_it_was_told(state: State, clock: Clock) -> None:
    authority = open_authority(state, DOMAIN, clock, lifetimes=Lifetimes(certificate=timedelta(minutes=5)))
    assert issued(authority, authority.bundle, clock()).not_after == START + timedelta(minutes=5)
    with pytest.raises(CertificateExpired):
        issued(authority, authority.bundle, START + timedelta(minutes=6))


def test_another_trust_domain_gets_nothing(state: State, clock: Clock) -> None:
    authority = open_authority(state, DOMAIN, clock)
    with pytest.raises(CannotIssue):
        authority.issue(new_key().public_key(), TrustDomain("partner.example").workload("shop", "checkout"))


def test_the_intermediate_is_replaced_at_half_of_its_life_and_old_leaves_stay_good(state: State, clock: Clock) -> None:
    lifetimes = Lifetimes(issuer=timedelta(days=2), certificate=timedelta(days=1))
    authority = open_authority(state, DOMAIN, clock, lifetimes=lifetimes)
    leaf = authority.issue(new_key().public_key(), CHECKOUT)
    clock.now = START + timedelta(hours=23)
    assert not authority.renew_issuer_if_due()
    before, clock.now = files(state), START + timedelta(hours=24)
    assert authority.renew_issuer_if_due()
    assert not authority.renew_issuer_if_due()
    assert files(state)["issuer.pem"] != before["issuer.pem"]
    assert files(state)["root.pem"] == before["root.pem"]
    assert authority.issuer_not_after == clock() + timedelta(days=2)
    clock.now -= timedelta(minutes=1)
    assert verify_chain(leaf, authority.bundle, clock()).id == CHECKOUT
    assert issued(authority, authority.bundle, clock()).id == CHECKOUT


def test_an_intermediate_past_its_half_life_is_replaced_at_the_start(state: State, clock: Clock) -> None:
    first = open_authority(state, DOMAIN, clock)
    clock.now += timedelta(days=200)
    second = open_authority(state, DOMAIN, clock)
    assert second.issuer.certificate != first.issuer.certificate
    assert second.bundle == first.bundle


def test_the_own_svid_is_replaced_at_half_of_its_life(state: State, clock: Clock) -> None:
    authority = open_authority(state, DOMAIN, clock)
    first = authority.svid
    clock.now = authority.next_due() - timedelta(seconds=1)
    assert not authority.renew_own_if_due()
    clock.now = authority.next_due()
    assert authority.renew_own_if_due()
    assert authority.svid.serial != first.serial
    assert authority.next_due() > clock()


def test_a_short_life_is_not_renewed_all_the_time(state: State, clock: Clock) -> None:
    """NotBefore lies before the moment of issuing: half-life counts from that moment."""
    authority = open_authority(state, DOMAIN, clock, lifetimes=Lifetimes(own_certificate=timedelta(seconds=10)))
    assert authority.next_due() == START + timedelta(seconds=5)


def test_an_offline_root_serves_until_its_intermediate_ends(state: State, clock: Clock) -> None:
    open_authority(state, DOMAIN, clock)
    state.file("root.key").unlink()
    authority = open_authority(state, DOMAIN, clock)
    assert authority.root_is_offline
    clock.now += timedelta(days=60)
    authority = open_authority(state, DOMAIN, clock)
    assert issued(authority, authority.bundle, clock()).id == CHECKOUT
    with pytest.raises(AuthorityRefused, match=r"root\.key"):
        authority.renew_issuer_if_due()
    clock.now += timedelta(days=40)
    with pytest.raises(AuthorityRefused, match=r"root\.key"):
        open_authority(state, DOMAIN, clock)


def test_a_crash_between_the_two_issuer_files_is_mended(state: State, clock: Clock) -> None:
    open_authority(state, DOMAIN, clock)
    other = Authority.new_root(DOMAIN, now=clock(), lifetime=timedelta(days=1))
    state.write("issuer.key", other.key_pem())
    authority = open_authority(state, DOMAIN, clock)
    assert issued(authority, authority.bundle, clock()).id == CHECKOUT


def test_a_crash_before_the_root_s_certificate_is_a_first_run_again(state: State, clock: Clock) -> None:
    state.write("root.key", Authority.new_root(DOMAIN, now=clock(), lifetime=timedelta(days=1)).key_pem())
    authority = open_authority(state, DOMAIN, clock)
    assert issued(authority, authority.bundle, clock()).id == CHECKOUT


def test_a_lost_root_certificate_is_not_replaced_by_a_new_root(state: State, clock: Clock) -> None:
    open_authority(state, DOMAIN, clock)
    state.file("root.pem").unlink()
    with pytest.raises(AuthorityRefused, match=r"root\.pem is missing"):
        open_authority(state, DOMAIN, clock)


def test_a_damaged_ca_is_refused(state: State, clock: Clock) -> None:
    open_authority(state, DOMAIN, clock)
    state.write("root.pem", b"garbage")
    with pytest.raises(AuthorityRefused):
        open_authority(state, DOMAIN, clock)


def test_an_ended_root_is_refused(state: State, clock: Clock) -> None:
    open_authority(state, DOMAIN, clock, lifetimes=Lifetimes(root=timedelta(days=1)))
    clock.now += timedelta(days=2)
    with pytest.raises(AuthorityRefused):
        open_authority(state, DOMAIN, clock)


class TestGivenCa:
    def write(self, directory: Path, authority: Authority) -> tuple[Path, Path]:
        certificate, key = directory / "ca.pem", directory / "ca.key"
        certificate.write_bytes(authority.chain_pem())
        key.touch(mode=0o600)
        key.write_bytes(authority.key_pem())
        return certificate, key

    def given(self, authority: Authority) -> GivenCa:
        return GivenCa(authority.chain_pem(), authority.key_pem(), "the Secret doorward/ca", "make a better one")

    @pytest.fixture
    def own(self) -> Authority:
        return Authority.new_root(DOMAIN, now=START, lifetime=timedelta(days=100))

    def test_it_signs_the_intermediate(self, state: State, clock: Clock, tmp_path: Path, own: Authority) -> None:
        authority = open_authority(state, DOMAIN, clock, GivenCa.from_files(*self.write(tmp_path, own)))
        assert issued(authority, own.bundle, clock()).id == CHECKOUT
        assert state.read("root.key") is None

    def test_its_key_is_written_nowhere(self, state: State, clock: Clock, own: Authority) -> None:
        open_authority(state, DOMAIN, clock, self.given(own))
        secret = own.key_pem().splitlines()[1]
        assert [file.name for file in state.path.iterdir() if secret in file.read_bytes()] == []
        assert secret.decode() not in repr(self.given(own))

    def test_the_state_s_own_root_stays_trusted(self, state: State, clock: Clock, own: Authority) -> None:
        before = open_authority(state, DOMAIN, clock)
        leaf = before.issue(new_key().public_key(), CHECKOUT)
        authority = open_authority(state, DOMAIN, clock, self.given(own))
        assert issued(authority, own.bundle, clock()).id == CHECKOUT
        assert verify_chain(leaf, authority.bundle, clock()).id == CHECKOUT

    def test_one_given_before_stays_trusted_until_it_ends(self, state: State, clock: Clock, own: Authority) -> None:
        leaf = open_authority(state, DOMAIN, clock, self.given(own)).issue(new_key().public_key(), CHECKOUT)
        newer = Authority.new_root(DOMAIN, now=START, lifetime=timedelta(days=300))
        for _ in range(2):
            authority = open_authority(state, DOMAIN, clock, self.given(newer))
            assert authority.bundle.all_roots == (newer.root, own.root)
            assert issued(authority, newer.bundle, clock()).id == CHECKOUT
            assert verify_chain(leaf, authority.bundle, clock()).id == CHECKOUT
        clock.now = START + timedelta(days=101)
        assert open_authority(state, DOMAIN, clock, self.given(newer)).bundle.all_roots == (newer.root,)

    def test_one_of_another_trust_domain_is_refused_and_changes_nothing(self, state: State, clock: Clock) -> None:
        other = Authority.new_root(TrustDomain("partner.example"), now=START, lifetime=timedelta(days=1))
        with pytest.raises(AuthorityRefused, match=r"the Secret doorward/ca .*partner.*; make a better one"):
            open_authority(state, DOMAIN, clock, self.given(other))
        assert not any(files(state).values())
        assert state.read("given-roots.pem") is None

    def test_an_ended_one_is_refused(self, state: State, clock: Clock, own: Authority) -> None:
        clock.now = START + timedelta(days=100)
        with pytest.raises(AuthorityRefused, match="its root ended at"):
            open_authority(state, DOMAIN, clock, self.given(own))

    def test_a_key_that_everybody_can_read_is_refused(self, tmp_path: Path, own: Authority) -> None:
        certificate, key = self.write(tmp_path, own)
        key.chmod(0o644)
        with pytest.raises(AuthorityRefused, match="chmod"):
            GivenCa.from_files(certificate, key)

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(AuthorityRefused, match="cannot be read"):
            GivenCa.from_files(tmp_path / "no.pem", tmp_path / "no.key")
