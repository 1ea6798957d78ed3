"""Frames and messages that no sidecar sends: each costs its own link, and everybody else goes on."""

import struct
from collections.abc import Iterator
from contextlib import suppress

import msgpack
import trio

from examples.demo.local_mesh import LocalMesh
from mesh.wire import ALPN, PROTOCOL_VERSION, Announce, CertificateRequest, Hello, Listener, Ping, encode
from tests.support.applications import answering, serving
from tests.support.attacks import going_on, open_shop, surviving
from tests.support.processes import MIB, metric
from transport import TlsStream

MESSAGES = 20_000
DESTINATIONS = tuple(f"shop/workload-{number}:8080" for number in range(4_000))
LISTENERS = tuple(Listener(10_000 + number, 20_000 + number, "tcp") for number in range(200))


def framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def nested(depth: int) -> object:
    value: object = None
    for _ in range(depth):
        value = [value]
    return value


LINKS_END: dict[str, bytes] = {
    "a frame of 4 GiB": b"\xff\xff\xff\xff",
    "a frame just too long": struct.pack(">I", 256 * 1024 + 1),
    "half a frame, and the end": struct.pack(">I", 1000) + b"x",
    "deep msgpack": framed(b"\x91" * 100_000 + b"\xc0"),
    "a deep field": framed(msgpack.packb({"type": "Ping", "number": nested(400)})),
    "a list of four billion": framed(b"\xdd\xff\xff\xff\xff"),
    "a map of four billion": framed(b"\xdf\xff\xff\xff\xff" * 1000),
    "no msgpack": framed(b"\xc1" * 1000),
    "a second Hello": encode(Hello(PROTOCOL_VERSION, "x", "again")),
}


def floods() -> Iterator[tuple[str, bytes]]:
    yield "Ping", encode(Ping(1)) * MESSAGES
    yield "Unknown", framed(msgpack.packb({"type": "Whatever"})) * MESSAGES
    yield "Announce", b"".join(encode(Announce((), (*DESTINATIONS, f"shop/x-{n}:1"))) for n in range(100))
    yield "Announce of listeners", b"".join(encode(Announce(LISTENERS[n:], ())) for n in range(50))
    yield "CertificateRequest", encode(CertificateRequest(b"\x30\x82" + b"x" * 4000, None)) * 1000


async def test_what_breaks_the_protocol_ends_its_own_link(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application)
        assert mesh.control_plane is not None
        before = await told(mesh)
        async with (
            surviving(mesh.control_plane, memory=24 * MIB),
            going_on(shop.call, lambda: mesh.admin(lambda client: client.get("/v1/bundle"))),
        ):
            for name, said in LINKS_END.items():
                stream = await shop.direct(mesh.address, ALPN)
                await stream.send_all(encode(Hello(PROTOCOL_VERSION, "hostile", name)) + said)
                if "half" in name:
                    await stream.send_eof()
                assert await ends(stream), name
        assert await told(mesh) - before == len(LINKS_END)
        assert await metric(mesh.observe, "doorward_control_plane_failures_total") == 0


async def test_floods_of_messages_do_not_keep_others_waiting(mesh: LocalMesh) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application)
        assert mesh.control_plane is not None
        async with (
            surviving(mesh.control_plane, memory=64 * MIB),
            going_on(shop.call, lambda: mesh.admin(lambda client: client.get("/v1/bundle"))) as honest,
            trio.open_nursery() as nursery,
        ):
            streams = []
            for name, flood in floods():
                for reads in (True, False):
                    streams.append(await shop.direct(mesh.address, ALPN))
                    await streams[-1].send_all(encode(Hello(PROTOCOL_VERSION, "hostile", f"{name} {reads}")))
                    nursery.start_soon(pour, streams[-1], flood)
                    if reads:  # the answers, or never
                        nursery.start_soon(swallow, streams[-1])
            await honest.go_on(30)
            await mesh.start_sidecar("shop/late")  # who comes new is attested and told what it needs
            for stream in streams:
                stream.abort()
            nursery.cancel_scope.cancel()
        assert await metric(mesh.observe, "doorward_control_plane_failures_total") == 0


async def told(mesh: LocalMesh) -> float:
    """How many connections ended or were refused: which it is depends on what arrives together with the Hello."""
    prefix = "doorward_control_plane_links_"
    return await metric(mesh.observe, prefix + "ended_total") + await metric(mesh.observe, prefix + "refused_total")


async def ends(stream: TlsStream) -> bool:
    """Whether the control plane ends the link."""
    with suppress(trio.BrokenResourceError), trio.fail_after(60):
        while await stream.receive_some():
            pass
    stream.abort()
    return True


async def pour(stream: TlsStream, flood: bytes) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(flood)


async def swallow(stream: TlsStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some():
            pass
