"""Serving certificates: stock TLS clients believe them by DNS name and root; no rule of ours takes one for an SVID."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from certs.authority import BACKDATE
from certs.certificate import check_leaf
from certs.errors import CannotIssue, CertificateMissing, NoUriSan, WrongUsage
from certs.keys import new_key
from certs.serving import ServingCertificate, is_dns_name
from certs.svid import Svid
from certs.tls import client_context, handshake_refusal, server_context, serving_context, verified_peer
from certs.verify import verify_chain
from tests.support.handshake import handshake
from tests.support.patience import PATIENCE
from tests.support.pki import DAY, HOUR, Pki, key_usage

NAMES = ("doorward-injector.doorward.svc", "doorward-injector.doorward.svc.cluster.local")
ALPN = b"http/1.1"


def serving(pki: Pki, *, lifetime: timedelta = HOUR) -> ServingCertificate:
    key = new_key()
    return ServingCertificate(
        key, pki.intermediate.issue_serving(key.public_key(), NAMES, now=pki.now, lifetime=lifetime)
    )


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> tuple[bool, x509.ExtensionType]:
    found = certificate.extensions.get_extension_for_class(kind)
    return found.critical, found.value


def test_it_names_its_hosts_and_serves_one_end_only(pki: Pki) -> None:
    leaf = serving(pki).leaf
    assert extension(leaf, x509.SubjectAlternativeName) == (
        True,
        x509.SubjectAlternativeName([x509.DNSName(name) for name in NAMES]),
    )
    assert extension(leaf, x509.ExtendedKeyUsage) == (False, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
    assert extension(leaf, x509.BasicConstraints) == (True, x509.BasicConstraints(ca=False, path_length=None))
    assert extension(leaf, x509.KeyUsage) == (True, key_usage("digital_signature"))
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (pki.now - BACKDATE, pki.now + HOUR)


def test_it_never_outlives_its_issuer(pki: Pki) -> None:
    assert serving(pki, lifetime=400 * DAY).leaf.not_valid_after_utc == pki.intermediate.not_after


def test_it_is_no_peer_for_two_reasons(pki: Pki) -> None:
    certificate = serving(pki)
    with pytest.raises(NoUriSan):
        verify_chain(certificate.chain, pki.bundle, pki.now)
    with pytest.raises(WrongUsage, match="serves both ends"):
        check_leaf(certificate.leaf)


def test_as_a_client_s_certificate_it_is_refused_in_the_handshake(pki: Pki) -> None:
    posing = serving(pki)
    as_svid = Svid(posing.key, posing.chain)
    ours = server_context(pki.svid(), pki.bundle, [ALPN])
    with handshake(ours, client_context(as_svid, pki.bundle, [ALPN])) as ends:
        assert ends.server.failure
        assert isinstance(handshake_refusal(ends.server.connection), WrongUsage)


def test_our_clients_refuse_it_as_a_server(pki: Pki) -> None:
    with (
        handshake(serving_context(serving(pki), [ALPN]), client_context(pki.svid(), pki.bundle, [ALPN])) as ends,
        pytest.raises(NoUriSan),
    ):
        verified_peer(ends.client.connection, pki.bundle, pki.now)


def test_whoever_connects_is_asked_for_no_certificate(pki: Pki) -> None:
    with handshake(serving_context(serving(pki), [ALPN]), client_context(pki.svid(), pki.bundle, [ALPN])) as ends:
        assert not ends.server.failure
        with pytest.raises(CertificateMissing):
            verified_peer(ends.server.connection, pki.bundle, pki.now)


@contextmanager
def answering(context: SSL.Context) -> Iterator[int]:
    """The port at which one client is shaken hands with."""

    def shake() -> None:
        sock, _ = listener.accept()
        with sock:
            connection = SSL.Connection(context, sock)
            connection.set_accept_state()
            try:
                connection.do_handshake()
            except SSL.Error:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=shake)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(PATIENCE)


@pytest.mark.parametrize("name", [*NAMES, "doorward-injector.other.svc"])
def test_a_stock_client_believes_it_by_root_and_name(pki: Pki, name: str) -> None:
    stock = ssl.create_default_context(cadata=pki.bundle.to_pem().decode())
    stock.set_alpn_protocols(["h2", "http/1.1"])
    with (
        answering(serving_context(serving(pki), [ALPN])) as port,
        socket.create_connection(("127.0.0.1", port), PATIENCE) as sock,
    ):
        if name not in NAMES:
            with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
                stock.wrap_socket(sock, server_hostname=name)
            return
        with stock.wrap_socket(sock, server_hostname=name) as stream:
            assert (stream.version(), stream.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")


@pytest.mark.parametrize("names", [(), ("*.svc",), ("a b",), ("Host.svc",), ("host.svc.",), ("-a",), ("ä.svc",), ("",)])
def test_only_full_dns_names_are_issued(pki: Pki, names: tuple[str, ...]) -> None:
    with pytest.raises(CannotIssue, match="DNS names"):
        pki.intermediate.issue_serving(new_key().public_key(), names, now=pki.now, lifetime=HOUR)


def test_a_dns_name_has_bounds() -> None:
    assert is_dns_name("a" * 63)
    assert not is_dns_name("a" * 64)
    assert is_dns_name(".".join(["a" * 62] * 4))
    assert not is_dns_name(".".join(["a" * 63] * 4))


def test_its_key_is_not_shown(pki: Pki) -> None:
    assert "key=" not in repr(serving(pki))
