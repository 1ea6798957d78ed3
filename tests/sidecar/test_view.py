"""What a snapshot becomes, and what the mesh knows: which view holds, whether traffic may flow, by which context."""

from datetime import datetime, timedelta

import pytest
from attrs import evolve

from certs.errors import BundleMalformed, SpiffeIdMalformed
from certs.spiffe import WorkloadName
from mesh.policy import PolicyFaults, Reason
from sidecar.refused import NotReady
from sidecar.view import ALPN_HTTP, ALPN_TCP, Mesh, StaleSnapshot, View
from tests.support.doors import PORT, endpoint, snapshot
from tests.support.pki import Pki
from tests.support.policies import allow_policy


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest.fixture
def mesh(pki: Pki) -> Mesh:
    return Mesh(pki.id("shop/payments"), clock=lambda: pki.now)


def view_of(pki: Pki, **content: object) -> View:
    return View.build(snapshot(pki.bundle, **content), pki.domain)


def test_endpoints_are_found_by_workload_and_port(pki: Pki) -> None:
    two = [endpoint(pki, "shop/payments", 1), endpoint(pki, "shop/payments", 2)]
    view = view_of(pki, endpoints=[*two, endpoint(pki, "shop/checkout", 3)])
    assert view.endpoints_of(WorkloadName("shop", "payments"), PORT) == tuple(two)
    assert view.endpoints_of(WorkloadName("shop", "payments"), 1) == ()
    assert view.endpoints_of(WorkloadName("shop", "nobody"), PORT) == ()


def test_only_confirmed_endpoints_are_found_by_address(pki: Pki) -> None:
    sure, unsure = evolve(endpoint(pki, "shop/payments", 1), confirmed=True), endpoint(pki, "shop/payments", 2)
    view = view_of(pki, endpoints=[sure, unsure, evolve(unsure, address="10.0.0.9")])
    assert view.endpoints_at("127.0.0.1", PORT) == (sure,)
    assert view.is_in_mesh("127.0.0.1")
    assert view.endpoints_at("10.0.0.9", PORT) == ()
    assert not view.is_in_mesh("10.0.0.9")


def test_a_snapshot_with_a_bad_policy_is_refused_whole(pki: Pki) -> None:
    bad = allow_policy("checkout", "payments", 8080)
    del bad["spec"]["from"]
    with pytest.raises(PolicyFaults):
        view_of(pki, policies=[bad])


def test_a_snapshot_with_a_bad_identity_is_refused_whole(pki: Pki) -> None:
    with pytest.raises(SpiffeIdMalformed):
        view_of(pki, endpoints=[endpoint(pki, "shop/payments", 1, identity="payments")])


def test_a_snapshot_without_roots_is_refused_whole(pki: Pki) -> None:
    with pytest.raises(BundleMalformed):
        View.build(snapshot_without_roots(pki), pki.domain)


def snapshot_without_roots(pki: Pki) -> object:
    return evolve(snapshot(pki.bundle), roots=())


def test_within_an_epoch_an_older_snapshot_is_refused(pki: Pki, mesh: Mesh) -> None:
    mesh.replace_view(view_of(pki, number=5))
    mesh.replace_view(view_of(pki, number=5))
    with pytest.raises(StaleSnapshot):
        mesh.replace_view(view_of(pki, number=4))
    assert mesh.view is not None
    assert mesh.view.number == 5


def test_a_new_epoch_starts_anywhere(pki: Pki, mesh: Mesh) -> None:
    mesh.replace_view(view_of(pki, number=5))
    mesh.replace_view(evolve(view_of(pki, number=1), epoch="restored from backup"))
    assert mesh.view is not None
    assert mesh.view.number == 1


def test_what_is_missing_is_said_in_order(pki: Pki, mesh: Mesh) -> None:
    reasons = []
    for step in (lambda: mesh.replace_view(view_of(pki)), lambda: mesh.replace_svid(pki.svid("shop/payments"))):
        with pytest.raises(NotReady) as caught:
            mesh.current()
        reasons.append(caught.value.reason)
        step()
    assert reasons == [Reason.NO_SNAPSHOT, Reason.NO_OWN_CERTIFICATE]
    mesh.current()


def test_traffic_stops_at_the_second_the_own_certificate_ends(pki: Pki) -> None:
    now: list[datetime] = [pki.now]
    mesh = Mesh(pki.id("shop/payments"), clock=lambda: now[0])
    mesh.replace_view(view_of(pki))
    mesh.replace_svid(pki.svid("shop/payments", lifetime=timedelta(minutes=5)))
    now[0] = pki.now + timedelta(minutes=5, seconds=-1)
    mesh.server_context((ALPN_TCP,))
    now[0] = pki.now + timedelta(minutes=5)
    for use in (mesh.current, lambda: mesh.client_context((ALPN_TCP,))):
        with pytest.raises(NotReady) as caught:
            use()
        assert caught.value.reason == Reason.OWN_CERTIFICATE_EXPIRED
    mesh.server_context((ALPN_TCP,))  # shown to callers, who learn from it why they get no further


def test_a_context_lives_as_long_as_its_certificate_and_bundle(pki: Pki, mesh: Mesh) -> None:
    mesh.replace_view(view_of(pki, number=1))
    mesh.replace_svid(pki.svid("shop/payments"))
    first = mesh.server_context((ALPN_TCP,))
    assert mesh.server_context((ALPN_TCP,)) is first
    assert mesh.server_context((ALPN_HTTP,)) is not first
    assert mesh.client_context((ALPN_TCP,)) is not first
    mesh.replace_view(view_of(pki, number=2))
    assert mesh.server_context((ALPN_TCP,)) is first, "the bundle is the same"
    generation = mesh.generation
    mesh.replace_svid(pki.svid("shop/payments"))
    assert mesh.generation == generation + 1
    second = mesh.server_context((ALPN_TCP,))
    assert second is not first
    rotated = pki.bundle_with(Pki("partner.example"))
    mesh.replace_view(View.build(snapshot(rotated, number=3), pki.domain))
    assert mesh.server_context((ALPN_TCP,)) is not second


def test_the_link_is_fresh_for_a_while_after_each_word(pki: Pki) -> None:
    mesh = Mesh(pki.id("shop/payments"), fresh_seconds=60)
    assert not mesh.link_fresh(), "nothing was heard yet"
    mesh.heard()
    assert mesh.link_fresh()
    forgetful = Mesh(pki.id("shop/payments"), fresh_seconds=0)
    forgetful.heard()
    assert not forgetful.link_fresh()
