"""Thousands who connect and say nothing: at every door the number held is bounded, and honest callers get in.

Where a queue of the kernel overflows, the end of a connection can get lost: the other end then only sees silence. So
what bounds how long the crowd is held is the time that each door gives a silent caller, not that the crowd leaves.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import trio

from examples.demo.local_mesh import LocalMesh, Process, http_get
from tests.support.applications import answering, serving
from tests.support.attacks import PATIENCE, Shop, crowding, going_on, local_addresses, open_shop, surviving, vanish
from tests.support.processes import MIB, descriptors, metric
from tests.support.stock import missing

BRIEF = ("--keep-alive-timeout", "10s")  # the default would hold a silent caller of the local port for 75 s
TEN_THOUSAND = 10_000
WAVE = 1000  # fewer than a listener's queue has room for
SOURCES = local_addresses(40)
SIDECAR, CONTROL_PLANE = "doorward_sidecar_", "doorward_control_plane_"


async def crowd_and_call(
    shop: Shop,
    victim: Process,
    address: str,
    count: int,
    memory: int,
    turned_away: Callable[[], Awaitable[float]],
    *,
    enough: int = 1000,
    sources: list[str] | None = None,
) -> None:
    """Let `count` crowd that address while everything of the mesh is asked for again and again.

    More come where no more than `enough` were turned away: whom the queue of a slow listener has no room for is lost.
    """
    mesh = shop.mesh

    async def ask_around() -> None:
        await shop.call()
        for observe in (shop.payments.observe, shop.checkout.observe, mesh.observe):
            assert (await http_get(observe, "/ready"))[0] == 200
        await mesh.admin(lambda client: client.get("/v1/bundle"))

    crowds = partial(crowding, address, sources=sources or ["127.0.0.1"])
    async with (
        surviving(victim, memory=memory),
        going_on(ask_around) as honest,
        crowds(count),
        AsyncExitStack() as latecomers,
    ):
        await honest.go_on()
        with trio.fail_after(PATIENCE):
            while await turned_away() <= enough:
                await latecomers.enter_async_context(crowds(WAVE))
                await honest.go_on()


async def test_ten_thousand_at_the_mesh_port(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application)
        refused = partial(metric, shop.payments.observe, SIDECAR + "refused_total", reason="over_limit")
        await crowd_and_call(shop, shop.payments, shop.mesh_port, TEN_THOUSAND, 48 * MIB, refused, sources=SOURCES)


async def test_ten_thousand_at_the_local_port(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application, "--max-connections", "2000", *BRIEF)
        refused = partial(metric, shop.checkout.observe, SIDECAR + "refused_total", reason="over_limit")
        await crowd_and_call(shop, shop.checkout, shop.local_port, TEN_THOUSAND, 64 * MIB, refused)


async def test_a_thousand_who_vanish_without_a_word(mesh: LocalMesh) -> None:
    if os.geteuid() != 0:
        missing("to vanish without a word needs root: sudo make test-slow, or .ci/run")
    async with serving(answering) as application:
        shop = await open_shop(mesh, application, *BRIEF)
        before = descriptors(shop.checkout)
        async with (
            surviving(shop.checkout, memory=64 * MIB),
            crowding(shop.local_port, 1000, leave=vanish),
        ):
            with trio.fail_after(PATIENCE):
                while descriptors(shop.checkout) < before + 500:
                    await trio.sleep(0.01)
        await shop.call()


async def test_ten_thousand_at_the_control_port(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application)
        assert mesh.control_plane is not None
        refused = partial(metric, mesh.observe, CONTROL_PLANE + "links_refused_total", reason="over_budget")
        await crowd_and_call(shop, mesh.control_plane, mesh.address, TEN_THOUSAND, 64 * MIB, refused, sources=SOURCES)
        await mesh.start_sidecar("shop/late")  # who comes new is attested


async def test_a_thousand_at_each_of_the_local_pages(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application)
        assert mesh.control_plane is not None
        refused = partial(metric, shop.payments.observe, SIDECAR + "refused_total", direction="observe")
        await crowd_and_call(shop, shop.payments, shop.payments.observe, 1000, 16 * MIB, refused, enough=0)
        for place, address in (("observe", mesh.observe), ("admin", str(mesh.state / "admin.sock"))):
            gave_way = partial(metric, mesh.observe, CONTROL_PLANE + "connections_gave_way_total", place=place)
            await crowd_and_call(shop, mesh.control_plane, address, 1000, 32 * MIB, gave_way, enough=0)
