"""The client's end: whatever has not proved to be the control plane gets no byte of a request."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from attrs import evolve
from OpenSSL import SSL

from certs.svid import Svid
from certs.tls import server_context
from control_plane.admin.client import Client
from control_plane.admin.context import Context
from control_plane.admin.errors import AdminError, ContextRefused, NotTheServer, ServerAway
from control_plane.admin.tls_door import ALPN, TlsDoor
from control_plane.settings import HostPort
from tests.support.patience import PATIENCE
from tests.support.pki import HOUR, Pki

PKI = Pki()
OPERATOR = PKI.svid_for(PKI.domain.operator("ann"))


@contextmanager
def server(svid: Svid, alpn: bytes = ALPN, *, pki: Pki = PKI) -> Iterator[tuple[HostPort, list[bytes]]]:
    """Somebody who shows `svid`; the list fills with what it is told after the handshake."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        sock, _ = listener.accept()
        connection = SSL.Connection(server_context(svid, pki.bundle_with(PKI), [alpn]), sock)
        connection.set_accept_state()
        try:
            connection.do_handshake()
            heard.append(connection.recv(65536))
        except SSL.Error:
            pass
        finally:
            sock.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield HostPort(*listener.getsockname()), heard
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()
        listener.close()


EXPIRED = PKI.forge(
    evolve(
        PKI.template(),
        uris=(str(PKI.domain.control_plane()),),
        not_before=PKI.now - 2 * HOUR,
        not_after=PKI.now - HOUR,
    )
)
OTHER, NAMESAKE = Pki("partner.example"), Pki()


@pytest.mark.parametrize(
    ("svid", "pki", "says"),
    [
        (PKI.svid("shop/checkout"), PKI, "ns/shop/sa/checkout"),
        (PKI.svid_for(PKI.domain.operator("bob")), PKI, "operator/bob"),
        (PKI.svid_for(PKI.domain.operator("control-plane")), PKI, "operator/control-plane"),
        (NAMESAKE.control_plane_svid(), NAMESAKE, "its CA was replaced"),
        (OTHER.control_plane_svid(), OTHER, "partner.example"),
        (EXPIRED, PKI, "expired"),
    ],
)
def test_an_impostor_is_told_nothing(svid: Svid, pki: Pki, says: str) -> None:
    with server(svid, pki=pki) as (where, heard):
        with pytest.raises(NotTheServer, match="Nothing was sent") as refused, Client(_door(where)) as client:
            client.post("/v1/bans", {"subject": "shop/checkout"})
        assert says in str(refused.value)
    assert heard == []


def test_a_server_without_http_is_told_nothing() -> None:
    with server(PKI.control_plane_svid(), b"doorward-cp/1") as (where, heard), pytest.raises(ServerAway, match="HTTP"):
        _door(where).open()
    assert heard == []


def test_the_control_plane_itself_is_asked() -> None:
    with server(PKI.control_plane_svid()) as (where, heard):
        client = Client(_door(where))
        with client, pytest.raises(ServerAway, match="may have been stored"):
            client.post("/v1/bans", {"subject": "shop/checkout"})
    assert heard[0].startswith(b"POST /v1/bans HTTP/1.1\r\nHost: localhost\r\n")


def test_a_server_that_does_not_take_the_certificate_is_said_to() -> None:
    stranger = Pki()
    context = Context(HostPort("127.0.0.1", 1), PKI.bundle, stranger.svid_for(PKI.domain.operator("ann")))
    with server(PKI.control_plane_svid()) as (where, heard):
        door = TlsDoor(Context(where, context.bundle, context.svid))
        with Client(door) as client, pytest.raises(ServerAway, match=r"does not take|did not answer"):
            client.get("/v1/bans")
    assert heard == []


def test_nobody_there_and_no_tls_there_say_what_to_look_at() -> None:
    with socket.socket() as held:  # and nobody listens
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ServerAway, match="tunnel"):
            _door(HostPort(*held.getsockname())).open()
    plain = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with _once(lambda sock: sock.sendall(plain)) as where, pytest.raises(ServerAway, match="TLS failed"):
        _door(where).open()


def test_a_context_that_has_ended_dials_nobody() -> None:
    where = HostPort("127.0.0.1", 1)
    door = TlsDoor(Context(where, PKI.bundle, OPERATOR), lambda: PKI.now + timedelta(hours=2))
    with pytest.raises(ContextRefused, match="ended at"):
        door.open()
    assert issubclass(ContextRefused, AdminError)


def _door(where: HostPort) -> TlsDoor:
    return TlsDoor(Context(where, PKI.bundle, OPERATOR))


@contextmanager
def _once(act: Callable[[socket.socket], None]) -> Iterator[HostPort]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                act(sock)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield HostPort(*listener.getsockname())
        thread.join(PATIENCE)
