"""The operators' address over real TLS: who gets in, who is turned away, and that a ban holds at the next request."""

import socket
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from certs.csr import build_csr
from certs.keys import new_key
from certs.svid import Svid
from certs.tls import client_context
from control_plane.admin.client import Client
from control_plane.admin.errors import AdminRefused
from control_plane.admin.tls_door import ALPN, TlsConnection, TlsDoor
from control_plane.store.errors import StoreError
from tests.support.admin import LIMITS, AdminHouse, admin_house
from tests.support.patience import PATIENCE
from tests.support.pki import Pki

ASK = b"GET /v1/bans HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def wait_until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def ask(house: AdminHouse, context: SSL.Context) -> bytes:
    """All that comes back for a request over TLS with this context."""
    with socket.create_connection((house.operators.host, house.operators.port), PATIENCE) as sock:
        sock.setblocking(False)
        stream = TlsConnection("operators", sock, SSL.Connection(context, sock))
        stream.connection.set_connect_state()
        try:
            stream.until(stream.connection.do_handshake, PATIENCE)
            stream.until(lambda: stream.connection.send(ASK), PATIENCE)
            return stream.until(lambda: stream.connection.recv(65536), PATIENCE)
        except SSL.Error:
            return b""


def shown(house: AdminHouse, svid: Svid | None, alpn: bytes = ALPN) -> bytes:
    return ask(house, client_context(svid, house.backend.authority.bundle, [alpn]))


def test_an_operator_is_answered_and_its_changes_carry_its_name(house: AdminHouse) -> None:
    with Client(TlsDoor(house.operator("ann"))) as client:
        assert client.get("/v1/bans") == {"bans": []}
        assert client.post("/v1/bans", {"subject": "shop/checkout"})["author"] == "operator:ann"
    assert house.backend.store.audit()[-1].actor == "operator:ann"


@pytest.mark.parametrize(
    ("reason", "svid"),
    [
        ("no_operator", lambda house: house.svid(house.backend.trust_domain.workload("shop", "checkout"))),
        ("no_operator", lambda house: house.svid(house.backend.trust_domain.workload("operator", "ann"))),
        ("no_operator", lambda house: house.svid(house.backend.trust_domain.control_plane())),
        ("certificate_missing", lambda _: None),
        ("unknown_issuer", lambda _: Pki().svid_for(Pki().domain.operator("ann"))),
        ("other_trust_domain", lambda _: Pki("partner.example").svid_for(Pki("partner.example").domain.operator("a"))),
    ],
)
def test_who_has_no_operator_s_certificate_is_told_nothing(
    house: AdminHouse, reason: str, svid: Callable[[AdminHouse], Svid | None]
) -> None:
    assert shown(house, svid(house)) == b""
    wait_until(lambda: house.refusals(reason) == 1)


def test_an_expired_certificate_is_refused(house: AdminHouse) -> None:
    context = house.operator("ann", timedelta(minutes=5))
    house.clock.ahead = timedelta(minutes=6)
    assert shown(house, context.svid) == b""
    wait_until(lambda: house.refusals("certificate_expired") == 1)


def test_tls_1_2_another_protocol_and_no_tls_are_refused(house: AdminHouse) -> None:
    svid = house.operator("ann").svid
    old = SSL.Context(SSL.TLS_CLIENT_METHOD)
    old.set_max_proto_version(SSL.TLS1_2_VERSION)
    old.use_certificate(svid.leaf)
    old.use_privatekey(svid.key)
    old.set_alpn_protos([ALPN])
    assert ask(house, old) == b""
    wait_until(lambda: house.refusals("tls_failed") == 1)
    assert shown(house, svid, b"h2") == b""
    wait_until(lambda: house.refusals("wrong_protocol") == 1)
    with socket.create_connection((house.operators.host, house.operators.port), PATIENCE) as plain:
        plain.sendall(ASK)
        with suppress(ConnectionResetError):
            assert plain.recv(100) == b""
    wait_until(lambda: house.refusals("not_tls") == 1)


@pytest.mark.parametrize("by", ["identity", "serial"])
def test_a_banned_operator_is_refused_at_its_next_request(house: AdminHouse, by: str) -> None:
    context = house.operator("ann")
    subject = "operator:ann" if by == "identity" else f"serial:{context.svid.serial}"
    with Client(TlsDoor(context)) as client, house.client() as local:
        client.get("/v1/bans")
        local.post("/v1/bans", {"subject": subject, "reason": "laptop lost"})
        with pytest.raises(AdminRefused, match="laptop lost") as refused:
            client.get("/v1/bans")
        assert refused.value.error == "banned"
        with pytest.raises(AdminRefused, match="laptop lost"):
            client.delete("/v1/bans", subject=subject)
        local.delete("/v1/bans", subject=subject)
        client.get("/v1/bans")
    assert house.refusals("banned") == 2


def test_a_certificate_that_ends_and_a_root_that_is_replaced_hold_at_the_next_request(house: AdminHouse) -> None:
    with Client(TlsDoor(house.operator("ann", timedelta(minutes=5)))) as client:
        client.get("/v1/bans")
        trusted = house.backend.authority.bundle
        house.backend.authority.bundle = Pki(house.backend.trust_domain).bundle
        with pytest.raises(AdminRefused, match="no longer trusted"):
            client.get("/v1/bans")
        house.backend.authority.bundle = trusted
        client.get("/v1/bans")
        house.clock.ahead = timedelta(minutes=6)
        with pytest.raises(AdminRefused, match="doorward operator create"):
            client.get("/v1/bans")


def test_where_bans_cannot_be_looked_up_nobody_is_let_in(house: AdminHouse) -> None:
    def broken(*_: str) -> None:
        raise StoreError("the disk is gone")

    with Client(TlsDoor(house.operator("ann"))) as client:
        client.get("/v1/bundle")
        house.backend.store.banned = broken
        with pytest.raises(AdminRefused, match="the disk is gone"):
            client.get("/v1/bundle")


def test_what_the_guard_refuses_on_the_socket_it_refuses_here(house: AdminHouse) -> None:
    context = client_context(house.operator("ann").svid, house.backend.authority.bundle, [ALPN])
    assert b" 200 " in ask(house, context).partition(b"\r\n")[0]
    with Client(TlsDoor(house.operator("ann"))) as client:
        client._http.headers["origin"] = "http://localhost"
        with pytest.raises(AdminRefused, match="not for browsers"):
            client.get("/v1/bans")


def test_a_crowd_that_says_nothing_keeps_no_operator_out(house: AdminHouse) -> None:
    context = house.operator("ann")
    where = house.operators.host, house.operators.port
    crowd = [socket.create_connection(where, PATIENCE, ("127.0.0.2", 0)) for _ in range(20)]
    try:
        with Client(TlsDoor(context)) as client:
            assert client.get("/v1/bans") == {"bans": []}
        wait_until(lambda: house.refusals("over_budget") >= 20 - LIMITS.unauthenticated_links_per_address)
    finally:
        for each in crowd:
            each.close()


def test_operators_that_stay_give_way_to_one_that_asks(house: AdminHouse) -> None:
    room = LIMITS.operator_connections + LIMITS.unauthenticated_links
    context = house.operator("ann")
    crowd = [Client(TlsDoor(context)).__enter__() for _ in range(room)]
    try:
        with Client(TlsDoor(context)) as client:
            assert client.get("/v1/bans") == {"bans": []}
    finally:
        for each in crowd:
            each.__exit__(None, None, None)
    wait_until(lambda: house.metrics.gave_way.labels("operators")._value.get() >= 1)


def test_a_renewed_certificate_of_the_control_plane_is_shown_to_the_next_operator(house: AdminHouse) -> None:
    context, seen = house.operator("ann"), set()
    for _ in range(2):
        stream = TlsDoor(context).connect()
        leaf = stream.connection.get_peer_certificate(as_cryptography=True)
        assert leaf is not None
        seen.add(leaf.serial_number)
        stream.close()
        house.backend.authority.svid = house.svid(house.backend.trust_domain.control_plane())
    assert len(seen) == 2


def test_an_operator_that_does_not_read_holds_up_no_end(short_directory: Path) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with admin_house(short_directory) as house:
            for _ in range(8):
                house.backend.store.record("test", "long", {"text": "x" * 1_000_000})
            context = client_context(house.operator("ann").svid, house.backend.authority.bundle, [ALPN])
            sock.connect((house.operators.host, house.operators.port))
            stream = SSL.Connection(context, sock)
            stream.set_connect_state()
            stream.sendall(b"GET /v1/audit HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert stream.recv(100).startswith(b"HTTP/1.1 200")


class TestCreate:
    def create(self, client: Client, **fields: Any) -> dict[str, Any]:
        body = {"name": "bob", "csr": b64encode(build_csr(new_key())).decode(), **fields}
        return client.post("/v1/operators", body)

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"name": ""}, "bad_name"),
            ({"name": "ann/bob"}, "bad_name"),
            ({"name": ".."}, "bad_name"),
            ({"name": "änn"}, "bad_name"),
            ({"name": "a" * 254}, "bad_name"),
            ({"csr": "!"}, "csr_refused"),
            ({"csr": "AAAA"}, "csr_refused"),
            ({"lifetime": 0}, "bad_lifetime"),
            ({"lifetime": 86401}, "bad_lifetime"),
            ({"lifetime": "8h"}, "wrong_type"),
            ({"identity": "spiffe://cluster.local/doorward/control-plane"}, "unknown_field"),
        ],
    )
    def test_a_wrong_request_buys_nothing(
        self, house: AdminHouse, client: Client, fields: dict[str, Any], error: str
    ) -> None:
        with pytest.raises(AdminRefused) as refused:
            self.create(client, **fields)
        assert refused.value.error == error
        assert house.backend.store.operators() == ()

    def test_a_certificate_is_for_the_name_and_eight_hours_and_is_listed(
        self, house: AdminHouse, client: Client
    ) -> None:
        made = self.create(client)
        assert made["identity"] == "spiffe://cluster.local/operator/bob"
        (listed,) = client.get("/v1/operators")["operators"]
        assert {key: made[key] for key in ("name", "identity", "serial", "expires")}.items() <= listed.items()
        assert listed["banned"] is False
        (issued,) = house.backend.store.operators()
        assert timedelta(hours=7, minutes=59) < issued.not_after - house.clock() <= timedelta(hours=8)

    def test_an_operator_makes_others_in_its_own_name_until_it_is_banned(
        self, house: AdminHouse, client: Client
    ) -> None:
        with Client(TlsDoor(house.operator("ann"))) as ann:
            assert self.create(ann)["author"] == "operator:ann"
            entry = house.backend.store.audit()[-1]
            assert (entry.actor, entry.event) == ("operator:ann", "certificate.issued")
            client.post("/v1/bans", {"subject": "operator:bob"})
            with pytest.raises(AdminRefused, match="lift the ban"):
                self.create(ann)
            assert [each["banned"] for each in client.get("/v1/operators")["operators"]] == [True, False]
