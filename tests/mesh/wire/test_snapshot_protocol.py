"""Snapshots between a control plane and its sidecars, as a state machine: any order of changes, losses and faults.

The real parts of both programs stand at either end of the real codec: on one side Picture, view_for, Links and Fleet,
on the other Mesh, LiveConnections and Snapshots. What is enforced is always one whole snapshot that was sent, it never
goes back, and the control plane counts only whom it may.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.testing
from attrs import Factory, define, evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from certs.bundle import root_fingerprint
from certs.spiffe import WorkloadName
from certs.verify import Peer
from control_plane.admin.enforcement import Fleet, Target
from control_plane.push.links import Link, Links
from control_plane.push.views import Picture, view_for
from control_plane.store.records import Ban, Contents, Lease, StoredPolicy
from mesh.policy import Facts, decide
from mesh.wire import MAX_FRAME_TO_SIDECAR, Ack, FrameDecoder, Nack, Snapshot, decode, encode, snapshot_hash
from sidecar.live import LiveConnection, LiveConnections
from sidecar.metrics import Metrics
from sidecar.snapshots import Snapshots
from sidecar.view import Mesh, View
from tests.support.examples import examples
from tests.support.pki import Pki
from tests.support.plane import allow

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PKI, NEXT_PKI = Pki(), Pki()
FOREIGN = Pki("partner.example")
ROOTS = tuple(each.bundle.to_der()[0] for each in (PKI, NEXT_PKI))
CALLERS = ("checkout", "ops", "batch")
GUARDED = ("payments", "ledger")
EVERYBODY = (Target("shop", "*"),)
UNPARSABLE: tuple[dict[str, Any], ...] = ({"kind": "AllowPolicy"}, {**allow(), "spec": {"from": []}}, {})

FAULTS = ("hash", "content", "policy", "root", "endpoint")

guarded = st.sampled_from(GUARDED)
callers = st.sampled_from(CALLERS)
changes = st.sampled_from(["policy", "registry", "ban", "root", ""])
distances = st.sampled_from([2, 2, 1, 0])
"""How far a snapshot gets at once: 0, it is under way; 1, it was taken up; 2, its answer was heard."""


@define(eq=False)
class Sidecar:
    """One process, with what is under way to it and from it on its newest link. It remembers what it was sent."""

    workload: WorkloadName
    instance: str
    link: Link | None = None
    arriving: deque[bytes] = Factory(deque)
    leaving: deque[Ack | Nack] = Factory(deque)
    sent: list[Snapshot] = Factory(list)
    open: list[tuple[Peer, Facts]] = Factory(list)
    mesh: Mesh = Factory(lambda self: Mesh(self.workload.in_domain(PKI.domain)), takes_self=True)
    live: LiveConnections = Factory(LiveConnections)
    snapshots: Snapshots = Factory(lambda self: Snapshots(self.mesh, self.live, Metrics(), PKI.domain), takes_self=True)

    @property
    def place(self) -> tuple[str, int] | None:
        """The epoch and number of what is enforced."""
        return (self.mesh.view.epoch, self.mesh.view.number) if self.mesh.view else None

    def facts(self, caller: str) -> Facts:
        return Facts(to=self.workload, port=8080, caller=PKI.id(f"shop/{caller}"))

    def refuses(self, peer: Peer, facts: Facts) -> bool:
        """Whether what is enforced now has anything against a connection."""
        view = self.mesh.view
        return view is None or view.objection(peer) is not None or not decide(view.rules, facts).allowed

    def let_in(self) -> None:
        """Everybody calls, with a certificate of either root: let in is whom the enforced view has nothing against."""
        calls = [(_peer(caller, issuer), self.facts(caller)) for caller in CALLERS for issuer in (PKI, NEXT_PKI)]
        self.open += [call for call in calls if call not in self.open and not self.refuses(*call)]

    def lose_link(self) -> None:
        self.link = None
        self.arriving.clear()
        self.leaving.clear()

    async def apply(self, snapshot: Snapshot, breaks_after: int | None) -> Ack | Nack | None:
        """Hand over a snapshot while the connections are open; broken off after so many turns of the loop."""
        connections = [LiveConnection(peer, facts) for peer, facts in self.open]
        answer = None

        async def hold(connection: LiveConnection) -> None:
            with self.live.register(connection):
                await trio.sleep_forever()

        async def break_off(scope: trio.CancelScope, turns: int) -> None:
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(hold, connection)
            await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                if breaks_after is not None:
                    nursery.start_soon(break_off, scope, breaks_after)
                answer = await self.snapshots.apply(snapshot)
            self.open = [
                still for still, connection in zip(self.open, connections, strict=True) if connection.ended is None
            ]
            nursery.cancel_scope.cancel()
        return answer


def meaning(workload: WorkloadName, snapshot: Snapshot) -> tuple[object, ...]:
    """What a snapshot says, read as plainly as possible."""
    allowed = {
        each["spec"]["from"][0]["workload"]
        for each in snapshot.policies
        if each["spec"]["to"]["workload"] == workload.name
    }
    addresses = {each.address for each in snapshot.endpoints}
    place = (snapshot.epoch, snapshot.number, snapshot.hash)
    return place, allowed - set(_banned(snapshot.bans)), addresses, set(snapshot.bans), set(snapshot.roots)


def enforced(sidecar: Sidecar, view: View) -> tuple[object, ...]:
    """What a view does, told by asking it."""
    allowed = {each for each in CALLERS if decide(view.rules, sidecar.facts(each)).allowed}
    addresses = {each.address for each in view.endpoints_of(WorkloadName("shop", "web"), 80)}
    place = (view.epoch, view.number, view.hash)
    return place, allowed - set(_banned(view.bans)), addresses, set(view.bans), set(view.bundle.to_der())


def _banned(bans: tuple[str, ...] | frozenset[str]) -> Iterator[str]:
    return (each.rpartition("/")[2] for each in bans)


class SnapshotProtocol(RuleBasedStateMachine):
    """The world: one store, one control plane, one sidecar process for each guarded workload."""

    def __init__(self) -> None:
        super().__init__()
        self._slices = pytest.MonkeyPatch()
        self._slices.setattr("sidecar.live.SLICE", 1)  # a turn for others after each connection
        self._instances = 0
        self._epochs = 0
        self._counted: dict[Link, int] = {}
        """The highest number of the present epoch that was acknowledged on a link, and heard."""
        self._furthest: dict[tuple[str, str], int] = {}
        """By process and epoch: the highest number that was ever enforced."""

    def teardown(self) -> None:
        self._slices.undo()

    @initialize()
    def begin(self) -> None:
        self.allowed = {(caller, name): 1 for caller in CALLERS for name in GUARDED}
        self.leased: set[str] = set()
        self.banned: set[str] = set()
        self.roots = ROOTS[:1]
        self.epoch, self.number, self.policy_number = "epoch 0", 1, 1
        self.links = Links()
        self.sidecars = {name: self._process(name) for name in GUARDED}
        for name in GUARDED:
            self.push(name, 2)

    @rule(what=changes, caller=callers, name=guarded)
    def change(self, what: str, caller: str, name: str) -> None:
        """Something changes in the store, there and back again. A root alone takes no number."""
        self.number += what in ("policy", "registry", "ban")
        match what:
            case "policy":
                self.policy_number = self.number
                if self.allowed.pop((caller, name), None) is None:
                    self.allowed[caller, name] = self.number
            case "registry":
                self.leased ^= {f"10.0.0.{CALLERS.index(caller)}"}
            case "ban":
                self.banned ^= {caller}
            case "root":
                self.roots = ROOTS if len(self.roots) == 1 else ROOTS[:1]

    @rule(restored=st.booleans(), to=st.integers(0, 100))
    def restart_the_control_plane(self, restored: bool, to: int) -> None:
        """Every link is lost; a store that was restored from a backup counts in a new epoch."""
        self.links = Links()
        self._counted.clear()
        if restored:
            self._epochs += 1
            self.epoch = f"epoch {self._epochs}"
            self.number = self.policy_number = self.number * to // 100
            self.allowed = {key: number for key, number in self.allowed.items() if number <= self.number}
        for name in GUARDED:
            self._connect(name)

    @rule(name=guarded, restarts=st.booleans(), noticed=st.booleans(), returns=st.booleans())
    def lose_a_link(self, name: str, restarts: bool, noticed: bool, returns: bool) -> None:
        """The control plane may notice at once, or when the sidecar comes back, as the same process or a new one."""
        sidecar = self.sidecars[name]
        if noticed or restarts:
            for link in self.links.live():
                if link.instance == sidecar.instance:
                    self.links.remove(link)
        sidecar.lose_link()
        if restarts:
            self.sidecars[name] = self._process(name)
        if returns:
            self._connect(name)

    # What is said

    @rule(name=guarded, reaches=distances, what=changes, caller=callers)
    def push(self, name: str, reaches: int, what: str = "", caller: str = "") -> None:
        """The newest snapshot is sent, over a new link where there is none, mostly since something has changed."""
        self.change(what, caller, name)
        if self.sidecars[name].link is None:
            self._connect(name)
        self._send(name, self._view(name), reaches)

    @rule(name=guarded, index=st.integers(0, 20), reaches=distances)
    def send_an_old_one_again(self, name: str, index: int, reaches: int) -> None:
        self.push(name, 2, "registry", "ops")
        old = [each for each in self.sidecars[name].sent if each.epoch == self.epoch]
        self._send(name, old[index % len(old)], reaches)

    @rule(name=guarded, how=st.sampled_from(FAULTS), index=st.integers(0, 2), reaches=distances)
    def send_a_bad_one(self, name: str, how: str, index: int, reaches: int) -> None:
        self._send(name, self._bad(name, how, index), reaches, whole=False)

    def _bad(self, name: str, how: str, index: int) -> Snapshot:
        good = evolve(self._view(name), number=self.number + 1)
        match how:
            case "hash":
                return evolve(good, hash=good.hash[::-1])
            case "content":
                return evolve(good, bans=(*good.bans, "serial:1"))
            case "policy":
                return _hashed(evolve(good, policies=(*good.policies, UNPARSABLE[index])))
            case "root":
                return _hashed(evolve(good, roots=((), (b"no certificate",), FOREIGN.bundle.to_der())[index]))
            case _:
                lease = evolve(_lease("10.0.0.3"), identity=("spiffe://", "web", "spiffe://UPPER/ns/a/sa/b")[index])
                contents = Contents(self.epoch, self.number + 1, (), (lease,), ())
                return view_for(WorkloadName("shop", name), ["shop/web:80"], Picture.build(contents, 0, self.roots))

    @rule(name=guarded, skips=st.booleans())
    def deliver(self, name: str, skips: bool) -> None:
        """The sidecar takes up what has arrived next, or the newest of it, and answers."""
        self._deliver(name, skips=skips)

    def _deliver(self, name: str, *, skips: bool, breaks_after: int | None = None) -> None:
        sidecar = self.sidecars[name]
        if not (snapshot := _taken(sidecar, skips)):
            return
        sidecar.let_in()
        before = sidecar.mesh.view
        answer = trio.run(sidecar.apply, snapshot, breaks_after)
        if sidecar.mesh.view is not before:
            assert sidecar.mesh.view is not None
            assert sidecar.mesh.view.hash == snapshot.hash
        if answer is not None:
            self._check_answer(sidecar, snapshot, answer)
            sidecar.leaving.append(answer)

    @rule(name=guarded, turns=st.integers(0, 8), what=changes, caller=callers)
    def lose_the_link_while_a_snapshot_is_applied(self, name: str, turns: int, what: str, caller: str) -> None:
        """The snapshot is sent again on the next link, and only then it is all done."""
        sidecar = self.sidecars[name]
        self.push(name, 1)
        self.push(name, 0, what, caller)
        self._deliver(name, skips=True, breaks_after=turns)
        self._connect(name)
        self._send(name, self._view(name), 2)
        assert sidecar.place == (self.epoch, self.number)

    @rule(name=guarded)
    def hear(self, name: str) -> None:
        """The control plane takes the next answer of a sidecar."""
        self._hear(name)

    def _hear(self, name: str) -> None:
        sidecar = self.sidecars[name]
        if not sidecar.leaving or sidecar.link is None:
            return
        answer = sidecar.leaving.popleft()
        if isinstance(answer, Nack):
            sidecar.link.last_nack = answer
        elif sidecar.link.acknowledge(answer) is not None and answer.epoch == self.epoch:
            self._counted[sidecar.link] = max(answer.number, self._counted.get(sidecar.link, 0))

    @rule(name=guarded, ahead=st.integers(1, 9), foreign=st.booleans())
    def hear_what_was_never_sent(self, name: str, ahead: int, foreign: bool) -> None:
        link = self.sidecars[name].link
        if link is not None:
            before = link.status()
            number = self.number if foreign else self.number + 1 + ahead
            assert link.acknowledge(Ack("another epoch" if foreign else self.epoch, number)) is None
            assert link.status() == before

    # What always holds

    @invariant()
    def what_is_enforced_is_one_whole_snapshot_that_was_sent(self) -> None:
        for sidecar in self.sidecars.values():
            view = sidecar.mesh.view
            if view is not None:
                assert enforced(sidecar, view) in [meaning(sidecar.workload, each) for each in sidecar.sent]

    @invariant()
    def what_is_enforced_never_goes_back_within_an_epoch(self) -> None:
        for sidecar in self.sidecars.values():
            if sidecar.place is not None:
                epoch, number = sidecar.place
                assert number >= self._furthest.get((sidecar.instance, epoch), 0)
                self._furthest[sidecar.instance, epoch] = number

    @invariant()
    def the_control_plane_counts_exactly_whom_it_may(self) -> None:
        fleet = Fleet.of(self.links.status(), PKI.domain, self.epoch)
        by_instance = {each.instance: each for each in self.sidecars.values()}
        for number in {1, self.policy_number, self.number, self.number + 1}:
            found = fleet.enforcement(EVERYBODY, number)
            waiting = {each.instance for each in found.waiting}
            counted = {each.instance for each in self.links.live()} - waiting
            assert (found.on, found.of) == (len(counted), len(self.links))
            assert counted == {link.instance for link in self.links.live() if self._counted.get(link, -1) >= number}, (
                "all who said so on this link, and nobody else"
            )
            for place in (by_instance[each].place for each in counted):
                assert place is not None
                assert (place[0], place[1] >= number) == (self.epoch, True)

    # How it is done

    def _process(self, name: str) -> Sidecar:
        self._instances += 1
        return Sidecar(WorkloadName("shop", name), f"process {self._instances}")

    def _connect(self, name: str) -> None:
        sidecar = self.sidecars[name]
        sidecar.lose_link()
        peer = Peer(sidecar.mesh.own, 7, "root", NOW, NOW + timedelta(hours=1))
        sidecar.link = Link(peer, sidecar.instance, "10.0.0.9", "doorward 1", NOW)
        self.links.add(sidecar.link)

    def _view(self, name: str) -> Snapshot:
        policies = tuple(
            StoredPolicy(each["kind"], "shop", each["metadata"]["name"], each, number, "test", NOW)
            for (caller, target), number in self.allowed.items()
            for each in [allow(f"{caller}-calls-{target}", target, caller)]
        )
        bans = tuple(Ban(str(PKI.id(f"shop/{each}")), "", "test", NOW) for each in sorted(self.banned))
        contents = Contents(self.epoch, self.number, policies, tuple(map(_lease, sorted(self.leased))), bans)
        picture = Picture.build(contents, self.policy_number, self.roots)
        return view_for(WorkloadName("shop", name), ["shop/web:80"], picture)

    def _send(self, name: str, snapshot: Snapshot, reaches: int, *, whole: bool = True) -> None:
        sidecar = self.sidecars[name]
        if sidecar.link is None:
            return
        sidecar.link.was_sent(snapshot, 0.0)
        sidecar.arriving.append(encode(snapshot))
        if whole and snapshot not in sidecar.sent:
            sidecar.sent.append(snapshot)
        while reaches and sidecar.arriving:
            self._deliver(name, skips=False)
        while reaches > 1 and sidecar.leaving:
            self._hear(name)

    def _check_answer(self, sidecar: Sidecar, snapshot: Snapshot, answer: Ack | Nack) -> None:
        if isinstance(answer, Ack):
            assert (answer.epoch, answer.number) == (snapshot.epoch, snapshot.number) == sidecar.place
            assert sidecar.mesh.view is not None
            assert sidecar.mesh.view.hash == snapshot.hash
            assert not any(sidecar.refuses(*each) for each in sidecar.open), "live connections were decided again"
        else:
            stale = any(each.epoch == snapshot.epoch and each.number > snapshot.number for each in sidecar.sent)
            assert stale or snapshot not in sidecar.sent, (answer, "what is good and new is enforced")
            assert answer.code in {"stale", "wrong_hash", "policy_faults", "malformed", "no_root"}


def _taken(sidecar: Sidecar, skips: bool) -> Snapshot | None:
    """The next that has arrived, or the last, as the sidecar reads it off the wire."""
    if not sidecar.arriving:
        return None
    frame = sidecar.arriving.pop() if skips else sidecar.arriving.popleft()
    if skips:
        sidecar.arriving.clear()
    (payload,) = FrameDecoder(MAX_FRAME_TO_SIDECAR).feed(frame)
    snapshot = decode(payload)
    assert isinstance(snapshot, Snapshot)
    return snapshot


def _peer(caller: str, issuer: Pki) -> Peer:
    identity, root = PKI.id(f"shop/{caller}"), root_fingerprint(issuer.root.root)
    return Peer(identity, 9, root, NOW, NOW + timedelta(hours=1))


def _hashed(snapshot: Snapshot) -> Snapshot:
    return evolve(snapshot, hash=snapshot_hash(snapshot))


def _lease(address: str) -> Lease:
    identity = "spiffe://cluster.local/ns/shop/sa/web"
    return Lease(identity, "instance", "shop/web", 80, 8443, address, "http", NOW, confirmed=True)


TestSnapshotProtocol = SnapshotProtocol.TestCase
TestSnapshotProtocol.settings = examples(20)
