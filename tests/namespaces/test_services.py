"""A cluster IP that exists nowhere: applications that dial it reach the pods behind it, each by its own identity.

The push server runs in this process and is told of the platform by the test; sidecars and rules are real.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, evolve, field

from certs.spiffe import TrustDomain, WorkloadName
from control_plane.push.office import Office, in_thread
from control_plane.push.platform import Platform
from control_plane.push.server import PushServer
from control_plane.state import State
from examples.demo.local_mesh import LocalMesh, Sidecar, http_get
from mesh.wire import Endpoint, Service
from tests.support.applications import saying
from tests.support.namespaces import Network, Pod
from tests.support.offices import open_office
from tests.support.patience import PATIENCE
from tests.support.plane import allow
from tests.support.transparent import ENDED, HTTP, say, start_transparent

DOMAIN = TrustDomain("cluster.local")
ADDRESSES = ("10.96.0.10", "fd00:96::10")
SERVERS = ("payments", "stock")


@define
class Mesh(LocalMesh):
    """Processes of sidecars; their control plane is an office in this process."""

    office: Office | None = None

    async def token(self, workload: str, *, seconds: int = 600) -> Path:
        """A file with a join token that lives for `seconds`."""
        assert self.office is not None
        create = partial(self.office.store.create_token, WorkloadName.parse(workload), author="test")
        text, _ = await in_thread(partial(create, lifetime=timedelta(seconds=seconds), uses=1))
        file = self.directory / f"{workload.replace('/', '-')}.token"
        file.touch(mode=0o600)
        file.write_text(text)
        return file


@define
class Shop:
    """Checkout, and two workloads behind one service, whose board the test writes."""

    office: Office
    pods: dict[str, Pod] = field(factory=dict)
    sidecars: dict[str, Sidecar] = field(factory=dict)

    def endpoint(self, name: str, *, version: int = 4) -> Endpoint:
        """Who is really there."""
        address = self.pods[name].ipv4 if version == 4 else self.pods[name].ipv6
        identity = str(DOMAIN.workload("shop", name))
        return Endpoint(f"shop/{name}", HTTP, address, HTTP, "http", identity, confirmed=True)

    async def show(self, *endpoints: Endpoint, ready: bool = True) -> dict[str, Any]:
        """Tell the sidecars of these endpoints and of a service before them. Returns checkout's /config with that."""
        services = []
        for own in ADDRESSES:
            same = [each for each in endpoints if (":" in each.address) == (":" in own)]
            backends = tuple((each.address, each.port) for each in same) if ready else ()
            services.append(Service("shop/shop", (own,), 80, "http", backends))
        assert await self.office.board.show(Platform(endpoints, tuple(services)))
        self.office.advance.announce()
        wanted, pod = await in_thread(self.office.store.number), self.pods["checkout"]
        with trio.fail_after(PATIENCE):
            while True:
                _, body = await http_get(self.sidecars["checkout"].observe, "/config", pod.place())
                config: dict[str, Any] = json.loads(body)
                if config["snapshot"]["number"] >= wanted:
                    return config
                await trio.sleep(0.02)

    def reached(self, reason: str) -> set[str]:
        """The destinations in checkout's records with that reason."""
        records = self.sidecars["checkout"].records()
        return {each.get("destination", "") for each in records if each["reason"] == reason}

    async def call(self, address: str, port: int = 80) -> str:
        """Who answers checkout's application at that address, or the reason why nobody does."""
        head, _, body = (await say(self.pods["checkout"], address, port)).partition(": ")
        if head in ENDED:
            return head
        return body if " 200 " in head else str(json.loads(body)["reason"])


@pytest.fixture
def state(short_directory: Path) -> Iterator[State]:
    with State.open(short_directory / "state", trust_domain=DOMAIN.name) as state:
        yield state


@pytest.fixture
async def shop(network: Network, short_directory: Path, state: State) -> AsyncIterator[Shop]:
    platform = await network.pod("platform")
    async with open_office(state) as office, trio.open_nursery() as nursery:
        nursery.start_soon(PushServer(office).serve, [await platform.listen(7443, platform.ipv4)])
        for to in SERVERS:
            await in_thread(partial(office.store.change_policies, [allow(to, to)], [], author="test", message=""))
        mesh = Mesh(short_directory, address=f"{platform.ipv4}:7443", office=office)
        (short_directory / "bundle.pem").write_bytes(office.authority.bundle.to_pem())
        shop = Shop(office)
        try:
            for name in (*SERVERS, "checkout"):
                pod = shop.pods[name] = await network.pod(name)
                offered = ["--ports", f"{HTTP}/http"] if name in SERVERS else []
                shop.sidecars[name] = await start_transparent(mesh, pod, f"shop/{name}", *offered)
                nursery.start_soon(trio.serve_listeners, partial(saying, name), [await pod.listen(HTTP)])
            yield shop
        finally:
            with trio.CancelScope(shield=True):
                await mesh.stop()
        nursery.cancel_scope.cancel()


async def test_a_cluster_ip_leads_to_the_pods_behind_it_and_each_proves_its_own_identity(shop: Shop) -> None:
    real = [shop.endpoint(name, version=version) for name in SERVERS for version in (4, 6)]
    config = await shop.show(*real)
    assert [(each["addresses"], each["backends"]) for each in config["snapshot"]["services"]] == [
        ([address], len(SERVERS)) for address in ADDRESSES
    ]
    assert (config["egress"], config["mesh_cidrs"]) == ("allow", [])
    for address in ADDRESSES:
        answers = Counter([await shop.call(address) for _ in range(16)])
        assert set(answers) == set(SERVERS), "balanced"
        assert await shop.call(address, 81) in ENDED, "no port of the service"

    impostor = evolve(
        shop.endpoint("stock"), identity=str(DOMAIN.workload("shop", "payments")), workload="shop/payments"
    )
    await shop.show(shop.endpoint("payments"), impostor)
    assert {await shop.call(ADDRESSES[0]) for _ in range(8)} == {"payments"}, "the other one is no payments (law 5)"
    await shop.show(impostor)
    assert await shop.call(ADDRESSES[0]) == "wrong_server_identity"

    await shop.show(*real, ready=False)
    assert [await shop.call(address) for address in ADDRESSES] == ["no_endpoint"] * 2
    with trio.fail_after(PATIENCE):
        while shop.reached("no_endpoint") != {"", "shop/shop"}:  # of a port that it has not, and of nobody ready
            await trio.sleep(0.02)
    assert shop.reached("") == {str(DOMAIN.workload("shop", name)) for name in SERVERS}
