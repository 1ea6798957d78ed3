"""The registry: one address belongs to one identity (law 3), and entries end by lease (law 4)."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.spiffe import WorkloadName
from control_plane.store.errors import LeaseRefused
from control_plane.store.registry import RESTART_GRACE, one_spelling
from control_plane.store.store import Store
from tests.support.examples import examples
from tests.support.stores import CHECKOUT, HOME, PAYMENTS, Clock, identity, lease


def announce(store: Store, clock: Clock, workload: WorkloadName, *addresses: str, instance: str = "one") -> bool:
    leases = [lease(workload, address, clock, instance=instance) for address in addresses]
    return store.lease_endpoints(identity(workload), instance, leases)


def test_a_new_endpoint_is_seen_and_advances_the_number(store: Store, clock: Clock) -> None:
    assert announce(store, clock, CHECKOUT, "10.0.0.1")
    assert store.leases() == (lease(CHECKOUT, "10.0.0.1", clock),)
    assert store.number() == 1


def test_renewing_moves_the_expiry_and_no_snapshot(store: Store, clock: Clock) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.1")
    entries = len(store.audit())
    clock.advance(seconds=30)
    assert not announce(store, clock, CHECKOUT, "10.0.0.1")
    assert store.leases()[0].expires == clock.now + timedelta(seconds=90)
    assert (store.number(), len(store.audit())) == (1, entries)


def test_announcing_replaces_the_whole_set_of_that_instance_only(store: Store, clock: Clock) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.9", instance="two")
    announce(store, clock, CHECKOUT, "10.0.0.1", "10.0.0.2")
    assert announce(store, clock, CHECKOUT, "10.0.0.2", "10.0.0.3")
    assert [each.address for each in store.leases()] == ["10.0.0.2", "10.0.0.3", "10.0.0.9"]


@pytest.mark.parametrize(
    "spelling", ["10.0.0.1", "::ffff:10.0.0.1", "::FFFF:0a00:0001"], ids=["same", "mapped", "mapped hex"]
)
def test_an_address_leased_to_another_identity_is_refused_however_it_is_spelt(
    store: Store, clock: Clock, spelling: str
) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.1")
    before = store.contents()
    with pytest.raises(LeaseRefused, match="leased to another identity") as refused:
        announce(store, clock, PAYMENTS, "10.0.0.7", spelling)
    assert refused.value.code == "address_leased"
    assert store.contents() == before


def test_another_mesh_port_of_the_same_address_is_free(store: Store, clock: Clock) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.1")
    other = lease(PAYMENTS, "10.0.0.1", clock, mesh_port=8444)
    assert store.lease_endpoints(identity(PAYMENTS), "one", [other])


def test_an_expired_lease_is_not_listed_and_its_address_is_free(store: Store, clock: Clock) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.1")
    clock.advance(seconds=90)
    assert store.leases() == ()
    assert announce(store, clock, PAYMENTS, "10.0.0.1")
    assert [each.workload for each in store.leases()] == ["shop/payments"]


def test_coming_back_after_expiry_is_a_change(store: Store, clock: Clock) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.1")
    clock.advance(seconds=90)
    assert announce(store, clock, CHECKOUT, "10.0.0.1")


def test_a_restarted_sidecar_takes_its_own_address_over(store: Store, clock: Clock) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.1", instance="before")
    assert not announce(store, clock, CHECKOUT, "10.0.0.1", instance="after")
    assert [each.instance for each in store.leases()] == ["after"]


def test_an_instance_that_asks_for_nothing_any_more_is_forgotten_at_once(store: Store, clock: Clock) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.1")
    announce(store, clock, PAYMENTS, "10.0.0.2")
    assert store.lease_endpoints(identity(CHECKOUT), "one", [])
    assert [each.workload for each in store.leases()] == ["shop/payments"]
    assert store.number() == 3
    assert store.audit()[-1].detail == {
        "number": 3,
        "gone": ["shop/checkout:8080/http at 10.0.0.1 port 8443"],
        "come": [],
    }


def test_expiring_forgets_only_what_is_over(store: Store, clock: Clock) -> None:
    announce(store, clock, CHECKOUT, "10.0.0.1")
    clock.advance(seconds=60)
    announce(store, clock, PAYMENTS, "10.0.0.2")
    assert not store.expire_leases()
    clock.advance(seconds=30)
    assert store.expire_leases()
    assert not store.expire_leases()
    assert ([each.workload for each in store.leases()], store.number()) == (["shop/payments"], 3)


@pytest.mark.parametrize(
    "foreign",
    [{"identity": str(identity(PAYMENTS))}, {"workload": str(PAYMENTS)}, {"instance": "two"}],
    ids=["identity", "workload", "instance"],
)
def test_a_lease_for_somebody_else_is_refused(store: Store, clock: Clock, foreign: dict[str, str]) -> None:
    with pytest.raises(LeaseRefused) as refused:
        store.lease_endpoints(identity(CHECKOUT), "one", [lease(CHECKOUT, "10.0.0.1", clock, **foreign)])
    assert refused.value.code == "foreign_identity"
    assert store.leases() == ()


def test_announcing_one_place_twice_is_refused(store: Store, clock: Clock) -> None:
    with pytest.raises(LeaseRefused, match="twice"):
        announce(store, clock, CHECKOUT, "fd00::1", "FD00:0::1")


def test_leases_outlive_a_control_plane_that_was_away(open_store: Callable[[], Store], clock: Clock) -> None:
    first = open_store()
    announce(first, clock, CHECKOUT, "10.0.0.1")
    first.close()
    clock.advance(days=1)
    second = open_store()
    assert [each.address for each in second.leases()] == ["10.0.0.1"]
    clock.advance(seconds=RESTART_GRACE.total_seconds())
    assert second.leases() == ()


@given(st.ip_addresses())
def test_one_spelling_is_stable(address: object) -> None:
    assert one_spelling(one_spelling(str(address))) == one_spelling(str(address)) == one_spelling(str(address).upper())


step = st.tuples(
    st.sampled_from([CHECKOUT, PAYMENTS, WorkloadName("ops", "cron")]),
    st.sampled_from(["one", "two"]),
    st.sets(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])),
    st.sampled_from([0, 40, 90]),
)


@examples(20)
@given(st.lists(step, max_size=12))
def test_the_registry_agrees_with_a_plain_dictionary(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[WorkloadName, str, set[str], int]]
) -> None:
    clock = Clock()
    path = tmp_path_factory.mktemp("registry") / "store.db"
    store = Store.open(f"sqlite:///{path}", trust_domain=HOME, clock=clock)
    model: dict[str, tuple[WorkloadName, str, datetime]] = {}
    try:
        for workload, instance, addresses, seconds in steps:
            clock.advance(seconds=seconds)
            model = {address: held for address, held in model.items() if held[2] > clock.now}
            before = {(address, held[0]) for address, held in model.items()}
            if any(address in model and model[address][0] != workload for address in addresses):
                with pytest.raises(LeaseRefused):
                    announce(store, clock, workload, *addresses, instance=instance)
            else:
                changed = announce(store, clock, workload, *addresses, instance=instance)
                model = {a: held for a, held in model.items() if held[:2] != (workload, instance)}
                model |= {a: (workload, instance, clock.now + timedelta(seconds=90)) for a in addresses}
                assert changed == (before != {(address, held[0]) for address, held in model.items()})
            seen = {each.address: (each.workload, each.instance) for each in store.leases()}
            assert seen == {address: (str(held[0]), held[1]) for address, held in model.items()}
    finally:
        store.close()
