"""Laws 1 to 5: nothing is believed, told, registered or called before an identity was proved."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from attrs import define, evolve

from certs.bundle import TrustBundle
from certs.csr import build_csr
from certs.keys import new_key
from certs.svid import Svid
from certs.tls import server_context
from control_plane.push.office import in_thread
from control_plane.state import State
from control_plane.store.store import Store
from examples.demo.ports import free_port
from mesh.wire import Ack, Announce, Certificate, CertificateRequest, Hello, Listener, Nack, Snapshot
from sidecar.channel import ControlPlane
from sidecar.enrolment import Tokens
from sidecar.identity import Identity
from sidecar.link import ControlLink
from sidecar.live import LiveConnections
from sidecar.metrics import Metrics
from sidecar.readiness import Readiness
from sidecar.settings import Address, Limits
from sidecar.snapshots import Snapshots
from sidecar.view import ALPN_HTTP, Mesh
from tests.laws.conftest import Shop, eventually, get, said
from tests.support.doors import Node, application, outbound_door
from tests.support.patience import PATIENCE
from tests.support.pki import HOUR, Pki
from tests.support.plane import DOMAIN, Caller, Plane, names_of
from tests.support.simulator import TOKEN, WORKLOAD, Simulator
from transport import PlainStream, TlsStream, dial


def control_link(directory: Path, pinned: Pki, port: int) -> ControlLink:
    """The control link of a sidecar that has a token, a bundle and an address, and no certificate yet."""
    (directory / "bundle.pem").write_bytes(pinned.bundle.to_pem())
    (directory / "token").write_text(TOKEN)
    mesh, metrics, limits = Mesh(WORKLOAD.in_domain(pinned.domain)), Metrics(), Limits(backoff_initial=0.01)
    address = Address("127.0.0.1", port)
    return ControlLink(
        ControlPlane(address, directory / "bundle.pem", pinned.domain, 5.0, mesh.now),
        Hello(1, "test", "one"),
        Announce((), ()),
        mesh=mesh,
        identity=Identity(mesh, Tokens(str(directory / "token")), metrics),
        snapshots=Snapshots(mesh, LiveConnections(), metrics, pinned.domain),
        readiness=Readiness(mesh),
        metrics=metrics,
        limits=limits,
    )


def servers() -> dict[str, tuple[Simulator, Pki]]:
    """Who may stand at the control plane's address, and what is pinned."""
    pki, old = Pki(), Pki(now=datetime.now(UTC) - 3 * HOUR)
    return {
        "the control plane": (Simulator(pki), pki),
        "a workload of the mesh": (Simulator(pki, pki.svid("shop/payments")), pki),
        "a control plane of another root": (Simulator(pki), Pki()),
        "a control plane whose certificate has ended": (Simulator(old), old),
    }


@pytest.mark.parametrize("who", servers())
async def test_law_01_nothing_is_sent_before_the_control_plane_proved_itself(tmp_path: Path, who: str) -> None:
    server, pinned = servers()[who]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control_link(tmp_path, pinned, await server.listen(nursery)).run)
        if who == "the control plane":
            await server.until(lambda: server.messages(CertificateRequest))
        else:
            await trio.sleep(0.2)  # several attempts
            assert server.messages(object) == []
        nursery.cancel_scope.cancel()


async def test_law_02_a_link_is_who_its_certificate_says_at_every_request(plane: Plane) -> None:
    caller = await plane.link(await plane.svid("shop/checkout"), instance="shop/payments")
    payments = str(DOMAIN.workload("shop", "payments"))
    answer = await caller.ask(CertificateRequest(build_csr(new_key()), expected=payments))
    assert isinstance(answer, Nack), "a field in a message is no identity"
    answer = await caller.ask(CertificateRequest(build_csr(new_key())))
    assert isinstance(answer, Certificate)
    assert names_of(answer.chain) == [str(DOMAIN.workload("shop", "checkout"))]
    plane.clock.offset = timedelta(hours=2)  # the link still stands, and its certificate has ended
    await caller.say(CertificateRequest(build_csr(new_key())))
    assert (await caller.refusal()).code == "certificate_expired"


@define
class Impostor:
    """A server of the mesh that shows this certificate, and keeps what it is told in plaintext."""

    svid: Svid
    bundle: TrustBundle
    met: int = 0
    told: bytes = b""

    async def __call__(self, plain: PlainStream) -> None:
        tls = TlsStream(plain.socket, server_context(self.svid, self.bundle, [ALPN_HTTP]), server_side=True)
        try:
            await tls.do_handshake()
            self.told += await tls.receive_some()
        finally:
            tls.abort()
            self.met += 1


async def announces(plane: Plane, workload: str, address: str | None = None, mesh_port: int = 8443) -> Caller:
    listener = Listener(mesh_port, 8080, "http", address)
    return await plane.sidecar(workload, Announce((listener,), ()), instance=workload)


async def refusal(caller: Caller) -> str:
    while isinstance(message := await caller.hear(), Snapshot):
        await caller.say(Ack(message.epoch, message.number))
    assert isinstance(message, Nack), message
    return message.code


async def places(plane: Plane) -> list[tuple[str, str]]:
    return [(lease.workload, lease.address) for lease in await in_thread(plane.office.store.leases)]


async def test_law_03_an_address_is_registered_for_whom_it_is_proved_to_belong_to(plane: Plane) -> None:
    svid = plane.svid_for(DOMAIN.workload("shop", "checkout"))
    async with application(Impostor(svid, plane.bundle), host="127.0.0.2") as port:
        liar = await announces(plane, "shop/payments", "127.0.0.2", port)
        assert await refusal(liar) == "address_not_proved"
        await (await announces(plane, "shop/checkout", "127.0.0.2", port)).enforce()
        await wait_for(plane, [("shop/checkout", "127.0.0.2")])
    await announces(plane, "shop/payments")
    await wait_for(plane, [("shop/checkout", "127.0.0.2"), ("shop/payments", "127.0.0.1")])
    thief = await announces(plane, "shop/frontend")
    assert await refusal(thief) == "address_leased"


async def wait_for(plane: Plane, expected: list[tuple[str, str]]) -> None:
    with trio.fail_after(PATIENCE):
        while sorted(await places(plane)) != expected:
            await trio.sleep(0.01)


async def test_law_04_entries_end_by_their_lease_and_by_nothing_else(plane: Plane, state: State) -> None:
    caller = await announces(plane, "shop/payments")
    await wait_for(plane, [("shop/payments", "127.0.0.1")])
    caller.stream.abort()
    await plane.until(lambda: not plane.office.links.live())
    assert len(await places(plane)) == 1, "a dropped link ends nothing"
    again = Store.open(state.store_url, trust_domain=DOMAIN, clock=plane.clock)
    assert len(again.leases()) == 1, "neither does a restart"
    plane.clock.offset = timedelta(hours=1)
    again.expire_leases()
    again.close()
    assert await places(plane) == []


async def test_law_05_only_the_identity_of_the_endpoint_dialled_is_spoken_to_and_nothing_goes_plaintext(
    shop: Shop, pki: Pki
) -> None:
    await shop.open()
    neighbour = Impostor(pki.svid("shop/payments"), pki.bundle)  # good at another endpoint, not at this one
    port = await shop.enter(application(neighbour))
    wrong = evolve(shop.endpoint(identity=str(pki.id("shop/payments-canary"))), mesh_port=port)
    shop.checkout.learn(endpoints=[wrong])
    assert b'"wrong_server_identity"' in await shop.get("/secret")
    nobody = evolve(shop.endpoint(), mesh_port=free_port())  # an endpoint of the same service, where it would be good
    shop.checkout.learn(endpoints=[wrong, nobody])
    assert b'"error": "failed"' in await shop.get("/secret")
    await eventually(lambda: neighbour.met == 2)
    assert not neighbour.told, "a handshake, and not a byte of the request"

    takes_plaintext = [evolve(shop.endpoint(), mesh_port=shop.app_port)]  # gladly, and waits for more of it
    hasty = Node.make(pki, "shop/checkout", endpoints=takes_plaintext, limits=Limits(handshake_timeout=0.5))
    caller = await dial("127.0.0.1", await shop.enter(outbound_door(hasty, "shop/payments")), deadline=PATIENCE)
    assert b'"error": "failed"' in await said(caller, get("/secret"))
    caller.abort()

    shop.checkout.learn()
    assert b'"no_endpoint"' in await shop.get("/secret"), "unknown in the mesh: refused, never dialled in another way"
    fresh = Node.make(pki, "shop/checkout", ready=False)
    early = await dial("127.0.0.1", await shop.enter(outbound_door(fresh, "shop/payments")), deadline=PATIENCE)
    assert b'"no_snapshot"' in await said(early, get("/secret"))
    early.abort()
    assert shop.heads == []
