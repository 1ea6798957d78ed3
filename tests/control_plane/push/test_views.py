"""A view holds what concerns one sidecar, all of it and nothing else; equal content has an equal hash."""

from datetime import UTC, datetime

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from certs.spiffe import TrustDomain, WorkloadName
from control_plane.push.platform import Platform
from control_plane.push.views import Picture, view_for
from control_plane.store.records import Ban, Contents, Lease, StoredPolicy
from mesh.wire import EVERY_DESTINATION, Endpoint, Service, Snapshot, decode, encode, snapshot_hash
from tests.support.examples import examples
from tests.support.plane import allow

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DOMAIN = TrustDomain("cluster.local")
ROOTS = (b"root one", b"root two")
NAMESPACES = st.sampled_from(["shop", "ops"])
WORKLOADS = st.sampled_from(["checkout", "payments", "frontend"])
NAMES = st.builds(WorkloadName, NAMESPACES, WORKLOADS)


def stored(kind: str, namespace: str, name: str, to: str | None, number: int = 1) -> StoredPolicy:
    document = {"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": {"default": "deny"}}
    if to is not None:
        document["spec"] = {"to": {"workload": to}}
    return StoredPolicy(kind, namespace, name, document, number, "test", NOW)


POLICIES = st.lists(
    st.one_of(
        st.builds(
            stored,
            st.sampled_from(["AllowPolicy", "DenyPolicy"]),
            NAMESPACES,
            st.sampled_from(["a", "b", "c"]),
            st.one_of(WORKLOADS, st.just("*")),
        ),
        st.builds(stored, st.just("NamespaceDefaults"), NAMESPACES, st.just("defaults"), st.none()),
    ),
    unique_by=lambda policy: policy.key,
    max_size=12,
)


def lease(workload: WorkloadName, port: int, place: int) -> Lease:
    return Lease(
        identity=f"spiffe://cluster.local/ns/{workload.namespace}/sa/{workload.name}",
        instance=f"instance {place}",
        workload=str(workload),
        port=port,
        mesh_port=8443,
        address=f"10.0.0.{place}",
        protocol="http",
        expires=NOW,
        confirmed=True,
    )


LEASES = st.lists(
    st.builds(lease, NAMES, st.sampled_from([80, 8080]), st.integers(1, 9)),
    unique_by=lambda lease: lease.address,
    max_size=9,
)
CONTENTS = st.builds(
    Contents,
    epoch=st.just("epoch"),
    number=st.integers(1, 1000),
    policies=POLICIES.map(tuple),
    leases=LEASES.map(tuple),
    bans=st.just((Ban("serial:7", "", "test", NOW), Ban("serial:10", "", "test", NOW))),
)
DESTINATIONS = st.lists(st.builds("{}:{}".format, NAMES, st.sampled_from([80, 8080])), max_size=4)


@given(contents=CONTENTS, workload=NAMES, destinations=DESTINATIONS)
@examples(60)
def test_a_view_is_exactly_what_concerns_the_workload(
    contents: Contents, workload: WorkloadName, destinations: list[str]
) -> None:
    view = view_for(workload, destinations, Picture.build(contents, 1, ROOTS))
    assert sorted(map(repr, view.policies)) == sorted(
        repr(policy.document)
        for policy in contents.policies
        if policy.namespace == workload.namespace
        and (policy.kind == "NamespaceDefaults" or policy.document["spec"]["to"]["workload"] in {"*", workload.name})
    )
    assert sorted(endpoint.address for endpoint in view.endpoints) == sorted(
        lease.address for lease in contents.leases if f"{lease.workload}:{lease.port}" in destinations
    )
    assert all(endpoint.identity.endswith(endpoint.workload.split("/")[1]) for endpoint in view.endpoints)
    assert (view.epoch, view.number) == (contents.epoch, contents.number)
    assert (view.bans, view.roots) == (("serial:10", "serial:7"), ROOTS)
    assert view.hash == snapshot_hash(view)


@given(contents=CONTENTS, workload=NAMES, destinations=DESTINATIONS, confirmed=st.sets(st.integers(0, 8)))
def test_who_wants_every_destination_is_told_what_was_confirmed(
    contents: Contents, workload: WorkloadName, destinations: list[str], confirmed: set[int]
) -> None:
    leases = tuple(evolve(lease, confirmed=place in confirmed) for place, lease in enumerate(contents.leases))
    contents = evolve(contents, leases=leases)
    view = view_for(workload, [EVERY_DESTINATION, *destinations], Picture.build(contents, 1, ROOTS))
    assert {(endpoint.address, endpoint.confirmed) for endpoint in view.endpoints} == {
        (lease.address, lease.confirmed)
        for lease in leases
        if lease.confirmed or f"{lease.workload}:{lease.port}" in destinations
    }


@given(contents=CONTENTS, workload=NAMES, destinations=DESTINATIONS, seed=st.randoms())
@examples(30)
def test_neither_order_nor_number_changes_the_hash(
    contents: Contents, workload: WorkloadName, destinations: list[str], seed: st.DataObject
) -> None:
    def shuffled(values: tuple) -> tuple:
        return tuple(seed.sample(values, len(values)))

    other = evolve(
        contents,
        number=contents.number + 1,
        policies=shuffled(contents.policies),
        leases=shuffled(contents.leases),
        bans=shuffled(contents.bans),
    )
    one = view_for(workload, destinations, Picture.build(contents, 1, ROOTS))
    two = view_for(workload, destinations[::-1] * 2, Picture.build(other, 1, ROOTS))
    assert one.hash == two.hash


def test_two_processes_at_one_place_are_one_endpoint() -> None:
    """A restarted sidecar comes back at its address before the lease of its last process has run out."""
    payments = WorkloadName("shop", "payments")
    first = lease(payments, 8080, 1)
    contents = Contents("epoch", 1, (), (first, evolve(first, instance="its next process")), ())
    picture = Picture.build(contents, 0, ROOTS)
    assert len(view_for(WorkloadName("shop", "checkout"), ["shop/payments:8080"], picture).endpoints) == 1
    assert picture.leased[first.identity] == {"instance 1": 1, "its next process": 1}


def test_a_view_survives_the_wire() -> None:
    policy = StoredPolicy("AllowPolicy", "shop", "checkout-calls-payments", allow(), 3, "test", NOW)
    contents = Contents("epoch", 3, (policy,), (), ())
    view = view_for(WorkloadName("shop", "payments"), [], Picture.build(contents, 3, ROOTS))
    assert view.policies == (allow(),)
    assert decode(encode(view)[4:]) == view


# The platform's part

SHOP = Service("shop/payments", ("10.96.0.1",), 80, "http", (("10.0.0.1", 8080),))
ANYBODY = WorkloadName("ops", "anybody")


def pod(address: str, port: int = 8080, workload: str = "shop/payments", protocol: str = "http") -> Endpoint:
    """An endpoint as the platform knows it: reached at the application's own port."""
    identity = str(WorkloadName.parse(workload).in_domain(DOMAIN))
    return Endpoint(workload, port, address, port, protocol, identity, confirmed=True)


def view_with(platform: Platform, *leases: Lease, destinations: tuple[str, ...] = (EVERY_DESTINATION,)) -> Snapshot:
    contents = Contents("epoch", 1, (), leases, ())
    return view_for(ANYBODY, destinations, Picture.build(contents, 0, ROOTS, platform))


def test_services_are_told_to_whom_looks_destinations_up_by_address() -> None:
    platform = Platform((pod("10.0.0.1"),), (SHOP,))
    view = view_with(platform)
    assert (view.endpoints, view.services) == (platform.endpoints, (SHOP,))
    assert view.hash == snapshot_hash(view) != view_with(Platform(platform.endpoints)).hash
    named = view_with(platform, destinations=("shop/payments:8080",))
    assert (named.endpoints, named.services) == (platform.endpoints, ())


def test_what_a_pod_announces_as_the_platform_says_it_is_one_endpoint() -> None:
    announced = evolve(lease(WorkloadName("shop", "payments"), 8080, 1), mesh_port=8080)
    assert view_with(Platform((pod("10.0.0.1"),)), announced).endpoints == (pod("10.0.0.1"),)


def test_the_platform_wins_about_a_place_and_about_whose_an_address_is() -> None:
    payments, checkout = WorkloadName("shop", "payments"), WorkloadName("shop", "checkout")
    elsewhere = evolve(lease(payments, 8080, 1), mesh_port=8443)
    beside = evolve(lease(payments, 9090, 1), mesh_port=9443)
    of_the_last_owner = lease(checkout, 7070, 1)
    other = lease(checkout, 8080, 2)
    view = view_with(Platform((pod("10.0.0.1"),)), elsewhere, beside, of_the_last_owner, other)
    assert {(each.workload, each.address, each.port, each.mesh_port) for each in view.endpoints} == {
        ("shop/payments", "10.0.0.1", 8080, 8080),
        ("shop/payments", "10.0.0.1", 9090, 9443),
        ("shop/checkout", "10.0.0.2", 8080, 8443),
    }
