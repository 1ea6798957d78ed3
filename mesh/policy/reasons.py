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
