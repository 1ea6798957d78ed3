"""Floods of TLS records that carry nothing, before and after the handshake: others are served, and nothing grows."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from certs.tls import client_context
from examples.demo.local_mesh import LocalMesh, Process
from mesh.wire import ALPN
from sidecar.view import ALPN_HTTP
from tests.support.applications import answering, serving
from tests.support.attacks import Shop, going_on, open_shop, surviving
from tests.support.processes import MIB
from tests.support.records import CHANGE_CIPHER_SPEC, EMPTY_HANDSHAKE, Records, client_hello, handshaken

UPDATES = 4_000


def key_updates(records: Records) -> bytes:
    return b"".join(records.key_update() for _ in range(UPDATES))


def key_updates_that_want_an_answer(records: Records) -> bytes:
    return b"".join(records.key_update(answer=True) for _ in range(UPDATES))


def empty_records(records: Records) -> bytes:
    return b"".join(records.seal(b"") for _ in range(UPDATES))


def key_updates_between_bytes(records: Records) -> bytes:
    return b"".join(records.key_update() + records.seal(b"G") for _ in range(UPDATES // 2))


def change_cipher_specs(hello: bytes) -> bytes:
    return hello + CHANGE_CIPHER_SPEC * UPDATES


def empty_handshake_records(hello: bytes) -> bytes:
    return hello + EMPTY_HANDSHAKE * UPDATES


def a_hello_in_crumbs(hello: bytes) -> bytes:
    body = hello[5:]
    return (
        b"".join(b"\x16\x03\x01\x00\x01" + body[at : at + 1] for at in range(len(body) - 1)) + EMPTY_HANDSHAKE * UPDATES
    )


def after_the_handshake(shop: Shop, address: str, alpn: bytes, flood: Callable[[Records], bytes]) -> None:
    with handshaken(address, client_context(shop.svid(), shop.bundle, [alpn])) as (sock, records):
        pour(sock, flood(records))


def before_it(shop: Shop, address: str, alpn: bytes, flood: Callable[[bytes], bytes]) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        pour(sock, flood(client_hello(client_context(None, shop.bundle, [alpn]))))


def pour(sock: socket.socket, flood: bytes) -> None:
    """Send all of it and hear the end of it, whichever comes first: an end of the connection ends the flood."""
    with suppress(OSError):
        sock.sendall(flood)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


AFTER = (key_updates, key_updates_that_want_an_answer, empty_records, key_updates_between_bytes)
BEFORE = (change_cipher_specs, empty_handshake_records, a_hello_in_crumbs)


@pytest.mark.parametrize(
    ("way", "floods"), [(after_the_handshake, AFTER), (before_it, BEFORE)], ids=["after", "before"]
)
async def test_floods_of_records_let_others_work(mesh: LocalMesh, way: Callable[..., None], floods: tuple[Any]) -> None:
    async with serving(answering) as application:
        shop = await open_shop(mesh, application)
        assert mesh.control_plane is not None
        doors: list[tuple[Process, str, bytes]] = [
            (shop.payments, shop.mesh_port, ALPN_HTTP),
            (mesh.control_plane, mesh.address, ALPN),
        ]
        for victim, address, alpn in doors:
            async with (
                surviving(victim, memory=16 * MIB),
                going_on(shop.call, lambda: mesh.admin(lambda client: client.get("/v1/bundle"))) as honest,
                trio.open_nursery() as nursery,
            ):
                for flood in floods:
                    nursery.start_soon(trio.to_thread.run_sync, way, shop, address, alpn, flood)
                await honest.go_on()
