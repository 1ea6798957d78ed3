"""Why a call was let through or refused: one enumeration for policy, proxy, log, metric and 403.

A code is part of the interface: users alert on it. `Reason.text` is the sentence for people, and
`docs/reasons.md` is the operator's page, a line of advice per code.
"""

from enum import StrEnum


class Reason(StrEnum):
    """A reason code. Its value is what logs, metrics, the 403 body and `-o json` carry."""

    # What decide() returns.
    ALLOWED_BY_POLICY = "allowed_by_policy"
    ALLOWED_BY_MESH_DEFAULT = "allowed_by_mesh_default"
    ALLOWED_BY_AUDIT_DEFAULT = "allowed_by_audit_default"
    DENIED_BY_POLICY = "denied_by_policy"
    NO_POLICY_MATCHED = "no_policy_matched"
    NO_POLICY_FOR_WORKLOAD = "no_policy_for_workload"

    # Refused before a policy could be asked: identity.
    NO_SNAPSHOT = "no_snapshot"
    OWN_CERTIFICATE_EXPIRED = "own_certificate_expired"
    NO_OWN_CERTIFICATE = "no_own_certificate"
    BANNED = "banned"
    NOT_TLS = "not_tls"
    TLS_FAILED = "tls_failed"
    ALPN_MISMATCH = "alpn_mismatch"
    CERTIFICATE_MISSING = "certificate_missing"
    CERTIFICATE_MALFORMED = "certificate_malformed"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    UNKNOWN_ISSUER = "unknown_issuer"
    OTHER_TRUST_DOMAIN = "other_trust_domain"
    NO_URI_SAN = "no_uri_san"
    SEVERAL_URI_SANS = "several_uri_sans"
    MALFORMED_ID = "malformed_id"
    LEAF_IS_CA = "leaf_is_ca"
    WRONG_USAGE = "wrong_usage"
    WRONG_SERVER_IDENTITY = "wrong_server_identity"

    # Refused before a policy could be asked: the message.
    MALFORMED_REQUEST = "malformed_request"
    AMBIGUOUS_FRAMING = "ambiguous_framing"
    HEAD_TOO_LARGE = "head_too_large"
    PATH_REFUSED = "path_refused"
    METHOD_REFUSED = "method_refused"
    NOT_HTTP = "not_http"
    FOREIGN_HOST = "foreign_host"

    # Transparent mode: where a redirected connection was meant to go.
    EGRESS_ALLOWED = "egress_allowed"
    EGRESS_REFUSED = "egress_refused"
    NO_ORIGINAL_DESTINATION = "no_original_destination"
    REDIRECT_LOOP = "redirect_loop"

    # Allowed, and failed on the way.
    NO_ENDPOINT = "no_endpoint"
    UPSTREAM_REFUSED = "upstream_refused"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_MALFORMED = "upstream_malformed"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    DOWNSTREAM_RESET = "downstream_reset"
    DOWNSTREAM_TIMEOUT = "downstream_timeout"

    # Ended by us.
    IDLE_TIMEOUT = "idle_timeout"
    POLICY_CHANGED = "policy_changed"
    CERTIFICATE_RETIRED = "certificate_retired"
    OVER_LIMIT = "over_limit"
    DRAINING = "draining"
    INTERNAL_ERROR = "internal_error"

    @property
    def text(self) -> str:
        """What happened, as a sentence's worth of words for people."""
        return _TEXTS[self]


_TEXTS = {
    Reason.ALLOWED_BY_POLICY: "an allow policy matches the call",
    Reason.ALLOWED_BY_MESH_DEFAULT: "no policy matched, and the namespace lets every caller of its own mesh in",
    Reason.ALLOWED_BY_AUDIT_DEFAULT: "no policy matched, and the namespace only reports that",
    Reason.DENIED_BY_POLICY: "a deny policy matches the call",
    Reason.NO_POLICY_MATCHED: "policies allow calls to this port, but none of them this call",
    Reason.NO_POLICY_FOR_WORKLOAD: "no policy allows any call to this workload on this port",
    Reason.NO_SNAPSHOT: "the sidecar has not received its policies yet",
    Reason.OWN_CERTIFICATE_EXPIRED: "the certificate of this sidecar has expired and could not be renewed",
    Reason.NO_OWN_CERTIFICATE: "this sidecar has no certificate yet",
    Reason.BANNED: "the identity or certificate of the other side is banned",
    Reason.NOT_TLS: "the caller sent something else than TLS",
    Reason.TLS_FAILED: "the TLS handshake failed",
    Reason.ALPN_MISMATCH: "the two sides agreed on no protocol, or on one that this port does not take",
    Reason.CERTIFICATE_MISSING: "the other side presented no certificate",
    Reason.CERTIFICATE_MALFORMED: "the certificate of the other side cannot be read",
    Reason.CERTIFICATE_EXPIRED: "the certificate of the other side has expired, or the two clocks differ",
    Reason.CERTIFICATE_NOT_YET_VALID: "the certificate of the other side is not valid yet: the two clocks differ",
    Reason.UNKNOWN_ISSUER: "no root that this side trusts issued the certificate",
    Reason.OTHER_TRUST_DOMAIN: "the certificate names a trust domain that its issuer may not speak for",
    Reason.NO_URI_SAN: "the certificate holds no SPIFFE ID",
    Reason.SEVERAL_URI_SANS: "the certificate holds more than one URI",
    Reason.MALFORMED_ID: "the identity in the certificate is no SPIFFE ID",
    Reason.LEAF_IS_CA: "the certificate of the other side could itself issue certificates",
    Reason.WRONG_USAGE: "the certificate may not be used for this",
    Reason.WRONG_SERVER_IDENTITY: "another workload answered than the one that was called",
    Reason.MALFORMED_REQUEST: "the request is not well-formed HTTP/1.1",
    Reason.AMBIGUOUS_FRAMING: "readers could disagree about where the message ends",
    Reason.HEAD_TOO_LARGE: "the head of the message is over the limit",
    Reason.PATH_REFUSED: "the path has no one meaning",
    Reason.METHOD_REFUSED: "this method is never let through",
    Reason.NOT_HTTP: "the port is declared HTTP and something else was spoken",
    Reason.FOREIGN_HOST: "the Host header names another host than this listener serves",
    Reason.EGRESS_ALLOWED: "the destination is outside the mesh, and egress lets plaintext out",
    Reason.EGRESS_REFUSED: "the destination is outside the mesh, and egress lets nothing out of it",
    Reason.NO_ORIGINAL_DESTINATION: "the connection was not redirected here, or was meant for this sidecar itself",
    Reason.REDIRECT_LOOP: "a connection of the sidecar's own was redirected back to it",
    Reason.NO_ENDPOINT: "no live endpoint of the destination is known",
    Reason.UPSTREAM_REFUSED: "the called side refused the connection",
    Reason.UPSTREAM_UNREACHABLE: "the called side could not be reached in time",
    Reason.UPSTREAM_RESET: "the called side broke the connection off",
    Reason.UPSTREAM_MALFORMED: "the called side answered with something that is not well-formed",
    Reason.UPSTREAM_TIMEOUT: "the called side did not answer in time",
    Reason.DOWNSTREAM_RESET: "the caller broke the connection off",
    Reason.DOWNSTREAM_TIMEOUT: "the caller did not send its request in time",
    Reason.IDLE_TIMEOUT: "nothing moved on the connection for too long",
    Reason.POLICY_CHANGED: "a policy change no longer allows the open connection",
    Reason.CERTIFICATE_RETIRED: "a certificate of the connection has expired or was replaced",
    Reason.OVER_LIMIT: "a limit on connections or bytes was reached",
    Reason.DRAINING: "this sidecar is shutting down",
    Reason.INTERNAL_ERROR: "the sidecar failed; its log says how",
}

FAILURES = frozenset(
    {
        Reason.NO_ENDPOINT,
        Reason.UPSTREAM_REFUSED,
        Reason.UPSTREAM_UNREACHABLE,
        Reason.UPSTREAM_RESET,
        Reason.UPSTREAM_MALFORMED,
        Reason.UPSTREAM_TIMEOUT,
        Reason.DOWNSTREAM_RESET,
        Reason.DOWNSTREAM_TIMEOUT,
        Reason.WRONG_SERVER_IDENTITY,
        Reason.POLICY_CHANGED,
        Reason.CERTIFICATE_RETIRED,
        Reason.DRAINING,
        Reason.INTERNAL_ERROR,
    }
)
"""Reasons for which a call that nobody forbade did not come to its end."""
