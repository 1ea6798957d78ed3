"""Over real TLS: nothing is sent before the control plane has proved who it is, and every failure says what to do."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define, evolve

from certs.spiffe import TrustDomain
from certs.svid import Svid
from mesh.wire import Endpoint, Hello, Message, Snapshot, Unknown, decode, encode
from sidecar.channel import Channel, ControlPlane, LinkFailed
from sidecar.settings import Address
from tests.support.patience import PATIENCE
from tests.support.pki import HOUR, Pki
from tests.support.simulator import Simulator
from transport import TlsStream


@define
class Wire:
    """A server that writes down every byte after its handshake, and what it takes to call it."""

    simulator: Simulator
    control_plane: ControlPlane


@asynccontextmanager
async def calling(tmp_path: Path, pki: Pki, svid: Svid | None = None, pinned: Pki | None = None) -> AsyncIterator[Wire]:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes((pinned or pki).bundle.to_pem())
    simulator = Simulator(pki, svid)  # type: ignore[arg-type]  # None means its own
    async with trio.open_nursery() as nursery:
        port = await simulator.listen(nursery)
        address = Address("127.0.0.1", port)
        yield Wire(
            simulator, ControlPlane(address, bundle, TrustDomain("cluster.local"), PATIENCE, lambda: datetime.now(UTC))
        )
        nursery.cancel_scope.cancel()


async def refusal(wire: Wire, svid: Svid | None = None) -> LinkFailed:
    """How connecting fails, and that the server was told nothing."""
    with pytest.raises(LinkFailed) as caught:
        await wire.control_plane.connect(svid, None)
    await trio.sleep(0.05)
    assert wire.simulator.messages(object) == []
    return caught.value


async def test_the_verified_control_plane_is_spoken_to(tmp_path: Path) -> None:
    async with calling(tmp_path, Pki()) as wire:
        channel = await wire.control_plane.connect(None, None)
        assert wire.simulator.messages(object) == [], "connecting alone sends nothing"
        await channel.send(Hello(1, "test", "one"), PATIENCE)
        assert isinstance(await channel.receive(), Hello)
        assert wire.simulator.links[0].peer is None
        await channel.aclose()


async def test_the_own_certificate_is_shown_where_there_is_one(tmp_path: Path) -> None:
    pki = Pki()
    async with calling(tmp_path, pki) as wire:
        channel = await wire.control_plane.connect(pki.svid(), None)
        await channel.send(Hello(1, "test", "one"), PATIENCE)
        await channel.receive()
        assert str(wire.simulator.links[0].peer) == "spiffe://cluster.local/ns/shop/sa/checkout"
        await channel.aclose()


async def test_another_workload_of_the_mesh_is_not_the_control_plane(tmp_path: Path) -> None:
    pki = Pki()
    async with calling(tmp_path, pki, pki.svid("shop/payments")) as wire:
        failed = await refusal(wire)
    assert failed.code == "wrong_control_plane"
    assert "spiffe://cluster.local/ns/shop/sa/payments, not spiffe://cluster.local/doorward/control-plane" in str(
        failed
    )
    assert "--control-plane" in str(failed)


async def test_a_bundle_without_its_root_refuses(tmp_path: Path) -> None:
    async with calling(tmp_path, Pki(), pinned=Pki()) as wire:
        failed = await refusal(wire)
    assert failed.code == "unknown_issuer"
    assert "doorward bundle show" in str(failed)
    assert str(tmp_path / "bundle.pem") in str(failed)


async def test_roots_that_an_earlier_link_brought_count_beside_the_file(tmp_path: Path) -> None:
    pki = Pki()
    async with calling(tmp_path, pki, pinned=Pki()) as wire:
        channel = await wire.control_plane.connect(None, pki.bundle)
        assert isinstance(channel, Channel)
        await channel.aclose()


async def test_an_expired_control_plane_certificate_is_refused(tmp_path: Path) -> None:
    pki = Pki()
    uris = (str(pki.domain.control_plane()),)
    old = evolve(pki.template(), uris=uris, not_before=pki.now - 2 * HOUR, not_after=pki.now - HOUR)
    async with calling(tmp_path, pki, pki.forge(old)) as wire:
        failed = await refusal(wire)
    assert failed.code == "certificate_expired"
    assert "clocks" in str(failed)


async def test_a_control_plane_of_another_trust_domain_is_refused(tmp_path: Path) -> None:
    other = Pki("partner.example")
    async with calling(tmp_path, other) as wire:
        failed = await refusal(wire)
    assert failed.code == "wrong_control_plane"
    assert "spiffe://partner.example/doorward/control-plane" in str(failed)
    assert "--trust-domain" in str(failed)


async def test_a_server_of_another_protocol_is_refused(tmp_path: Path) -> None:
    async with calling(tmp_path, Pki()) as wire:
        wire.simulator.alpn = b"h2"
        failed = await refusal(wire)
    assert failed.code in {"alpn_mismatch", "tls_failed"}
    assert "port" in str(failed)


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAA==\n"])
async def test_a_bundle_that_cannot_be_used_says_how_to_make_one(tmp_path: Path, content: bytes | None) -> None:
    async with calling(tmp_path, Pki()) as wire:
        wire.control_plane.bundle.unlink()
        if content is not None:
            wire.control_plane.bundle.write_bytes(content)
        failed = await refusal(wire)
    assert failed.code == "bundle_unusable"
    assert "doorward bundle show" in str(failed)


async def test_the_bundle_is_read_anew_at_every_attempt(tmp_path: Path) -> None:
    pki = Pki()
    async with calling(tmp_path, pki, pinned=Pki()) as wire:
        await refusal(wire)
        wire.control_plane.bundle.write_bytes(pki.bundle.to_pem())
        await (await wire.control_plane.connect(None, None)).aclose()


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    async with calling(tmp_path, Pki()) as wire:
        pass
    with pytest.raises(LinkFailed, match="cannot reach the control plane") as caught:
        await wire.control_plane.connect(None, None)
    assert caught.value.code == "unreachable"


async def test_a_server_that_speaks_no_tls(tmp_path: Path) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.example ESMTP\r\n")
        await stream.receive_some()

    async with calling(tmp_path, Pki()) as wire, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, greet, listeners)
        port = listeners[0].socket.getsockname()[1]
        plane = ControlPlane(
            Address("127.0.0.1", port),
            wire.control_plane.bundle,
            TrustDomain("cluster.local"),
            PATIENCE,
            lambda: datetime.now(UTC),
        )
        with pytest.raises(LinkFailed, match="is it the control plane's port") as caught:
            await plane.connect(None, None)
        assert caught.value.code == "tls_failed"
        nursery.cancel_scope.cancel()


async def test_a_certificate_that_the_server_refuses_is_noticed_at_the_first_read(tmp_path: Path) -> None:
    async with calling(tmp_path, Pki()) as wire:
        channel = await wire.control_plane.connect(Pki().svid(), None)
        with pytest.raises(LinkFailed) as caught:
            await channel.receive()
        assert caught.value.code == "refused"
        await channel.aclose()


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x02\x81\xa1"])
async def test_garbage_of_the_control_plane_ends_the_link_with_a_reason(tmp_path: Path, garbage: bytes) -> None:
    async with calling(tmp_path, Pki()) as wire:
        channel = await wire.control_plane.connect(None, None)
        await channel.send(Hello(1, "test", "one"), PATIENCE)
        await channel.receive()
        stream = wire.simulator.links[0].stream
        assert isinstance(stream, TlsStream)
        await stream.send_all(garbage)
        with pytest.raises(LinkFailed, match="no message") as caught:
            await channel.receive()
        assert caught.value.code == "malformed"
        await channel.aclose()


async def test_a_control_plane_that_takes_no_message_is_not_waited_for(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    channel = Channel(ours, Pki().bundle)
    with pytest.raises(LinkFailed, match="took no message for 3 s"):
        await channel.send(Hello(1, "test", "one"), 3)
    await theirs.aclose()


@pytest.mark.parametrize(("endpoints", "held"), [(1, True), (1000, False)])
async def test_a_whole_clusters_snapshot_does_not_hold_the_loop_while_it_is_read(
    endpoints: int, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tuple(
        Endpoint(f"shop/w{number}", 80, f"10.0.{number >> 8}.{number & 255}", 80, "http", "spiffe://a/b")
        for number in range(endpoints)
    )
    reading: list[int] = []

    def noted(payload: bytes) -> Message | Unknown:
        reading.append(threading.get_ident())
        return decode(payload)

    monkeypatch.setattr("sidecar.channel.decode", noted)
    ours, theirs = trio.testing.memory_stream_pair()
    channel, snapshot = Channel(ours, Pki().bundle), Snapshot("e", 1, "h", (), there, (), ())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, encode(snapshot))
        assert await channel.receive() == snapshot
    assert (reading == [threading.get_ident()]) is held
