"""The store's front: one method per question or change, and each method is one transaction.

A change either happens whole, its audit entry included, or leaves no trace: a crash between two statements leaves the
old state. One store-wide counter, the *number*, advances with whatever a snapshot shows: policies, registry, bans and
roots. Every method blocks and may be called from any thread.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from cryptography import x509

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from control_plane.store.records import (
    AuditEntry,
    Ban,
    Contents,
    Document,
    Issuance,
    Lease,
    PolicyKey,
    Revision,
    StoredPolicy,
    TokenInfo,
)

Sign = Callable[[WorkloadName], tuple[x509.Certificate, ...]]
"""Signs for the attested workload: the chain, leaf first. What it raises undoes the transaction and is passed on."""


class Store:
    """An open store. Make it by `Store.open`. Every method raises StoreError where the database fails."""

    epoch: str
    """Tells one run of the numbers from another: a store brought back from a backup may repeat numbers, not epochs."""

    @classmethod
    def open(cls, url: str, *, trust_domain: TrustDomain, clock: Callable[[], datetime]) -> Self:
        """Open the store at an SQLAlchemy `url` (`sqlite:////path/store.db`, `postgresql+psycopg://...`).

        Creates it, or brings its tables up to date. `clock` gives aware UTC times. Raises StoreError for a store of
        another trust domain, for one that a newer Doorward has migrated, and where it cannot be reached.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection. The store cannot be used afterwards."""
        raise NotImplementedError

    def number(self) -> int:
        """The store number: how often anything that a snapshot shows has changed."""
        raise NotImplementedError

    def contents(self) -> Contents:
        """Policies, leases and bans as they are together at one number."""
        raise NotImplementedError

    def note_roots(self, fingerprints: Sequence[str]) -> bool:
        """Say which roots are trusted now (SHA-256, hex). Advances the number, and answers True, where they changed."""
        raise NotImplementedError

    def policies(self) -> tuple[StoredPolicy, ...]:
        """Every document in force, ordered by namespace, kind and name."""
        raise NotImplementedError

    def policy_number(self) -> int:
        """The number of the latest policy revision; 0 before the first."""
        raise NotImplementedError

    def change_policies(
        self, put: Sequence[Document], delete: Sequence[PolicyKey], *, author: str, message: str
    ) -> Revision:
        """Add or replace the documents `put` and remove those named by `delete`, all or none.

        Documents have been read by `mesh.policy.read_policies`. The revision also lists what was `unchanged`. Where
        nothing changed, nothing is stored and the revision's number is the current one; deleting what is not there
        changes nothing. Raises StoreError (`conflicting_change`) where a key is named twice.
        """
        raise NotImplementedError

    def revisions(self, limit: int = 50) -> tuple[Revision, ...]:
        """The latest policy revisions, newest first."""
        raise NotImplementedError

    def create_token(
        self, workload: WorkloadName, *, lifetime: timedelta, uses: int, author: str
    ) -> tuple[str, TokenInfo]:
        """Make a join token for `workload`: its text, which is kept nowhere, and what is known of it.

        Raises StoreError (`bad_token`) where `lifetime` or `uses` is not positive.
        """
        raise NotImplementedError

    def tokens(self) -> tuple[TokenInfo, ...]:
        """Every token that is known, used up and expired ones included until they are swept; newest first."""
        raise NotImplementedError

    def revoke_token(self, token_id: str, author: str) -> bool:
        """Forget the token with this public id, so that it buys nothing more. False where there is none."""
        raise NotImplementedError

    def issue_with_token(self, token: str, key: str, sign: Sign) -> tuple[x509.Certificate, ...]:
        """Issue a certificate for the workload that `token` names, to the public key with fingerprint `key`.

        The use, the issuance and the audit entry are one transaction (law 8). The same key may ask again while the
        token lives without a further use. Raises TokenRefused, and whatever `sign` raises.
        """
        raise NotImplementedError

    def issue_renewal(
        self, serial: int, identity: SpiffeId, key: str, sign: Sign, *, max_age: timedelta
    ) -> tuple[x509.Certificate, ...]:
        """Issue the next certificate to the holder of the verified certificate `serial` of `identity`.

        `max_age` bounds how long ago the identity may have been attested by other means (law 8). Raises
        RenewalRefused, and whatever `sign` raises.
        """
        raise NotImplementedError

    def issuances(self, limit: int = 1000) -> tuple[Issuance, ...]:
        """The latest issued certificates that can still be valid, newest first."""
        raise NotImplementedError

    def lease_endpoints(self, identity: SpiffeId, instance: str, leases: Sequence[Lease]) -> bool:
        """Make `leases` the whole set of this instance, or renew it; True where the set changed.

        Another instance of the same identity gives way at the same address and mesh port. Raises LeaseRefused, and
        changes nothing, where one of them is leased to another identity or a lease names another one (law 3).
        """
        raise NotImplementedError

    def release_endpoints(self, identity: SpiffeId, instance: str) -> bool:
        """End this instance's leases now, as it asked; True where there were any."""
        raise NotImplementedError

    def expire_leases(self) -> bool:
        """Forget the leases whose time is over; True where there were any."""
        raise NotImplementedError

    def leases(self) -> tuple[Lease, ...]:
        """Every unexpired lease, ordered by workload, port and address."""
        raise NotImplementedError

    def ban(self, subject: str, *, reason: str, author: str) -> Ban:
        """Refuse `subject`, a SPIFFE ID or `serial:<decimal>`, from now on. Raises StoreError (`bad_subject`)."""
        raise NotImplementedError

    def unban(self, subject: str, author: str) -> bool:
        """Lift a ban. False where there is none."""
        raise NotImplementedError

    def bans(self) -> tuple[Ban, ...]:
        """Every ban, ordered by subject."""
        raise NotImplementedError

    def record(self, actor: str, event: str, detail: Mapping[str, Any]) -> AuditEntry:
        """Write an audit entry for an event that changes nothing in the store. `detail` is plain JSON data."""
        raise NotImplementedError

    def audit(self, after: int = 0, limit: int = 1000) -> tuple[AuditEntry, ...]:
        """At most `limit` audit entries with a `seq` above `after`, oldest first."""
        raise NotImplementedError

    def verify_audit(self) -> int:
        """Check the whole audit chain and say how many entries it has. Raises AuditBroken with the first bad `seq`."""
        raise NotImplementedError
