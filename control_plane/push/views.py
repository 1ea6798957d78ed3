"""What one sidecar is told of the whole: the policies that govern it, the places it wants to reach, bans and roots.

A `Picture` is the state at one number, the store's and the platform's, indexed once for all sidecars, so that one view
costs what it shows and not what the mesh holds. Pure: plain values in, a Snapshot out; equal content has an equal hash.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from attrs import evolve, frozen

from certs.spiffe import WorkloadName
from control_plane.push.platform import Platform
from control_plane.store.errors import StoreError
from control_plane.store.records import Contents, Lease, StoredPolicy
from mesh.wire import EVERY_DESTINATION, Endpoint, Service, Snapshot, snapshot_hash

ANY_WORKLOAD = "*"
"""`to.workload` of a policy that governs its whole namespace."""

_DEFAULTS = "NamespaceDefaults"


@frozen(eq=False)
class Picture:
    """The state at one number. `policy_number` is that of the latest policy revision; `roots` are DER."""

    epoch: str
    number: int
    policy_number: int
    governing: Mapping[tuple[str, str], tuple[StoredPolicy, ...]]
    """By namespace and workload; under ANY_WORKLOAD what governs the whole namespace."""
    endpoints: Mapping[str, tuple[Endpoint, ...]]
    """By destination, written `<namespace>/<workload>:<port>`."""
    services: tuple[Service, ...]
    leased: Mapping[str, Mapping[str, int]]
    """How many endpoints each instance of each identity has registered."""
    bans: tuple[str, ...]
    roots: tuple[bytes, ...]

    @classmethod
    def build(
        cls, contents: Contents, policy_number: int, roots: tuple[bytes, ...], platform: Platform | None = None
    ) -> "Picture":
        """Index what the store holds and the platform says. `policy_number` is at most the number of `contents`."""
        governing: dict[tuple[str, str], tuple[StoredPolicy, ...]] = {}
        for policy in contents.policies:
            key = policy.namespace, _governed(policy)
            governing[key] = (*governing.get(key, ()), policy)
        platform = platform or Platform()
        leased: dict[str, Counter[str]] = {}
        for lease in contents.leases:
            leased.setdefault(lease.identity, Counter())[lease.instance] += 1
        endpoints: dict[str, set[Endpoint]] = {}
        for each in (*platform.endpoints, *_beside(platform, contents.leases)):
            endpoints.setdefault(f"{each.workload}:{each.port}", set()).add(each)
        return cls(
            epoch=contents.epoch,
            number=contents.number,
            policy_number=policy_number,
            governing=governing,
            endpoints={name: tuple(sorted(found, key=_place)) for name, found in endpoints.items()},
            services=platform.services,
            leased=leased,
            bans=tuple(sorted(ban.subject for ban in contents.bans)),
            roots=roots,
        )

    @cached_property
    def banned(self) -> frozenset[str]:
        """Every banned SPIFFE ID and `serial:<decimal>`."""
        return frozenset(self.bans)


def view_for(workload: WorkloadName, destinations: Iterable[str], picture: Picture) -> Snapshot:
    """The snapshot for `workload`, which wants to reach `destinations` (mesh.wire.Announce)."""
    governing = (
        *picture.governing.get((workload.namespace, ANY_WORKLOAD), ()),
        *picture.governing.get((workload.namespace, workload.name), ()),
    )
    wanted = frozenset(destinations)
    snapshot = Snapshot(
        epoch=picture.epoch,
        number=picture.number,
        hash="-",
        policies=tuple(policy.document for policy in sorted(governing, key=lambda policy: policy.key)),
        endpoints=_reachable(wanted, picture),
        bans=picture.bans,
        roots=picture.roots,
        services=picture.services if EVERY_DESTINATION in wanted else (),
    )
    return evolve(snapshot, hash=snapshot_hash(snapshot))


def _reachable(destinations: frozenset[str], picture: Picture) -> tuple[Endpoint, ...]:
    """The endpoints of `destinations`; by EVERY_DESTINATION only those that were confirmed (law 4)."""
    if EVERY_DESTINATION not in destinations:
        return tuple(endpoint for name in sorted(destinations) for endpoint in picture.endpoints.get(name, ()))
    return tuple(
        endpoint
        for name in sorted(picture.endpoints)
        for endpoint in picture.endpoints[name]
        if endpoint.confirmed or name in destinations
    )


def _beside(platform: Platform, leases: Iterable[Lease]) -> Iterator[Endpoint]:
    """What is leased and does not contradict the platform, which wins about an address and port, and about whose an
    address is: a pod's address may be another's before the lease of its last owner has run out."""
    places = {(each.address, each.port) for each in platform.endpoints}
    owners = {each.address: each.identity for each in platform.endpoints}
    for lease in leases:
        if (lease.address, lease.port) not in places and owners.get(lease.address, lease.identity) == lease.identity:
            yield _endpoint(lease)


def _governed(policy: StoredPolicy) -> str:
    """Which workload of its namespace a document governs: defaults govern each. Raises StoreError."""
    if policy.kind == _DEFAULTS:
        return ANY_WORKLOAD
    try:
        return str(policy.document["spec"]["to"]["workload"])
    except (KeyError, TypeError) as error:
        name = f"{policy.kind} {policy.namespace}/{policy.name}"
        raise StoreError(f"{name} is damaged in the store: bring the store back from a backup") from error


def _endpoint(lease: Lease) -> Endpoint:
    return Endpoint(
        workload=lease.workload,
        port=lease.port,
        address=lease.address,
        mesh_port=lease.mesh_port,
        protocol=lease.protocol,
        identity=lease.identity,
        confirmed=lease.confirmed,
    )


def _place(endpoint: Endpoint) -> tuple[str, int, str, str]:
    return endpoint.address, endpoint.mesh_port, endpoint.identity, endpoint.protocol
