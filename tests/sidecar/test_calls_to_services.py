"""Calls to a virtual address reach the places behind it, each proving its own identity, over TCP and in HTTP."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
from attrs import define, evolve, field

from mesh.policy import Reason
from mesh.wire import Endpoint, Service
from sidecar.accepting import accept_until_draining, recorded
from sidecar.destination import find_destination
from sidecar.outbound import DIRECTION, called_by, carry
from sidecar.settings import Address
from tests.support.doors import Node, application, endpoint, inbound_door, read_to_the_end
from tests.support.patience import PATIENCE
from tests.support.pki import Pki
from tests.support.policies import allow_policy
from transport import PlainStream, dial, listen

SHOP = Address("10.96.0.10", 80)
GET = b"GET /charges HTTP/1.1\r\nHost: shop\r\n\r\n"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@asynccontextmanager
async def dialled(node: Node, original: Address) -> AsyncIterator[int]:
    """A port whose connections go where they would if the application had dialled `original`."""

    async def serve(sock: trio.socket.SocketType) -> None:
        with recorded(node.proxy, DIRECTION, "tcp") as life, called_by(sock, node.proxy, life) as caller:
            view, _ = node.proxy.mesh.current()
            destination = find_destination(original, view, node.proxy.settings)
            assert destination is not None
            await carry(caller, destination, node.proxy, life)

    listeners = await listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(accept_until_draining, listeners, serve, node.proxy, DIRECTION))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def answer(name: str, stream: PlainStream) -> None:
    """Answer each request with a name; what is no HTTP too, to which that is just some bytes."""
    while await stream.receive_some():
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode()))
    await stream.send_eof()
    await stream.aclose()


@define
class World:
    """shop/checkout, and two workloads with a sidecar each behind one virtual address."""

    pki: Pki
    protocol: str
    checkout: Node
    endpoints: list[Endpoint] = field(factory=list)
    port: int = 0

    def learn(self, *endpoints: Endpoint, backends: Sequence[Endpoint] | None = None, protocol: str = "auto") -> None:
        places = tuple((each.address, each.port) for each in (endpoints if backends is None else backends))
        service = Service("shop/shop", (SHOP.host,), SHOP.port, protocol, places)
        self.checkout.learn(endpoints=endpoints, services=[service])

    async def call(self) -> bytes:
        """What one connection gets for one request."""
        caller = await dial("127.0.0.1", self.port, deadline=5)
        with trio.fail_after(PATIENCE):
            try:
                await caller.send_all(GET)
                await caller.send_eof()
                return await read_to_the_end(caller)
            except trio.BrokenResourceError:
                return b"reset"
            finally:
                caller.abort()


@pytest.fixture(params=["tcp", "http"])
async def world(pki: Pki, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        enter, protocol = stack.enter_async_context, request.param
        world = World(pki, protocol, Node.make(pki, "shop/checkout"))
        for place, name in enumerate(("payments", "stock"), start=1001):
            port = await enter(application(partial(answer, name)))
            server = Node.make(pki, f"shop/{name}", policies=[allow_policy("checkout", name, port, http=False)])
            mesh_port = await enter(inbound_door(server, port, protocol=protocol))
            one = endpoint(pki, f"shop/{name}", mesh_port, protocol=protocol)
            world.endpoints.append(evolve(one, port=place, confirmed=True))
        world.learn(*world.endpoints)
        world.port = await enter(dialled(world.checkout, SHOP))
        yield world


async def test_calls_are_spread_and_each_is_written_down_with_who_answered(pki: Pki, world: World) -> None:
    answers = [await world.call() for _ in range(24)]
    names = Counter(each.rpartition(b"\n")[2].decode() for each in answers)
    assert set(names) == {"payments", "stock"}
    assert all(each.startswith(b"HTTP/1.1 200 OK") for each in answers)
    with trio.fail_after(PATIENCE):
        while len(world.checkout.written) < 24:
            await trio.sleep(0.01)
    written = Counter(each.destination for each in world.checkout.written)
    assert written == {str(pki.id(f"shop/{name}")): count for name, count in names.items()}
    assert {each.port for each in world.checkout.written} == {SHOP.port}


async def test_another_identity_of_the_same_service_is_no_good_at_an_endpoint(pki: Pki, world: World) -> None:
    """Law 5: both serve the service, and each is expected where the other one answers."""
    one, other = world.endpoints
    world.learn(evolve(one, mesh_port=other.mesh_port), evolve(other, mesh_port=one.mesh_port))
    assert b"200" not in (await world.call()).partition(b"\r\n")[0]
    with trio.fail_after(PATIENCE):
        while not world.checkout.written:
            await trio.sleep(0.01)
    (record,) = world.checkout.written
    assert record.reason == Reason.WRONG_SERVER_IDENTITY
    assert record.destination in {one.identity, other.identity}


async def test_only_the_good_ones_are_called_where_one_backend_has_the_wrong_identity(pki: Pki, world: World) -> None:
    one, other = world.endpoints
    world.learn(one, evolve(other, identity=str(pki.id("shop/impostor")), workload="shop/impostor"))
    assert {(await world.call())[-8:] for _ in range(8)} == {b"payments"}


async def test_nobody_ready_is_said_at_once_in_the_callers_own_language(pki: Pki, world: World) -> None:
    world.learn(*world.endpoints, backends=[], protocol=world.protocol)
    answered = await world.call()
    assert b"503" in answered.partition(b"\r\n")[0] if world.protocol == "http" else answered == b"reset"
    with trio.fail_after(PATIENCE):
        while not world.checkout.written:
            await trio.sleep(0.01)
    (record,) = world.checkout.written
    assert (record.reason, record.destination) == (Reason.NO_ENDPOINT, "shop/shop")
    assert record.detail == "nobody is ready behind port 80 of the service shop/shop"
