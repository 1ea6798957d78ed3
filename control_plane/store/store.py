"""The store's front: one method per question or change, and each method is one transaction.

A change either happens whole, its audit entry included, or leaves no trace: a crash between two statements leaves the
old state. One store-wide counter, the *number*, advances with whatever a snapshot shows: policies, registry, bans and
roots. Every method blocks and may be called from any thread.
"""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from cryptography import x509

from certs.spiffe import SpiffeId, TrustDomain, WorkloadName
from control_plane.store import audit, bans, counter, history, operators, policies, registry, tokens
from control_plane.store.database import Database, connect, migrate
from control_plane.store.records import (
    AuditEntry,
    Ban,
    Contents,
    Document,
    Issuance,
    Lease,
    Owner,
    PolicyKey,
    Pruned,
    Revision,
    StoredPolicy,
    TokenInfo,
)
from control_plane.store.retention import DEFAULT, Retention
from control_plane.store.tokens import Sign


class Store:
    """An open store. Make it by `Store.open`. Every method raises StoreError where the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.epoch: str = secrets.token_hex(8)
        """New at every opening. A store brought back from a backup repeats numbers, and an opening is the only moment
        at which one can have been brought back: so within an epoch, numbers never do."""
        self._swept: PolicyKey | None = None

    @classmethod
    def open(
        cls,
        url: str,
        *,
        trust_domain: TrustDomain,
        clock: Callable[[], datetime],
        roots: Collection[str] | None = None,
        retention: Retention = DEFAULT,
    ) -> Self:
        """Open the store at an SQLAlchemy `url` (`sqlite:////path/store.db`, `postgresql+psycopg://...`).

        Creates it, or brings its tables up to date. `clock` gives aware UTC times, `roots` are the fingerprints of the
        CA beside it, None for any; `retention` bounds how much of the past is kept. Raises StoreError for a store of
        another trust domain or CA, for one that a newer Doorward has migrated, for a database of something else, and
        where it cannot be reached.
        """
        engine = connect(url)
        database = Database(engine, trust_domain, clock, retention)
        try:
            with database.write_unlocked() as tx:
                migrate(tx.connection)
                counter.settle(tx)
                if roots is not None:
                    counter.check_roots(tx, roots)
                registry.outlive_restart(tx)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Close every connection. The store cannot be used afterwards."""
        self._database.close()

    def number(self) -> int:
        """The store number: how often anything that a snapshot shows has changed."""
        with self._database.read() as tx:
            return counter.number(tx)

    def contents(self) -> Contents:
        """Policies, leases and bans as they are together at one number."""
        with self._database.read() as tx:
            return Contents(
                self.epoch, counter.number(tx), policies.read_all(tx), registry.read_all(tx), bans.read_all(tx)
            )

    def note_roots(self, fingerprints: Sequence[str]) -> bool:
        """Say which roots are trusted now (SHA-256, hex). Advances the number, and answers True, where they changed."""
        with self._database.write() as tx:
            return counter.note_roots(tx, fingerprints)

    def note_platform(self) -> int:
        """Take a number for a change of the cluster's objects, which are not stored: what snapshots show is new."""
        with self._database.write() as tx:
            return counter.advance(tx)

    def policies(self) -> tuple[StoredPolicy, ...]:
        """Every document in force, ordered by namespace, kind and name."""
        with self._database.read() as tx:
            return policies.read_all(tx)

    def policy_number(self) -> int:
        """The number of the latest policy revision; 0 before the first."""
        with self._database.read() as tx:
            return history.latest(tx)

    def change_policies(
        self,
        put: Sequence[Document],
        delete: Sequence[PolicyKey],
        *,
        author: str,
        message: str,
        owner: Owner = "cli",
    ) -> Revision:
        """Add or replace the documents `put` and remove those named by `delete`, all or none, as `owner`.

        Documents have been read by `mesh.policy.read_policies`. The revision also lists what was `unchanged`. Where
        nothing changed, nothing is stored and the revision's number is the current one; deleting what is not there
        changes nothing. Raises StoreError (`conflicting_change`) where a key is named twice, and OwnedByOther where a
        document that is named belongs to the other owner.
        """
        with self._database.write() as tx:
            return policies.change(tx, put, delete, author, message, owner)

    def release_policy(self, document: Document, *, author: str, message: str) -> Revision:
        """Hand the command's document of this key over to the cluster, with `document` as its content from now on.

        One revision, without a moment at which neither is in force. Raises OwnedByOther (`not_ours`) where the
        command has no document of this key.
        """
        with self._database.write() as tx:
            return policies.release(tx, document, author, message)

    def take_over_policies(self, keys: Collection[PolicyKey] | None, *, author: str, message: str) -> Revision:
        """Make the cluster's documents of `keys` (None: all) the command's, as one revision. Raises OwnedByOther."""
        with self._database.write() as tx:
            return policies.take_over(tx, keys, author, message)

    def revisions(self, limit: int = 50, namespace: str | None = None, name: str | None = None) -> tuple[Revision, ...]:
        """The latest policy revisions that are kept, newest first.

        With `namespace`, and perhaps `name`, only what they changed of these documents.
        """
        with self._database.read() as tx:
            return history.read(tx, limit, namespace, name)

    def revision(self, number: int) -> Revision | None:
        """The policy revision of this number. None where there was none, or where it was pruned."""
        with self._database.read() as tx:
            return history.read_one(tx, number)

    def pruned(self) -> Pruned:
        """What the store has had no room for."""
        with self._database.read() as tx:
            return history.pruned(tx)

    def tidy(self) -> bool:
        """Prune one slice of what has no room, or that time has made superfluous; True where there may be more."""
        with self._database.write() as tx:
            full = [history.make_room(tx), audit.prune(tx), tokens.forget(tx)]
            self._swept = history.sweep(tx, self._swept)
            return any(full) or self._swept is not None

    def create_token(
        self, workload: WorkloadName, *, lifetime: timedelta, uses: int, author: str
    ) -> tuple[str, TokenInfo]:
        """Make a join token for `workload`: its text, which is kept nowhere, and what is known of it.

        Raises StoreError (`bad_token`) where `lifetime` or `uses` is not positive.
        """
        with self._database.write() as tx:
            return tokens.create(tx, workload, lifetime, uses, author)

    def tokens(self) -> tuple[TokenInfo, ...]:
        """Every token that is known, used up and expired ones included until they are swept; newest first."""
        with self._database.read() as tx:
            return tokens.read_all(tx)

    def revoke_token(self, token_id: str, author: str) -> bool:
        """Forget the token with this public id, so that it buys nothing more. False where there is none."""
        with self._database.write() as tx:
            return tokens.revoke(tx, token_id, author)

    def issue_with_token(self, token: str, key: str, sign: Sign) -> tuple[x509.Certificate, ...]:
        """Issue a certificate for the workload that `token` names, to the public key with fingerprint `key`.

        The use, the issuance and the audit entry are one transaction (law 8). The same key may ask again while the
        token lives without a further use. Raises TokenRefused, and whatever `sign` raises.
        """
        with self._database.write() as tx:
            return tokens.issue_with_token(tx, token, key, sign)

    def issue_for_pod(
        self, workload: WorkloadName, key: str, sign: Sign, *, ground: Mapping[str, str]
    ) -> tuple[x509.Certificate, ...]:
        """Issue a certificate for `workload`, which the API server has vouched for, to the key with fingerprint `key`.

        `ground` goes to the audit entry: which pod it was. Such a certificate renews nothing by itself: every one of
        them needs the token anew. Raises TokenRefused (`banned`), and whatever `sign` raises.
        """
        with self._database.write() as tx:
            return tokens.issue_for_pod(tx, workload, key, sign, ground)

    def issue_renewal(
        self, serial: int, identity: SpiffeId, key: str, sign: Sign, *, max_age: timedelta
    ) -> tuple[x509.Certificate, ...]:
        """Issue the next certificate to the holder of the verified certificate `serial` of `identity`.

        `max_age` bounds how long ago the identity may have been attested by other means (law 8). Raises
        RenewalRefused, and whatever `sign` raises.
        """
        with self._database.write() as tx:
            return tokens.issue_renewal(tx, serial, identity, key, sign, max_age)

    def issuances(self, limit: int = 1000) -> tuple[Issuance, ...]:
        """The latest issued certificates that can still be valid, newest first."""
        with self._database.read() as tx:
            return tokens.read_issuances(tx, limit)

    def issue_operator(
        self, name: str, key: str, sign: operators.Sign, *, voucher: operators.Voucher, max_age: timedelta
    ) -> tuple[x509.Certificate, ...]:
        """Issue a certificate for the operator `name` to the public key with fingerprint `key`.

        `max_age` bounds how long operators may vouch for each other without a local user. The issuance and its audit
        entry are one transaction. Raises OperatorRefused, and whatever `sign` raises.
        """
        with self._database.write() as tx:
            return operators.issue(tx, name, key, sign, voucher, max_age)

    def operators(self) -> tuple[Issuance, ...]:
        """The certificates of operators that have not ended, newest first."""
        with self._database.read() as tx:
            return operators.read_all(tx)

    def lease_endpoints(self, identity: SpiffeId, instance: str, leases: Sequence[Lease]) -> bool:
        """Make `leases` the whole set of this instance, or renew it; True where the set changed.

        Another instance of the same identity gives way at the same address and mesh port. Raises LeaseRefused, and
        changes nothing, where one of them is leased to another identity or a lease names another one (law 3).
        """
        with self._database.write() as tx:
            return registry.lease(tx, identity, instance, leases)

    def expire_leases(self) -> bool:
        """Forget the leases whose time is over; True where there were any."""
        with self._database.write() as tx:
            return registry.expire(tx)

    def leases(self) -> tuple[Lease, ...]:
        """Every unexpired lease, ordered by workload, port and address."""
        with self._database.read() as tx:
            return registry.read_all(tx)

    def ban(self, subject: str, *, reason: str, author: str) -> Ban:
        """Refuse `subject`, a SPIFFE ID or `serial:<decimal>`, from now on. Raises StoreError (`bad_subject`)."""
        with self._database.write() as tx:
            return bans.add(tx, subject, reason, author)

    def unban(self, subject: str, author: str) -> bool:
        """Lift a ban. False where there is none."""
        with self._database.write() as tx:
            return bans.remove(tx, subject, author)

    def bans(self) -> tuple[Ban, ...]:
        """Every ban, ordered by subject."""
        with self._database.read() as tx:
            return bans.read_all(tx)

    def banned(self, *subjects: str) -> Ban | None:
        """A ban of one of these subjects, if there is any."""
        with self._database.read() as tx:
            return bans.concerning(tx, *subjects)

    def record(self, actor: str, event: str, detail: Mapping[str, Any]) -> AuditEntry:
        """Write an audit entry for an event that changes nothing in the store. `detail` is plain JSON data."""
        with self._database.write() as tx:
            return audit.append(tx, actor, event, detail)

    def audit(self, after: int = 0, limit: int = 1000) -> tuple[AuditEntry, ...]:
        """At most `limit` audit entries with a `seq` above `after`, oldest first."""
        with self._database.read() as tx:
            return audit.read(tx, after, limit)

    def verify_audit(self) -> int:
        """Check the whole audit chain, and the policies in force against it; say how many entries were written.

        Raises AuditBroken with the first `seq` that is bad, or that the policies do not agree with.
        """
        with self._database.read() as tx:
            count = audit.verify(tx)
            policies.verify(tx)
            return count
