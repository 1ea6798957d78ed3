"""A context file: what is written is read again, and nothing that is not one is taken for one."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from attrs import evolve

from certs.keys import key_to_pem
from control_plane.admin.context import Context
from control_plane.admin.errors import ContextRefused
from control_plane.settings import HostPort
from tests.support.pki import Pki

PKI = Pki()
CONTEXT = Context(HostPort("::1", 9443), PKI.bundle, PKI.svid_for(PKI.domain.operator("ann")))
TEXT = CONTEXT.to_toml().decode()


def test_what_is_written_is_read_again() -> None:
    read = Context.parse(CONTEXT.to_toml())
    assert (read.server, read.bundle, read.svid.chain) == (CONTEXT.server, CONTEXT.bundle, CONTEXT.svid.chain)
    assert key_to_pem(read.svid.key) == key_to_pem(CONTEXT.svid.key)
    assert (read.usual_name, read.trust_domain) == ("ann@cluster.local", PKI.domain)


def test_a_context_shows_no_key() -> None:
    assert "PRIVATE" not in repr(CONTEXT)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda text: text[:-20],
        lambda text: text + "more = 1\n",
        lambda text: text.replace("server", "sever"),
        lambda text: text.replace('"[::1]:9443"', "7"),
        lambda text: text.replace("[::1]:9443", "nowhere"),
        lambda text: text.replace("BEGIN PRIVATE KEY", "BEGIN NOTHING"),
        lambda text: text.replace("BEGIN CERTIFICATE", "BEGIN NOTHING"),
        lambda _: "\udce4",
    ],
)
def test_what_is_no_context_is_refused_without_quoting_the_key(change: Callable[[str], str]) -> None:
    secret = key_to_pem(CONTEXT.svid.key).decode().splitlines()[1]
    with pytest.raises(ContextRefused) as refused:
        Context.parse(change(TEXT).encode(errors="surrogateescape"))
    assert secret not in str(refused.value)


def test_key_certificate_and_bundle_belong_together() -> None:
    other = Pki("partner.example")
    for wrong in (
        evolve(CONTEXT.svid, key=PKI.svid().key),
        PKI.svid(),
        PKI.control_plane_svid(),
        other.svid_for(other.domain.operator("ann")),
    ):
        with pytest.raises(ContextRefused):
            Context.parse(_toml(wrong))


def _toml(svid: object) -> bytes:
    """A context that no constructor makes."""
    context = evolve(CONTEXT)
    object.__setattr__(context, "svid", svid)
    return context.to_toml()


def test_a_certificate_that_has_ended_says_what_to_do() -> None:
    CONTEXT.check_dates(PKI.now)
    with pytest.raises(ContextRefused, match="doorward operator create ann"):
        CONTEXT.check_dates(PKI.now + timedelta(hours=2))
    with pytest.raises(ContextRefused, match="clock"):
        CONTEXT.check_dates(PKI.now - timedelta(hours=1))
