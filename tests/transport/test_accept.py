"""The accept loop outlives whatever its handlers do, and never holds more connections than it has places."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.support.patience import PATIENCE
from tests.support.processes import no_descriptor_left
from transport import CannotAccept, Handler, Places, dial, listen, listen_on_both, serve
from transport.sockets import PAUSE_SECONDS


@asynccontextmanager
async def serving(handler: Handler, *, places: int = 100) -> AsyncIterator[tuple[int, list[Exception]]]:
    """Serve on a free port; yields it and the list of errors that reached the wall."""
    errors: list[Exception] = []
    listeners = await listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            limit = Places(places)
            await serve(listeners, handler, nursery=nursery, places=limit, on_error=errors.append)

        nursery.start_soon(run)
        yield listeners[0].socket.getsockname()[1], errors
        nursery.cancel_scope.cancel()


async def test_an_exception_of_one_connection_ends_that_one_only() -> None:
    async def fail_or_answer(sock: trio.socket.SocketType) -> None:
        if await sock.recv(1) == b"!":
            raise RuntimeError("a fault of ours")
        await sock.send(b"fine")

    async with serving(fail_or_answer) as (port, errors):
        bad, good = [await dial("127.0.0.1", port, deadline=5) for _ in range(2)]
        await bad.send_all(b"!")
        assert await bad.receive_some() == b"", "the wall closed the socket"
        await good.send_all(b"?")
        assert await good.receive_some() == b"fine"
        assert [str(error) for error in errors] == ["a fault of ours"]
        bad.abort()
        good.abort()


async def test_a_group_of_exceptions_is_caught_too() -> None:
    async def fail_in_tasks(_sock: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(fail)

    async def fail() -> None:
        raise RuntimeError("a fault of ours")

    async with serving(fail_in_tasks) as (port, errors):
        caller = await dial("127.0.0.1", port, deadline=5)
        assert await caller.receive_some() == b""
        assert [str(error) for error in errors] == ["a fault of ours"] * 2
        caller.abort()


async def test_no_more_are_accepted_than_there_are_places() -> None:
    begun, go_on = 0, trio.Event()

    async def wait(sock: trio.socket.SocketType) -> None:
        nonlocal begun
        begun += 1
        await go_on.wait()
        await sock.send(b"done")

    async with serving(wait, places=2) as (port, _):
        callers = [await dial("127.0.0.1", port, deadline=5) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert begun == 2
        go_on.set()
        for caller in callers:
            assert await caller.receive_some() == b"done"
            caller.abort()


async def test_running_out_of_descriptors_is_a_pause_not_an_end() -> None:
    async def answer(sock: trio.socket.SocketType) -> None:
        await sock.send(b"fine")

    async with serving(answer) as (port, errors):
        caller = socket.socket()
        with no_descriptor_left():
            caller.connect(("127.0.0.1", port))
            await trio.sleep(2.5 * PAUSE_SECONDS)
        caller.settimeout(PATIENCE)
        assert await trio.to_thread.run_sync(caller.recv, 4) == b"fine"
        caller.close()
    (error,) = errors  # said once, not at every attempt
    assert isinstance(error, CannotAccept)
    assert error.errno == errno.EMFILE


async def test_one_port_is_taken_on_both_ip_versions_or_on_none() -> None:
    listeners = await listen_on_both("127.0.0.1", "::1", 0)
    (port,) = {listener.socket.getsockname()[1] for listener in listeners}
    for host in ("127.0.0.1", "::1"):
        (await dial(host, port, deadline=5)).abort()
    await listeners[0].aclose()
    with pytest.raises(OSError, match="in use"):
        await listen_on_both("127.0.0.1", "::1", port)
    await listeners[1].aclose()
    for listener in await listen_on_both("127.0.0.1", "::1", port):
        await listener.aclose()
    (alone,) = await listen_on_both("127.0.0.1", "2001:db8::1", 0)  # as where a machine has no IPv6
    await alone.aclose()
