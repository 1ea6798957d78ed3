"""No descriptor left: accepting pauses and says so, what is open goes on, nothing dies, and it passes by itself."""

import json
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from examples.demo.local_mesh import HERE, LocalMesh, Place, Process, Sidecar, http_get, wait_for
from tests.support.applications import Application, answering, connect, exchange, get, refusals, serving
from tests.support.load import loading
from tests.support.policies import allow
from tests.support.processes import logged

SPARE = 6
CROWD = 40
FEW_FILES = 64
IN_A_SMALL_PLACE = Place(("sh", "-c", f'ulimit -n {FEW_FILES} && exec "$@"', "sh"))

Handler = Callable[[Application, trio.SocketStream], Awaitable[None]]


@pytest.mark.parametrize("who", ["caller", "called", "control plane"])
async def test_without_descriptors_accepting_pauses_and_no_call_is_lost(who: str, mesh: LocalMesh) -> None:
    async with AsyncExitStack() as stack:
        payments, checkout = await _pair(mesh, stack)
        door = checkout.outbound["shop/payments:8080"]
        assert mesh.control_plane is not None
        victims: dict[str, tuple[Process, str]] = {
            "caller": (checkout, door),
            "called": (payments, payments.inbound[8080]),
            "control plane": (mesh.control_plane, mesh.address),
        }
        victim, address = victims[who]
        async with loading(door, keep_alive=2, fresh=2, method="POST") as load:
            await load.goes_on()
            used = len(list(Path(f"/proc/{victim.popen.pid}/fd").iterdir()))
            _, most = resource.prlimit(victim.popen.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(victim.popen.pid, resource.RLIMIT_NOFILE, (used + SPARE, most))
            async with _crowd(address):
                await wait_for(lambda: _pauses(victim), what="the pause in the log")
                await load.goes_on(20)  # those who are connected
            await load.goes_on()
            came = trio.current_time()
            await load.until(lambda: len(load.begun_since(came)) > 20)
            async with await connect(address):
                assert await wait_for(lambda: victim.popen.poll() is None, what="a live process")
        assert load.failed == []
        resource.prlimit(victim.popen.pid, resource.RLIMIT_NOFILE, (most, most))
        await allow(mesh, "frontend", "payments", 8080)  # the links stand: a change reaches everybody


async def test_a_sidecar_with_few_files_lets_in_no_more_than_it_can_dial_for(mesh: LocalMesh) -> None:
    async with AsyncExitStack() as stack:
        _, checkout = await _pair(mesh, stack, caller=IN_A_SMALL_PLACE, handler=_thinking)
        [warning] = logged(checkout, "few open files allowed")
        assert 0 < warning["max_connections"] < FEW_FILES // 2
        served: list[bytes] = []

        async def call() -> None:
            answer = await exchange(checkout.outbound["shop/payments:8080"], get("/"), seconds=60)
            served.append(answer[:12])

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(CROWD):
                    nursery.start_soon(call)
        assert served == [b"HTTP/1.1 200"] * CROWD
        assert not refusals(checkout, "upstream_unreachable")
        _, config = await http_get(checkout.observe, "/config")
        assert json.loads(config)["limits"]["max_connections"] == warning["max_connections"]


async def _thinking(application: Application, stream: trio.SocketStream) -> None:
    """Answers slowly, so that calls are in flight at the same time."""
    while head := await stream.receive_some(65536):
        application.heads.append(head)
        await trio.sleep(0.3)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def _pair(
    mesh: LocalMesh, stack: AsyncExitStack, *, caller: Place = HERE, handler: Handler = answering
) -> tuple[Sidecar, Sidecar]:
    application = await stack.enter_async_context(serving(handler))
    inbound = [f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"]
    payments = await mesh.start_sidecar("shop/payments", inbound=inbound)
    checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"], place=caller)
    await allow(mesh, "checkout", "payments", 8080)
    return payments, checkout


@asynccontextmanager
async def _crowd(address: str) -> AsyncIterator[list[trio.SocketStream]]:
    """Connections that say nothing, until the block ends; the kernel completes also those that nobody accepts."""
    streams = [await connect(address) for _ in range(CROWD)]
    try:
        yield streams
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


def _pauses(process: Process) -> bool:
    return "Too many open files" in process.log.read_text()
