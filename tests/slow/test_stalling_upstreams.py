"""An application that stalls, at every stage: each stall ends by the deadline for it, and the record says which.

All stalls happen at once, against one sidecar: none of them holds up another, nor the well-behaved call at the end.
"""

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any

import trio
from attrs import frozen

from examples.demo.local_mesh import LocalMesh, Sidecar, http_get, wait_for
from tests.support.applications import Application, connect, exchange, get, serving
from tests.support.policies import allow_policy, apply

LIMITS = {"dial": "1s", "response-head": "2s", "body-idle": "3s", "tcp-idle": "3s"}
ENDLESS = 1 << 40  # of a body: nobody takes all of it
RESET = b"<reset>"
UPSTREAM_TIMEOUT, IDLE_TIMEOUT = "upstream_timeout", "idle_timeout"


@frozen
class Stall:
    """What the application sends after `request` and before it falls silent, and how that has to end."""

    path: str
    sends: bytes
    status: int  # 0: the response had begun, so the connection is reset
    detail: str
    upload: bytes = b""


NO_RESPONSE = "no response came in time"
STOPPED = "the response stopped arriving"
STALLS = (
    Stall("/never-answers", b"", 504, NO_RESPONSE),
    Stall("/half-a-head", b"HTTP/1.1 200 OK\r\nContent-Le", 504, NO_RESPONSE),
    Stall("/only-hints", b"HTTP/1.1 103 Early Hints\r\n\r\n", 504, NO_RESPONSE),
    Stall("/half-a-body", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 0, STOPPED),
    Stall("/half-a-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", 0, STOPPED),
    Stall("/no-last-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", 0, STOPPED),
    Stall("/never-closes", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall", 0, STOPPED),
    Stall(
        "/after-100-continue",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        504,
        NO_RESPONSE,
        b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    ),
    Stall(
        "/never-reads",
        b"",
        504,
        "the upstream stopped taking the request",
        b"Content-Length: %d\r\n\r\n" % ENDLESS,
    ),
)


async def test_every_stall_ends_by_its_own_deadline_and_holds_up_nobody(mesh: LocalMesh) -> None:
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(serving(_stalling))
        mute = await stack.enter_async_context(serving(_mute))
        deaf_port = stack.enter_context(_never_accepting())
        ports = {8080: f"{web.port}/http", 8081: f"{deaf_port}/http", 5432: f"{mute.port}/tcp"}
        limits = [word for name, value in LIMITS.items() for word in (f"--{name}-timeout", value)]
        inbound = [f"127.0.0.1:0=127.0.0.1:{where},port={port}" for port, where in ports.items()]
        payments = await mesh.start_sidecar("shop/payments", *limits, inbound=inbound)
        doors = [f"127.0.0.1:0=shop/payments:{port}" for port in ports]
        checkout = await mesh.start_sidecar("shop/checkout", outbound=doors)
        everything = allow_policy("checkout", "payments", 1, http=False)
        everything["spec"]["to"]["ports"] = list(ports)
        await apply(mesh, everything)
        door = partial("shop/payments:{}".format)
        async with trio.open_nursery() as nursery:
            for stall in STALLS:
                nursery.start_soon(_call, checkout.outbound[door(8080)], stall, payments)
            never = Stall("/never-accepts", b"", 504, "no answer within 1 s")
            nursery.start_soon(_call, checkout.outbound[door(8081)], never, payments)
            nursery.start_soon(_call_tcp, checkout.outbound[door(5432)], _say_nothing)
            nursery.start_soon(_call_tcp, checkout.outbound[door(5432)], _say_without_end)
            nursery.start_soon(_call_tcp, checkout.outbound[door(5432)], _end_and_wait)
        await wait_for(lambda: len(_records(payments, reason=IDLE_TIMEOUT)) == 3, what="the TCP records")
        answer = await exchange(checkout.outbound[door(8080)], get("/works"))
        assert answer.endswith(b"\r\n\r\nok")
        _, metrics = await http_get(payments.observe, "/metrics")
        failed = f'failed_total{{direction="inbound",reason="{UPSTREAM_TIMEOUT}"}} {len(STALLS) + 1}.0'
        assert failed in metrics


async def _stalling(application: Application, stream: trio.SocketStream) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some(1)  # no byte of the body: whoever never reads leaves it where it is
    application.heads.append(head)
    path = head.split()[1].decode()
    if path == "/works":
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    else:
        await stream.send_all(next(stall.sends for stall in STALLS if stall.path == path))
    await trio.sleep_forever()


async def _mute(_: Application, _stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


@contextmanager
def _never_accepting() -> Iterator[int]:
    """A port whose backlog is full: a SYN to it is dropped."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listening.getsockname())
        yield int(listening.getsockname()[1])
        for caller in callers:
            caller.close()


async def _call(door: str, stall: Stall, payments: Sidecar) -> None:
    """Make the call, see how it ends for the caller, and what the sidecar of the application wrote about it."""
    method = "POST" if stall.upload else "GET"
    head = f"{method} {stall.path} HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n".encode()
    with trio.fail_after(60):
        async with await connect(door) as stream, trio.open_nursery() as nursery:
            await stream.send_all(head + (stall.upload or b"\r\n"))
            if stall.path == "/never-reads":
                nursery.start_soon(_say_without_end, stream)
            answer = await _everything(stream)
            nursery.cancel_scope.cancel()
    final = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").removeprefix(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    if stall.status:
        assert final.startswith(b"HTTP/1.1 %d " % stall.status), answer
        assert f'"reason": "{UPSTREAM_TIMEOUT}"'.encode() in final
    else:
        assert final.startswith(b"HTTP/1.1 200 ")
        assert final.endswith(RESET), answer
    written = (await wait_for(lambda: _records(payments, path=stall.path), what=f"the record of {stall.path}"))[0]
    assert written["reason"] == UPSTREAM_TIMEOUT, written
    assert written["detail"].endswith(stall.detail), written


async def _everything(stream: trio.SocketStream) -> bytes:
    """What comes until the end, and whether that was none in order."""
    received = b""
    try:
        async for chunk in stream:
            received += chunk
    except trio.BrokenResourceError:
        received += RESET
    return received


async def _call_tcp(door: str, speak: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
    with trio.fail_after(60):
        async with await connect(door) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(speak, stream)
            assert await _everything(stream) in (b"", RESET)
            nursery.cancel_scope.cancel()


async def _say_nothing(_: trio.SocketStream) -> None:
    return


async def _end_and_wait(stream: trio.SocketStream) -> None:
    await stream.send_eof()


async def _say_without_end(stream: trio.SocketStream) -> None:
    try:
        while True:
            await stream.send_all(b"x" * 65536)
    except trio.BrokenResourceError:
        return


def _records(sidecar: Sidecar, **wanted: str) -> list[dict[str, Any]]:
    return [line for line in sidecar.records() if wanted.items() <= line.items()]
