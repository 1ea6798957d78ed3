"""TLS over real loopback connections: what the handshake refuses, what is refused after it, and with which reason."""

import socket
import ssl
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from datetime import timedelta

import pytest
from attrs import evolve
from hypothesis import given
from OpenSSL import SSL

from certs import errors
from certs.bundle import TrustBundle, root_fingerprint
from certs.keys import new_key
from certs.svid import Svid
from certs.tls import agreed_alpn, client_context, handshake_refusal, server_context, verified_peer
from certs.verify import MAX_CHAIN, verify_chain
from tests.support.bad_chains import BAD_CHAINS, BadChain
from tests.support.examples import examples
from tests.support.handshake import Handshake, Side, handshake, loopback_pair, until_ready
from tests.support.mutations import Nonsense, nonsense
from tests.support.pki import DAY, HOUR, Pki

ALPN = b"doorward-http/1"
PKI = Pki()


def refusal(side: Side, bundle: TrustBundle, pki: Pki) -> errors.CertificateRefused | None:
    """Why this side refused its peer, in the handshake or after it."""
    if side.failure:
        return handshake_refusal(side.connection)
    try:
        verified_peer(side.connection, bundle, pki.now)
    except errors.CertificateRefused as error:
        return error
    return None


def test_both_sides_learn_who_the_other_is(pki: Pki) -> None:
    checkout, payments = pki.svid("shop/checkout"), pki.svid("shop/payments")
    with handshake(server_context(payments, pki.bundle, [ALPN]), client_context(checkout, pki.bundle, [ALPN])) as ends:
        seen_by_server = verified_peer(ends.server.connection, pki.bundle, pki.now)
        seen_by_client = verified_peer(ends.client.connection, pki.bundle, pki.now)
    assert seen_by_server == verify_chain(checkout.chain, pki.bundle, pki.now)
    assert seen_by_client == verify_chain(payments.chain, pki.bundle, pki.now)


def test_the_session_is_tls_1_3_with_a_post_quantum_group(pki: Pki) -> None:
    with _mutual(pki) as ends:
        for side in (ends.server, ends.client):
            assert side.connection.get_protocol_version_name() == "TLSv1.3"
            assert side.connection.get_group_name() == "X25519MLKEM768"


def test_a_peer_that_speaks_only_tls_1_2_is_refused(pki: Pki) -> None:
    with handshake(server_context(pki.svid(), pki.bundle, []), _speaking_tls_1_2(pki.svid())) as ends:
        assert ends.server.failure == "unsupported protocol"
        assert handshake_refusal(ends.server.connection) is None
    with handshake(_speaking_tls_1_2(pki.svid()), client_context(pki.svid(), pki.bundle, [])) as ends:
        assert ends.client.failure == "tlsv1 alert protocol version"


def test_a_client_without_certificate_fails_in_the_handshake_and_is_told(pki: Pki) -> None:
    with handshake(server_context(pki.svid(), pki.bundle, []), client_context(None, pki.bundle, [])) as ends:
        assert isinstance(handshake_refusal(ends.server.connection), errors.CertificateMissing)
        assert ends.client.failure == "tlsv13 alert certificate required"


def test_a_client_of_an_unknown_ca_fails_in_the_handshake_and_is_told(pki: Pki) -> None:
    stranger = Pki(pki.domain, now=pki.now)
    with handshake(server_context(pki.svid(), pki.bundle, []), client_context(stranger.svid(), pki.bundle, [])) as ends:
        assert isinstance(handshake_refusal(ends.server.connection), errors.UnknownIssuer)
        assert handshake_refusal(ends.client.connection) is None
        assert ends.client.failure == "tlsv1 alert unknown ca"


def test_a_server_of_an_unknown_ca_is_refused_by_the_client(pki: Pki) -> None:
    stranger = Pki(pki.domain, now=pki.now)
    with handshake(server_context(stranger.svid(), pki.bundle, []), client_context(pki.svid(), pki.bundle, [])) as ends:
        assert isinstance(handshake_refusal(ends.client.connection), errors.UnknownIssuer)
        assert ends.server.failure == "tlsv1 alert unknown ca"


@pytest.mark.parametrize("bad", BAD_CHAINS, ids=str)
def test_a_client_with_a_bad_chain_is_refused_with_one_reason(
    bad: BadChain, pki: Pki, partner: Pki, bundle: TrustBundle
) -> None:
    shown = bad.make(pki, partner)
    with handshake(server_context(pki.svid(), bundle, []), _showing(shown)) as ends:
        assert type(refusal(ends.server, bundle, pki)) is bad.error


@pytest.mark.parametrize("bad", BAD_CHAINS, ids=str)
def test_a_server_with_a_bad_chain_is_refused_with_one_reason(
    bad: BadChain, pki: Pki, partner: Pki, bundle: TrustBundle
) -> None:
    shown = bad.make(pki, partner)
    with handshake(_showing(shown), client_context(pki.svid(), bundle, [])) as ends:
        assert type(refusal(ends.client, bundle, pki)) is bad.error


@examples(40)
@given(nonsense())
def test_a_client_that_shows_well_signed_nonsense_is_refused_or_proven(extra: Nonsense) -> None:
    shown = PKI.forge(evolve(PKI.template(), extra=extra))
    with handshake(server_context(PKI.svid(), PKI.bundle, []), _showing(shown)) as ends:
        if refusal(ends.server, PKI.bundle, PKI) is None:
            assert verified_peer(ends.server.connection, PKI.bundle, PKI.now).root == root_fingerprint(PKI.root.root)


def test_both_sides_read_as_many_certificates_as_allowed(pki: Pki) -> None:
    svid = pki.svid()
    long = Svid(svid.key, (*svid.chain, *[pki.svid().leaf for _ in range(MAX_CHAIN - len(svid.chain))]))
    with handshake(server_context(long, pki.bundle, []), client_context(long, pki.bundle, [])) as ends:
        for side in (ends.server, ends.client):
            assert verified_peer(side.connection, pki.bundle, pki.now).id == svid.id


def test_idle_endpoints_give_their_buffers_back(pki: Pki) -> None:
    for context in (server_context(pki.svid(), pki.bundle, []), client_context(None, pki.bundle, [])):
        assert context.set_mode(0) & SSL.MODE_RELEASE_BUFFERS


def test_where_a_certificate_is_optional_none_is_accepted_and_visible(pki: Pki) -> None:
    context = server_context(pki.svid(), pki.bundle, [], client_certificate=False)
    with handshake(context, client_context(None, pki.bundle, [])) as ends:
        assert not ends.server.failure
        with pytest.raises(errors.CertificateMissing):
            verified_peer(ends.server.connection, pki.bundle, pki.now)
        assert verified_peer(ends.client.connection, pki.bundle, pki.now).id == pki.id()


def test_where_a_certificate_is_optional_a_bad_one_is_still_refused(pki: Pki) -> None:
    context = server_context(pki.svid(), pki.bundle, [], client_certificate=False)
    with handshake(context, client_context(Pki(now=pki.now).svid(), pki.bundle, [])) as ends:
        assert isinstance(handshake_refusal(ends.server.connection), errors.UnknownIssuer)


def test_where_a_certificate_is_optional_a_good_one_proves_its_identity(pki: Pki) -> None:
    context = server_context(pki.svid(), pki.bundle, [], client_certificate=False)
    with handshake(context, client_context(pki.svid("shop/frontend"), pki.bundle, [])) as ends:
        assert verified_peer(ends.server.connection, pki.bundle, pki.now).id == pki.id("shop/frontend")


def test_dates_are_checked_by_the_callers_clock_and_not_by_the_machines(pki: Pki) -> None:
    future = pki.svid(now=pki.now + 2 * DAY)
    with handshake(server_context(pki.svid(), pki.bundle, []), client_context(future, pki.bundle, [])) as ends:
        server = ends.server.connection
        with pytest.raises(errors.CertificateNotYetValid):
            verified_peer(server, pki.bundle, pki.now)
        assert verified_peer(server, pki.bundle, pki.now + 2 * DAY).id == future.id
        with pytest.raises(errors.CertificateExpired):
            verified_peer(server, pki.bundle, pki.now + 2 * DAY + HOUR + timedelta(seconds=1))


def test_a_root_taken_out_of_the_bundle_counts_after_the_handshake(pki: Pki, partner: Pki, bundle: TrustBundle) -> None:
    with handshake(server_context(pki.svid(), bundle, []), client_context(partner.svid(), bundle, [])) as ends:
        assert verified_peer(ends.server.connection, bundle, pki.now).id == partner.id()
        with pytest.raises(errors.OtherTrustDomain):
            verified_peer(ends.server.connection, pki.bundle, pki.now)


@pytest.mark.parametrize(
    ("spoken", "offered", "agreed"),
    [
        ([b"a", b"b"], [b"b", b"a"], b"a"),
        ([b"a", b"b"], [b"b"], b"b"),
        ([b"a"], [b"b"], b""),
        ([b"a"], [], b""),
        ([], [b"a"], b""),
    ],
    ids=["the server's preference wins", "overlap", "disagreement", "no offer", "none spoken"],
)
def test_both_sides_agree_on_one_protocol_or_see_that_there_is_none(
    pki: Pki, spoken: list[bytes], offered: list[bytes], agreed: bytes
) -> None:
    with _mutual(pki, spoken, offered) as ends:
        assert agreed_alpn(ends.server.connection) == agreed
        assert agreed_alpn(ends.client.connection) == agreed


def test_no_session_is_resumed(pki: Pki) -> None:
    """With the standard library's client, which can say whether its session was resumed."""
    context = server_context(pki.svid(), pki.bundle, [], client_certificate=False)
    context.set_session_id(b"any")  # without one OpenSSL would not resume from its cache, whatever else is set
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    _, session = _stdlib_meets(context, client, None)
    assert session is not None
    resumed, _ = _stdlib_meets(context, client, session)
    assert not resumed


def test_half_close_lets_the_other_direction_go_on(pki: Pki) -> None:
    with _mutual(pki) as ends:
        client, server = ends.client.connection, ends.server.connection
        client.send(b"the question")
        client.shutdown()
        assert ends.server.receive() == b"the question"
        with pytest.raises(SSL.ZeroReturnError):
            ends.server.receive()
        server.send(b"the answer")
        assert ends.client.receive() == b"the answer"


def test_an_end_without_close_notify_is_no_half_close(pki: Pki) -> None:
    with _mutual(pki) as ends:
        ends.client.connection.sock_shutdown(socket.SHUT_WR)
        with pytest.raises(SSL.SysCallError, match="Unexpected EOF"):
            ends.server.receive()


def test_garbage_instead_of_tls_fails_without_blaming_a_certificate(pki: Pki) -> None:
    with loopback_pair() as (accepted, dialled):
        side = Side(SSL.Connection(server_context(pki.svid(), pki.bundle, []), accepted))
        side.connection.set_accept_state()
        dialled.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(SSL.Error, match="http request"):
            until_ready(side.connection, side.connection.do_handshake)
        assert handshake_refusal(side.connection) is None


def test_a_key_that_is_not_the_certificates_is_refused_when_the_context_is_made(pki: Pki) -> None:
    mixed = Svid(new_key(), pki.svid().chain)
    with pytest.raises(errors.KeyRefused):
        server_context(mixed, pki.bundle, [])
    with pytest.raises(errors.KeyRefused):
        client_context(mixed, pki.bundle, [])


def _mutual(
    pki: Pki, spoken: Sequence[bytes] = (ALPN,), offered: Sequence[bytes] = (ALPN,)
) -> AbstractContextManager[Handshake]:
    """payments accepts, checkout dials."""
    return handshake(
        server_context(pki.svid("shop/payments"), pki.bundle, spoken),
        client_context(pki.svid("shop/checkout"), pki.bundle, offered),
    )


def _showing(svid: Svid) -> SSL.Context:
    """A context of a careless or hostile peer, which shows anything and verifies nothing."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"DEFAULT@SECLEVEL=0")
    context.use_certificate(svid.leaf)
    context.use_privatekey(svid.key)
    for certificate in svid.chain[1:]:
        context.add_extra_chain_cert(certificate)
    return context


def _speaking_tls_1_2(svid: Svid) -> SSL.Context:
    context = _showing(svid)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    return context


def _stdlib_meets(
    context: SSL.Context, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession | None]:
    """Whether the session was resumed, and the one to try next: after a byte from the server any tickets have come."""
    with loopback_pair() as (accepted, dialled):
        server = Side(SSL.Connection(context, accepted))
        server.connection.set_accept_state()
        with client.wrap_socket(dialled, do_handshake_on_connect=False, session=session) as joined:
            while not server.done:
                with suppress(ssl.SSLWantReadError):
                    joined.do_handshake()
                server.step()
            assert not server.failure
            server.connection.send(b"x")
            joined.setblocking(True)
            assert joined.recv(1) == b"x"
            server.connection.shutdown()  # OpenSSL forgets a session whose connection was cut off
            return bool(joined.session_reused), joined.session
