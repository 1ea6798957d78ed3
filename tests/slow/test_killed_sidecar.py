"""A sidecar that is killed under load costs the calls in flight and those made while it is away, and not one more."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from examples.demo.local_mesh import LocalMesh, Sidecar
from examples.demo.ports import free_port
from tests.support.applications import answering, serving
from tests.support.load import Load, loading
from tests.support.policies import allow

CALLERS = 8
ROUNDS = 2
LOST = {(502, "upstream_refused"), (502, "upstream_reset")}


async def test_peers_recover_and_only_calls_in_flight_or_meanwhile_fail(mesh: LocalMesh) -> None:
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(serving(answering))
        inbound = [f"127.0.0.1:{free_port()}=127.0.0.1:{application.port}/http,port=8080"]  # found where it was
        payments = await mesh.start_sidecar("shop/payments", inbound=inbound)
        load = await stack.enter_async_context(_load(mesh, "checkout"))
        for _ in range(ROUNDS):
            in_flight, killed, _ = await _kill(payments, load)
            await load.goes_on()
            payments = await mesh.start_sidecar("shop/payments", inbound=inbound)
            back = trio.current_time()
            await load.until(lambda: len(load.begun_since(back)) > 50)  # noqa: B023 # waited for
            assert {(each.status, each.reason) for each in load.failed} <= LOST
            assert load.failed_between(0, killed) <= in_flight <= CALLERS
            assert load.failed_between(killed, back) > 0
            assert load.failed_between(back) == 0
            load.forget()


async def test_where_there_is_another_endpoint_only_calls_in_flight_fail(mesh: LocalMesh) -> None:
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(serving(answering))
        inbound = [f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
        await mesh.start_sidecar("shop/payments", inbound=inbound)
        load = await stack.enter_async_context(_load(mesh, "checkout"))
        for _ in range(ROUNDS):
            other = await mesh.start_sidecar("shop/payments", inbound=inbound)
            in_flight, killed, gone = await _kill(other, load)
            await load.until(lambda: len(load.begun_since(gone)) > 50)  # noqa: B023 # waited for
            assert {(each.status, each.reason) for each in load.failed} <= LOST
            assert load.failed_between(0, killed) <= in_flight <= CALLERS
            assert load.failed_between(gone) == 0
            load.forget()


@asynccontextmanager
async def _load(mesh: LocalMesh, caller: str) -> AsyncIterator[Load]:
    """Calls that are not sent again, so that each that is lost shows."""
    sidecar = await mesh.start_sidecar(f"shop/{caller}", outbound=["127.0.0.1:0=shop/payments:8080"])
    await allow(mesh, caller, "payments", 8080)
    door, half = sidecar.outbound["shop/payments:8080"], CALLERS // 2
    async with loading(door, keep_alive=half, fresh=half, method="POST") as load:
        yield load


async def _kill(sidecar: Sidecar, load: Load) -> tuple[int, float, float]:
    """SIGKILL under load: how many calls were in flight then, when that was, and when nothing of it was left."""
    await load.goes_on()
    assert load.failed == []
    in_flight, killed = load.in_flight, trio.current_time()
    await sidecar.stop(9)
    return in_flight, killed, trio.current_time()
