"""TLS contexts whose keys never touch a file, and the questions to ask once a handshake is over.

TLS 1.3 only. During the handshake OpenSSL checks signatures up to a root of the bundle, so that a stranger gets an
alert; `verified_peer` asks afterwards what OpenSSL does not know: SPIFFE's rules, the trust domain, and the dates, with
the `now` of the caller. Sessions are never resumed: a resumed one would skip all of this.

    server_context / client_context     before; serving_context for clients that know no SPIFFE
    handshake_refusal                   when it failed
    verified_peer, agreed_alpn          when it succeeded, before the first byte is believed

A context must not be changed once it was used, so a renewed SVID or bundle gets a new one. The app data of a
Connection belongs to this module: it carries the refusal from OpenSSL's callback to `handshake_refusal`.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from OpenSSL import SSL, crypto

from certs import certificate as read
from certs.bundle import TrustBundle
from certs.errors import (
    BundleMalformed,
    CertificateMalformed,
    CertificateMissing,
    CertificateRefused,
    KeyRefused,
    OtherTrustDomain,
    UnknownIssuer,
    WrongUsage,
)
from certs.serving import ServingCertificate
from certs.svid import Svid
from certs.verify import Peer, verify_der

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which pyOpenSSL does not name: dates are checked by `now`
_ALERT_CERTIFICATE_REQUIRED = 116  # RFC 8446 §6.2

# X509_V_ERR_* of OpenSSL's x509_vfy.h. Any other objection means that a certificate cannot be used as it is.
_NO_PATH = frozenset({2, 7, 18, 19, 20, 21, 22, 24, 27, 28, 29, 30, 31, 67, 68, 76, 77})
_MISUSED = frozenset({25, 26, 32, 79})  # path length, purpose, keyCertSign, no CA


def server_context(
    svid: Svid, bundle: TrustBundle, alpn: Sequence[bytes], *, client_certificate: bool = True
) -> SSL.Context:
    """A context for the accepting side.

    `alpn` lists the protocols spoken, the preferred first; a client that offers none of them is not refused here, see
    `agreed_alpn`. With `client_certificate=False` a client may come without one, but one that it shows must be good.
    """
    context = _context(SSL.TLS_SERVER_METHOD)
    _show(context, svid)
    _believe(context, bundle)
    required = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if client_certificate else 0
    context.set_verify(SSL.VERIFY_PEER | required, partial(_remember_objection, bundle))
    context.set_info_callback(_remember_alert)
    context.set_alpn_select_callback(partial(_choose_alpn, tuple(alpn)))
    return context


def serving_context(certificate: ServingCertificate, alpn: Sequence[bytes]) -> SSL.Context:
    """A context for the accepting side towards clients that prove a DNS name and show no certificate themselves."""
    context = _context(SSL.TLS_SERVER_METHOD)
    _show(context, certificate)
    context.set_alpn_select_callback(partial(_choose_alpn, tuple(alpn)))
    return context


def client_context(svid: Svid | None, bundle: TrustBundle, alpn: Sequence[bytes]) -> SSL.Context:
    """A context for the dialling side, without a certificate of its own where `svid` is None.

    Both contexts raise KeyRefused and BundleMalformed for what OpenSSL itself will not use.
    """
    context = _context(SSL.TLS_CLIENT_METHOD)
    if svid is not None:
        _show(context, svid)
    _believe(context, bundle)
    context.set_verify(SSL.VERIFY_PEER, partial(_remember_objection, bundle))
    if alpn:
        context.set_alpn_protos(list(alpn))
    return context


def verified_peer(connection: SSL.Connection, bundle: TrustBundle, now: datetime) -> Peer:
    """Who is at the other end of a finished handshake, by all of our rules. Raises CertificateRefused."""
    leaf = connection.get_peer_certificate()
    if leaf is None:
        raise CertificateMissing("the peer presented no certificate")
    presented = [_der(certificate) for certificate in connection.get_peer_cert_chain() or []]
    # On the accepting side OpenSSL leaves the leaf out of the chain, on the dialling side it does not.
    above = presented[1:] if presented[:1] == [_der(leaf)] else presented
    return verify_der([_der(leaf), *above], bundle, now)


def handshake_refusal(connection: SSL.Connection) -> CertificateRefused | None:
    """Why a failed handshake was refused on this side, None where the peer's certificate was not the reason."""
    refusal = connection.get_app_data()
    return refusal if isinstance(refusal, CertificateRefused) else None


def agreed_alpn(connection: SSL.Connection) -> bytes:
    """The protocol that both sides named, b"" for none: a caller that needs one must end the connection then."""
    return connection.get_alpn_proto_negotiated()


def _context(method: int) -> SSL.Context:
    """What all sides have in common. pyOpenSSL itself sets partial writes and moving write buffers."""
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    # Each of the two alone still resumes sessions.
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle endpoint takes 39 KB instead of 57
    return context


def _show(context: SSL.Context, own: Svid | ServingCertificate) -> None:
    try:
        context.use_certificate(own.leaf)
        for intermediate in own.chain[1:]:
            context.add_extra_chain_cert(intermediate)
        context.use_privatekey(own.key)
    except (SSL.Error, crypto.Error) as error:
        raise KeyRefused(
            "the key does not fit the certificate, or OpenSSL cannot use them: ask for new ones"
        ) from error


def _believe(context: SSL.Context, bundle: TrustBundle) -> None:
    store = context.get_cert_store()
    assert store is not None
    try:
        for root in bundle.all_roots:
            store.add_cert(crypto.X509.from_cryptography(root))
    except crypto.Error as error:
        raise BundleMalformed("the trust bundle holds a root that OpenSSL cannot read: make it anew") from error
    store.set_flags(_NO_CHECK_TIME)


def _remember_objection(
    bundle: TrustBundle, connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    """OpenSSL asks once per certificate and stops at its first objection: the verdict stands, we only note it."""
    if not ok:
        connection.set_app_data(_refusal(bundle, certificate, error, depth))
    return bool(ok)


def _refusal(bundle: TrustBundle, certificate: crypto.X509, error: int, depth: int) -> CertificateRefused:
    """OpenSSL's objection in our own words."""
    if error in _MISUSED:
        return WrongUsage("a certificate of the peer's chain is used for what it may not be used for")
    if error not in _NO_PATH:
        return CertificateMalformed(f"a certificate of the peer's chain is unusable (OpenSSL code {error})")
    return _stranger(certificate, depth, bundle) or UnknownIssuer(
        "no strong signatures lead from the peer's certificate to a known root"
    )


def _stranger(certificate: crypto.X509, depth: int, bundle: TrustBundle) -> CertificateRefused | None:
    """What the topmost certificate without a known issuer says of itself: often the better reason."""
    try:
        readable = read.load(_der(certificate))
        domain = read.leaf_id(readable).trust_domain if depth == 0 else read.signer_domain(readable)
    except CertificateRefused as refusal:
        return refusal
    if domain is not None and not bundle.roots_of(str(domain)):
        return OtherTrustDomain(f"the trust bundle has no root of the peer's trust domain {domain}")
    return None


def _der(certificate: crypto.X509) -> bytes:
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


def _remember_alert(connection: SSL.Connection, where: int, value: int) -> None:
    """OpenSSL asks no callback about a certificate that is missing; the alert that it sends tells."""
    if where == SSL.SSL_CB_WRITE_ALERT and value & 0xFF == _ALERT_CERTIFICATE_REQUIRED:
        connection.set_app_data(CertificateMissing("the peer presented no certificate"))


def _choose_alpn(spoken: tuple[bytes, ...], _connection: SSL.Connection, offered: list[bytes]) -> Any:
    """The accepting side's choice: its own first preference that the client offers. pyOpenSSL's type is private."""
    return next((protocol for protocol in spoken if protocol in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
