"""A real admin API on a real socket and at a real operators' address, over a real store and CA.

Links are connected by the test, by hand. It runs in a thread of its own, so that a test may talk to it with blocking
calls, as the command does.
"""

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from certs.bundle import TrustBundle
from certs.certificate import load_pem, to_der
from certs.csr import build_csr
from certs.keys import new_key
from certs.spiffe import SpiffeId, WorkloadName
from certs.svid import Svid
from certs.verify import Peer
from control_plane.admin.backend import Backend
from control_plane.admin.client import Client
from control_plane.admin.context import Context
from control_plane.admin.operators import OperatorsDoor
from control_plane.admin.server import serve
from control_plane.advance import Advance
from control_plane.authority import open_authority
from control_plane.injector.injection import Injection
from control_plane.kubernetes.contact import Contact
from control_plane.metrics import Metrics
from control_plane.push.links import Link, Links
from control_plane.settings import HostPort, Limits
from control_plane.state import State
from control_plane.store.store import Store
from mesh.wire import Ack, Announce, Listener, Nack, Snapshot
from tests.support.patience import PATIENCE

MAX_CONNECTIONS = 4
LIMITS = Limits(unauthenticated_links=6, unauthenticated_links_per_address=4, operator_connections=MAX_CONNECTIONS)
"""Of the operators' address."""


@define
class Clock:
    """Now, plus what the test adds."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@define
class AdminHouse:
    """What the tests of admin API and command stand in."""

    directory: Path
    socket: Path
    backend: Backend
    clock: Clock
    metrics: Metrics
    operators: HostPort
    """Where operators connect."""
    instances: int = field(default=0)

    def client(self) -> Client:
        """A client of the API; use it as a context manager."""
        return Client(self.socket)

    def operator(self, name: str = "ann", lifetime: timedelta = timedelta(hours=1)) -> Context:
        """The context of an operator, vouched for by a local user."""
        key = new_key()
        body = {"name": name, "csr": b64encode(build_csr(key)).decode(), "lifetime": int(lifetime.total_seconds())}
        with self.client() as client:
            answer = client.post("/v1/operators", body)
        chain = [to_der(each) for each in load_pem(answer["chain"].encode())]
        return Context(self.operators, TrustBundle.from_pem(answer["bundle"].encode()), Svid.build(key, chain))

    def svid(self, identity: SpiffeId, lifetime: timedelta = timedelta(hours=1)) -> Svid:
        """An SVID straight from the CA."""
        key = new_key()
        return Svid(key, self.backend.authority.issue(key.public_key(), identity, lifetime=lifetime))

    def refusals(self, reason: str) -> float:
        """How many connections or requests of operators were refused for this reason."""
        name = "doorward_control_plane_operators_refused_total"
        return self.metrics.registry.get_sample_value(name, {"reason": reason}) or 0.0

    def connect(self, workload: str, *destinations: str, certificate: timedelta = timedelta(hours=1)) -> Link:
        """Connect a sidecar of `workload` that has acknowledged nothing yet."""
        self.instances += 1
        now = self.clock()
        identity = WorkloadName.parse(workload).in_domain(self.backend.trust_domain)
        link = Link(
            peer=Peer(identity, self.instances, "0" * 64, now, now + certificate),
            instance=f"instance-{self.instances}",
            address="127.0.0.1",
            version="doorward 0.1.0",
            connected_since=now,
            announced=Announce((Listener(8443, 8080, "http"),), destinations),
        )
        self.backend.links.add(link)
        return link

    def acknowledge(self, *links: Link, number: int | None = None, epoch: str | None = None) -> None:
        """Let sidecars be sent a number, by default the store's own, and acknowledge it."""
        epoch = epoch or self.backend.store.epoch
        number = self.backend.store.number() if number is None else number
        for link in links:
            link.was_sent(Snapshot(epoch, number, "hash", (), (), (), ()), at=0.0)
            assert link.acknowledge(Ack(epoch, number)) == 0.0

    def refuse(self, link: Link, message: str) -> None:
        """Let a sidecar refuse a snapshot."""
        link.last_nack = Nack("Snapshot", "policy_faults", message)


def policy(name: str, workload: str = "payments", caller: str = "checkout", **spec: Any) -> dict[str, Any]:
    """A document that lets `caller` call `workload` of the namespace shop on port 8080; `spec` is added to it."""
    return {
        "apiVersion": "doorward.dev/v1",
        "kind": "AllowPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"to": {"workload": workload, "ports": [8080]}, "from": [{"workload": caller}], **spec},
    }


def put(*documents: object, **more: Any) -> dict[str, Any]:
    """The body of a request that applies `documents`."""
    read = [{"source": "test.yaml", "index": index, "content": each} for index, each in enumerate(documents, start=1)]
    return {"put": read, **more}


@contextmanager
def admin_house(
    directory: Path, injection: Injection | None = None, *, in_cluster: bool = False
) -> Iterator[AdminHouse]:
    """Run the admin API in a thread while the context lasts."""
    clock = Clock()
    with State.open(directory / "state") as state:
        store = Store.open(state.store_url, trust_domain=state.trust_domain, clock=clock)
        authority = open_authority(state, state.trust_domain, clock)
        sock = socket.create_server(("127.0.0.1", 0))
        operators = HostPort(*sock.getsockname())
        backend = Backend(
            state.trust_domain,
            store,
            Links(),
            authority,
            Advance(),
            clock,
            operators_listen=str(operators),
            contact=Contact(Metrics(), ever=True) if in_cluster else None,
            injection=injection,
        )
        metrics = Metrics()
        with _in_thread(state.admin_socket, sock, backend, metrics):
            yield AdminHouse(directory, state.admin_socket, backend, clock, metrics, operators)
        store.close()


@contextmanager
def _in_thread(path: Path, operators: socket.socket, backend: Backend, metrics: Metrics) -> Iterator[None]:
    started = threading.Event()
    running: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, max_connections=MAX_CONNECTIONS), path, backend, metrics)
            listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(operators))]
            nursery.start_soon(OperatorsDoor(backend, metrics, LIMITS).serve, listeners)
            running.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            started.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert started.wait(PATIENCE), "the admin API did not start"
    try:
        yield
    finally:
        token, scope = running[0]
        token.run_sync_soon(scope.cancel)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "somebody holds up its end"
