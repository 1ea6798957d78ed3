"""A control plane that is killed and started again: every sidecar is back, not all at once, and no call was lost."""

from contextlib import AsyncExitStack

import trio

from examples.demo.local_mesh import LocalMesh, Sidecar, wait_for
from tests.support.applications import answering, serving
from tests.support.load import loading
from tests.support.policies import allow
from tests.support.processes import logged

IDLE_SIDECARS = 8


async def test_all_sidecars_come_back_in_their_own_time_and_traffic_does_not_notice(mesh: LocalMesh) -> None:
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(serving(answering))
        inbound = [f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
        sidecars = [await mesh.start_sidecar("shop/payments", inbound=inbound)]
        sidecars += [await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])]
        sidecars += await _many(mesh)
        await allow(mesh, "checkout", "payments", 8080)
        door = sidecars[1].outbound["shop/payments:8080"]
        load = await stack.enter_async_context(loading(door, keep_alive=4, fresh=4, method="POST"))
        await load.goes_on()
        stood = {each.name: len(logged(each, "control link stands")) for each in sidecars}

        assert mesh.control_plane is not None
        await mesh.control_plane.stop(9)
        await wait_for(lambda: all(logged(each, "control link failed") for each in sidecars), what="all to notice")
        await load.goes_on()
        await mesh.start_control_plane()
        for each in sidecars:
            await wait_for(lambda: len(logged(each, "control link stands")) > stood[each.name], what=each.name)  # noqa: B023 - awaited within the round
        # Each waits for a time of its own: drawn from a range of 125 ms, written to 10 ms.
        assert len({logged(each, "control link failed")[0]["retry_in"] for each in sidecars}) > 3
        assert len({logged(each, "control link stands")[-1]["time"] for each in sidecars}) > 4
        listed = (await mesh.doorward("sidecars", "-o", "json")).json()
        assert len(listed["sidecars"]) == len(sidecars)
        await allow(mesh, "frontend", "payments", 8080)  # a change reaches who came back
        await load.goes_on()
        assert load.failed == []


async def _many(mesh: LocalMesh) -> list[Sidecar]:
    """Sidecars that only hold their links, started a few at a time."""
    started: list[Sidecar] = []
    limit = trio.CapacityLimiter(4)

    async def start(number: int) -> None:
        async with limit:
            started.append(await mesh.start_sidecar(f"shop/idle-{number}", inbound=["127.0.0.1:0=127.0.0.1:9/tcp"]))

    async with trio.open_nursery() as nursery:
        for number in range(IDLE_SIDECARS):
            nursery.start_soon(start, number)
    return started
