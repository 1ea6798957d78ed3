"""A policy change reaches what is already open, and the last policies outlive the control plane."""

import signal

import pytest
import trio

from examples.demo.local_mesh import LocalMesh, wait_for
from tests.support.applications import answering, connect, echoing, exchange, get, refusals, serving
from tests.support.patience import PATIENCE
from tests.support.policies import allow


async def test_an_open_tcp_connection_ends_when_its_policy_is_removed(mesh: LocalMesh) -> None:
    async with serving(echoing) as application:
        ledger = await mesh.start_sidecar(
            "shop/ledger", inbound=[f"127.0.0.1:0=127.0.0.1:{application.port}/tcp,port=5432"]
        )
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/ledger:5432"])
        await allow(mesh, "checkout", "ledger", 5432, http=False)
        async with await connect(checkout.outbound["shop/ledger:5432"]) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some(5) == b"hello"
            await mesh.doorward("policy", "delete", "checkout-calls-ledger")
            with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
                assert await stream.receive_some(1) != b"", "an orderly end would hide that the stream was cut"
        await wait_for(lambda: refusals(ledger, "policy_changed"), what="the log line")


async def test_a_half_close_is_carried_through_both_sidecars(mesh: LocalMesh) -> None:
    async with serving(echoing) as application:
        await mesh.start_sidecar("shop/ledger", inbound=[f"127.0.0.1:0=127.0.0.1:{application.port}/tcp,port=5432"])
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/ledger:5432"])
        await allow(mesh, "checkout", "ledger", 5432, http=False)
        async with await connect(checkout.outbound["shop/ledger:5432"]) as stream:
            await stream.send_all(b"x" * 100_000)
            await stream.send_eof()
            with trio.fail_after(PATIENCE):
                assert b"".join([chunk async for chunk in stream]) == b"x" * 100_000


async def test_traffic_goes_on_while_the_control_plane_is_away_and_changes_arrive_when_it_is_back(
    mesh: LocalMesh,
) -> None:
    async with serving(answering) as application:
        await mesh.start_sidecar("shop/payments", inbound=[f"127.0.0.1:0=127.0.0.1:{application.port}/http,port=8080"])
        checkout = await mesh.start_sidecar("shop/checkout", outbound=["127.0.0.1:0=shop/payments:8080"])
        await allow(mesh, "checkout", "payments", 8080)
        door = checkout.outbound["shop/payments:8080"]
        assert (await exchange(door, get("/"))).startswith(b"HTTP/1.1 200 ")

        assert mesh.control_plane is not None
        await mesh.control_plane.stop(signal.SIGKILL)
        assert (await exchange(door, get("/"))).startswith(b"HTTP/1.1 200 ")

        await mesh.start_control_plane()
        removed = await mesh.doorward("policy", "delete", "checkout-calls-payments")
        assert removed.exit == 0, removed
        with trio.fail_after(PATIENCE):
            while (await exchange(door, get("/"))).startswith(b"HTTP/1.1 200 "):
                await trio.sleep(0.05)
