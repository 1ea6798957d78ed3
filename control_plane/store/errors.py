"""Everything that the store refuses. `code` is for programs, the message for people.

StoreError              the store cannot be opened, read or written, or was asked for something that makes no sense
    TokenRefused        a token buys no certificate
    RenewalRefused      a certificate is no ground for another one
    OperatorRefused     an operator gets no certificate
    LeaseRefused        an address cannot be registered
    OwnedByOther        a policy document belongs to somebody else
    AuditBroken         the audit log is not what was written
"""


class StoreError(Exception):
    """The store failed, or refuses. `code` is a short name for programs."""

    def __init__(self, message: str, *, code: str = "store_failed") -> None:
        super().__init__(message)
        self.code = code


class TokenRefused(StoreError):
    """A token was refused: a join token as `token_unknown`, `token_expired` or `token_used`; any as `banned`."""


class RenewalRefused(StoreError):
    """A renewal was refused: `unknown_certificate`, `token_required`, `attestation_too_old` or `banned`."""


class OperatorRefused(StoreError):
    """An operator gets no certificate: `unknown_certificate` or `attestation_too_old` of who vouches, or `banned`."""


class LeaseRefused(StoreError):
    """A registration was refused: `address_leased` to another identity, or for a `foreign_identity` (law 3)."""


class OwnedByOther(StoreError):
    """A policy document can be changed only by who made it: `owned_by_cluster` or `owned_by_cli`, or not released."""


class AuditBroken(StoreError):
    """The audit log was changed, cut or reordered (`audit_broken`). `seq` is the first entry that is wrong."""

    def __init__(self, message: str, *, seq: int) -> None:
        super().__init__(message, code="audit_broken")
        self.seq = seq
